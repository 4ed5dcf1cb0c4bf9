"""A program that uses a far side of the factory's: what it is told, and how it has its connection.

Either all of that passes through the relay, or the program has the far side's pipes, and nothing of
it comes here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.factory.programs import ProgramConnection
from pycomnet.far.lingering.framing import frame
from pycomnet.net.descriptors import identity, send_descriptors
from pycomnet.wire.frames import GOAWAY
from pycomnet.wire.mux import ProtocolError
from pycomnet.wire.values import PureCodec

if TYPE_CHECKING:
    from pycomnet.factory.farside import KeptFarSide


@attrs.frozen
class Ended:
    """How a far side ended.

    :ivar what: what is gone: "its process".
    :ivar how: how, in words.
    """

    status: int | None
    what: str
    how: str
    stderr: str

    def as_map(self) -> dict[str, Any]:
        """As a program is told."""
        return attrs.asdict(self)


class Flow:
    """Has one end stop while the other can't take more."""

    def __init__(self, transport: Callable[[], Any]) -> None:
        self._transport = transport

    def pauseProducing(self) -> None:
        transport = self._transport()
        if transport is not None:
            transport.pauseProducing()

    def resumeProducing(self) -> None:
        transport = self._transport()
        if transport is not None:
            transport.resumeProducing()

    def stopProducing(self) -> None:
        """The connection's end is told otherwise."""


class Attachment(Protocol):
    """A program that uses a far side: its raw channel's protocol.

    :param control: the channel beside that, on which everything else is said.
    """

    def __init__(self, far: KeptFarSide, control: ChannelCore) -> None:
        self._far = far
        self._control = control

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.registerProducer(Flow(lambda: self._far.transport), True)

    def dataReceived(self, data: bytes) -> None:
        self._far.from_program(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport = None
        self._far.detach(self)

    @property
    def control(self) -> ChannelCore:
        """The channel on which everything else is said."""
        return self._control

    @property
    def connection(self) -> Connection:
        """The program's."""
        return self._control.connection

    @property
    def lost(self) -> bool:
        """Whether the program can't be told anything any more."""
        return self.connection.lost is not None

    def write(self, data: bytes) -> None:
        """Bytes of the connection."""
        if self.transport is not None:
            self.transport.write(data)

    def asked(self, look: Callable[[], object] | None) -> None:
        """The far side was told something.

        :param look: looks for its answer, if that can be done.
        """
        connection = self.connection
        if isinstance(connection, ProgramConnection):
            connection.told += 1
            connection.look = look

    def tell(self, value: dict[str, Any]) -> defer.Deferred[None]:
        """Say something beside the connection; fires when there is room for it."""
        sent = self._control.send(self._control.connection.encode(value))
        sent.addErrback(lambda _: None)
        return sent

    def finish(self) -> None:
        """Close the connection once all is written; :meth:`KeptFarSide.detach` is called then."""
        transport: Any = self.transport
        if transport is None:
            self._far.detach(self)
        else:
            transport.unregisterProducer()
            transport.loseConnection()

    def refuse(self, problem: ProtocolError) -> None:
        """The program broke the protocol: tell it, and drop it."""
        payload = PureCodec().encode({"code": problem.code, "message": problem.message})
        self.write(frame(GOAWAY, 0, payload))
        self.finish()

    def close(self, ended: Ended | None = None) -> None:
        """There is nothing more to say."""
        if ended is not None:
            self.tell({"ended": ended.as_map()})
        self._control.close()


class DirectAttachment(Attachment):
    """A program that has the far side's pipes: it ends when its control channel does."""

    def __init__(self, far: KeptFarSide, control: ChannelCore) -> None:
        super().__init__(far, control)
        control.wait_close().addBoth(lambda _: far.detach(self))

    def hand_over(self, pipes: tuple[int, int], first: bytes) -> None:
        """Give it the pipes, which are closed here.

        :param pipes: the descriptors that are written to and read from.
        :param first: what has been read already.
        """
        connection = self.connection
        value = {"pipes": [list(identity(fd)) for fd in pipes], "first": first}

        def write() -> None:
            self.tell(value)
            connection.flush()

        send_descriptors(connection.transport, pipes, write)

    def finish(self) -> None:
        """There is nothing on its way here."""
        self._far.detach(self)


class HandedAttachment(Attachment):
    """A program that has a far side which lingers, by pipes of its own; it may have to wait for it.

    :param channel: what carries its connection if that can't be.
    """

    def __init__(self, far: KeptFarSide, control: ChannelCore, channel: Channel) -> None:
        super().__init__(far, control)
        self.channel = channel
        #: whether it has closed them, or is to be dropped
        self.closed = False
        #: whether it has left the far side to whoever comes
        self.left = False
        control.wait_close().addBoth(lambda _: far.detach(self))

    @property
    def lost(self) -> bool:
        """Whether it is told nothing any more."""
        return self.left or super().lost

    def hand_over(self, fds: tuple[int, ...], state: dict[str, Any], first: bytes) -> None:
        """Give it the pipes and the journal, which are closed here.

        :param state: what it has to know before its connection begins.
        :param first: what it reads before it reads the pipe.
        """
        connection = self.connection
        pipes = [list(identity(fd)) for fd in fds]
        value = {"pipes": pipes, "state": state, "first": first}

        def write() -> None:
            self.tell(value)
            connection.flush()

        send_descriptors(connection.transport, fds, write)

    def fail(self, words: str) -> None:
        """Tell it that it can't have the far side.

        :param words: why, as a sentence.
        """
        self.tell({"failed": {"words": words, "status": None, "stderr": ""}})
        self.channel.close()

    def finish(self) -> None:
        """Ask it how many bytes it has received. The rest it gets from here."""
        if self.control.over is not None:
            self._far.detach(self)  # it is gone
        else:
            self.tell({"ask": "got"})


__all__ = ["Attachment", "DirectAttachment", "Ended", "Flow", "HandedAttachment"]
