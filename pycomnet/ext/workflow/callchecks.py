"""What the workflow service's methods check: their texts, times and callers, and how many wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pycomnet.errors import InvalidArguments, Overloaded
from pycomnet.ext.workflow.errors import RunCancelled, RunFailed
from pycomnet.ext.workflow.records import CANCELLED, LONGEST_ID, WorkflowRun

if TYPE_CHECKING:
    from pycomnet.services.server.request import Request


class WaitLimit:
    """Limits the calls that wait for the end of a run, so that calls that start, signal and cancel
    runs still get through.

    :ivar most: the most calls that may wait. A user may have half of them.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._waiting: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._waiting.total()

    @contextmanager
    def taken(self, request: Request) -> Iterator[None]:
        """Count a call of this caller while the block runs.

        :raises Overloaded: too many wait.
        """
        user = request.user.name if request.user else ""
        his = self._waiting[user]
        if len(self) >= self.most or (user and his >= max(1, self.most // 2)):
            text = f"{len(self)} calls wait for runs here, {his} of them this user's"
            raise Overloaded(f"{text}: ask again later")
        self._waiting[user] += 1
        try:
            yield
        finally:
            self._waiting[user] -= 1
            if not self._waiting[user]:
                del self._waiting[user]


def check_text(what: str, text: str) -> None:
    """Check an id, or another name, before it is looked for.

    :raises InvalidArguments: it is empty, too long, or not printable.
    """
    if not 0 < len(text) <= LONGEST_ID or not text.isprintable():
        raise InvalidArguments(f"{what} is a text of 1 to {LONGEST_ID} printable characters")


def as_time(what: str, value: Any) -> Any:
    """A time as a float, or None.

    :raises InvalidArguments: it is too large.
    """
    try:
        return None if value is None else float(value)
    except OverflowError:
        raise InvalidArguments(f"{what} is in seconds since 1970") from None


def is_one_of(request: Request, allowed: Any) -> bool:
    """Whether the caller is one of these users, or has one of these roles (``@role``)."""
    user = request.user
    if user is None:
        return False
    return user.name in allowed or any(f"@{role}" in allowed for role in user.roles)


def problem_of(run: WorkflowRun) -> RunFailed:
    """The error of a run that has failed, or was cancelled."""
    error = run.error or {}
    step = str(error.get("step", ""))
    text = f"{run.id}: {step}: {error.get('message') or error.get('code')}"
    kind = RunCancelled if run.state == CANCELLED else RunFailed
    return kind(text, run.id, step, error)
