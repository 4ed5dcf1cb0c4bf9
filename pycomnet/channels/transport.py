"""A raw channel as a Twisted transport, on which any protocol can run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import error, interfaces
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.errors import ChannelClosed
from pycomnet.far.live import Live
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.channels.channel import Channel

log = Logger()

#: Bytes that wait for the peer's credit before a registered producer is paused.
HIGH_WATER = 1 << 16


@implementer(interfaces.IAddress)
@attrs.define(frozen=True)
class ChannelAddress:
    """A channel's address: the gateway's id and the channel's number."""

    gateway: str
    channel: int


@implementer(interfaces.ITransport, interfaces.IConsumer, interfaces.IPushProducer)
class ChannelTransport(Live):
    """The transport of ``protocol``, over ``channel``.

    It is a consumer and a producer: a protocol that reads slowly makes the sender at the other end
    wait, and vice versa. Like any transport it calls the protocol back later, never within a call
    of one of its own methods.
    """

    def __init__(self, channel: Channel, protocol: Any) -> None:
        self._channel = channel
        self._core = channel.core
        self._reactor = channel.core.connection.reactor
        self._protocol = protocol
        self._producer: Any = None
        self._streaming = False
        #: bytes that were written and wait for credit
        self._waiting = 0
        #: whether the producer was told to pause
        self._paused = False
        #: delayed calls: to deliver received bytes to the protocol, and to ask a pull producer for
        #: more
        self._delivery: Any = None
        self._pull: Any = None
        self._write_ended = False
        self._reason: Exception | None = None
        self.disconnecting = False
        self.disconnected = False

    def start(self) -> None:
        """Connect the protocol; it gets the received bytes in the next turn of the reactor."""
        self._core.set_taker(self)
        self.resumeProducing()
        try:
            self._protocol.makeConnection(self)
        except Exception as problem:
            self._reason = problem
            self._core.close(problem)
            raise

    # -- ITransport ------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        if not data or self.disconnecting or self.disconnected or self._write_ended:
            return
        sent = self._core.send(data)
        if sent.called:
            sent.addErrback(lambda _: None)  # the protocol's connectionLost gets the reason
            return
        self._waiting += len(data)
        sent.addCallbacks(self._written, lambda _: None, callbackArgs=(len(data),))
        if self._streaming and self._waiting > HIGH_WATER and not self._paused:
            self._paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def _written(self, _: object, size: int) -> None:
        self._waiting -= size
        if self._waiting:
            return
        if self._producer is None:
            self._end_writing()
        elif not self._streaming:
            self._pull_soon()
        elif self._paused:
            self._paused = False
            self._producer.resumeProducing()

    def _end_writing(self) -> None:
        """Close, as requested, once all is written."""
        if self._waiting or self._producer is not None or self.disconnected:
            return
        if self.disconnecting:
            self._core.close()
        elif self._write_ended and self._core.stream.sending:
            self._core.end()
            self._reactor.callLater(0, self._half_closed_here)

    def _half_closed_here(self) -> None:
        half = interfaces.IHalfCloseableProtocol(self._protocol, None)
        if half is not None and not self.disconnected:
            self._guard(half.writeConnectionLost)
        if self._core.half:
            self._core.close()  # the other end had ended its half before

    def loseConnection(self) -> None:
        """Close once all is written and a registered producer has unregistered."""
        if not self.disconnecting and not self.disconnected:
            self.disconnecting = True
            self._end_writing()

    def abortConnection(self) -> None:
        """Close now: unsent bytes are dropped."""
        if not self.disconnected:
            self._reason = error.ConnectionAborted()
            self._core.close(ChannelClosed("the connection was aborted"))

    def loseWriteConnection(self) -> None:
        """Send no more once all is written; the other end may go on."""
        self._write_ended = True
        self._end_writing()

    def getPeer(self) -> ChannelAddress:
        return ChannelAddress(self._channel.gateway.id, self._channel.id)

    def getHost(self) -> ChannelAddress:
        return ChannelAddress("", self._channel.id)

    # -- IConsumer -------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self.disconnected:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._paused = False
        if not streaming:
            self._pull_soon()

    def unregisterProducer(self) -> None:
        self._producer = None
        self._streaming = False
        self._end_writing()

    def _pull_soon(self) -> None:
        if self._pull is None:
            self._pull = self._reactor.callLater(0, self._pull_more)

    def _pull_more(self) -> None:
        self._pull = None
        if self._producer is not None and not self._streaming and not self._waiting:
            self._producer.resumeProducing()
            self._pull_soon()

    # -- IPushProducer ---------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self._core.pause()
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None

    def resumeProducing(self) -> None:
        if self._core.busy and self._delivery is None and not self.disconnected:
            self._delivery = self._reactor.callLater(0, self._deliver)

    def stopProducing(self) -> None:
        self.loseConnection()

    def _deliver(self) -> None:
        self._delivery = None
        self._core.resume()

    # -- called by the channel -------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Some bytes from the other end."""
        self._guard(self._protocol.dataReceived, data)

    def half_ended(self) -> bool:
        """The other end has ended sending; return whether the protocol goes on sending."""
        half = interfaces.IHalfCloseableProtocol(self._protocol, None)
        if half is None or self.disconnecting or self.disconnected:
            return False
        self._guard(half.readConnectionLost)
        return self._core.stream.sending

    def ended(self, over: Exception) -> None:
        """The channel is over."""
        self.disconnected = True
        for call in (self._delivery, self._pull):
            if call is not None:
                call.cancel()
        self._delivery = self._pull = None
        producer, self._producer = self._producer, None
        self._streaming = False
        if producer is not None:
            self._guard(producer.stopProducing)
        self._core.close()
        if self._reason is None:
            self._reason = error.ConnectionDone() if isinstance(over, ChannelClosed) else over
        if self.disconnecting:
            self._reactor.callLater(0, self._connection_lost)
        else:
            self._connection_lost()

    def _connection_lost(self) -> None:
        protocol, self._protocol = self._protocol, None
        assert self._reason is not None
        try:
            protocol.connectionLost(Failure(self._reason))
        except Exception:
            log.failure("a protocol on a channel raised when it was disconnected")

    def _guard(self, function: Any, *args: Any) -> None:
        """Call the protocol; if it raises, end its channel, and nothing else."""
        try:
            function(*args)
        except Exception as problem:
            log.failure("a protocol on a channel raised")
            if not self.disconnected:
                self._reason = problem
                self._core.close(problem)
