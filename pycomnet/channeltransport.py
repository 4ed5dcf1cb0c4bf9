"""A raw channel as a Twisted transport: any protocol runs on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import error, interfaces
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.errors import ChannelClosed

if TYPE_CHECKING:
    from pycomnet.channel import Channel

#: Bytes that wait for the peer's credit before a registered producer is paused.
HIGH_WATER = 1 << 16


@implementer(interfaces.IAddress)
@attrs.define(frozen=True)
class ChannelAddress:
    """Where a channel leads: a gateway's id and the channel's number."""

    gateway: str
    channel: int


@implementer(interfaces.ITransport, interfaces.IConsumer, interfaces.IPushProducer)
class ChannelTransport:
    """The transport of ``protocol``, over ``channel``.

    It is a consumer and a producer: a protocol that reads slowly makes the sender at the other end
    wait, and the other way round.
    """

    def __init__(self, channel: Channel, protocol: Any) -> None:
        self._channel = channel
        self._core = channel.core
        self._protocol = protocol
        self._producer: Any = None
        self._streaming = False
        self._waiting = 0
        self._paused = False
        self.disconnecting = False
        self.disconnected = False

    def start(self) -> None:
        """Connect the protocol and give it what has come."""
        self._protocol.makeConnection(self)
        self._core.set_taker(self)

    # -- ITransport ------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        if not data or self.disconnecting or self.disconnected:
            return
        sent = self._core.send(data)
        if sent.called:
            sent.addErrback(lambda _: None)
            return
        self._waiting += len(data)
        sent.addBoth(self._written, len(data))
        if self._producer is not None and self._waiting > HIGH_WATER and not self._paused:
            self._paused = True
            if self._streaming:
                self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def _written(self, _: object, size: int) -> None:
        self._waiting -= size
        if not self._waiting and self._producer is not None and (
            self._paused or not self._streaming
        ):
            self._paused = False
            self._producer.resumeProducing()

    def loseConnection(self) -> None:
        if not self.disconnecting and not self.disconnected:
            self.disconnecting = True
            if self._producer is None:
                self._core.close()

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._core.close(ChannelClosed("the connection was aborted"))

    def loseWriteConnection(self) -> None:
        self._core.end()

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
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self._producer = None
        if self.disconnecting:
            self._core.close()

    # -- IPushProducer ---------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self._core.pause()

    def resumeProducing(self) -> None:
        self._core.resume()

    def stopProducing(self) -> None:
        self.loseConnection()

    # -- what the channel says -------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def ended(self, over: Exception) -> None:
        self.disconnected = True
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self._core.close()
        done = isinstance(over, ChannelClosed)
        self._protocol.connectionLost(Failure(error.ConnectionDone() if done else over))
