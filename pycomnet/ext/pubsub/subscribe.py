"""``subscriber()``: makes a subscriber from its arguments."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from pycomnet.errors import InvalidArguments
from pycomnet.ext.pubsub.discovery import Publishers
from pycomnet.ext.pubsub.history import duration
from pycomnet.ext.pubsub.nats.feed import NatsFinder
from pycomnet.ext.pubsub.subscriber import Subscriber
from pycomnet.ext.pubsub.subscriberqueue import LEAST_BOUND, Policy
from pycomnet.nats.settings import read_via
from pycomnet.ranges import real, whole

if TYPE_CHECKING:
    from pycomnet.services.client.context import Context

#: Values of ``which``.
ALL, ONE = "all", "one"


def subscriber(
    interface: str,
    subjects: str | Iterable[str] | None = None,
    *,
    context: Context | None = None,
    address: str | None = None,
    service: str | None = None,
    which: str = ALL,
    policy: str = Policy.DROP_OLDEST.value,
    bound: int | None = None,
    last: int | None = None,
    since: float | str | None = None,
    retained: bool | None = None,
    group: str | None = None,
    name: str | None = None,
    acknowledged: bool = False,
    prefetch: int | None = None,
    ack_timeout: float | None = None,
    gaps: bool = True,
    via: Any = None,
) -> Subscriber:
    """Subscribe to the publishers of an interface. The subscriber begins when it is first used.

    :param subjects: patterns of subjects, such as ``"eu.*"`` or ``"eu.>"``; by default all.
    :param context: the context with the nameserver and the connections; by default the default
        context.
    :param address: the address of a single publisher, without a nameserver.
    :param service: the name of a single publisher at the nameserver.
    :param which: ``"all"`` publishers of the interface, merged; or any ``"one"`` of them.
    :param policy: which events are dropped when this program is slower than the publisher:
        ``"drop_oldest"``, ``"drop_newest"``, ``"latest"`` (keep the last of each key),
        ``"disconnect"`` or ``"block"`` (the publisher waits, if it allows that).
    :param bound: the bytes that may wait at the publisher; by default 1 MiB.
    :param last: begin with this number of the last events in the history.
    :param since: begin with the events of the last seconds, or of a time such as ``"5m"``.
    :param retained: begin with the retained events; this is the default outside of groups.
    :param group: share the events with the other subscribers of this group: each event goes to one.
        An event is acknowledged when the next is requested, or by :meth:`Event.acknowledge`. When
        this subscriber is lost, its unacknowledged events go to another.
    :param name: with ``acknowledged``: the name of a group whose position the publisher keeps in
        its store, also over restarts of both ends.
    :param prefetch: in a group: how many unacknowledged events this subscriber may have.
    :param ack_timeout: in a group: seconds for this subscriber to acknowledge the event that it has
        had for longest. If it does not, all its events go to others (``event.deliveries``), and it
        gets no more until it acknowledges something. By default the publisher's timeout applies,
        which is also the maximum.
    :param via: the publishers are behind NATS: ``"nats://a:4222,b:4222"``, or
        :class:`~pycomnet.nats.NatsSettings`. The nameserver is not used then.
    :param gaps: return a :class:`Gap` where events are missing, and :class:`Restarted`.
    """
    if not isinstance(interface, str) or not interface:
        raise InvalidArguments(f"subscriber: expected an interface's name, not {interface!r}")
    if which not in (ALL, ONE):
        raise InvalidArguments(f"which: {ALL!r} or {ONE!r}, not {which!r}")
    if acknowledged is not (name is not None):
        raise InvalidArguments("name= and acknowledged=True make a durable group: give both")
    if name is not None and group is not None:
        raise InvalidArguments("name= is the name of a durable group: don't give group= as well")
    wanted: dict[str, Any] = {"policy": Policy(policy).value}
    if bound is not None:
        wanted["bound"] = whole("bound", bound, LEAST_BOUND)
    if prefetch is not None:
        wanted["prefetch"] = whole("prefetch", prefetch, 1)
    if ack_timeout is not None:
        wanted["ack_timeout"] = real("ack_timeout", ack_timeout, above=True)
        if group is None and name is None:
            raise InvalidArguments("ack_timeout: only members of a group acknowledge")
    beginning: dict[str, Any] = {}
    if last is not None:
        beginning["last"] = whole("last", last)
    elif since is not None:
        seconds = duration("since", since) if isinstance(since, str) else real("since", since)
        beginning["since"] = seconds
    else:
        grouped = group is not None or name is not None
        beginning["retained"] = not grouped if retained is None else bool(retained)
    durable = name is not None
    group = group if name is None else name
    if via is None:
        finder: Any = partial(Publishers, address=address, service=service, one=which == ONE)
    elif address is not None or service is not None or which != ALL:
        raise InvalidArguments("address=, service= and which= do not go with via=")
    else:
        finder = partial(NatsFinder, settings=read_via(via))
    return Subscriber(interface, subjects, context, gaps, group, durable, wanted, beginning, finder)
