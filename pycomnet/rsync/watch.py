"""Keeps targets equal to a source: runs again for what has changed, until it is cancelled."""

from __future__ import annotations

import os
from collections.abc import Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel
from pycomnet.errors import ConnectionLost
from pycomnet.rsync.changes import EVERYTHING, NOTHING, Changes
from pycomnet.rsync.filewatcher import FileWatcher, StartWatcher
from pycomnet.rsync.options import AnyPath, SyncOptions
from pycomnet.rsync.reports import Reports
from pycomnet.rsync.result import SyncResult, TargetResult
from pycomnet.rsync.run import Run, SyncTarget, cancel_all, ignore, tell_finished


@attrs.define(eq=False)
class _Watched:
    """A target, and the state of its runs.

    :ivar place: its place among the results.
    :ivar changes: what has changed since its last run began.
    :ivar is_running: whether a run to it goes on.
    :ivar again: whether its next run compares everything, as something has failed.
    :ivar line: a channel, which is lost with its gateway; None if that was lost before.
    :ivar lost: why the gateway is lost, if it is.
    """

    place: int
    target: SyncTarget
    line: Channel | None = None
    changes: Changes = NOTHING
    is_running: bool = False
    again: bool = False
    lost: Exception | None = None

    def close(self) -> None:
        """Close its channel."""
        if self.line is not None:
            self.line.close()


class SourceWatch:
    """Runs to some targets for what has changed, as long as there are targets.

    A target whose run takes long gets what has changed meanwhile in its next one; the others do not
    wait for it.

    :param results: gets the last result of each target.
    :param start_watcher: starts what reports changes.
    """

    def __init__(
        self,
        source: AnyPath,
        options: SyncOptions,
        targets: Sequence[SyncTarget],
        results: list[TargetResult],
        reports: Reports,
        start_watcher: StartWatcher = FileWatcher,
    ) -> None:
        self._source = source
        self._options = options
        self._targets = targets
        self._reports = reports
        self._results = results
        self._start_watcher = start_watcher
        self._alive: list[_Watched] = []
        self._rounds: set[Deferred[None]] = set()
        #: fails with what ends it
        self._ended: Deferred[None] = Deferred()
        self._reactor: IReactorTime = targets[0].gateway.link.reactor

    async def run(self) -> None:
        """Watch, and run for what changes, until it is cancelled.

        :raises SyncFailures: no target is left.
        :raises SyncError: the source can't be watched, or read.
        """
        watcher = self._start_watcher(
            os.path.abspath(os.fsencode(self._source)),
            self._options,
            self._changed,
            self._end,
            IReactorFromThreads(self._reactor),
        )
        raised = self._reports.problem.when_fired()
        raised.addCallbacks(self._end, ignore)
        try:
            self._alive = [_Watched(*each) for each in enumerate(self._targets)]
            for each in tuple(self._alive):
                self._watch_gateway(each)
            await self._ended
        finally:
            watcher.stop()
            raised.cancel()
            cancel_all(self._rounds)
            alive, self._alive = self._alive, []
            for each in alive:
                each.close()

    def _end(self, problem: BaseException) -> None:
        # In a turn of its own: a run may be active now, and could not be cancelled.
        self._reactor.callLater(0, self._fail, problem)

    def _fail(self, problem: BaseException) -> None:
        if not self._ended.called:
            self._ended.errback(problem)

    def _changed(self, changes: Changes) -> None:
        for each in self._alive:
            each.changes |= changes
        self._begin()

    def _begin(self) -> None:
        """Run to all targets for which something has changed, and to which no run goes on."""
        ready = [each for each in self._alive if each.changes and not each.is_running]
        if not ready:
            return
        changes = NOTHING
        for each in ready:
            changes |= EVERYTHING if each.again else each.changes
            each.changes = NOTHING
            each.again = False
            each.is_running = True
        running = Deferred.fromCoroutine(self._round(ready, changes))
        self._rounds.add(running)
        running.addBoth(self._round_is_over, running)

    async def _round(self, ready: list[_Watched], changes: Changes) -> None:
        places = {each.target: each for each in ready}
        results = [TargetResult(str(each.target)) for each in ready]
        for each, result in zip(ready, results, strict=True):
            self._results[each.place] = result
        run = Run(
            self._source,
            self._options,
            [each.target for each in ready],
            results,
            self._reports,
            None if changes.is_everything else changes,
            lambda target: self._finished(places[target]),
        )
        await run.send()

    def _round_is_over(self, result: object, running: Deferred[None]) -> None:
        self._rounds.discard(running)
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._failed(result)

    def _failed(self, failure: Failure) -> None:
        self._end(failure.value)  # type: ignore[arg-type]

    def _finished(self, each: _Watched) -> None:
        """A run to a target is over."""
        each.is_running = False
        result = self._results[each.place]
        each.again = bool(result.failed) or result.deletes_skipped
        if result.error is not None:
            self._drop(each)
        elif each.lost is not None:
            self._drop_lost(each, each.lost)
        else:
            self._begin()

    def _watch_gateway(self, each: _Watched) -> None:
        """Notice when a target's gateway is lost, or was before."""
        try:
            each.line = each.target.gateway.newchannel(raw=True)
        except ConnectionLost as lost:
            each.lost = lost
            self._drop_lost(each, lost)
        else:
            each.line.waitclose().addBoth(self._lost, each)

    def _lost(self, outcome: object, each: _Watched) -> None:
        """A target's gateway is lost. A run that goes on fails by itself."""
        problem = outcome.value if isinstance(outcome, Failure) else None
        if not isinstance(problem, Exception):
            problem = ConnectionLost("the gateway has ended")
        each.lost = problem
        if not each.is_running and each in self._alive:
            self._drop_lost(each, each.lost)

    def _drop_lost(self, each: _Watched, problem: Exception) -> None:
        result = TargetResult(str(each.target), error=problem)
        self._results[each.place] = result
        telling = Deferred.fromCoroutine(tell_finished(self._reports, each.target, result))
        telling.addErrback(self._failed)
        self._drop(each)

    def _drop(self, each: _Watched) -> None:
        if each in self._alive:
            self._alive.remove(each)
            each.close()
        if not self._alive:
            self._reports.flush().addCallbacks(self._all_are_lost, ignore)

    def _all_are_lost(self, _: object) -> None:
        try:
            SyncResult(self._results).raise_for_failures()
        except Exception as problem:
            self._end(problem)
