"""Mutated streams against what stands on the mux: the near side's connection, the far side's link.

Both have users who do random things by the rules. Whatever comes, no exception escapes to whoever
does the I/O, nothing unexpected is logged, what is held stays in bounds, and a peer that broke the
protocol loses the connection, at which everything that waits ends.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel
from pycomnet.channels.connection import LINGER, Connection
from pycomnet.channels.core import ChannelCore
from pycomnet.errors import PycomnetError
from pycomnet.far import channel as far
from pycomnet.far.connection import FarConnection
from pycomnet.test.kit import MemoryTransport, TurnClock
from pycomnet.wire.frames import FRAME_COST
from pycomnet.wire.mux import Limits, Stream

#: How often the users do something, after a piece that is very short.
ACTS = 0.02
#: What is sent: short, and longer than a window.
SENT = (None, 5, "text", [1, {"a": 2}], b"x" * 300, "y" * 20_000)


class AnyPurpose(dict[str, Callable[[ChannelCore], object]]):
    """Every purpose but that of channels that come in values is the same."""

    def __init__(self, accept: Callable[[ChannelCore], object]) -> None:
        self._accept = accept

    def get(self, purpose: str, default: Any = None) -> Any:
        return self._accept


class Owner:
    """What stands for the gateway of channels, and holds none of them."""

    id = "fuzzed"

    def abandoned(self, core: ChannelCore) -> None:
        """A channel that nobody holds any more."""


class NearUser:
    """Who uses a connection."""

    def __init__(self, rng: random.Random, initiator: bool, limits: Limits) -> None:
        self.rng = rng
        self.clock = TurnClock()
        clock: Any = self.clock
        self.connection = Connection(clock, initiator, limits, keepalive=rng.choice((None, 5.0)))
        self.owner = owner = Owner()
        self.connection.make_handle = lambda core: Channel(core, owner)
        self.connection.purposes = AnyPurpose(self.accept)
        self.transport = MemoryTransport()
        self.channels: list[Channel] = []
        self.waiting: list[Any] = []
        self.logged: list[BaseException] = []
        self.connection.makeConnection(self.transport)
        self.wait(self.connection.when_ready())

    def accept(self, core: ChannelCore) -> None:
        self.channels.append(Channel(core, self.owner))

    def wait(self, deferred: Any) -> None:
        """Expect a Deferred to fire in the end, well or with an error of ours."""
        deferred.addErrback(lambda failure: failure.trap(PycomnetError) and None)
        self.waiting.append(deferred)

    def log(self, event: LogEvent) -> None:
        """What is logged must be an error of ours, told to nobody else."""
        failure = event.get("log_failure")
        if failure is not None and not failure.check(PycomnetError, Deliberate):
            self.logged.append(failure.value)

    def act(self) -> None:
        """Do something."""
        rng, connection = self.rng, self.connection
        if connection.lost is None and connection.mux.peer is not None and rng.random() < 0.3:
            with contextlib.suppress(PycomnetError):
                self.channels.append(Channel(connection.open("exec", b"\xc0"), self.owner))
        if self.channels:
            channel = rng.choice(self.channels[-8:])
            choice = rng.randrange(10)
            if choice < 3:
                self.wait(channel.receive())
            elif choice < 5:
                if channel.core.stream.raw:
                    self.wait(channel.send(bytes(rng.choice((0, 300, 20_000)))))
                else:
                    self.wait(channel.send(rng.choice(SENT)))
            elif choice == 5:
                self.set_callback(channel)
            elif choice == 6:
                channel.send_end()
            elif choice == 7:
                channel.close(rng.choice((None, "an error")))
            elif choice == 8:
                self.wait(channel.waitclose())
            else:
                self.wait(connection.ping())
        if rng.random() < 0.5:
            self.transport.take()
        self.clock.advance(rng.choice((0, 0, 0, 1.0)))

    def set_callback(self, channel: Channel) -> None:
        rng = self.rng

        def callback(value: object) -> Any:
            if isinstance(value, Channel):
                self.channels.append(value)
            choice = rng.randrange(30)
            if choice == 0:
                raise Deliberate
            if choice == 1:
                channel.close()
            return None

        with contextlib.suppress(PycomnetError):
            channel.setcallback(callback, lambda failure: None)

    def check(self) -> None:
        """What is held is in bounds."""
        window = self.connection.mux.limits.window
        for stream in self.connection.mux.streams.values():
            core = stream.app
            held = sum(cost for _, cost in core.queue) + stream.partial_cost
            assert held <= window, f"channel {stream.id} holds {held}"

    def finish(self) -> None:
        """The end comes, and everybody is told."""
        self.clock.advance(0)
        if self.connection.mux.failed is not None:
            self.clock.advance(LINGER)
            assert self.transport.disconnecting or self.transport.closed, "it is not closed"
        if self.connection.transport is not None:
            self.connection.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(0)
        assert self.connection.lost is not None
        left = [deferred for deferred in self.waiting if not deferred.called]
        assert not left, f"{len(left)} Deferreds have not fired"
        # The finalizers of channels hold their cores, and those the connection.
        self.connection.purposes = {}


class Deliberate(Exception):
    """What a user's callback raises."""


