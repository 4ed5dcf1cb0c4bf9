"""A connection: hello, writing, pings, keepalive, purposes, and all the ways it ends."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet import defer, error, main
from twisted.internet.abstract import FileDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.channels import connection as module
from pycomnet.channels.channel import Channel
from pycomnet.channels.connection import LINGER, MAX_UNACCEPTED, Connection
from pycomnet.errors import (
    ChannelClosed,
    ConnectionLost,
    ProtocolViolation,
    PycomnetError,
    RemoteError,
)
from pycomnet.net.eager import BULK_SIZE
from pycomnet.test.garbage import collects
from pycomnet.test.kit import (
    HUGE,
    MemoryTransport,
    Pair,
    PairCase,
    frame,
    frames,
)
from pycomnet.wire.frames import (
    DATA,
    GOAWAY,
    MAGIC,
    OPEN,
    PING,
    WINDOW,
)
from pycomnet.wire.mux import Limits
from pycomnet.wire.values import PureCodec, ValueNotReceivable


class Hello(SynchronousTestCase):
    """The first frame each way."""

    def test_each_end_learns_the_others_limits(self) -> None:
        """Each end learns the other's limits and info, before or after it asks."""
        pair = Pair(far_limits=Limits(window=5000), greet=False)
        before = pair.near.when_ready()
        self.assertNoResult(before)
        pair.pump()
        self.assertEqual(self.successResultOf(before)["window"], 5000)
        self.assertEqual(self.successResultOf(pair.far.when_ready())["window"], WINDOW)

    def test_info_of_an_end_arrives(self) -> None:
        """What an end says of itself arrives."""
        clock = Clock()
        near, far = Connection(clock, True), Connection(clock, False, info={"pid": 7})
        transports = MemoryTransport(), MemoryTransport()
        near.makeConnection(transports[0])
        far.makeConnection(transports[1])
        near.dataReceived(transports[1].take())
        self.assertEqual(self.successResultOf(near.when_ready())["info"], {"pid": 7})

    def test_credential_arrives_as_given(self) -> None:
        """A credential arrives as it was given."""
        clock = Clock()
        near, far = Connection(clock, True, credential=b"open sesame"), Connection(clock, False)
        transport = MemoryTransport()
        near.makeConnection(transport)
        far.makeConnection(MemoryTransport())
        far.dataReceived(transport.take())
        self.assertEqual(self.successResultOf(far.when_ready())["credential"], b"open sesame")

    def test_cancelled_wait_for_the_hello_leaves_the_others(self) -> None:
        """Cancelling one wait for the hello leaves the others."""
        pair = Pair(greet=False)
        first, second = pair.near.when_ready(), pair.near.when_ready()
        first.cancel()
        self.failureResultOf(first, defer.CancelledError)
        pair.pump()
        self.assertIn("info", self.successResultOf(second))

    def test_callback_may_cancel_anothers_wait_for_the_hello(self) -> None:
        """Whoever is told of the hello may cancel another's wait for it."""
        pair = Pair(greet=False)
        first, second = pair.near.when_ready(), pair.near.when_ready()
        first.addCallback(lambda _: second.cancel())
        pair.pump()
        self.successResultOf(first)
        self.failureResultOf(second, defer.CancelledError)

    def test_open_before_the_hello_is_refused(self) -> None:
        """No channel can be opened before the hello."""
        pair = Pair(greet=False)
        with self.assertRaisesRegex(PycomnetError, "no hello"):
            pair.near.open("test")

    def test_ping_waits_for_the_hello(self) -> None:
        """A ping waits for the hello, as nothing else may be sent before."""
        pair = Pair(greet=False)
        ping = pair.near.ping()
        self.assertEqual([f[0] for f in frames(pair.near_transport.value())], ["HELLO"])
        pair.pump()
        self.assertEqual(self.successResultOf(ping), 0.0)

    def refused(self, data: bytes, code: str) -> ProtocolViolation:
        """Give garbage to a connection that waits for a hello; return what the waiting get."""
        pair = Pair(greet=False)
        ready, ping = pair.near.when_ready(), pair.near.ping()
        pair.near.dataReceived(data)
        name, _, payload = frames(pair.near_transport.take())[-1]
        self.assertEqual((name, PureCodec().decode(payload)["code"]), ("GOAWAY", code))
        self.assertTrue(pair.near_transport.disconnecting)
        pair.lose()
        violation: ProtocolViolation = self.failureResultOf(ready, ProtocolViolation).value
        self.assertIs(self.failureResultOf(ping, ProtocolViolation).value, violation)
        self.assertEqual(violation.code, code)
        return violation

    def test_another_protocols_bytes_are_in_the_error(self) -> None:
        """A peer that speaks something else is told so, and what it said is in the error."""
        violation = self.refused(b"HTTP/1.1 400 Bad Request\r\n", "hello")
        self.assertIn("HTTP/1.1 400", violation.reason)

    def test_other_version_is_refused_by_number(self) -> None:
        """A peer with another version of the protocol is refused by name."""
        violation = self.refused(frame(0, 0, MAGIC + b"\x00\x09\x80"), "version")
        self.assertIn("version 9", violation.reason)

    def test_other_frame_before_the_hello_is_refused(self) -> None:
        """Anything else than a hello first is refused."""
        self.refused(frame(PING, 0, bytes(8)), "hello")

    def test_connection_lost_before_the_hello_fails_who_waits(self) -> None:
        """A connection that ends before the hello fails those who wait for it."""
        pair = Pair(greet=False)
        ready = pair.near.when_ready()
        pair.lose()
        self.assertIs(self.failureResultOf(ready, ConnectionLost).value, pair.near.lost)
        self.failureResultOf(pair.near.when_ready(), ConnectionLost)


