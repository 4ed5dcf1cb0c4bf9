"""A watch that survives lost connections and restarts of the nameserver."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from pycomnet.errors import (
    CallInterrupted,
    ConnectionLost,
    DeadlineExceeded,
    NameserverStale,
    Overloaded,
    RevisionTooOld,
    ServerLeaving,
    ServiceUnreachable,
    StoreCutOff,
)
from pycomnet.nameserver.watch import DELETE, END_OF_SNAPSHOT, PUT
from pycomnet.net.backoff import Backoff

if TYPE_CHECKING:
    from pycomnet.services.client.remoteservice import RemoteService

#: The reason of a delete that happened while the watch was interrupted.
MISSED = "missed"
#: Seconds before the nameserver is tried again: the first time, and the longest.
FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
#: Errors after which the watch is tried again.
_TRANSIENT = (
    CallInterrupted,
    ConnectionLost,
    DeadlineExceeded,
    NameserverStale,
    Overloaded,
    ServerLeaving,
    ServiceUnreachable,
    StoreCutOff,
)


async def follow(
    nameserver: RemoteService,
    reactor: IReactorTime,
    service: str | None = None,
    interface: str | None = None,
    tags: Sequence[str] = (),
    interrupted: Callable[[Exception], object] = lambda problem: None,
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the registered services, and then each change, until the iteration is closed.

    The events are those of ``watch``. After a lost connection it continues from the last revision.
    If that is too old, or the nameserver has another store than before, it gets a new snapshot: for
    each service that is gone it yields a delete with the reason ``missed``, and then another
    end-of-snapshot. So a program that applies each put and each delete always has the nameserver's
    latest known state.

    :param nameserver: from :meth:`Context.nameserver`.
    :param service: a pattern for names.
    :param interface: a pattern for interfaces.
    :param tags: a record must have all of them.
    :param interrupted: called with the error each time the nameserver is lost or can't be reached.
    """
    wanted = {"service": service, "interface": interface, "tags": list(tags)}
    revision: int | None = None
    known: set[str] = set()
    backoff = Backoff(reactor, FIRST_DELAY, LONGEST_DELAY)
    while True:
        seen: set[str] | None = set() if revision is None else None
        stream = nameserver.stream("watch", {**wanted, "revision": revision})
        try:
            async for event in stream:
                kind = event["event"]
                if kind == PUT:
                    name = event["record"]["service"]
                    known.add(name)
                    if seen is not None:
                        seen.add(name)
                elif kind == DELETE:
                    known.discard(event["service"])
                    if seen is not None:
                        seen.discard(event["service"])
                elif kind == END_OF_SNAPSHOT and seen is not None:
                    for name in sorted(known - seen):
                        known.discard(name)
                        gone = {"event": DELETE, "revision": event["revision"]}
                        yield {**gone, "service": name, "why": MISSED}
                    seen = None
                if seen is None:
                    revision = event["revision"]
                yield event
                backoff.reset()
            problem: Exception = CallInterrupted("the nameserver ended the watch")
        except RevisionTooOld as too_old:
            revision, problem = None, too_old
        except _TRANSIENT as transient:
            problem = transient
        finally:
            stream.close()
        interrupted(problem)
        await backoff.wait()
