"""The runs that are not durable: they are only in memory, and limited."""

from __future__ import annotations

from collections import Counter, OrderedDict

import attrs

from pycomnet.errors import Overloaded
from pycomnet.ext.workflow.errors import RunFull
from pycomnet.ext.workflow.liverun import LiveRun
from pycomnet.ext.workflow.records import WorkflowRun, weight_of

#: The most such runs that have not ended, and the most bytes of their inputs and their steps'
#: results.
MOST_TRANSIENT = 5_000
MOST_TRANSIENT_BYTES = 256 << 20
#: The most ended ones that are remembered, and the most bytes of them.
REMEMBERED = 1_000
REMEMBERED_BYTES = 64 << 20


@attrs.define(eq=False)
class TransientRuns:
    """Counts the runs that are not durable, and remembers the last ones that have ended. Their
    limit is separate from that of durable runs. A user may use half of it.

    :ivar size: the bytes of those that have not ended.
    """

    size: int = 0
    _runs: Counter[str] = attrs.field(factory=Counter)
    _sizes: Counter[str] = attrs.field(factory=Counter)
    _ended: OrderedDict[str, tuple[WorkflowRun, int]] = attrs.field(factory=OrderedDict)
    _remembered: int = 0

    def __len__(self) -> int:
        return self._runs.total()

    def begin(self, live: LiveRun) -> None:
        """Count a run that begins.

        :raises Overloaded: there are too many.
        """
        user = live.run.caller
        if len(self) >= MOST_TRANSIENT or (user and self._runs[user] >= MOST_TRANSIENT // 2):
            his = f"{self._runs[user]} of them this user's"
            text = f"{len(self)} runs that are not durable go on here, {his}: start it again later"
            raise Overloaded(text)
        try:
            self.add(live, weight_of(live.run.input))
        except RunFull as full:
            raise Overloaded(f"{full}: start it again later") from None
        self._runs[user] += 1

    def add(self, live: LiveRun, size: int) -> None:
        """Count bytes that a run has received.

        :raises RunFull: it is too much.
        """
        user = live.run.caller
        his = self._sizes.get(user, 0)
        if self.size + size > MOST_TRANSIENT_BYTES or (
            user and his + size > MOST_TRANSIENT_BYTES // 2
        ):
            text = f"the runs that are not durable have {self.size} bytes"
            raise RunFull(f"{text} already, {his} of them this user's")
        live.size += size
        self.size += size
        self._sizes[user] = his + size

    def remove(self, live: LiveRun, size: int) -> None:
        """Undo :meth:`add`."""
        live.size -= size
        self.size -= size
        self._sizes[live.run.caller] -= size

    def end(self, live: LiveRun) -> None:
        """Remember a run that has ended, so that it can still be seen."""
        run = live.run
        self._forget(self._runs, run.caller, 1)
        self._forget(self._sizes, run.caller, live.size)
        self.size -= live.size
        run.values.clear()
        self._ended[run.id] = run, live.size
        self._remembered += live.size
        # Never this one, however large: those who wait for it don't have its result yet.
        while len(self._ended) > 1 and (
            len(self._ended) > REMEMBERED or self._remembered > REMEMBERED_BYTES
        ):
            _, (_, size) = self._ended.popitem(last=False)
            self._remembered -= size

    @staticmethod
    def _forget(counter: Counter[str], user: str, number: int) -> None:
        counter[user] -= number
        if not counter[user]:
            del counter[user]

    def ended(self, id: str) -> WorkflowRun | None:
        """A run that has ended, and is remembered."""
        found = self._ended.get(id)
        return None if found is None else found[0]

    def forget(self) -> None:
        """Forget all runs that have ended."""
        self._ended.clear()
        self._remembered = 0