class Ping(PairCase):
    """Asking for a sign of life."""

    def test_ping_fires_with_the_seconds_it_took(self) -> None:
        """It fires with the seconds that the answer took."""
        ping = self.pair.near.ping()
        self.assertNoResult(ping)
        self.pair.clock.advance(1.5)
        self.pair.pump()
        self.assertEqual(self.successResultOf(ping), 1.5)

    def test_each_ping_gets_its_own_answer(self) -> None:
        """Each gets its own answer, and cancelling one forgets only that."""
        pings = []
        for _ in range(3):
            pings.append(self.pair.near.ping())
            self.pair.clock.advance(1)
        pings[1].cancel()
        self.failureResultOf(pings[1], defer.CancelledError)
        self.pair.pump()
        self.assertEqual([self.successResultOf(pings[n]) for n in (0, 2)], [3.0, 1.0])

    def test_answer_that_nobody_asked_for_is_ignored(self) -> None:
        """An answer that nobody asked for is nothing."""
        self.pair.near.dataReceived(frame(8, 0, b"whatever"))
        self.pair.pump()
        self.assertIsNone(self.pair.near.lost)

    def test_ping_fails_when_the_connection_ends(self) -> None:
        """It fails when the connection ends, and at once after that."""
        ping = self.pair.near.ping()
        self.pair.lose()
        self.failureResultOf(ping, ConnectionLost)
        self.failureResultOf(self.pair.near.ping(), ConnectionLost)

    def test_callback_may_cancel_anothers_ping(self) -> None:
        """Whoever is told of the end may cancel another's ping."""
        first, second = self.pair.near.ping(), self.pair.near.ping()
        first.addErrback(lambda _: second.cancel())
        self.pair.lose()
        self.successResultOf(first)
        self.failureResultOf(second, defer.CancelledError)

    def test_ping_does_not_wait_for_a_long_value(self) -> None:
        """A ping does not wait for a long value that is on its way."""
        near, _ = self.pair.channel()
        sending = near.send(HUGE)
        ping = self.pair.near.ping()
        self.pair.pump()
        self.assertNoResult(sending)
        self.successResultOf(ping)


class Keepalive(SynchronousTestCase):
    """Finding out that a peer is dead."""

    def setUp(self) -> None:
        self.pair = Pair(keepalive=10)

    def pass_seconds(self, seconds: int, deliver: bool) -> None:
        """Let time go by, one second at a time."""
        for _ in range(seconds):
            self.pair.clock.advance(1)
            if deliver:
                self.pair.pump()

    def test_idle_peer_that_answers_is_kept(self) -> None:
        """A peer that has nothing to say, but answers, is not given up."""
        self.pass_seconds(200, deliver=True)
        self.assertFalse(self.pair.near_transport.disconnecting)
        self.assertIn("PING", [f[0] for f in frames(b"".join(self.pair.near_transport.writes))])

    def test_silent_peer_is_given_up(self) -> None:
        """A silent peer is given up, and what waits for it fails."""
        channel = self.pair.open()
        waiting = channel.receive()
        self.pass_seconds(31, deliver=False)
        self.assertTrue(self.pair.near_transport.disconnected)
        self.pair.lose(error.ConnectionAborted())
        lost = self.failureResultOf(waiting, ConnectionLost).value
        self.assertEqual(lost.reason, "the other end was silent for 20 seconds")
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])

    def test_talking_peer_is_not_pinged(self) -> None:
        """A peer that talks is not asked."""
        _, far = self.pair.channel()
        for _ in range(50):
            far.send("news")
            self.pass_seconds(4, deliver=True)
        self.assertFalse(self.pair.near_transport.disconnecting)
        written = frames(b"".join(self.pair.near_transport.writes))
        self.assertNotIn("PING", [f[0] for f in written])

    def test_answer_that_came_while_this_end_was_busy_counts(self) -> None:
        """When it was this end that did nothing for long, what came in that time counts."""
        self.pass_seconds(20, deliver=False)  # asked by now
        self.assertIn("PING", [f[0] for f in frames(self.pair.near_transport.value())])
        self.pair.to_far()
        self.pair.clock.advance(100)
        self.pair.to_near()  # the answer was in the socket all the time
        self.pair.turn()
        self.assertFalse(self.pair.near_transport.disconnecting)

    def test_peer_without_hello_is_given_up(self) -> None:
        """A peer that never says hello is given up without being sent anything more."""
        pair = Pair(keepalive=10, greet=False)
        for _ in range(31):
            pair.clock.advance(1)
        self.assertTrue(pair.near_transport.disconnected)
        self.assertEqual([f[0] for f in frames(pair.near_transport.value())], ["HELLO"])

    def test_without_keepalive_nothing_is_asked(self) -> None:
        """Without an interval nothing is ever asked."""
        pair = Pair()
        self.assertEqual(pair.clock.getDelayedCalls(), [])

    def test_lost_connection_leaves_no_delayed_call(self) -> None:
        """Nothing is left to be called when the connection is over."""
        ping = self.pair.near.ping()
        self.pair.lose()
        self.failureResultOf(ping, ConnectionLost)
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])


