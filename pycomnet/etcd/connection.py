"""A connection to a member, as a Twisted protocol. It detects a frozen member."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocolNegotiationFactory,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.etcd import frames
from pycomnet.etcd.errors import EtcdError, EtcdProtocolViolation, EtcdUnavailable
from pycomnet.etcd.headers import RequestHeaders
from pycomnet.etcd.http2 import Http2Connection
from pycomnet.net.eager import Pieces, nowhere, writer
from pycomnet.net.endpoints import explain

#: Seconds between two checks of a connection.
TICK = 0.5
#: The ticks without data from a member that owes a reply, after which it gets a PING ...
SILENT_TICKS = 3
#: ... and the further ticks without data after which it counts as frozen.
FROZEN_TICKS = 4
#: etcd closes connections with frequent PINGs (``--grpc-keepalive-min-time``, 5 s). It counts the
#: PINGs that come sooner, and resets the count when it sends a reply: FREE_PINGS of them are then
#: allowed. Other PINGs are PING_TICKS apart.
FREE_PINGS, PING_TICKS = 2, 11


class MemberSilent(EtcdUnavailable):
    """The member has not answered a PING: it is frozen, or the network is interrupted."""


@implementer(IPushProducer)
class MemberConnection(Protocol):
    """A connection to a member.

    :param authority: the member's host and port, for the requests' headers.
    :param is_tls: whether the connection uses TLS.
    :param ready: called when the member's HTTP/2 settings have arrived.
    :param draining: called when the connection accepts no more requests.
    :param ended: called with the reason when the connection is lost.
    :ivar http2: the state of HTTP/2.
    """

    def __init__(
        self,
        authority: str,
        is_tls: bool,
        clock: IReactorTime,
        ready: Callable[[MemberConnection], object],
        draining: Callable[[MemberConnection], object],
        ended: Callable[[MemberConnection, EtcdError], object],
    ) -> None:
        self._clock = clock
        self._is_tls = is_tls
        self._ended = ended
        self._timer: IDelayedCall | None = None
        self._reason: EtcdError | None = None
        self._is_over = False
        self._is_reading = False
        #: whether anything has come
        self._has_answered = False
        self._write_now: Callable[[Pieces], None] = nowhere
        #: whether data were received since the last tick, and for how many ticks none were
        self._heard = False
        self._silent = 0
        #: the ticks since the last PING, and those that it has been without a reply
        self._since_ping = PING_TICKS
        self._unanswered = 0
        self._pings = 0
        self._received_at_ping = -1
        self.http2 = Http2Connection(self._write, RequestHeaders(authority, _scheme(is_tls)))
        self.http2.on_settings = lambda: ready(self)
        self.http2.on_draining = lambda: draining(self)

    def _write(self, data: bytes) -> None:
        if self._is_reading:
            # What the replies of one read cause is written at once, not in the reactor's next turn.
            self._write_now((data,))
        elif self.transport is not None:
            self.transport.write(data)

    def connectionMade(self) -> None:
        transport: Any = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        self._write_now = writer(transport)
        transport.registerProducer(self, True)
        self._timer = self._clock.callLater(TICK, self._tick)
        self.http2.start()

    def dataReceived(self, data: bytes) -> None:
        self._heard = self._has_answered = True
        if self._is_over:
            return
        self._is_reading = True
        try:
            self.http2.receive(data)
        except EtcdProtocolViolation as problem:
            self.http2.goaway(frames.PROTOCOL_ERROR, str(problem))
            self.end(problem)
        finally:
            self._is_reading = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        why = f"the connection is lost: {explain(reason)}"
        if not self._has_answered and reason.check(error.ConnectionDone, error.ConnectionLost):
            hint = "it may speak no TLS" if self._is_tls else "it may want a tls: address"
            why = f"{why.rstrip('.')} before it said anything: {hint}"
        self._over(self._reason or EtcdUnavailable(why))

    def end(self, reason: EtcdError) -> None:
        """Close the connection at once. Requests in progress are lost."""
        self._reason = self._reason or reason
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
        self._over(self._reason)

    def _over(self, reason: EtcdError) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._ended(self, reason)
        self.http2.lose(reason)

    # -- a frozen member ---------------------------------------------------------------------------

    def _tick(self) -> None:
        """Check whether the member is silent.

        Ticks are counted, not seconds: if this process was stopped, it has one late tick, and then
        reads the data that has arrived meanwhile.
        """
        self._timer = self._clock.callLater(TICK, self._tick)
        self._since_ping += 1
        if self._heard:
            self._heard = False
            self._silent = self._unanswered = 0
        else:
            self._silent += 1
        if not self.http2.streams:
            self._silent = self._unanswered = 0
            if self.http2.is_draining:
                self.end(EtcdUnavailable("the member goes away"))
            return
        if self._unanswered:
            self._unanswered += 1
            if self._unanswered > FROZEN_TICKS:
                silent = TICK * self._silent
                self.end(MemberSilent(f"the member is silent for {silent:g} s and to a PING"))
        elif self._silent >= SILENT_TICKS and self._may_ping():
            self._unanswered = 1
            self._since_ping = 0
            self.http2.ping(b"pycomnet")

    def _may_ping(self) -> bool:
        if self.http2.received != self._received_at_ping:
            self._received_at_ping = self.http2.received
            self._pings = 0
        self._pings += 1
        return self._pings <= FREE_PINGS or self._since_ping >= PING_TICKS

    # -- called by the transport, which consumes what the streams send

    def pauseProducing(self) -> None:
        self.http2.is_congested = True

    def resumeProducing(self) -> None:
        self.http2.is_congested = False

    def stopProducing(self) -> None:
        """The transport is closed."""


def _scheme(is_tls: bool) -> str:
    return "https" if is_tls else "http"


@implementer(IProtocolNegotiationFactory)
class ConnectionFactory(ClientFactory):
    """Builds the protocol of one connection, and offers HTTP/2 in the TLS handshake (ALPN)."""

    noisy = False

    def __init__(self, build: Callable[[], MemberConnection]) -> None:
        self._build = build

    def buildProtocol(self, address: object) -> MemberConnection:
        return self._build()

    def acceptableProtocols(self) -> list[bytes]:
        return [b"h2"]
