"""Starts many gateways at the same time, up to a limit, and reports the progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer

from pycomnet.channels.callbacks import pending_result
from pycomnet.deferred import OneShot
from pycomnet.errors import GatewaysNotStarted, PycomnetError, SpecError
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
    :raises SpecError: some would be started from each other.
    :raises GatewaysNotStarted: some could not be made.
    """
    _check_order(specs)
    made: list[Gateway | None] = [None] * len(specs)
    failed: dict[int, Exception] = {}
    tried: list[int] = []
    room = defer.DeferredSemaphore(parallel)
    given_up = False
    #: id -> an event that happens when that gateway was tried, whatever came of it
    tries: dict[str | None, OneShot[None]] = {
        spec.id: OneShot() for spec in specs if spec.id is not None
    }

    async def start(number: int, spec: Spec) -> None:
        master = tries.get(spec.via)
        if master is not None and spec.via != spec.id:
            await master.when_fired()  # it is started from that gateway
        try:
            async with room:
                await make_one(number, spec)
        finally:
            if spec.id is not None:
                tries[spec.id].fire(None)

    async def make_one(number: int, spec: Spec) -> None:
        nonlocal given_up
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

    running = [
        defer.Deferred.fromCoroutine(start(number, spec)) for number, spec in enumerate(specs)
    ]
    # Cancelling it cancels each of them, and waits for all: they end what they have started.
    results: list[tuple[bool, Any]] = await defer.DeferredList(running, consumeErrors=True)
    for success, result in results:
        if not success:
            result.raiseException()
    if failed:
        errors = [(specs[number], failed[number]) for number in sorted(failed)]
        raise GatewaysNotStarted(made, errors)
    return [gateway for gateway in made if gateway is not None]


def _check_order(specs: Sequence[Spec]) -> None:
    """Refuse gateways that would wait for each other."""
    masters = {spec.id: spec.via for spec in specs if spec.id is not None and spec.via != spec.id}
    for id in masters:
        passed = [id]
        while (master := masters.get(passed[-1])) is not None:
            if master in passed:
                raise SpecError(f"gateways that are started from each other: {', '.join(passed)}")
            passed.append(master)


def _tell(progress: Callable[[Progress], Any], what: Progress) -> None:
    """Call the callback; log what it raises, and go on."""
    try:
        pending = pending_result(progress(what))
    except Exception:
        log.failure("the progress callback raised")
    else:
        if pending is not None:
            pending.addErrback(lambda failure: log.failure("the progress callback failed", failure))
