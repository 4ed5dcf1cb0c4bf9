"""What the stores of runs in a database have in common. All operations of a reactor turn, and those
that arrive while a transaction is written, go into one transaction."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.deferred import Condition, deferred
from pycomnet.errors import PycomnetError
from pycomnet.ext.workflow.errors import RunStoreBusy, RunStoreFailed
from pycomnet.ext.workflow.records import ENDED, Claim, Message, RunChange, RunQuery, RunRow
from pycomnet.text.logs import Logger

log = Logger()

#: The most operations of a transaction; with more, the first would wait too long for the last.
MOST = 2_000
#: The most operations that wait for the database, and the most bytes that they write together.
#: Commits and releases are always taken: each run in memory has at most one of them.
MOST_WAITING = 10_000
MOST_WAITING_BYTES = 64 << 20

#: A function of a store's statements, and what it is given beside the connection.
Wanted = tuple[Callable[..., Any], tuple[Any, ...]]


def other_version(store: str, found: int, wanted: int) -> RunStoreFailed:
    """The error for a store whose tables have another version than this service's.

    :param store: its name.
    """
    text = f"{store}: has version {found} of the tables; this is for {wanted}"
    if found > wanted:
        return RunStoreFailed(f"{text}: use the newer version of pycomnet that has made it")
    return RunStoreFailed(
        f"{text}, and does not convert it: let its runs end with the version of pycomnet that has "
        "made it, then begin with a new store"
    )


@attrs.frozen
class Operation:
    """An operation that waits for the database.

    :ivar function: runs in the thread, with the connection and ``args``.
    :ivar waiting: fires with its result. Who asked may cancel it: the operation goes on.
    :ivar then: called with the result, whoever waits, and gives what ``waiting`` fires with.
    :ivar size: the bytes that it writes.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    waiting: defer.Deferred[Any]
    then: Callable[[Any], Any] | None
    size: int