class Writing(PairCase):
    """What is written when."""

    def setUp(self) -> None:
        super().setUp()
        self.channel, self.far = self.pair.channel()
        self.pair.near_transport.writes.clear()

    def writes(self) -> list[list[str]]:
        """What has been written since: the frames of each write."""
        return [[f[0] for f in frames(data)] for data in self.pair.near_transport.writes]

    def test_first_value_of_a_turn_is_written_at_once(self) -> None:
        """The first value of a turn is written at once, the others of it together."""
        self.channel.send(1)
        self.assertEqual(self.writes(), [["DATA"]])
        for value in range(5):
            self.channel.send(value)
        self.assertEqual(self.writes(), [["DATA"]])
        self.pair.turn()
        self.assertEqual(self.writes(), [["DATA"], ["DATA"] * 5])

    def test_each_turn_has_its_own_first_value(self) -> None:
        for _ in range(3):
            self.channel.send(1)
            self.pair.turn()
        self.assertEqual(self.writes(), [["DATA"]] * 3)
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])

    def test_answers_to_one_piece_are_written_together(self) -> None:
        """What is sent while data is dealt with is written in one piece after it."""
        self.channel.setcallback(lambda value: self.channel.send(value) and None)
        for value in range(10):
            self.far.send(value)
        self.pair.turn()
        self.pair.to_near()
        self.assertEqual(self.writes(), [["DATA"] * 10])

    def test_sends_wait_for_a_paused_transport(self) -> None:
        """While the transport takes no more, sends wait, and go in order when it does."""
        self.pair.near.pauseProducing()
        sends = [self.channel.send(value) for value in range(3)]
        self.pair.turn()
        self.assertEqual(self.writes(), [])
        for send in sends:
            self.assertNoResult(send)
        self.pair.near.resumeProducing()
        for send in sends:
            self.successResultOf(send)
        self.pair.pump()
        self.assertEqual(self.receive_all(self.far), [0, 1, 2])

    def test_transport_that_pauses_at_each_write_gets_all(self) -> None:
        """A transport that pauses after each write gets all there is, in order."""
        self.pair.near_transport.capacity = 1000
        values = [bytes([n]) * 3000 for n in range(50)]
        sends = [self.channel.send(value) for value in values]
        self.assertNoResult(sends[-1])
        self.pair.pump()
        self.assertEqual(self.receive_all(self.far), values)
        for send in sends:
            self.successResultOf(send)

    def test_value_that_waits_for_the_transport_is_taken_back(self) -> None:
        """A value that waits for the transport can be taken back."""
        self.pair.near.pauseProducing()
        first, second = self.channel.send("first"), self.channel.send("second")
        first.cancel()
        self.failureResultOf(first, defer.CancelledError)
        self.pair.near.resumeProducing()
        self.successResultOf(second)
        self.pair.pump()
        self.assertEqual(self.receive_all(self.far), ["second"])

    def test_callback_may_cancel_another_sent_value(self) -> None:
        """Whoever is told that a value is on its way may cancel another that went with it."""
        self.pair.near.pauseProducing()
        first, second = self.channel.send(1), self.channel.send(2)
        first.addCallback(lambda _: second.cancel())
        self.pair.near.resumeProducing()
        self.successResultOf(first)
        self.failureResultOf(second, defer.CancelledError)
        self.pair.pump()
        self.assertEqual(self.receive_all(self.far), [1, 2])

    def test_callback_of_a_sent_value_may_abort(self) -> None:
        """Whoever is told that a value is on its way may drop the connection."""
        self.pair.near.pauseProducing()
        first, second = self.channel.send(1), self.channel.send(2)

        def drop(_: object) -> None:
            self.pair.near.abort(ConnectionLost("enough"))
            self.pair.lose()

        first.addCallback(drop)
        self.pair.near.resumeProducing()
        self.successResultOf(first)
        self.failureResultOf(second, ConnectionLost)

    def test_stopped_transport_takes_nothing_more(self) -> None:
        """A transport that is gone before the connection is told takes nothing more."""
        self.pair.near.stopProducing()
        send = self.channel.send(1)
        self.pair.turn()
        self.assertEqual(self.writes(), [])
        self.pair.lose()
        self.failureResultOf(send, ConnectionLost)

    def test_two_long_values_are_written_in_turns(self) -> None:
        """Two long values on two channels are written in turns."""
        other, _ = self.pair.channel()
        self.pair.near_transport.writes.clear()
        self.pair.near.pauseProducing()
        self.channel.send(HUGE)
        other.send(HUGE)
        self.pair.near.resumeProducing()
        written = frames(b"".join(self.pair.near_transport.writes))
        ids = [f[1] for f in written if f[0] in ("MORE", "DATA")]
        self.assertEqual(ids[:6], [self.channel.id, other.id] * 3)


