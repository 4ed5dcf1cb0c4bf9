"""Starts many gateways at the same time, up to a limit, and reports the progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer

from pycomnet.channels.callbacks import pending_result
from pycomnet.errors import GatewaysNotStarted, PycomnetError
from pycomnet.gateways.spec import Spec
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.gateways.gateway import Gateway

log = Logger()
#: The most gateways that are started at a time: the sshd of one host accepts ten at a time.
PARALLEL = 32


@attrs.frozen
class Progress:
    """One of several gateways has started, or failed to.

    :ivar spec: its spec.
    :ivar id: its id, or None.
    :ivar error: why it could not be started, or None.
    :ivar done: the number of those that have been tried.
    :ivar total: the number of all.
    """

    spec: Spec
    id: str | None
    error: Exception | None
    done: int
    total: int


async def start_all(
    make: Callable[..., defer.Deferred[Gateway]],
    specs: Sequence[Spec],
    parallel: int,
    progress: Callable[[Progress], Any] | None,
    timeout: float,
) -> list[Gateway]:
    """Make a gateway of each spec.

    :param make: makes one.
    :raises GatewaysNotStarted: some could not be made.
    """
    if parallel < 1:
        raise ValueError(f"parallel is 1 or more, not {parallel}")
    made: list[Gateway | None] = [None] * len(specs)
    failed: dict[int, Exception] = {}
    tried: list[int] = []
    room = defer.DeferredSemaphore(parallel)
    given_up = False
    #: id -> the waiters for it, for those that are still to be tried
    waiting: dict[str, list[defer.Deferred[None]]] = {
        spec.id: [] for spec in specs if spec.id is not None
    }

    async def start(number: int, spec: Spec) -> None:
        nonlocal given_up
        async with room:
            if given_up:
                raise defer.CancelledError()
            try:
                made[number] = await make(spec, timeout=timeout)
            except PycomnetError as problem:
                failed[number] = problem
            except defer.CancelledError:
                given_up = True  # and no other starts in its place
                raise
        tried.append(number)
        if progress is not None:
            gateway = made[number]
            id = spec.id if gateway is None else gateway.id
            _tell(progress, Progress(spec, id, failed.get(number), len(tried), len(specs)))
        for follower in waiting.pop(spec.id, ()) if spec.id is not None else ():
            follower.callback(None)

    async def follow(number: int, spec: Spec, master: defer.Deferred[None]) -> None:
        await master
        await start(number, spec)

    running: list[defer.Deferred[None]] = []
    for number, spec in enumerate(specs):
        if spec.via in waiting and spec.via != spec.id:
            # It is started from another of these, and so has to wait for that.
            master: defer.Deferred[None] = defer.Deferred()
            waiting[spec.via].append(master)
            running.append(defer.Deferred.fromCoroutine(follow(number, spec, master)))
        else:
            running.append(defer.Deferred.fromCoroutine(start(number, spec)))
    # Cancelling it cancels each of them, and waits for all: they end what they have started.
    results: list[tuple[bool, Any]] = await defer.DeferredList(running, consumeErrors=True)
    for success, result in results:
        if not success:
            result.raiseException()
    if failed:
        errors = [(specs[number], failed[number]) for number in sorted(failed)]
        raise GatewaysNotStarted(made, errors)
    return [gateway for gateway in made if gateway is not None]


def _tell(progress: Callable[[Progress], Any], what: Progress) -> None:
    """Call the callback; log what it raises, and go on."""
    try:
        pending = pending_result(progress(what))
    except Exception:
        log.failure("the progress callback raised")
    else:
        if pending is not None:
            pending.addErrback(lambda failure: log.failure("the progress callback failed", failure))
