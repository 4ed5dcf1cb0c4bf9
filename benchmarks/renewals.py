"""Renews leases at a nameserver with as little processor time as possible.

A benchmark of nameservers shares the machine with their clients. A :class:`Context` takes as much
time for a renewal as the nameserver does. So this client speaks the wire protocol
(docs/protocol.rst) itself: requests are encoded before, and of replies only their kind is read.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from twisted.internet import defer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from pycomnet.nameserver.records import decode, encode
from pycomnet.services.client.context import NAMESERVER
from pycomnet.wire import frames
from pycomnet.wire.hello import hello_frame
from pycomnet.wire.mux import Limits

#: Seconds that a request gives the nameserver.
TIMEOUT = 30.0
#: Requests in progress on a connection; further ones wait. A nameserver accepts 4,096.
MOST_OPEN = 4_000
_INVOKE = b"invoke"


def renewal(lease: int, secret: str) -> bytes:
    """The payload of the OPEN frame that renews a lease."""
    request = [NAMESERVER, "renew", {"lease": lease, "secret": secret}, TIMEOUT]
    head = bytes([frames.FIRST | frames.OPEN_END, len(_INVOKE)])
    return head + _INVOKE + encode(request)


class RenewalConnection(Protocol):
    """A connection to a nameserver that only renews leases.

    :param results: counts the replies: ``renewed``, the others by the errors' codes, and lost
        connections.
    :ivar ready: fires when the nameserver's hello is here; fails if the connection is lost before.
    """

    def __init__(self, results: Counter[str]) -> None:
        self.ready: defer.Deferred[None] = defer.Deferred()
        self._results = results
        self._rest = b""
        self._id = 1
        self._open = 0
        self._waiting: deque[bytes] = deque()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(hello_frame(Limits(), {}, None))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._results["connection lost"] += 1
        if not self.ready.called:
            self.ready.errback(reason)

    def renew(self, requests: list[bytes]) -> None:
        """Send requests, each made by :func:`renewal`, in one write."""
        self._waiting.extend(requests)
        self._send()

    def _send(self) -> None:
        waiting = self._waiting
        parts = []
        while waiting and self._open < MOST_OPEN:
            request = waiting.popleft()
            parts += (frames.pack(len(request), frames.OPEN, self._id), request)
            self._id += 2
            self._open += 1
        if parts:
            transport: Any = self.transport
            transport.write(b"".join(parts))

    def dataReceived(self, data: bytes) -> None:
        data = self._rest + data
        at, size = 0, len(data)
        head, results = frames.HEADER_SIZE, self._results
        while size - at >= head:
            length, kind, _ = frames.unpack_from(data, at)
            end = at + head + length
            if end > size:
                break
            if kind == frames.CLOSE:
                self._open -= 1
                if data[at + head] == frames.RESULT:
                    results["renewed"] += 1
                else:
                    results[decode(data[at + head + 1 : end])["code"]] += 1
            elif kind == frames.PING:
                self._pong(data[at + head : end])
            elif kind == frames.HELLO:
                self.ready.callback(None)
            else:
                raise AssertionError(f"expected no {frames.NAMES[kind]}: {data[at:end]!r}")
            at = end
        self._rest = data[at:]
        if self._waiting:
            self._send()

    def _pong(self, payload: bytes) -> None:
        transport: Any = self.transport
        transport.write(frames.pack(len(payload), frames.PONG, 0) + payload)


__all__ = ["RenewalConnection", "renewal"]
