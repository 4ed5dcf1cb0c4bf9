"""rsync: makes directories at any number of gateways equal to one here."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred

from pycomnet.deferred import Condition, reporting
from pycomnet.far.live import Live
from pycomnet.gateways.gateway import Gateway
from pycomnet.rsync.options import AnyPath, LinkPolicy, SyncError, SyncOptions, make_options
from pycomnet.rsync.reports import Reports
from pycomnet.rsync.result import SyncEvent, SyncResult, TargetResult
from pycomnet.rsync.run import Run, SyncTarget
from pycomnet.rsync.watch import SourceWatch


class RSync(Live):
    """Makes directories at gateways equal to a directory here.

    Only what differs is sent. Files are compared by size and by the time of their last change, in
    nanoseconds, so a file whose content was changed without changing either is not noticed, unless
    ``checksum`` is true. Parts of a long file that the target has, in its old file or in what an
    interrupted run has left, are not sent.

    Each file is read once for all targets. A slow target does not slow down the others, and one
    that dies fails alone.

    :param source: a directory. What is in it will be in the targets' directories.
    :param exclude: patterns of what takes no part, as rsync's: ``*.pyc``, ``/build/``,
        ``docs/**/tmp``. What they match is neither sent nor deleted.
    :param include: patterns of what takes part though ``exclude`` matches it.
    :param takes: a function: path relative to ``source`` -> whether it takes part. It is called in
        a thread. What it leaves out is neither sent nor deleted; targets are told its names. If it
        raises, this is the error of each target.
    :param delete: whether what is not in the source is deleted at the targets. Nothing is deleted
        if a part of the source could not be read.
    :param links: what is done with symbolic links. ``keep``: a link with the same text is made; but
        an absolute link into the source becomes one to the same place at the target. ``copy``: what
        it points to is sent. ``skip``: it is not sent. ``error``: it is reported as failed.
    :param outside: the same for links that lead out of the source, or nowhere. By default as
        ``links``.
    :param hard_links: whether several names of one file become that at the targets, too.
    :param checksum: whether the content of all files of equal size is compared.
    :param owners: whether owners and groups are set, by number; this needs root at the target.
    :param compress: whether content is compressed. By default where the line to another machine
        is slow.
    :param dry_run: whether nothing is changed, and the result says what would be.
    :raises ValueError: an argument is not valid.
    """

    def __init__(
        self,
        source: AnyPath,
        *,
        exclude: Iterable[str | bytes] = (),
        include: Iterable[str | bytes] = (),
        takes: Callable[[str], bool] | None = None,
        delete: bool = False,
        links: LinkPolicy = "keep",
        outside: LinkPolicy | None = None,
        hard_links: bool = False,
        checksum: bool = False,
        owners: bool = False,
        compress: bool | None = None,
        dry_run: bool = False,
    ) -> None:
        self._source = source
        self._options = make_options(
            exclude=exclude,
            include=include,
            takes_path=takes,
            delete=delete,
            links=links,
            outside=outside,
            hard_links=hard_links,
            checksum=checksum,
            owners=owners,
            compress=compress,
            dry_run=dry_run,
        )
        self._targets: list[SyncTarget] = []
        self._results: list[TargetResult] = []

    def __repr__(self) -> str:
        return f"<RSync {os.fsdecode(self._source)!r} to {len(self._targets)} targets>"

    @property
    def results(self) -> list[TargetResult]:
        """The result of each target of the last run, in the order in which they were added.

        While a run goes on, they say how far it is.
        """
        return self._results

    def add_target(
        self,
        gateway: Gateway,
        path: AnyPath,
        delete: bool | None = None,
        finished: Callable[[TargetResult], object] | None = None,
    ) -> None:
        """Add a target.

        :param path: a directory at the gateway, relative to its working directory; ``~`` stands for
            its user's home. It is made if it is not there.
        :param delete: as for the constructor, for this target.
        :param finished: called with the :class:`TargetResult` when this target is finished,
            whatever the others do. ``send`` waits for what it returns, and fails if it fails.
        """
        self._targets.append(SyncTarget(gateway, path, delete, finished))

    def send(self, progress: Callable[[SyncEvent], object] | None = None) -> Deferred[SyncResult]:
        """Make the targets equal to the source.

        What can't be done for an entry or for a whole target does not end the run: it is in the
        result.

        :param progress: called with each :class:`SyncEvent`. It may cancel what this returns. If it
            raises, the run ends at all targets, and fails with that.
        :returns: fires with a :class:`SyncResult` when all targets are finished. Fails with
            :class:`SyncError` if there is no target, or the source is no directory. Cancelling it
            ends the run at all targets. Each file there is whole then, old or new, and the next run
            goes on from there.
        """
        self._results = [TargetResult(str(target)) for target in self._targets]
        return _send(
            progress,
            self._source,
            self._options,
            list(self._targets),
            self._results,
            progress is not None,
        )

    def watch(self, progress: Callable[[SyncEvent], object] | None = None) -> Deferred[None]:
        """Make the targets equal to the source, and again whenever the source changes.

        A change is sent after a moment without another one, and only the directories are compared
        in which something has changed. While there is a run to a slow target, what changes is
        collected for its next one; the others do not wait for it. Where something has failed, the
        next run compares everything again.

        It needs the package watchfiles: ``pip install 'pycomnet[watch]'``.

        :param progress: as for :meth:`send`. There is an event ``finished`` at the end of each run
            to a target; it has a reason if the target is lost. So are the targets' ``finished``
            functions called, each time.
        :returns: a Deferred that does not fire, until it is cancelled: that ends it at all targets.
            Fails with :class:`SyncFailures` if no target is left; with :class:`SyncError` if there
            is no target, the source can't be read any more, or watchfiles is not installed.
        """
        self._results = [TargetResult(str(target)) for target in self._targets]
        return _watch(
            progress,
            self._source,
            self._options,
            list(self._targets),
            self._results,
            progress is not None,
        )

    async def events(self) -> AsyncIterator[SyncEvent]:
        """Run, as :meth:`send`, and yield each :class:`SyncEvent` as it happens.

        The run goes on while an event is dealt with. Leaving the loop ends the run.
        """
        waiting: deque[SyncEvent] = deque()
        happened = Condition()

        def add(event: SyncEvent) -> None:
            waiting.append(event)
            happened.notify_all()

        running = self.send(add)
        running.addBoth(_wake, happened)
        try:
            while waiting or not running.called:
                if waiting:
                    yield waiting.popleft()
                else:
                    await happened.wait()
            await running
        finally:
            running.addErrback(lambda _: None)
            running.cancel()


@reporting
async def _send(
    report: Callable[[SyncEvent], object],
    source: AnyPath,
    options: SyncOptions,
    targets: list[SyncTarget],
    results: list[TargetResult],
    is_told: bool,
) -> SyncResult:
    reports = _reports(report if is_told else None, targets)
    try:
        return await Run(source, options, targets, results, reports).send()
    finally:
        reports.close()


@reporting
async def _watch(
    report: Callable[[SyncEvent], object],
    source: AnyPath,
    options: SyncOptions,
    targets: list[SyncTarget],
    results: list[TargetResult],
    is_told: bool,
) -> None:
    if options.dry_run:
        raise SyncError("there is nothing to watch for in a dry run")
    reports = _reports(report if is_told else None, targets)
    try:
        await SourceWatch(source, options, targets, results, reports).run()
    finally:
        reports.close()


def _reports(report: Callable[[SyncEvent], object] | None, targets: list[SyncTarget]) -> Reports:
    if not targets:
        raise SyncError("there is no target: add one with add_target(gateway, path)")
    return Reports(report, targets[0].gateway.link.reactor)


def _wake(result: Any, happened: Condition) -> Any:
    happened.notify_all()
    return result