def fuzz_near(rng: random.Random, initiator: bool, limits: Limits, pieces: Iterator[bytes]) -> str:
    """Feed pieces to a connection; return how that ended."""
    user = NearUser(rng, initiator, limits)
    observer: Any = user.log
    globalLogPublisher.addObserver(observer)
    try:
        for piece in pieces:
            if user.connection.transport is None:
                break
            user.connection.dataReceived(piece)
            if rng.random() < ACTS + len(piece) / 500:
                user.check()
                user.act()
        failed = user.connection.mux.failed
        user.finish()
    finally:
        globalLogPublisher.removeObserver(observer)
    if user.logged:
        raise user.logged[0]
    return "taken" if failed is None else failed.code


class FarIO:
    """Gives the pieces, and takes what is written."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces
        self.written = 0
        #: bytes of the last piece
        self.last = 0

    def read(self, busy: bool = False) -> bytes:
        piece = next(self.pieces, b"")
        self.last = len(piece)
        return piece

    def wait(self, timeout: float) -> bool:
        return True

    def is_taken(self) -> bool:
        return False

    def is_replaced(self) -> bool:
        return False

    def write(self, parts: list[bytes | memoryview]) -> None:
        self.written += sum(map(len, parts))

    def write_one(self, data: bytes | memoryview) -> None:
        self.written += len(data)


class FarUser:
    """Who uses a link: one thread, which does nothing that would wait."""

    def __init__(self, rng: random.Random, limits: Limits, pieces: Iterator[bytes]) -> None:
        self.rng = rng
        self.lost = 0
        self.channels: list[Any] = []
        self.io = io = FarIO(pieces)
        self.link = FarConnection(io, far.FarChannel, self.channels.append, self._lost, {}, limits)
        self.link.flush()

    def _lost(self) -> None:
        self.lost += 1

    def act(self) -> None:
        """Do something that does not wait."""
        rng = self.rng
        if not self.channels:
            return
        channel = rng.choice(self.channels[-8:])
        stream: Stream = channel.stream
        choice = rng.randrange(8)
        with contextlib.suppress(EOFError, far.RemoteError):
            if choice < 4:
                while channel.items or channel._values or channel.over is not None:
                    channel.receive()
            elif choice < 6:
                if stream.credit > 400 + FRAME_COST and not stream.queue:
                    channel.send(b"raw" if stream.raw else rng.choice(SENT[:5]))
            elif choice == 6:
                channel.close(rng.choice((None, "an error")))
            else:
                channel.send_end()

    def check(self) -> None:
        """What is held is in bounds."""
        window = self.link.mux.limits.window
        for stream in self.link.mux.streams.values():
            if stream.app is not None:
                held = sum(cost for _, cost in stream.app.items) + stream.partial_cost
                assert held <= window, f"channel {stream.id} holds {held}"


def fuzz_far(rng: random.Random, limits: Limits, pieces: Iterator[bytes]) -> str:
    """Feed pieces to a link; return how that ended."""
    user = FarUser(rng, limits, pieces)
    link = user.link
    while not link.closed:
        link._read()
        if rng.random() < ACTS + user.io.last / 500:
            user.check()
            user.act()
    assert user.lost == 1
    for channel in user.channels:
        assert not channel.stream.sending
        with contextlib.suppress(EOFError, far.RemoteError):
            while True:
                channel.receive()
    failed = link.mux.failed
    return "taken" if failed is None else failed.code
