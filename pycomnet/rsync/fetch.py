"""rsync the other way: makes a directory here equal to one at a gateway.

The far side may be anybody's, so what it sends is checked: names that lead out of the destination,
links in the place of directories, content that does not have its digest. The receiver is the
same as at a far side (:mod:`pycomnet.far.rsync.receive`); it runs in a thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from pycomnet.deferred import reporting
from pycomnet.errors import ChannelClosed
from pycomnet.gateways.gateway import Gateway
from pycomnet.ranges import whole
from pycomnet.rsync.fetchrun import FetchLimits, FetchRun
from pycomnet.rsync.modules import SEND, compression, offer, wait_for_reason
from pycomnet.rsync.options import AnyPath, LinkPolicy, SyncError, SyncOptions, make_options
from pycomnet.rsync.result import SyncEvent, TargetResult


def fetch(
    gateway: Gateway,
    source: AnyPath,
    destination: AnyPath,
    *,
    exclude: Iterable[str | bytes] = (),
    include: Iterable[str | bytes] = (),
    delete: bool = False,
    links: LinkPolicy = "keep",
    outside: LinkPolicy | None = None,
    hard_links: bool = False,
    checksum: bool = False,
    owners: bool = False,
    compress: bool | None = None,
    dry_run: bool = False,
    max_bytes: int | None = None,
    max_entries: int | None = None,
    progress: Callable[[SyncEvent], object] | None = None,
) -> Deferred[TargetResult]:
    """Make a directory here equal to a directory at a gateway.

    As :class:`~pycomnet.RSync`, the other way. Whatever the far side sends, nothing is written
    outside of ``destination``. Set-user-id and set-group-id bits are not taken over, unless
    ``owners`` is true.

    :param source: the directory at the gateway, relative to its working directory; ``~`` stands
        for its user's home.
    :param destination: the directory here. It is made if it is not there.
    :param compress: whether content is compressed. By default where the line to another machine
        is slow.
    :param max_bytes: how many bytes the files may have that are written, where the far side is not
        trusted to stop. By default as many as there is room for.
    :param max_entries: how many entries the source may have.
    :param progress: called with each :class:`SyncEvent`. It may cancel what this returns. If it
        raises, the run ends, and fails with that.
    :returns: fires with a :class:`TargetResult`: ``sent`` has what came. Fails with
        :class:`SyncError` if the source is no directory, has more than may come, or the far side
        does not keep to the protocol; with :class:`ConnectionLost`. Cancelling it ends the
        run, and it fails when nothing is written any more: each file here is whole then, old or
        new, and the next run goes on from there.
    :raises ValueError: an argument is not valid.
    """
    limits = FetchLimits(
        size=None if max_bytes is None else whole("max_bytes", max_bytes, 0),
        entries=None if max_entries is None else whole("max_entries", max_entries, 0),
    )
    options = make_options(
        exclude=exclude,
        include=include,
        links=links,
        outside=outside,
        delete=delete,
        hard_links=hard_links,
        checksum=checksum,
        owners=owners,
        dry_run=dry_run,
    )
    return _fetch(progress, gateway, source, destination, options, compress, limits)


@reporting
async def _fetch(
    report: Callable[[SyncEvent], object],
    gateway: Gateway,
    source: AnyPath,
    destination: AnyPath,
    options: SyncOptions,
    compress: bool | None,
    limits: FetchLimits,
) -> TargetResult:
    result = TargetResult(f"{gateway.id}:{os.fsdecode(source)}")
    offer(gateway)
    data = gateway.newchannel(raw=True)
    asked = {
        "root": os.fsencode(source),
        "rules": [list(rule) for rule in options.rules],
        "links": options.links,
        "outside": options.outside,
        "hard_links": options.hard_links,
        "owners": options.owners,
        "compress": compression(gateway, compress),
    }
    channel = gateway.remote_exec(SEND, data=data, options=asked)
    reactor = IReactorFromThreads(gateway.link.reactor)
    run = FetchRun(channel, data, options, result, report, limits, reactor)
    run.receiving, ended = in_own_thread(
        reactor, run.receive, os.path.abspath(os.fsencode(destination))
    )
    try:
        # All is here when this returns: whether the far code ends by itself does not matter.
        await run.receiving
    except ChannelClosed as closed:
        await wait_for_reason(channel, gateway.link.reactor)
        raise SyncError(f"the other end stopped before it was finished: {closed}") from None
    finally:
        run.end()
        await ended  # nothing is written any more when this fires
    report(SyncEvent("finished", result.target))
    return result


def in_own_thread(
    reactor: IReactorFromThreads, function: Callable[..., Any], *args: Any
) -> tuple[Deferred[Any], Deferred[None]]:
    """Run a function that takes long in a thread of its own: the pool's are for short ones.

    :returns: the first fires with its result; cancelling it does not end the function. The second
        fires when the function has ended.
    """
    outcome: Deferred[Any] = Deferred()
    ended: Deferred[None] = Deferred()

    def done(result: Any) -> None:
        if not outcome.called:
            outcome.callback(result)  # a Failure is its failure
        ended.callback(None)

    def run() -> None:
        try:
            result = function(*args)
        except BaseException:
            result = Failure()
        reactor.callFromThread(done, result)

    threading.Thread(target=run, name="pycomnet fetch", daemon=True).start()
    return outcome, ended