class Descriptor(FileDescriptor):
    """A descriptor of a system that takes ``room`` bytes, and tells what it took."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.connected = 1
        self.room = 1 << 30
        self.taken = b""
        self.broken = False

    def writeSomeData(self, data: bytes) -> Any:
        if self.broken:
            return main.CONNECTION_LOST
        size = min(self.room, len(data))
        self.room -= size
        self.taken += data[:size]
        return size


class Polls:
    """Stands for the busy polling of a transport: what was written when it polled."""

    wrote = False

    def __init__(self) -> None:
        self._transport: Any = None
        self.polled: list[bytes] = []

    def of(self, transport: Any) -> Polls:
        self._transport = transport
        return self

    def poll(self) -> None:
        self.polled.append(self._transport.taken)

    def stop(self) -> None: ...


class DescriptorWriting(SynchronousTestCase):
    """Writing to a plain descriptor: to the system at once, as far as it goes."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.descriptor = Descriptor(self.reactor)
        self.near, self.far = Connection(self.reactor, True), Connection(Clock(), False)
        far_transport = MemoryTransport()
        self.far.makeConnection(far_transport)
        self.near.makeConnection(self.descriptor)
        self.near.dataReceived(far_transport.take())
        self.core = self.near.open("test")
        self.reactor.advance(0)
        self.descriptor.taken = b""

    def test_descriptor_is_written_at_once(self) -> None:
        """Nothing waits for the reactor."""
        self.core.send(b"\x01")
        self.assertEqual(frames(self.descriptor.taken), [("DATA", 1, b"\x01")])
        self.assertEqual(self.reactor.getWriters(), [])

    def test_answer_to_what_a_turn_sends_is_polled_for(self) -> None:
        """At the end of a turn that sends, once all of it is written, an answer is polled for."""
        polls = Polls()
        self.patch(module, "BusyPoll", polls)
        self.setUp()
        polls.polled.clear()
        self.core.send(b"\x01")
        self.core.send(b"\x02")
        self.assertEqual(polls.polled, [])
        self.reactor.advance(0)
        self.assertEqual(
            [frames(each) for each in polls.polled], [[("DATA", 1, b"\x01"), ("DATA", 1, b"\x02")]]
        )
        self.reactor.advance(0)
        self.core.send(b"\x01")
        self.near.connectionLost(Failure(error.ConnectionDone()))
        self.reactor.advance(0)
        self.assertEqual(len(polls.polled), 1)

    def test_rest_is_left_to_the_transport_in_order(self) -> None:
        """What the system does not take is left to the transport, and what follows goes behind."""
        self.descriptor.room = 5
        self.core.send(b"\x01")
        self.core.send(b"\x02")
        self.reactor.advance(0)
        self.assertEqual(len(self.descriptor.taken), 5)
        self.assertEqual(self.reactor.getWriters(), [self.descriptor])
        self.descriptor.room = 1 << 30
        self.descriptor.doWrite()
        self.assertEqual(
            frames(self.descriptor.taken), [("DATA", 1, b"\x01"), ("DATA", 1, b"\x02")]
        )

    def test_long_value_is_written_whole_in_any_pieces(self) -> None:
        """So is what is left of a long value, however much of it the system takes at a time."""
        payload = bytes(range(256)) * 1000
        for room in (1, 9, 70_000, 1 << 30):
            self.descriptor.room = room
            self.core.send(payload)
            self.descriptor.room = 1 << 30
            while self.reactor.getWriters():
                self.descriptor.doWrite()
            self.reactor.advance(0)
        fragments = frames(self.descriptor.taken)
        self.assertTrue(b"".join(f[2] for f in fragments) == payload * 4)

    def test_reading_size_grows_while_there_is_much(self) -> None:
        """It reads much at a time while there is much, and no more than usual otherwise."""
        usual = self.descriptor.bufferSize
        self.near.dataReceived(frame(DATA, 1, bytes(60_000)) * 2)
        self.assertEqual(self.descriptor.bufferSize, BULK_SIZE)
        self.near.dataReceived(frame(DATA, 1, b"\x01"))
        self.assertEqual(self.descriptor.bufferSize, usual)

    def test_server_may_read_less_at_a_time(self) -> None:
        """A server may read less at a time, so that others have their turn."""
        self.near.small_size, self.near.bulk_size = 1000, 2000
        self.near.dataReceived(frame(DATA, 1, bytes(60_000)))
        self.assertEqual(self.descriptor.bufferSize, 2000)
        self.near.dataReceived(frame(DATA, 1, b"\x01"))
        self.assertEqual(self.descriptor.bufferSize, 1000)

    def test_write_error_is_left_to_the_transport(self) -> None:
        """An error is left to the transport's own writing, which ends the connection by it."""
        self.descriptor.broken = True
        self.core.send(b"\x01")
        self.assertEqual(self.reactor.getWriters(), [self.descriptor])
        self.assertIs(self.descriptor.doWrite(), main.CONNECTION_LOST)

    def test_goodbye_is_written_before_the_descriptor_closes(self) -> None:
        self.descriptor.room = 3
        self.near.goodbye()
        self.descriptor.room = 1 << 30
        self.assertIs(self.descriptor.doWrite(), main.CONNECTION_DONE)
        self.assertEqual([f[0] for f in frames(self.descriptor.taken)], ["GOAWAY"])


