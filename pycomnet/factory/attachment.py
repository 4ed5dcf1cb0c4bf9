"""The factory's object for a program that uses a kept far side.

The program's bytes pass through the relay (:class:`Attachment`), through the far side's own pipes,
which the program was given (:class:`DirectAttachment`), or through pipes that were made for the
program (:class:`HandedAttachment`).
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
from pycomnet.factory.programconnection import ProgramConnection
from pycomnet.far.lingering.framing import frame
from pycomnet.net.descriptors import identity, send_descriptors
from pycomnet.wire.frames import GOAWAY
from pycomnet.wire.mux import ProtocolError
from pycomnet.wire.values import PureCodec

if TYPE_CHECKING:
    from pycomnet.factory.keptfarside import KeptFarSide


@attrs.frozen
class Ended:
    """How a far side ended.

    :ivar status: the exit status of its process; None if it is not known.
    :ivar what: what has ended, as text: "its process".
    :ivar how: how it ended, as text.
    :ivar stderr: the last lines of its standard error.
    """

    status: int | None
    what: str
    how: str
    stderr: str

    def as_map(self) -> dict[str, Any]:
        """The value that a program is sent."""
        return attrs.asdict(self)


class Flow:
    """A producer that pauses another transport: what is written here was read there.

    :param transport: returns that transport, or None.
    """

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
        """No action needed: ``connectionLost`` is called as well."""


class Attachment(Protocol):
    """A program that uses a far side through the relay: the protocol of the program's raw channel.

    :param control: the channel for all other messages.
    """

    def __init__(self, far: KeptFarSide, control: ChannelCore) -> None:
        self._far = far
        self._control = control
        self._is_closed = False

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
        """The channel for messages other than the connection's bytes."""
        return self._control

    @property
    def connection(self) -> Connection:
        """The program's connection to the factory."""
        return self._control.connection

    @property
    def lost(self) -> bool:
        """Whether the program can't be reached any more."""
        return self.connection.lost is not None

    def write(self, data: bytes) -> None:
        """Send the program bytes that come from the far side."""
        if self.transport is not None:
            self.transport.write(data)

    def asked(self, look: Callable[[], object] | None) -> None:
        """Note that bytes were written to the far side.

        :param look: polls for its answer; None if its transport can't poll.
        """
        connection = self.connection
        if isinstance(connection, ProgramConnection):
            connection.told += 1
            connection.look = look

    def tell(self, value: dict[str, Any]) -> defer.Deferred[None]:
        """Send a value on the control channel; fires when there is room for it."""
        sent = self._control.send(self._control.connection.encode(value))
        sent.addErrback(lambda _: None)
        return sent

    def finish(self) -> None:
        """Close the connection once everything is written, then call :meth:`KeptFarSide.detach`."""
        if self.transport is None:
            self._far.detach(self)
        elif self.lost:
            self._close_connection()
        else:
            # The end of the connection and its reason go in one write, so that the program has the
            # reason when it sees the end.
            self.connection.send_together(self._close_connection)

    def _close_connection(self) -> None:
        transport: Any = self.transport
        transport.unregisterProducer()
        transport.loseConnection()
        if transport.disconnected and self._far.ended is not None:  # all bytes were sent
            self.close(self._far.ended)

    def refuse(self, problem: ProtocolError) -> None:
        """Send the program a GOAWAY with its protocol error, and detach it."""
        payload = PureCodec().encode({"code": problem.code, "message": problem.message})
        self.write(frame(GOAWAY, 0, payload))
        self.finish()

    def close(self, ended: Ended | None = None) -> None:
        """Close the control channel, if that was not done before.

        :param ended: how the far side ended, to be sent first.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if ended is not None:
            self.tell({"ended": ended.as_map()})
        self._control.close()


class DirectAttachment(Attachment):
    """A program that has the far side's own pipes. It detaches by closing its control channel."""

    def __init__(self, far: KeptFarSide, control: ChannelCore) -> None:
        super().__init__(far, control)
        control.wait_close().addBoth(lambda _: far.detach(self))

    def hand_over(self, pipes: tuple[int, int], first: bytes) -> None:
        """Send the pipes to the program, and close the factory's copies.

        :param pipes: the descriptors to write to and to read from.
        :param first: the bytes that the factory has already read.
        """
        connection = self.connection
        value = {"pipes": [list(identity(fd)) for fd in pipes], "first": first}

        def write() -> None:
            self.tell(value)
            connection.flush()

        send_descriptors(connection.transport, pipes, write)

    def finish(self) -> None:
        """Detach the program at once: the factory has none of its bytes."""
        self._far.detach(self)


class HandedAttachment(Attachment):
    """A program that has, or is about to get, pipes of its own to a far side that lingers.

    :param channel: its raw channel, which is used if it can't have pipes.
    """

    def __init__(self, far: KeptFarSide, control: ChannelCore, channel: Channel) -> None:
        super().__init__(far, control)
        self.channel = channel
        #: whether it has closed its pipes, or has to be detached
        self.closed = False
        #: whether it has returned the far side, so that another program may use it
        self.left = False
        control.wait_close().addBoth(lambda _: far.detach(self))

    @property
    def lost(self) -> bool:
        """Whether it can't be reached, or has returned the far side."""
        return self.left or super().lost

    def hand_over(self, fds: tuple[int, ...], state: dict[str, Any], first: bytes) -> None:
        """Send the pipes and the journal to the program, and close the factory's copies.

        :param state: the ``state`` of docs/protocol.rst.
        :param first: bytes that come before those in the pipe.
        """
        connection = self.connection
        pipes = [list(identity(fd)) for fd in fds]
        value = {"pipes": pipes, "state": state, "first": first}

        def write() -> None:
            self.tell(value)
            connection.flush()

        send_descriptors(connection.transport, fds, write)

    def fail(self, words: str) -> None:
        """Tell the program that it can't have the far side.

        :param words: the reason, as a sentence.
        """
        self.tell({"failed": {"words": words, "status": None, "stderr": ""}})
        self.channel.close()

    def finish(self) -> None:
        """Ask the program how many bytes it has received, to send it the others."""
        if self.control.over is not None:
            self._far.detach(self)  # the program is gone
        else:
            self.tell({"ask": "got"})
