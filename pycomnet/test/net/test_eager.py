"""Writing at once: all of it in order, whatever the system takes, and what is wrong shows."""

from __future__ import annotations

from socket import MSG_WAITALL, SO_SNDBUF, SOL_SOCKET, socketpair
from typing import Any

from hypothesis import strategies as st
from twisted.internet import main, tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.net.eager import flush_now, writer
from pycomnet.test.kit import Producer
from pycomnet.test.properties import given


class Socket:
    """Takes as many bytes at a time as it is told to; none is an error."""

    def __init__(self, takes: list[int]) -> None:
        self.takes = takes
        self.taken = b""
        self.calls = 0

    def send(self, data: bytes) -> int:
        self.calls += 1
        size = self.takes.pop(0) if self.takes else len(data)
        if not size and data:
            raise BlockingIOError
        self.taken += data[:size]
        return min(size, len(data))


class Watch:
    """A reactor: knows who wants to write."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()
        self.addWriter = self.writers.add
        self.removeWriter = self.writers.discard
        self.removeReader = self.writers.discard


class Transport(FileDescriptor):
    """A transport on a socket that isn't one."""

    connected = 1

    def __init__(self, socket: Socket) -> None:
        self.watch = watch = Watch()
        reactor: Any = watch
        super().__init__(reactor)
        self.socket = socket

    def writeSomeData(self, data: bytes) -> int | BaseException:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return main.CONNECTION_LOST

    def finish(self) -> None:
        """Write all, as a reactor does."""
        while self in self.watch.writers:
            assert self.doWrite() is None


class EagerTests(SynchronousTestCase):
    """Writing at once."""

    @given(
        st.lists(st.tuples(st.booleans(), st.integers(1, 1 << 15)), max_size=8),
        st.lists(st.integers(0, 1 << 15), max_size=12),
    )
    def test_every_byte_is_written_once_and_in_order(
        self, writes: list[tuple[bool, int]], takes: list[int]
    ) -> None:
        """Every byte once and in order, however little is taken at a time."""
        socket = Socket(takes)
        transport = Transport(socket)
        write = writer(transport)
        wanted = b""
        for number, (now, size) in enumerate(writes):
            data = bytes([number]) * size
            pieces: list[Any] = [
                data[:3],
                memoryview(data)[3 : size // 2 + 3],
                data[size // 2 + 3 :],
            ]
            wanted += data
            if now:
                write(pieces)
            else:
                transport.writeSequence([bytes(piece) for piece in pieces])
                flush_now(transport)
        transport.finish()
        self.assertEqual(socket.taken, wanted)

    def test_what_the_system_takes_costs_one_call(self) -> None:
        """What the system takes at once costs one call, and the reactor is not asked for a turn."""
        for size in (10, 1 << 15):
            socket = Socket([])
            transport = Transport(socket)
            writer(transport)((b"head", bytes(size)))
            flush_now(transport)
            self.assertEqual((socket.calls, transport.watch.writers), (1, set()))

    def test_much_is_written_in_one_call(self) -> None:
        """A real transport takes as much at once as the system does, not Twisted's 128 KiB."""
        ours, theirs = socketpair()
        self.addCleanup(theirs.close)
        self.addCleanup(ours.close)
        ours.setblocking(False)
        ours.setsockopt(SOL_SOCKET, SO_SNDBUF, 1 << 19)
        reactor: Any = Watch()
        transport: Any = tcp.Connection(ours, Protocol(), reactor)
        transport.connected = 1
        size = 4 + (3 << 16)
        writer(transport)((b"head", bytes(size - 4)))
        self.assertEqual(reactor.writers, set())
        self.assertEqual(len(theirs.recv(size, MSG_WAITALL)), size)

    def test_producer_is_paused_and_resumed(self) -> None:
        """Who produces is paused by what the system does not take, and resumed after that."""
        socket = Socket([10])
        transport = Transport(socket)
        producer: Any = Producer()
        transport.registerProducer(producer, True)
        writer(transport)((bytes(1 << 20),))
        self.assertEqual(producer.calls, ["pause"])
        transport.finish()
        self.assertEqual(producer.calls, ["pause", "resume"])
        # Also when a flush takes all that paused it.
        transport.writeSequence([bytes(1 << 19), bytes(1 << 19)])
        flush_now(transport)
        self.assertEqual(producer.calls, ["pause", "resume"] * 2)

    def test_error_is_left_to_the_transports_own_writing(self) -> None:
        """An error is the transport's own writing's to report."""

        def broken(data: bytes) -> int:
            raise BrokenPipeError

        socket = Socket([])
        socket.send = broken  # type: ignore[method-assign]
        transport = Transport(socket)
        writer(transport)((b"x",))
        self.assertEqual(transport.watch.writers, {transport})
        self.assertIs(transport.doWrite(), main.CONNECTION_LOST)

    def test_tls_or_another_transport_writes_as_ever(self) -> None:
        """With TLS, or another transport, it is written as ever; nothing is once it closes."""
        socket = Socket([])
        transport: Any = Transport(socket)
        transport.TLS = True
        writer(transport)((b"a", b"b"))
        flush_now(transport)
        self.assertEqual((socket.calls, transport._tempDataBuffer), (0, [b"ab"]))