@collects
class Ending(PairCase):
    """All the ways a connection ends."""

    def test_when_closed_is_told_before_the_explanation(self) -> None:
        """Who wants to know is told once what the transport says; who explains it may wait."""
        near = self.pair.near
        told: list[Any] = []
        explained: defer.Deferred[ConnectionLost] = defer.Deferred()
        near.explain = lambda lost: explained
        near.when_closed.append(lambda reason: told.append((reason.type, near.transport)))
        near.when_closed.append(lambda _: explained.callback(ConnectionLost("so it was")))
        self.pair.lose()
        self.assertEqual([transport for _, transport in told], [None])
        assert near.lost is not None
        self.assertEqual(near.lost.reason, "so it was")

    def test_raised_errors_keep_no_channel_alive(self) -> None:
        """What is raised keeps the frames that it passed, but nothing keeps what is raised."""
        ended: list[str] = []

        async def user() -> None:
            pair = Pair()
            channel, _ = pair.channel()
            weakref.finalize(channel, ended.append, "channel")
            pair.clock.callLater(1, pair.lose)
            waiting = channel.receive()
            pair.clock.advance(1)
            for operation in (lambda: waiting, lambda: channel.send(1), channel.receive):
                with self.assertRaises(ConnectionLost):
                    await operation()
            with self.assertRaises(ConnectionLost):
                pair.near.open("test")
            with self.assertRaises(ConnectionLost):
                await pair.near.ping()

        self.successResultOf(defer.Deferred.fromCoroutine(user()))
        gc.collect()
        self.assertEqual(ended, ["channel"])

    def waiting(self) -> dict[str, defer.Deferred[Any]]:
        """One of everything that can wait on the near end."""
        channel, self.far = self.pair.channel()
        self.channel = channel
        raw, _ = self.pair.channel(raw=True)
        return {
            "receive": channel.receive(),
            "waitclose": channel.waitclose(),
            "send": channel.send(HUGE),
            "raw send": raw.send(HUGE),
            "raw receive": raw.receive(),
            "ping": self.pair.near.ping(),
        }

    def check_all(self, waiting: dict[str, defer.Deferred[Any]], reason: str) -> None:
        """Everything that waited failed with the connection's end, and so does all that follows."""
        lost = self.pair.near.lost
        assert lost is not None
        self.assertRegex(lost.reason, reason)
        for what, deferred in waiting.items():
            failure = self.failureResultOf(deferred, ConnectionLost)
            self.assertIs(failure.value, lost, what)
        channel = self.channel
        self.assertTrue(channel.isclosed())
        for after in (channel.send(1), channel.receive(), channel.waitclose()):
            self.assertIs(self.failureResultOf(after, ConnectionLost).value, lost)
        with self.assertRaises(ConnectionLost):
            self.pair.near.open("test")
        channel.close()
        channel.send_end()
        self.pair.near.goodbye()
        self.pair.near.abort(ConnectionLost("again"))
        self.pair.turn()
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])

    def test_close_by_the_other_end_is_the_reason(self) -> None:
        """The other end closes the connection."""
        waiting = self.waiting()
        self.pair.lose()
        self.check_all(waiting, "^the other end closed the connection$")

    def test_broken_connection_is_the_reason(self) -> None:
        """The connection breaks."""
        waiting = self.waiting()
        self.pair.lose(error.ConnectionLost("cable cut"))
        self.check_all(waiting, "the connection was lost: .*cable cut")

    def test_goodbye_of_the_other_end_is_the_reason(self) -> None:
        """The other end says goodbye."""
        waiting = self.waiting()
        self.pair.far.goodbye()
        self.pair.pump()
        self.check_all(waiting, "^the other end said goodbye$")

    def test_own_goodbye_fails_what_waits_at_both_ends(self) -> None:
        """This end says goodbye; what waits fails, at the other end too."""
        waiting = self.waiting()
        far = self.far.waitclose()
        self.pair.near.goodbye()
        self.pair.pump()
        self.check_all(waiting, "^the connection was closed here$")
        self.failureResultOf(far, ConnectionLost)

    def test_abort_has_its_given_reason(self) -> None:
        """This end drops the connection, for a reason."""
        waiting = self.waiting()
        self.pair.near.abort(ConnectionLost("I had enough"))
        self.pair.pump()
        self.check_all(waiting, "^I had enough$")

    def test_garbage_is_the_reason_at_both_ends(self) -> None:
        """The peer sends garbage: everything that waits is told what was wrong with it."""
        waiting = self.waiting()
        self.pair.near.dataReceived(frame(77, 0, b"?"))
        self.pair.pump()
        self.check_all(waiting, "unknown frame type 77")
        assert isinstance(self.pair.near.lost, ProtocolViolation)
        self.assertEqual(self.pair.near.lost.code, "frame")
        # The peer learns what it did.
        assert isinstance(self.pair.far.lost, ProtocolViolation)
        self.assertEqual(self.pair.far.lost.code, "frame")
        self.assertIn("refused what this end sent", self.pair.far.lost.reason)

    def test_invalid_value_is_found_when_received(self) -> None:
        """A payload that is no value is found out when it is received."""
        channel, _ = self.pair.channel()
        self.pair.near.dataReceived(frame(DATA, channel.id, b"\xc1"))
        violation = self.failureResultOf(channel.receive(), ProtocolViolation).value
        self.assertEqual(violation.code, "value")
        self.pair.pump()
        self.assertIs(self.pair.near.lost, violation)

    def test_invalid_value_goes_to_errback_not_callback(self) -> None:
        """The same, for a callback: it is not called, the errback is."""
        channel, _ = self.pair.channel()
        values: list[Any] = []
        failures: list[Failure] = []
        channel.setcallback(values.append, failures.append)
        self.pair.near.dataReceived(frame(DATA, channel.id, b"\xc1"))
        self.pair.pump()
        self.assertEqual(values, [])
        self.assertEqual([f.type for f in failures], [ProtocolViolation])

    def test_two_invalid_values_are_one_goodbye(self) -> None:
        """Two bad values in one piece are one violation, and one goodbye."""
        one, two = self.pair.channel()[0], self.pair.channel()[0]
        waiting = [one.receive(), two.receive()]
        self.pair.near_transport.writes.clear()
        bad = frame(DATA, one.id, b"\xc1") + frame(DATA, two.id, b"\xc1")
        self.pair.near.dataReceived(bad)
        for deferred in waiting:
            self.failureResultOf(deferred, ProtocolViolation)
        written = frames(b"".join(self.pair.near_transport.writes))
        self.assertEqual([f[0] for f in written], ["GOAWAY"])

    def test_violation_is_answered_by_one_goaway(self) -> None:
        """A frame that breaks the protocol is answered by one GOAWAY, and nothing follows it."""
        channel, _ = self.pair.channel()
        self.pair.near_transport.writes.clear()
        self.pair.near.dataReceived(frame(77, 0))
        channel.send(1)
        channel.close()
        self.pair.turn()
        written = frames(b"".join(self.pair.near_transport.writes))
        self.assertEqual([f[0] for f in written], ["GOAWAY"])

    def test_nothing_is_sent_after_a_goodbye(self) -> None:
        """After a goodbye nothing is sent: it waits, and fails when the connection is over."""
        channel, _ = self.pair.channel()
        self.pair.near.goodbye()
        self.pair.near.goodbye()
        send = channel.send(1)
        self.assertNoResult(send)
        channel.close()
        self.pair.turn()
        written = frames(self.pair.near_transport.value())
        self.assertEqual([f[0] for f in written], ["GOAWAY"])
        with self.assertRaises(ConnectionLost):
            self.pair.near.open("test")
        self.pair.pump()
        self.failureResultOf(send, ConnectionLost)

    def test_values_before_a_goodbye_arrive(self) -> None:
        """What was sent before a goodbye arrives before it."""
        near, far = self.pair.channel()
        for value in range(10):
            near.send(value)
        self.pair.near.goodbye()
        self.pair.pump()
        self.assertEqual(self.receive_all(far), list(range(10)))
        self.failureResultOf(far.receive(), ConnectionLost)

    def test_goodbye_is_written_to_a_full_transport(self) -> None:
        """A goodbye is written even while the transport takes no more."""
        self.pair.near.pauseProducing()
        self.pair.near.goodbye()
        written = frames(self.pair.near_transport.value())
        self.assertEqual([f[0] for f in written], ["GOAWAY"])

    def test_goodbye_in_a_sends_callback_goes_behind_it(self) -> None:
        """A goodbye that is said when a value is on its way goes behind it."""
        near, far = self.pair.channel()
        self.pair.near.pauseProducing()
        near.send("last").addCallback(lambda _: self.pair.near.goodbye())
        self.pair.near.resumeProducing()
        self.pair.pump()
        self.assertEqual(self.receive_all(far), ["last"])
        assert self.pair.far.lost is not None
        self.assertEqual(self.pair.far.lost.reason, "the other end said goodbye")

    def test_goodbye_unregisters_the_producer(self) -> None:
        """A transport that waits for its producer to go before it closes is not kept waiting."""
        self.pair.near.goodbye()
        self.assertIsNone(self.pair.near_transport.producer)
        self.pair.to_far()
        self.assertIsNone(self.pair.far_transport.producer)

    def test_peer_that_reads_nothing_is_dropped_after_lingering(self) -> None:
        """A peer that does not read what is left is not waited for without end."""
        self.pair.near.dataReceived(frame(77, 0))
        self.assertFalse(self.pair.near_transport.disconnected)
        self.pair.clock.advance(LINGER)
        self.assertTrue(self.pair.near_transport.disconnected)

    def test_peer_that_keeps_the_connection_after_goodbye_is_dropped(self) -> None:
        """Neither is one that said goodbye and then kept the connection open."""
        self.pair.far.goodbye()
        self.pair.to_near()
        self.pair.clock.advance(LINGER)
        self.assertTrue(self.pair.near_transport.disconnected)

    def test_what_waits_waits_for_the_explanation(self) -> None:
        """Who owns the connection finds out why it ended; until then what waits, waits."""
        why: defer.Deferred[ConnectionLost] = defer.Deferred()
        self.pair.near.explain = lambda lost: why
        waiting = self.waiting()
        self.pair.lose()
        late = self.channel.send(2)
        waiting |= {"late send": late, "late ping": self.pair.near.ping()}
        waiting["late open"] = self.pair.open().receive()
        for deferred in waiting.values():
            self.assertNoResult(deferred)
        why.callback(ConnectionLost("it was the cat"))
        self.check_all(waiting, "^it was the cat$")

    def test_failed_explanation_tells_the_plain_reason(self) -> None:
        """When that can't be found out, what waits is told all the same."""

        def explain(lost: ConnectionLost) -> Any:
            raise KeyError("cat")

        self.pair.near.explain = explain
        waiting = self.waiting()
        self.pair.lose()
        self.check_all(waiting, "^the other end closed the connection$")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_callback_of_the_end_may_use_other_channels(self) -> None:
        """Whoever is told of the end may cancel, close and ask on any other channel."""
        one, two = self.pair.channel()[0], self.pair.channel()[0]
        asked: list[defer.Deferred[Any]] = []
        receive_two, close_two, send_two = two.receive(), two.waitclose(), two.send(HUGE)
        second = one.receive(), one.receive(), one.waitclose(), one.waitclose()

        def told(failure: Failure) -> None:
            failure.trap(ConnectionLost)
            for deferred in (*second[1:], receive_two, close_two, send_two):
                deferred.cancel()
            two.close()
            asked.extend((one.receive(), two.send(1), two.receive(), self.pair.near.ping()))

        second[0].addErrback(told)
        self.pair.lose()
        self.successResultOf(second[0])
        for deferred in (*second[1:], receive_two, close_two, send_two):
            self.failureResultOf(deferred, defer.CancelledError)
        for deferred in asked:
            self.failureResultOf(deferred, ConnectionLost, ChannelClosed)

    def test_malformed_goaway_is_a_violation(self) -> None:
        """A GOAWAY that is not one is itself against the protocol."""
        self.pair.near.dataReceived(frame(GOAWAY, 0, b"\x80"))
        self.pair.pump()
        self.assertIsInstance(self.pair.near.lost, ProtocolViolation)

    def test_values_after_a_goodbye_are_not_taken(self) -> None:
        """What a peer sends after its goodbye is not taken."""
        near, _ = self.pair.channel()
        values: list[Any] = []
        near.setcallback(values.append, lambda _: None)
        self.pair.far.goodbye()
        goodbye = self.pair.far_transport.take()
        self.pair.near.dataReceived(goodbye + frame(DATA, near.id, b"\x01"))
        self.pair.near.dataReceived(frame(DATA, near.id, b"\x02"))
        self.assertEqual(values, [])


