"""rsync: makes directories at any number of gateways equal to one here."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorThreads

from pycomnet.deferred import Condition, deferred
from pycomnet.gateways.gateway import Gateway
from pycomnet.rsync.options import AnyPath, LinkPolicy, SyncError, make_options
from pycomnet.rsync.result import EventKind, SyncEvent, SyncResult, TargetResult
from pycomnet.rsync.session import Session
from pycomnet.rsync.source import Source
from pycomnet.text.logs import Logger

log = Logger()


@attrs.frozen(eq=False)
class SyncTarget:
    """A directory at a gateway."""

    gateway: Gateway
    path: AnyPath
    delete: bool | None
    finished: Callable[[TargetResult], object] | None

    def __str__(self) -> str:
        return f"{self.gateway.id}:{os.fsdecode(self.path)}"


class RSync:
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
    :param compress: whether content is compressed. By default where the line is slow.
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

    def __repr__(self) -> str:
        return f"<RSync {os.fsdecode(self._source)!r} to {len(self._targets)} targets>"

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
            whatever the others do. ``send`` waits for what it returns.
        """
        self._targets.append(SyncTarget(gateway, path, delete, finished))

    @deferred
    async def send(self, progress: Callable[[SyncEvent], object] | None = None) -> SyncResult:
        """Make the targets equal to the source.

        What can't be done for an entry or for a whole target does not end the run: it is in the
        result.

        :param progress: called with each :class:`SyncEvent`.
        :returns: fires with a :class:`SyncResult` when all targets are finished. Fails with
            :class:`SyncError` if there is no target, or the source is no directory. Cancelling it
            ends the run at all targets. Each file there is whole then, old or new, and the next run
            goes on from there.
        """
        return await self._run(self._targets, progress)

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

    async def _run(
        self, targets: list[SyncTarget], progress: Callable[[SyncEvent], object] | None
    ) -> SyncResult:
        if not targets:
            raise SyncError("there is no target: add one with add_target(gateway, path)")
        reactor = targets[0].gateway.link.reactor
        try:
            source = Source(self._source, self._options, IReactorThreads(reactor))
        except OSError as problem:
            raise SyncError(f"the source can't be read: {problem}") from None
        results = [TargetResult(str(target)) for target in targets]
        sessions = [
            self._session(source, target, result, progress)
            for target, result in zip(targets, results, strict=True)
        ]
        running = [
            Deferred.fromCoroutine(_run_target(source, target, result, session))
            for target, result, session in zip(targets, results, sessions, strict=True)
        ]
        try:
            for each in running:
                await each
        finally:
            for each in running:
                each.addErrback(lambda _: None)
                each.cancel()
            source.close()
        return SyncResult(results)

    def _session(
        self,
        source: Source,
        target: SyncTarget,
        result: TargetResult,
        progress: Callable[[SyncEvent], object] | None,
    ) -> Session:
        shown = str(target)

        def tell(kind: EventKind, path: str, reason: str) -> None:
            assert progress is not None
            try:
                progress(SyncEvent(kind, shown, path, reason))
            except Exception:
                log.failure("a callback for the progress of a run failed")

        options = self._options
        if target.delete is not None:
            options = attrs.evolve(options, delete=target.delete)
        told = None if progress is None else tell
        return Session(source, target.gateway, os.fsencode(target.path), options, result, told)


async def _run_target(
    source: Source, target: SyncTarget, result: TargetResult, session: Session
) -> None:
    try:
        await session.run()
    except CancelledError:
        raise
    except Exception as problem:
        result.error = problem
    finally:
        source.leave_list(session)
    session.tell("finished", "", "" if result.error is None else str(result.error))
    if target.finished is not None:
        try:
            await maybeDeferred(target.finished, result)
        except Exception:
            log.failure("the callback for a finished target failed")


def _wake(result: Any, happened: Condition) -> Any:
    happened.notify_all()
    return result


__all__ = ["RSync"]
