"""Two connections joined in memory, for tests: bytes move only when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet import defer, error
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.channels.channel import Channel
from pycomnet.channels.connection import Connection
from pycomnet.channels.core import ChannelCore
from pycomnet.wire.frames import HEADER, HEADER_SIZE, NAMES, WINDOW
from pycomnet.wire.mux import Limits

#: Rounds of delivery after which two ends that still have something to say never stop.
ROUNDS = 10_000
#: A value that takes more than a window, so that it has to wait for credit.
HUGE = bytes(range(256)) * (WINDOW // 128)


class Producer:
    """A producer that remembers what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class ThreadedClock(Clock):
    """A clock that can be asked from any thread, as a reactor, to call something next turn.

    The garbage collector does so at any time, such as while the clock sorts its delayed calls,
    which must not change then.
    """

    def __init__(self) -> None:
        super().__init__()
        self._from_threads: deque[Callable[[], Any]] = deque()

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kw: Any) -> None:
        self._from_threads.append(lambda: callable(*args, **kw))

    def advance(self, amount: float) -> None:
        self._take()
        super().advance(amount)

    def _take(self) -> None:
        while self._from_threads:
            self.callLater(0, self._from_threads.popleft())

    def is_due(self) -> bool:
        """Whether something would be called without time passing."""
        now = self.seconds()
        return bool(self._from_threads) or any(
            call.getTime() <= now for call in self.getDelayedCalls()
        )