class Purposes(PairCase):
    """What a channel is opened for."""

    def test_unknown_purpose_fails_that_channel_alone(self) -> None:
        """A purpose that the other end does not know is an error of that channel alone."""
        other, _ = self.pair.channel()
        channel = self.pair.open("teleport", first=b"\x01")
        self.pair.pump()
        problem = self.failureResultOf(channel.receive(), RemoteError).value
        self.assertEqual((problem.code, problem.message), ("purpose", "unknown purpose 'teleport'"))
        self.failureResultOf(channel.send(1), RemoteError)
        self.assertFalse(other.isclosed())
        self.assertEqual(len(self.pair.far.mux.streams), 1)

    def test_first_value_comes_with_the_channel(self) -> None:
        """The first value comes with the channel, however long it is."""
        for value in ("short", HUGE):
            channel = self.pair.open(first=self.pair.near.encode(value), end=True)
            self.pair.pump()
            far = self.pair.accepted.pop()
            received = far.receive()
            self.pair.pump()
            self.assertEqual(self.successResultOf(received), value)
            self.failureResultOf(far.receive(), ChannelClosed)
            self.failureResultOf(channel.send(1), ChannelClosed)
            far.close()
            self.pair.pump()

    def test_raising_acceptor_costs_that_channel_alone(self) -> None:
        """Whoever takes channels for a purpose and raises loses that channel, nothing else."""
        other, far = self.pair.channel()

        def accept(core: object) -> None:
            raise KeyError("no room")

        self.pair.far.purposes["test"] = accept
        channel = self.pair.open()
        self.pair.pump()
        self.assertEqual(
            self.failureResultOf(channel.receive(), RemoteError).value.type, "KeyError"
        )
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        far.send("still here")
        self.pair.pump()
        self.assertEqual(self.receive_now(other), "still here")

    def test_peers_channel_limit_is_kept(self) -> None:
        """No more channels can be opened than the peer allows; one that is over makes room."""
        pair = Pair(far_limits=Limits(channels=2))
        channels = [pair.open(), pair.open()]
        with self.assertRaisesRegex(PycomnetError, "allows 2 open channels"):
            pair.open()
        channels[0].close()
        pair.pump()
        pair.open()

    def unaccepted(self, far: Channel, *values: object) -> None:
        """Send a new channel from the far end, with values on it, closed again."""
        new = Channel(self.pair.far.open("channel"), self.pair.end(self.pair.far))
        for value in values:
            new.send(value)
        far.send(new)
        new.close()
        self.pair.pump()

    def test_any_number_of_small_closed_channels_is_kept(self) -> None:
        """Any number of small channels may be over before anybody receives them."""
        near, far = self.pair.channel()
        for number in range(1000):
            self.unaccepted(far, number)
        for number in range(1000):
            self.assertEqual(self.receive_all(self.receive_now(near)), [number])

    def test_of_big_closed_channels_only_the_last_are_kept(self) -> None:
        """But not of big ones: of those only the last are kept, and the others come as closed."""
        near, far = self.pair.channel()
        full = [bytes(65_000)] * 16
        count = MAX_UNACCEPTED // WINDOW + 4
        for _ in range(count):
            self.unaccepted(far, *full)
        self.unaccepted(far, "small")
        got = [self.receive_all(self.receive_now(near)) for _ in range(count + 1)]
        self.assertEqual(got.pop(), ["small"])
        kept = sum(values == full for values in got)
        self.assertTrue(count - 6 <= kept < count, kept)
        self.assertEqual(got, [[]] * (count - kept) + [full] * kept)
        self.assertIsNone(self.pair.near.lost)
        # What was received does not count any more.
        for _ in range(10):
            self.unaccepted(far, *full)
        for _ in range(10):
            self.assertEqual(self.receive_all(self.receive_now(near)), full)