class BatchedRunStore:
    """A queue of operations before a database.

    :param name: what the status page shows.
    :param statements: a module with a function for each thing that is asked for: ``tables`` or one
        that has the same functions.
    """

    lease: float | None = None

    def __init__(self, name: str, statements: Any, reactor: IReactorTime) -> None:
        self.name = name
        self._statements = statements
        self._reactor = reactor
        self._follower: Any = None
        self._queue: list[Operation] = []
        #: how many operations have no result, and the bytes that they write
        self._waiting = 0
        self._size = 0
        #: when the present transaction was begun
        self._begun = 0.0
        self._turn: Any = None
        self._writing = False
        #: notified when nothing is written and nothing waits
        self._idle = Condition()
        #: whether it is not open, or is being closed
        self._closing = True

    # -- what a kind of store has ----------------------------------------------------------------

    def _transact(self, wanted: Sequence[Wanted]) -> defer.Deferred[Sequence[Any]]:
        """Execute all operations in one transaction.

        :returns: fires with the result of each, which is an exception if that one has changed
            nothing; fails if all have.
        """
        raise NotImplementedError

    def _problem(self, problem: BaseException | None) -> PycomnetError:
        """Convert an error to the one that callers get."""
        raise NotImplementedError

    @property
    def held(self) -> bool:
        """Whether the claims are sure to be this service's."""
        return True

    def renew(self) -> defer.Deferred[None]:
        return defer.succeed(None)

    # -- transactions ----------------------------------------------------------------------------

    def _do(
        self,
        function: Callable[..., Any],
        *args: Any,
        then: Callable[[Any], Any] | None = None,
        size: int = 0,
        bounded: bool = True,
    ) -> defer.Deferred[Any]:
        """Run a function in the thread, in the next transaction.

        :param size: the bytes that it writes.
        :param bounded: whether it is refused if too much waits.
        """
        if self._closing:
            return defer.fail(RunStoreFailed(f"{self.name}: it is closed"))
        if bounded and (
            self._waiting >= MOST_WAITING or (size and self._size + size > MOST_WAITING_BYTES)
        ):
            return defer.fail(self._busy())
        # Without a canceller: Twisted drops the result that comes after a cancel.
        waiting: defer.Deferred[Any] = defer.Deferred()
        self._queue.append(Operation(function, args, waiting, then, size))
        self._waiting += 1
        self._size += size
        if self._turn is None and not self._writing:
            # The rest of this turn's operations go into the same transaction.
            self._turn = self._reactor.callLater(0, self._flush)
        return waiting

    def _busy(self) -> RunStoreBusy:
        text = f"{self.name}: {self._waiting} operations with {self._size} bytes wait for it"
        if self._writing:
            seconds = self._reactor.seconds() - self._begun
            text += f"; the present transaction has taken {seconds:.0f} s"
        return RunStoreBusy(f"{text}: try again later")

    @deferred
    async def _finish(self) -> None:
        """Accept no more operations, and wait until those in the queue are done."""
        self._closing = True
        while self._writing or self._queue:
            await self._idle.wait()

    def _flush(self) -> None:
        self._turn = None
        if self._writing or not self._queue:
            return
        batch, self._queue = self._queue[:MOST], self._queue[MOST:]
        self._writing = True
        self._begun = self._reactor.seconds()
        writing = self._transact([(one.function, one.args) for one in batch])
        writing.addCallbacks(
            self._fire, self._not_written, callbackArgs=(batch,), errbackArgs=(batch,)
        )
        writing.addErrback(lambda failure: log.failure("the store failed", failure))

    def _go_on(self) -> None:
        self._writing = False
        if self._queue:
            if self._turn is None:
                # Together with what is asked for in this turn.
                self._turn = self._reactor.callLater(0, self._flush)
            return
        self._idle.notify_all()

    def _not_written(self, failure: Failure, batch: list[Operation]) -> None:
        problem = self._problem(failure.value)
        if problem is not failure.value:
            log.error("can't use {store}: {problem}", store=self.name, problem=problem)
        self._fire([problem] * len(batch), batch)

    def _fire(self, results: Sequence[Any], batch: list[Operation]) -> None:
        self._waiting -= len(batch)
        self._size -= sum(one.size for one in batch)
        try:
            for one, result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    one.waiting.errback(Failure(self._problem(result)))
                    continue
                try:
                    given = result if one.then is None else one.then(result)
                except Exception:
                    one.waiting.errback(Failure())
                else:
                    one.waiting.callback(given)
        finally:
            self._go_on()

    # -- what IRunStore has ----------------------------------------------------------------------

    def definition(self, hash: str) -> defer.Deferred[bytes | None]:
        return self._do(self._statements.definition, hash)

    def create(
        self,
        row: RunRow,
        steps: Sequence[tuple[str, bytes]] = (),
        definition: bytes | None = None,
    ) -> defer.Deferred[tuple[RunRow, Claim | None]]:
        size = len(row.data) + len(row.body)
        return self._do(self._statements.create, row, list(steps), definition, size=size)

    def commit(self, change: RunChange) -> defer.Deferred[None]:
        then = partial(self._committed, change)
        return self._do(self._statements.commit, change, then=then, bounded=False)

    def _committed(self, change: RunChange, claimable: bool) -> None:
        if change.row.state in ENDED:
            self._follower.ended(change.row.id)
        if claimable:
            self._follower.claimable()

    def claim(self, now: float, limit: int) -> defer.Deferred[tuple[list[Claim], float | None]]:
        return self._do(self._statements.claim, now, limit)

    def release(self, runs: Mapping[str, int]) -> defer.Deferred[None]:
        return self._do(self._statements.release, dict(runs), bounded=False)

    def post(self, run: str, message: Message) -> defer.Deferred[RunRow | None]:
        size = len(message.data)
        return self._do(self._statements.post, run, message, then=self._posted, size=size)

    def _posted(self, found: tuple[RunRow | None, bool | None]) -> RunRow | None:
        row, claimed = found
        if row is not None:
            if claimed:
                self._follower.posted(row.id)
            elif claimed is not None:
                self._follower.claimable()
        return row

    def messages(self, run: str) -> defer.Deferred[list[Message]]:
        return self._do(self._statements.messages, run)

    def row(self, run: str) -> defer.Deferred[RunRow | None]:
        return self._do(self._statements.row_of, run)

    def get(self, run: str) -> defer.Deferred[tuple[RunRow, list[bytes]] | None]:
        return self._do(self._statements.get, run)

    def list(self, query: RunQuery) -> defer.Deferred[builtins.list[RunRow]]:
        return self._do(self._statements.list_runs, query)

    def counts(self) -> defer.Deferred[dict[str, int]]:
        return self._do(self._statements.counts)

    def prune(self, before: float, limit: int) -> defer.Deferred[int]:
        return self._do(self._statements.prune, before, limit)

    def marks(self) -> defer.Deferred[dict[str, float]]:
        return self._do(self._statements.marks)

    def mark(self, name: str, time: float) -> defer.Deferred[None]:
        return self._do(self._statements.mark, name, time)
