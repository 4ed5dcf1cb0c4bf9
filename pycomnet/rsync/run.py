"""One run: a source, and a session for each target."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorThreads
from twisted.python.failure import Failure

from pycomnet.gateways.gateway import Gateway
from pycomnet.rsync.changes import Changes
from pycomnet.rsync.options import AnyPath, SyncError, SyncOptions
from pycomnet.rsync.reports import Reports
from pycomnet.rsync.result import EventKind, SyncEvent, SyncResult, TargetResult
from pycomnet.rsync.session import Session
from pycomnet.rsync.source import Source


@attrs.frozen(eq=False)
class SyncTarget:
    """A directory at a gateway.

    :ivar delete: overrides the run's option; None: does not.
    :ivar finished: called with its result.
    """

    gateway: Gateway
    path: AnyPath
    delete: bool | None
    finished: Callable[[TargetResult], object] | None

    def __str__(self) -> str:
        return f"{self.gateway.id}:{os.fsdecode(self.path)}"


class Run:
    """A run to some targets.

    :param results: get what is done: one for each target.
    :param changes: what of the source takes part; None: all.
    :param ended: called with each target when it is finished, after the user's function.
    """

    def __init__(
        self,
        source: AnyPath,
        options: SyncOptions,
        targets: Sequence[SyncTarget],
        results: list[TargetResult],
        reports: Reports,
        changes: Changes | None = None,
        ended: Callable[[SyncTarget], object] = lambda target: None,
    ) -> None:
        self._path = source
        self._options = options
        self._targets = targets
        self._results = results
        self._reports = reports
        self._changes = changes
        self._ended = ended

    async def send(self) -> SyncResult:
        """Send what differs to all targets; what fails at one of them is in its result.

        :raises SyncError: the source can't be read.
        """
        reactor = IReactorThreads(self._targets[0].gateway.link.reactor)
        try:
            source = Source(self._path, self._options, reactor, self._changes)
        except OSError as problem:
            raise SyncError(f"the source can't be read: {problem}") from None
        # All of them join before the first one reads.
        sessions = [
            self._session(source, target, result)
            for target, result in zip(self._targets, self._results, strict=True)
        ]
        running = [
            Deferred.fromCoroutine(self._send_to(source, *each))
            for each in zip(self._targets, self._results, sessions, strict=True)
        ]
        # What a function of the user's raises ends it. This fires in a turn of its own.
        raised = self._reports.problem.when_fired()
        raised.addCallbacks(lambda _: cancel_all(running), ignore)
        try:
            await gatherResults(running, consumeErrors=True)
            await self._reports.flush()
        except (FirstError, CancelledError) as stopped:
            ended: Any = stopped.subFailure.value if isinstance(stopped, FirstError) else stopped
            raise (self._reports.problem.result or ended) from None
        finally:
            raised.cancel()
            cancel_all(running)
            source.close()
        return SyncResult(self._results)

    def _session(self, source: Source, target: SyncTarget, result: TargetResult) -> Session:
        shown, reports = str(target), self._reports

        def tell(kind: EventKind, path: str, reason: str) -> None:
            reports.tell(SyncEvent(kind, shown, path, reason))

        options = self._options
        if target.delete is not None:
            options = attrs.evolve(options, delete=target.delete)
        told = tell if reports.wanted else None
        return Session(source, target.gateway, os.fsencode(target.path), options, result, told)

    async def _send_to(
        self, source: Source, target: SyncTarget, result: TargetResult, session: Session
    ) -> None:
        try:
            await session.run()
        except CancelledError:
            raise
        except Exception as problem:
            result.error = problem
        finally:
            source.leave_list(session)
        result.end()
        await tell_finished(self._reports, target, result)
        self._ended(target)


def cancel_all(running: Iterable[Deferred[Any]]) -> None:
    """Cancel these Deferreds, and drop what they fail with."""
    for each in tuple(running):
        each.addErrback(ignore)
        each.cancel()


def ignore(failure: Failure) -> None:
    """Drop a failure that was reported elsewhere, or comes after the end."""


async def tell_finished(reports: Reports, target: SyncTarget, result: TargetResult) -> None:
    """Report that a target is finished, and wait for the user's ``finished`` function."""
    reason = "" if result.error is None else str(result.error)
    reports.tell(SyncEvent("finished", result.target, "", reason))
    if target.finished is not None:
        await reports.call(target.finished, result)