class HostilePeer(PairCase):
    """A peer that breaks the rules costs only its own connection."""

    def test_channel_never_opened_ends_the_connection(self) -> None:
        """A value with a channel that was never opened ends the connection with a named error."""
        near, _ = self.pair.channel()
        self.pair.near.dataReceived(frame(DATA, near.id, b"\xd6\x06\x00\x00\x00\x63"))
        violation = self.failureResultOf(near.receive(), ProtocolViolation).value
        self.assertIn("channel 99 was never opened", violation.reason)

    def test_error_that_is_no_value_ends_the_connection(self) -> None:
        """So does an error that is not a value."""
        near, _ = self.pair.channel()
        waiting = near.waitclose()
        self.pair.near.dataReceived(frame(6, near.id, b"\x01\xc1"))
        self.assertEqual(self.failureResultOf(waiting, ProtocolViolation).value.code, "value")
        self.pair.pump()
        self.assertIsInstance(self.pair.near.lost, ProtocolViolation)

    def test_error_that_is_no_map_has_no_words(self) -> None:
        """An error that is a value, but not a map, is an error without words."""
        near, _ = self.pair.channel()
        waiting = near.waitclose()
        self.pair.near.dataReceived(frame(6, near.id, b"\x01\x05"))
        problem = self.failureResultOf(waiting, RemoteError).value
        self.assertEqual((problem.code, problem.type, problem.message), ("remote", "", ""))

    def hostile(self, **limits: int) -> tuple[Channel, Channel]:
        """A channel between two new ends, of which the near one has these limits."""
        self.pair = Pair(Limits(**limits))
        return self.pair.channel()

    def test_value_over_the_limit_ends_the_connection_early(self) -> None:
        """A value over the limit ends the connection when so much has come, not when all has."""
        near, far = self.hostile(value=200_000)
        received = near.receive()
        far.send(bytes(100_000))
        self.pair.pump()
        self.assertEqual(len(self.successResultOf(received)), 100_000)
        received = near.receive()
        far.send(bytes(700_000_000 >> 4)).addErrback(lambda _: None)
        self.pair.pump()
        problem = self.failureResultOf(received, ProtocolViolation).value
        self.assertEqual(problem.code, "value")
        self.assertIn("a value over 200000 bytes", problem.reason)

    def test_value_of_too_many_items_ends_the_connection(self) -> None:
        """So does one of too many items, in whatever way it is taken."""
        for take in ("receive", "setcallback"):
            near, far = self.hostile(items=2000)
            got: list[Any] = []
            if take == "receive":
                near.receive().addErrback(got.append)
            else:
                near.setcallback(got.append, got.append)
            far.send([{}] * 2001)
            self.pair.pump()
            (failure,) = got
            self.assertTrue(failure.check(ProtocolViolation), failure)
            self.assertEqual(failure.value.code, "value")
            self.assertIn("more than 2000 elements", failure.value.reason)

    def test_value_of_unknown_type_fails_alone(self) -> None:
        """A value of a type that is not known here can't be had, and the connection goes on."""
        near, far = self.pair.channel()
        payload = b"\xc7\x0b\x12\x92\xa8no.there\x05"
        for _ in range(2):
            received = near.receive()
            self.pair.near.dataReceived(frame(DATA, near.id, payload))
            problem = self.failureResultOf(received, ValueNotReceivable).value
            self.assertIn("no.there", str(problem))
        far.send(5)
        self.pair.pump()
        self.assertEqual(self.receive_now(near), 5)
        # With a callback, which can't be told otherwise, it ends the channel.
        got: list[Any] = []
        near.setcallback(got.append, got.append)
        self.pair.near.dataReceived(frame(DATA, near.id, payload))
        self.assertTrue(got[0].check(ValueNotReceivable))
        self.assertTrue(near.isclosed())
        waiting = self.pair.channel()[0]
        ended = waiting.waitclose()
        self.pair.near.dataReceived(frame(6, waiting.id, b"\x01" + payload))
        self.assertIn("no.there", self.failureResultOf(ended, RemoteError).value.message)
        self.assertIsNone(self.pair.near.lost)

    def test_peer_cannot_open_under_our_ids(self) -> None:
        """A peer can't open a channel under an id that is ours to give."""
        self.pair.near.dataReceived(frame(OPEN, 5, b"\x00\x04test"))
        self.pair.pump()
        assert isinstance(self.pair.near.lost, ProtocolViolation)
        self.assertEqual(self.pair.near.lost.code, "channel")
