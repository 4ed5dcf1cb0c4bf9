"""Bounds the unauthenticated connections of a daemon.

A daemon can't know which of these peers will authenticate. So it keeps a limited number of
unauthenticated connections. When there are more, it drops the oldest one of the address (or, on a
unix socket, the user) that has the most of them. So a peer that authenticates at once gets in,
however many others never do. When descriptors run out, unauthenticated connections are dropped
first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.auth.admission import peer_credentials
from pycomnet.net.endpoints import describe_address
from pycomnet.text.logs import Logger

try:
    import resource
except ImportError:  # not POSIX: there is no such limit
    resource = None  # type: ignore[assignment]

#: The limit on unauthenticated connections at a time, from all addresses together.
MAX_UNAUTHENTICATED = 1024
#: The share of the descriptors that unauthenticated connections may have: one in so many.
THEIR_SHARE = 4
#: The share that is reserved for everything else: one in so many, and at least MIN_RESERVED.
RESERVED_SHARE = 8
MIN_RESERVED = 16
#: The share of the unauthenticated connections that is dropped when only reserved ones are left.
DROPPED_SHARE = 8
#: Seconds between two log lines about dropped connections.
LOG_EVERY = 10.0
#: Bits of an IPv6 address that tell networks apart: whoever has one has all addresses in it.
NETWORK = 64


def descriptor_limit() -> int:
    """How many descriptors this process may have."""
    if resource is None:
        return MAX_UNAUTHENTICATED * THEIR_SHARE
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft > 0 else 1 << 20


def origin(transport: Any) -> str:
    """The origin that a connection is counted for: an address, a network or a user."""
    peer = transport.getPeer()
    if isinstance(peer, IPv6Address):
        address = ipaddress.IPv6Address(peer.host.partition("%")[0])
        if address.ipv4_mapped is not None:  # at a listener for both, each address is its own
            return str(address.ipv4_mapped)
        if address.is_loopback:
            return str(address)
        return str(ipaddress.ip_network((address, NETWORK), strict=False))
    if isinstance(peer, IPv4Address):
        return peer.host
    credentials = peer_credentials(transport)
    return "somebody" if credentials is None else f"uid {credentials.uid}"


@attrs.define
class _Dropped:
    """What to log about dropped connections."""

    count: int = 0
    said: float | None = None


class UnauthenticatedConnections:
    """The unauthenticated connections of a daemon.

    :param reactor: measures the time between two log lines.
    :param most: the limit on them; by default, the share of the descriptors that is theirs.
    :ivar dropped: the number of connections that were dropped.
    """

    log = Logger()

    def __init__(self, reactor: IReactorTime, most: int | None = None) -> None:
        self.most = most or max(2, min(MAX_UNAUTHENTICATED, descriptor_limit() // THEIR_SHARE))
        self.dropped = 0
        self._reactor = reactor
        #: transports in the order of their arrival, by where they are from; and the other way round
        self._by_origin: dict[str, dict[Any, None]] = {}
        self._origins: dict[Any, str] = {}
        self._unsaid = _Dropped()

    def __len__(self) -> int:
        return len(self._origins)

    def arrived(self, transport: Any) -> None:
        """A peer has connected. Another one may be dropped for it."""
        where = origin(transport)
        self._origins[transport] = where
        self._by_origin.setdefault(where, {})[transport] = None
        if self._is_scarce(transport):
            # Drop several: new connections reuse the freed low descriptors, so for a while their
            # number won't show that descriptors are scarce.
            for _ in range(max(2, len(self._origins) // DROPPED_SHARE)):
                if len(self._origins) > 1:
                    self._drop_one(where, True)
        elif len(self._origins) > self.most:
            self._drop_one(where, False)

    def known(self, transport: Any) -> None:
        """The peer has authenticated, or has disconnected: stop counting it."""
        where = self._origins.pop(transport, None)
        if where is not None:
            others = self._by_origin[where]
            del others[transport]
            if not others:
                del self._by_origin[where]

    def _is_scarce(self, transport: Any) -> bool:
        # A new descriptor has the lowest number that is free.
        fileno = getattr(transport, "fileno", None)
        if fileno is None:
            return False
        limit = descriptor_limit()
        scarce: bool = fileno() >= limit - max(MIN_RESERVED, limit // RESERVED_SHARE)
        return scarce

    def _drop_one(self, newcomer: str, at_once: bool) -> None:
        """Drop the oldest unauthenticated connection of the origin that has the most of them.

        :param at_once: close its descriptor now: a hundred may come in one turn of the reactor.
        """
        count = max(map(len, self._by_origin.values()))
        crowd: Mapping[Any, Any] = self._by_origin[newcomer]
        if count == 1:
            crowd = self._origins  # each is from somewhere else
        elif len(crowd) < count:
            crowd = max(self._by_origin.values(), key=len)
        oldest = next(iter(crowd))
        self.known(oldest)
        self.dropped += 1
        self._say(oldest)
        abort = getattr(oldest, "abortConnection", oldest.loseConnection)
        abort()
        if at_once:
            while hasattr(oldest, "transport"):  # TLS
                oldest = oldest.transport
            if isinstance(oldest, tcp.Connection):
                oldest.connectionLost(Failure(ConnectionAborted()))

    def _say(self, transport: Any) -> None:
        unsaid = self._unsaid
        unsaid.count += 1
        now = self._reactor.seconds()
        if unsaid.said is None or now - unsaid.said >= LOG_EVERY:
            self.log.warn(
                "dropped {count} unauthenticated connections, the last from {peer}",
                count=unsaid.count,
                peer=describe_address(transport.getPeer()),
            )
            self._unsaid = _Dropped(0, now)