class TurnClock(ThreadedClock):
    """A clock on which, as in a reactor, what is called may only have others called next turn."""

    def _sortCalls(self) -> None:
        """Twisted's sorts whenever something is to be called later; here :meth:`advance` does."""

    def advance(self, amount: float) -> None:
        self._take()
        self.rightNow += amount
        due = [call for call in self.calls if call.getTime() <= self.rightNow]
        for call in sorted(due, key=lambda call: call.getTime()):
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class MemoryTransport(StringTransport):
    """Keeps what is written until the pair delivers it.

    :ivar capacity: bytes that it keeps before it pauses its producer.
    :ivar writes: each piece that was written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.capacity = 1 << 30
        self.writes: list[bytes] = []
        self.paused = False
        self.closed = False

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)
        if self.producer is not None and len(self.value()) > self.capacity and not self.paused:
            self.paused = True
            self.producer.pauseProducing()

    def take(self, size: int | None = None) -> bytes:
        """Remove bytes from the front."""
        data: bytes = self.value()
        size = len(data) if size is None else size
        self.clear()
        self.io.write(data[size:])
        if self.paused and len(data) <= size:
            self.paused = False
            if self.producer is not None:
                self.producer.resumeProducing()
        return data[:size]


class End:
    """What stands for the gateway at one end of a pair."""

    def __init__(self, id: str, pair: Pair, connection: Connection) -> None:
        self.id = id
        self.connection = connection
        self._pair = pair

    def abandoned(self, core: ChannelCore) -> None:
        if self.connection.lost is None:
            self._pair.clock.callFromThread(core.abandon)


class Pair:
    """Two connections, ``near`` and ``far``.

    :param greet: deliver the hellos.
    """

    def __init__(
        self,
        near_limits: Limits | None = None,
        far_limits: Limits | None = None,
        keepalive: float | None = None,
        greet: bool = True,
    ) -> None:
        self.clock = TurnClock()
        self.near = Connection(self.clock, True, near_limits, keepalive=keepalive)
        self.far = Connection(self.clock, False, far_limits)
        self.near_transport, self.far_transport = MemoryTransport(), MemoryTransport()
        self.accepted: list[Channel] = []
        #: both ends of channels: nobody else may hold them, and then they are closed
        self.kept: list[Channel] = []
        for id, connection in (("near", self.near), ("far", self.far)):
            self._equip(End(id, self, connection))
        self.near.makeConnection(self.near_transport)
        self.far.makeConnection(self.far_transport)
        if greet:
            self.pump()

    def _equip(self, end: End) -> None:
        connection = end.connection

        def accept(core: ChannelCore) -> None:
            self.accepted.append(Channel(core, end))

        connection.make_handle = lambda core: Channel(core, end)
        connection.purposes = {"test": accept, "exec": accept}

    def end(self, connection: Connection) -> End:
        """What stands for the gateway of a channel at this end."""
        return End("near" if connection is self.near else "far", self, connection)

    def to_far(self, size: int | None = None) -> int:
        """Deliver what the near end has written; return how many bytes that were."""
        return self._deliver(self.near_transport, self.far, self.far_transport, size)

    def to_near(self, size: int | None = None) -> int:
        """Deliver what the far end has written; return how many bytes that were."""
        return self._deliver(self.far_transport, self.near, self.near_transport, size)

    def _deliver(
        self, source: MemoryTransport, target: Connection, own: MemoryTransport, size: int | None
    ) -> int:
        data = source.take(size)
        if data and not own.closed:
            target.dataReceived(data)
        return len(data)

    def turn(self) -> None:
        """A turn of the reactor without anything being delivered."""
        self.clock.advance(0)

    def pump(self, size: int | None = None) -> None:
        """Deliver all there is both ways, until nobody has anything more to say.

        :param size: deliver at most so many bytes at a time.
        """
        for _ in range(ROUNDS):
            self.turn()
            self._close()
            moved = self.to_far(size) + self.to_near(size)
            if not moved and not self.clock.is_due():
                self._close()
                return
        raise AssertionError("the two ends never stop talking")

    def _close(self) -> None:
        """Close the connection at both ends once either has asked for it and is written out."""
        for transport in (self.near_transport, self.far_transport):
            if transport.disconnecting and (transport.disconnected or not transport.value()):
                self.lose()

    def lose(self, reason: Exception | None = None) -> None:
        """Have the connection end at both ends."""
        failure = Failure(reason or error.ConnectionDone())
        for transport, connection in (
            (self.near_transport, self.near),
            (self.far_transport, self.far),
        ):
            if not transport.closed:
                transport.closed = True
                connection.connectionLost(failure)

    def open(self, purpose: str = "test", raw: bool = False, **options: Any) -> Channel:
        """Open a channel from the near end."""
        return Channel(self.near.open(purpose, raw=raw, **options), self.end(self.near))

    def channel(self, purpose: str = "test", raw: bool = False) -> tuple[Channel, Channel]:
        """Both ends of a channel."""
        near = self.open(purpose, raw)
        self.pump()
        far = self.accepted.pop()
        self.kept += near, far
        return near, far


def first_cancels_rest(
    case: SynchronousTestCase, wait: Callable[[], defer.Deferred[Any]], happen: Callable[[], object]
) -> Any:
    """Have three wait for one thing. The first that is told cancels the others, as in a race.

    :param wait: waits for it.
    :param happen: has it happen.
    :returns: what the first one was told: a result, or a Failure.
    """
    told: list[Any] = []
    first, *rest = [wait() for _ in range(3)]

    def cancel_rest(result: Any) -> None:
        told.append(result)
        for one in rest:
            one.cancel()

    first.addBoth(cancel_rest)
    happen()
    case.assertEqual(len(told), 1)
    for one in rest:
        case.failureResultOf(one, defer.CancelledError)
    return told[0]


def frames(data: bytes) -> list[tuple[str, int, bytes]]:
    """The frames in what was written: each one's type, channel and payload."""
    return list(_frames(data))


def _frames(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    at = 0
    while at < len(data):
        length, kind, channel = HEADER.unpack_from(data, at)
        at += HEADER_SIZE
        yield NAMES[kind], channel, data[at : at + length]
        at += length


def frame(kind: int, channel: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return HEADER.pack(len(payload), kind, channel) + payload


class PairCase(SynchronousTestCase):
    """A test on a :class:`Pair` that has said hello."""

    def setUp(self) -> None:
        self.pair = Pair()

    def receive_now(self, channel: Channel) -> Any:
        """The next value, which must be there."""
        return self.successResultOf(channel.receive())

    def receive_all(self, channel: Channel) -> list[Any]:
        """The values that are there."""
        values: list[Any] = []
        while True:
            deferred = channel.receive()
            if not deferred.called:
                deferred.addErrback(lambda _: None)
                deferred.cancel()
                return values
            results: list[Any] = []
            deferred.addCallbacks(results.append, lambda _: None)
            if not results:
                return values
            values.append(results[0])

    def logged_errors(self, function: Callable[[], Any]) -> list[str]:
        """What is logged as an error, but for failures, while a function runs."""
        with capturedLogs() as events:
            function()
        return [
            str(event.get("error", event["log_format"]))
            for event in events
            if event["log_level"] >= LogLevel.error
        ]
