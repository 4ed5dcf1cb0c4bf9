"""Renews leases at a nameserver with as little processor time as possible.

A benchmark of nameservers shares the machine with their clients. A :class:`Context` takes as much
time for a renewal as the nameserver does. So this client speaks the wire protocol
(docs/protocol.rst) itself: requests are encoded before, and of replies only their kind is read.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet import defer
from twisted.internet.protocol import Protocol

from pycomnet.nameserver.records import encode
from pycomnet.services.client.context import NAMESERVER
from pycomnet.wire import frames
from pycomnet.wire.hello import hello_frame
from pycomnet.wire.mux import Limits

#: Seconds that a request gives the nameserver.
TIMEOUT = 30.0
_INVOKE = b"invoke"
_KINDS = {frames.RESULT: "renewed", frames.ERROR: "refused"}


def renewal(lease: int, secret: str) -> bytes:
    """The payload of the OPEN frame that renews a lease."""
    request = [NAMESERVER, "renew", {"lease": lease, "secret": secret}, TIMEOUT]
    head = bytes([frames.FIRST | frames.OPEN_END, len(_INVOKE)])
    return head + _INVOKE + encode(request)


class RenewalConnection(Protocol):
    """A connection to a nameserver that only renews leases.

    :param results: counts the replies by what they say.
    :ivar ready: fires when the nameserver's hello is here.
    """

    def __init__(self, results: Counter[str]) -> None:
        self.ready: defer.Deferred[None] = defer.Deferred()
        self._results = results
        self._rest = b""
        self._id = 1

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(hello_frame(Limits(), {}, None))

    def renew(self, requests: list[bytes]) -> None:
        """Send requests, each made by :func:`renewal`, in one write."""
        ident = self._id
        parts = []
        for request in requests:
            parts += (frames.pack(len(request), frames.OPEN, ident), request)
            ident += 2
        self._id = ident
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
                results[_KINDS[data[at + head]]] += 1
            elif kind == frames.PING:
                self._pong(data[at + head : end])
            elif kind == frames.HELLO:
                self.ready.callback(None)
            else:
                raise AssertionError(f"expected no {frames.NAMES[kind]}: {data[at:end]!r}")
            at = end
        self._rest = data[at:]

    def _pong(self, payload: bytes) -> None:
        transport: Any = self.transport
        transport.write(frames.pack(len(payload), frames.PONG, 0) + payload)


__all__ = ["RenewalConnection", "renewal"]
