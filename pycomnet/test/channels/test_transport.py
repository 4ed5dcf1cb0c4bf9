"""A raw channel as the transport of Twisted protocols."""

from __future__ import annotations

import gc
import io
from typing import Any

from twisted.internet import error, interfaces, protocol
from twisted.protocols.basic import FileSender, LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from pycomnet.channels.connection import Connection
from pycomnet.channels.transport import HIGH_WATER, ChannelAddress, ChannelTransport
from pycomnet.errors import ConnectionLost, PycomnetError, RemoteError
from pycomnet.test.garbage import collects
from pycomnet.test.kit import HUGE, Pair, PairCase, Producer


class Recorder(protocol.Protocol):
    """Remembers what it is told."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.reasons: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.reasons.append(reason.value)

    def reason(self) -> Any:
        """Why it was disconnected, which must have happened once."""
        (reason,) = self.reasons
        return reason


@implementer(interfaces.IHalfCloseableProtocol)
class HalfCloseable(Recorder):
    """One that wants to know of half-closes."""

    def __init__(self) -> None:
        super().__init__()
        self.halves: list[str] = []

    def readConnectionLost(self) -> None:
        self.halves.append("read")

    def writeConnectionLost(self) -> None:
        self.halves.append("write")


class TransportCase(PairCase):
    """A test on a raw channel with a protocol at the near end."""

    def setUp(self) -> None:
        super().setUp()
        self.near, self.far = self.pair.channel(raw=True)
        self.protocol = self.make_protocol()
        self.near.attach(self.protocol)
        self.transport: ChannelTransport = self.protocol.transport
        self.pair.pump()

    def make_protocol(self) -> Recorder:
        """The protocol that is attached."""
        return Recorder()

    def send(self, data: bytes) -> None:
        """Send bytes from the far end."""
        self.far.send(data)
        self.pair.pump()

    def take(self) -> bytes:
        """What has come to the far end."""
        self.pair.pump()
        return b"".join(self.receive_all(self.far))


class Basics(TransportCase):
    """Being a transport."""

    def test_transport_provides_twisteds_interfaces(self) -> None:
        """It provides what it says."""
        for interface in (interfaces.ITransport, interfaces.IConsumer, interfaces.IPushProducer):
            verifyObject(interface, self.transport)
        verifyObject(interfaces.IAddress, self.transport.getPeer())

    def test_writes_arrive_and_data_is_received(self) -> None:
        """What is written arrives, what arrives is received."""
        self.transport.write(b"one")
        self.transport.writeSequence([b"two", b"", b"three"])
        self.assertEqual(self.take(), b"onetwothree")
        self.send(b"answer")
        self.assertEqual(self.protocol.data, b"answer")

    def test_megabytes_go_both_ways_at_once(self) -> None:
        self.transport.write(HUGE)
        self.far.send(HUGE)
        got = b""
        while len(got) < len(HUGE):
            piece = self.take()
            self.assertTrue(piece)
            got += piece
        self.assertTrue(got == HUGE)
        self.assertTrue(self.protocol.data == HUGE)

    def test_write_of_text_is_refused(self) -> None:
        """Only bytes can be written."""
        with self.assertRaises(TypeError):
            self.transport.write("text")  # type: ignore[arg-type]

    def test_addresses_name_gateway_and_channel(self) -> None:
        """It says where it leads."""
        self.assertEqual(self.transport.getPeer(), ChannelAddress("near", self.near.id))
        self.assertEqual(self.transport.getHost(), ChannelAddress("", self.near.id))

    def test_twisteds_protocols_run_at_both_ends(self) -> None:
        """Protocols of Twisted run on it, at both ends."""

        class Upper(LineReceiver):
            def lineReceived(self, line: bytes) -> None:
                if line == b"quit":
                    self.transport.loseConnection()  # type: ignore[union-attr]
                else:
                    self.sendLine(line.upper())

        near, far = self.pair.channel(raw=True)
        client = Recorder()
        near.attach(client)
        far.attach(Upper())
        client.transport.write(b"one\r\ntw")
        self.pair.pump()
        client.transport.write(b"o\r\nquit\r\nignored\r\n")
        self.pair.pump()
        self.assertEqual(client.data, b"ONE\r\nTWO\r\n")
        self.assertIsInstance(client.reason(), error.ConnectionDone)

    def test_whole_connection_runs_over_a_channel(self) -> None:
        """A whole connection runs over a channel of another, and ends with a goodbye."""
        near, far = self.pair.channel(raw=True)
        inner = Pair(greet=False)
        inner.near = Connection(self.pair.clock, True)
        inner.far = Connection(self.pair.clock, False)
        accepted: list[Any] = []
        inner.far.purposes["test"] = accepted.append
        near.attach(inner.near)
        far.attach(inner.far)
        self.pair.pump()
        core = inner.near.open("test")
        sending = core.send(inner.near.encode(HUGE))
        self.pair.pump()
        received = accepted[0].receive()
        self.pair.pump()
        self.assertTrue(self.successResultOf(received) == HUGE)
        self.successResultOf(sending)
        waiting = accepted[0].receive()
        inner.near.goodbye()
        self.pair.pump()
        self.failureResultOf(waiting, ConnectionLost)
        assert inner.near.lost is not None and inner.far.lost is not None
        self.assertEqual(inner.far.lost.reason, "the other end said goodbye")
        self.assertEqual(inner.near.lost.reason, "the connection was closed here")
        self.assertTrue(near.isclosed() and far.isclosed())
        self.assertIsNone(self.pair.near.lost)
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])


class Attaching(PairCase):
    """``attach``."""

    def test_earlier_data_is_given_in_the_next_turn(self) -> None:
        """What came before is given to the protocol, but only in the next turn."""
        near, far = self.pair.channel(raw=True)
        far.send(b"before")
        far.close()
        self.pair.pump()
        recorder = Recorder()
        near.attach(recorder)
        self.assertEqual((recorder.connected, recorder.data), (1, b""))
        self.pair.turn()
        self.assertEqual(recorder.data, b"before")
        self.assertIsInstance(recorder.reason(), error.ConnectionDone)

    def test_earlier_data_goes_before_later(self) -> None:
        """What comes in the meantime goes behind it."""
        near, far = self.pair.channel(raw=True)
        far.send(b"first ")
        self.pair.pump()
        recorder = Recorder()
        near.attach(recorder)
        far.send(b"second")
        self.pair.to_near()
        self.pair.pump()
        self.assertEqual(recorder.data, b"first second")

    def test_only_a_free_raw_channel_takes_a_protocol(self) -> None:
        """Only a raw channel that nothing else takes from can have a protocol, and only one."""
        recorder = Recorder()
        values, _ = self.pair.channel()
        with self.assertRaisesRegex(PycomnetError, "not raw"):
            values.attach(recorder)
        waiting, far = self.pair.channel(raw=True)
        receiving = waiting.receive()
        with self.assertRaises(PycomnetError):
            waiting.attach(recorder)
        far.send(b"")
        self.pair.pump()
        self.successResultOf(receiving)
        called, _ = self.pair.channel(raw=True)
        called.setcallback(lambda data: None)
        with self.assertRaises(PycomnetError):
            called.attach(recorder)
        taken, _ = self.pair.channel(raw=True)
        taken.attach(Recorder())
        with self.assertRaises(PycomnetError):
            taken.attach(recorder)
        with self.assertRaises(PycomnetError):
            taken.setcallback(lambda data: None)
        self.failureResultOf(taken.receive(), PycomnetError)
        self.assertEqual((recorder.connected, recorder.reasons), (0, []))

    def test_protocol_that_fails_to_begin_costs_the_channel(self) -> None:
        """A protocol that fails to begin costs the channel, and whoever attached it is told."""
        near, far = self.pair.channel(raw=True)

        class Broken(Recorder):
            def connectionMade(self) -> None:
                raise KeyError("can't begin")

        broken = Broken()
        with self.assertRaises(KeyError):
            near.attach(broken)
        self.pair.pump()
        self.assertIsInstance(broken.reason(), KeyError)
        self.failureResultOf(far.receive(), RemoteError)

    def test_connection_made_may_write_and_close(self) -> None:
        """A protocol may write and close when it begins."""
        near, far = self.pair.channel(raw=True)

        class Hello(Recorder):
            def connectionMade(self) -> None:
                self.transport.write(b"hello and goodbye")
                self.transport.loseConnection()

        hello = Hello()
        near.attach(hello)
        self.assertEqual(hello.reasons, [])
        self.pair.pump()
        self.assertEqual(self.receive_all(far), [b"hello and goodbye"])
        self.assertIsInstance(hello.reason(), error.ConnectionDone)

    def test_connection_made_may_pause(self) -> None:
        """A protocol may pause when it begins."""
        near, far = self.pair.channel(raw=True)
        far.send(b"data")
        self.pair.pump()

        class Paused(Recorder):
            def connectionMade(self) -> None:
                self.transport.pauseProducing()

        paused = Paused()
        near.attach(paused)
        self.pair.pump()
        self.assertEqual(paused.data, b"")
        paused.transport.resumeProducing()
        self.pair.pump()
        self.assertEqual(paused.data, b"data")


class Ending(TransportCase):
    """How it ends."""

    def test_lose_connection_writes_the_rest_then_tells(self) -> None:
        """``loseConnection`` writes what was written and closes; the protocol is told later."""
        self.transport.write(b"last")
        self.transport.loseConnection()
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.protocol.reasons, [])
        self.transport.write(b"too late")
        self.assertEqual(self.take(), b"last")
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)
        self.assertTrue(self.far.isclosed())
        self.transport.loseConnection()
        self.transport.abortConnection()
        self.transport.loseWriteConnection()
        self.pair.pump()
        self.assertEqual(len(self.protocol.reasons), 1)

    def test_lose_connection_waits_for_room_and_receives(self) -> None:
        """It waits for room for what was written; meanwhile data is still received."""
        self.transport.write(HUGE)
        self.transport.loseConnection()
        self.send(b"still here")
        self.assertEqual(self.protocol.data, b"still here")
        self.assertEqual(self.protocol.reasons, [])
        got = b""
        while len(got) < len(HUGE):
            got += self.take()
        self.assertTrue(got == HUGE)
        self.pair.pump()
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)

    def test_paused_protocol_can_lose_connection(self) -> None:
        """A protocol that is paused can close all the same."""
        self.transport.pauseProducing()
        self.send(b"unread")
        self.transport.loseConnection()
        self.pair.pump()
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)
        self.assertEqual(self.protocol.data, b"")
        self.assertTrue(self.far.isclosed())

    def test_lose_connection_in_data_received_is_told_later(self) -> None:
        """A protocol that closes within ``dataReceived`` is told after it has returned."""
        order: list[str] = []

        class Closing(Recorder):
            def dataReceived(self, data: bytes) -> None:
                self.transport.loseConnection()
                order.append("returned")

            def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
                order.append("told")

        near, far = self.pair.channel(raw=True)
        near.attach(Closing())
        far.send(b"x")
        far.send(b"y")
        self.pair.pump()
        self.assertEqual(order, ["returned", "told"])

    def test_peers_close_is_told_after_all_data(self) -> None:
        """When the other end closes, it is done, after all data."""
        self.far.send(b"last")
        self.far.close()
        self.pair.pump()
        self.assertEqual(self.protocol.data, b"last")
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)
        self.assertTrue(self.near.isclosed())
        self.transport.write(b"too late")

    def test_paused_protocol_gets_all_data_before_the_close(self) -> None:
        """A protocol that is paused has all the data first."""
        self.transport.pauseProducing()
        self.far.send(b"unread")
        self.far.close()
        self.pair.pump()
        self.assertEqual(self.protocol.reasons, [])
        self.transport.resumeProducing()
        self.pair.pump()
        self.assertEqual(self.protocol.data, b"unread")
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)

    def test_half_close_closes_a_plain_protocol(self) -> None:
        """A half-close of the other end closes a protocol that knows nothing of those."""
        self.far.send_end()
        self.pair.pump()
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)
        self.assertTrue(self.far.isclosed())
        self.assertEqual(self.pair.near.mux.streams, {})

    def test_peers_error_is_the_reason(self) -> None:
        """An error of the other end is the reason."""
        self.far.close("out of coffee")
        self.pair.pump()
        self.assertIsInstance(self.protocol.reason(), RemoteError)

    def test_lost_connection_is_the_reason(self) -> None:
        """So is the end of the connection below."""
        self.transport.write(HUGE)
        self.pair.lose()
        self.assertIs(self.protocol.reason(), self.pair.near.lost)

    def test_abort_drops_unsent_data_at_both_ends(self) -> None:
        """``abortConnection`` drops what was not sent, and says so at both ends."""
        self.transport.write(HUGE)
        self.transport.abortConnection()
        self.assertEqual(self.protocol.reasons, [])
        self.pair.pump()
        self.assertIsInstance(self.protocol.reason(), error.ConnectionAborted)
        self.assertLess(len(self.take()), len(HUGE))
        problem = self.failureResultOf(self.far.receive(), RemoteError).value
        self.assertEqual(problem.message, "the connection was aborted")

    def test_closed_channel_disconnects_the_protocol(self) -> None:
        """Closing the channel itself disconnects the protocol."""
        self.transport.pauseProducing()
        self.near.close()
        self.assertEqual(self.protocol.reasons, [])
        self.pair.pump()
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)

    def test_raising_protocol_loses_its_channel_alone(self) -> None:
        """A protocol that raises loses its channel; the connection and other channels go on."""

        class Broken(Recorder):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                raise KeyError("broken")

        near, far = self.pair.channel(raw=True)
        broken = Broken()
        near.attach(broken)
        far.send(b"one")
        far.send(b"two")
        self.far.send(b"fine")
        self.pair.pump()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(broken.data, b"one")
        self.assertIsInstance(broken.reason(), KeyError)
        self.assertEqual(self.failureResultOf(far.receive(), RemoteError).value.type, "KeyError")
        self.assertEqual(self.protocol.data, b"fine")
        self.assertIsNone(self.pair.near.lost)

    def test_raising_connection_lost_harms_nobody(self) -> None:
        """Neither does one that raises when it is told of the end harm anybody."""

        class Broken(Recorder):
            def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
                raise KeyError("broken")

        near, far = self.pair.channel(raw=True)
        near.attach(Broken())
        far.close()
        self.far.send(b"fine")
        self.pair.pump()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(self.protocol.data, b"fine")


class HalfClosing(TransportCase):
    """Closing one direction."""

    protocol: HalfCloseable

    def make_protocol(self) -> HalfCloseable:
        return HalfCloseable()

    def test_half_closeable_protocol_writes_on_after_the_peers_end(self) -> None:
        """The protocol is told that no more comes, and goes on writing until it closes."""
        self.far.send(b"question")
        self.far.send_end()
        self.pair.pump()
        self.assertEqual((self.protocol.data, self.protocol.halves), (b"question", ["read"]))
        self.assertEqual(self.protocol.reasons, [])
        self.transport.write(b"answer")
        self.transport.loseConnection()
        self.assertEqual(self.take(), b"answer")
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)
        self.assertEqual(self.pair.near.mux.streams, {})

    def test_lose_write_connection_goes_behind_waiting_data(self) -> None:
        """``loseWriteConnection`` goes behind what waits for room; reading goes on."""
        self.transport.write(HUGE)
        self.transport.loseWriteConnection()
        self.transport.write(b"too late")
        self.assertEqual(self.protocol.halves, [])
        got = b""
        while len(got) < len(HUGE):
            got += self.take()
        self.assertTrue(got == HUGE)
        self.assertEqual(self.protocol.halves, ["write"])
        self.send(b"answer")
        self.assertEqual(self.protocol.data, b"answer")
        self.assertEqual(self.protocol.reasons, [])
        self.far.close()
        self.pair.pump()
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)

    def test_both_halves_closed_end_the_connection(self) -> None:
        """When both directions are closed, whichever first, it is over."""
        self.transport.loseWriteConnection()
        self.pair.pump()
        self.far.send_end()
        self.pair.pump()
        self.assertEqual(self.protocol.halves, ["write", "read"])
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)
        other = HalfCloseable()
        near, far = self.pair.channel(raw=True)
        near.attach(other)
        far.send_end()
        self.pair.pump()
        other.transport.loseWriteConnection()
        self.pair.pump()
        self.assertEqual(other.halves, ["read", "write"])
        self.assertIsInstance(other.reason(), error.ConnectionDone)
        self.assertEqual(self.pair.near.mux.streams, {})

    def test_paused_protocol_is_told_of_the_half_after_data(self) -> None:
        """A protocol that is paused is told after the data before it."""
        self.transport.pauseProducing()
        self.far.send(b"unread")
        self.far.send_end()
        self.pair.pump()
        self.assertEqual(self.protocol.halves, [])
        self.transport.resumeProducing()
        self.pair.pump()
        self.assertEqual((self.protocol.data, self.protocol.halves), (b"unread", ["read"]))

    def test_close_error_or_loss_after_the_half_is_the_end(self) -> None:
        """After the other end's half, its close, its error or the connection's end is the end."""
        ends: list[tuple[Any, type[Exception]]] = [
            (lambda far: far.close(), error.ConnectionDone),
            (lambda far: far.close("after all"), RemoteError),
            (lambda far: self.pair.lose(), ConnectionLost),
        ]
        for end, reason in ends:
            near, far = self.pair.channel(raw=True)
            half = HalfCloseable()
            near.attach(half)
            far.send_end()
            self.pair.pump()
            self.assertEqual(half.reasons, [])
            end(far)
            self.pair.pump()
            self.assertIsInstance(half.reason(), reason)

    def test_raising_read_connection_lost_loses_its_channel_alone(self) -> None:
        """One that raises when it is told loses its channel, no more."""

        class Broken(HalfCloseable):
            def readConnectionLost(self) -> None:
                raise KeyError("broken")

        near, far = self.pair.channel(raw=True)
        broken = Broken()
        near.attach(broken)
        far.send_end()
        self.pair.pump()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertIsInstance(broken.reason(), KeyError)
        self.assertIsNone(self.pair.near.lost)


class Reading(TransportCase):
    """A protocol that reads slowly."""

    def test_paused_protocol_gets_nothing_and_the_sender_waits(self) -> None:
        """While it is paused, nothing is given to it, and the sender waits."""
        self.transport.pauseProducing()
        sending = self.far.send(HUGE)
        self.pair.pump()
        self.assertEqual(self.protocol.data, b"")
        self.assertNoResult(sending)
        self.transport.resumeProducing()
        self.assertEqual(self.protocol.data, b"")  # never within the call
        self.pair.pump()
        self.assertTrue(self.protocol.data == HUGE)
        self.successResultOf(sending)

    def test_resume_and_pause_at_once_gives_nothing(self) -> None:
        """Resumed and paused again at once, it gets nothing."""
        self.transport.pauseProducing()
        self.send(b"data")
        self.transport.resumeProducing()
        self.transport.resumeProducing()
        self.transport.pauseProducing()
        self.pair.pump()
        self.assertEqual(self.protocol.data, b"")

    def test_pausing_in_data_received_gives_one_piece(self) -> None:
        """Pausing within ``dataReceived`` gives it piece for piece, in order."""

        class Careful(Recorder):
            pieces = 0

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.pieces += 1
                self.transport.pauseProducing()

        near, far = self.pair.channel(raw=True)
        careful = Careful()
        near.attach(careful)
        for number in range(5):
            far.send(b"%d" % number)
        self.pair.pump()
        for pieces in range(1, 6):
            self.assertEqual(careful.pieces, pieces)
            careful.transport.resumeProducing()
            self.pair.pump()
        self.assertEqual(careful.data, b"01234")

    def test_resuming_in_data_received_does_not_nest(self) -> None:
        """Pausing and resuming within ``dataReceived`` doesn't call it within itself."""
        depth: list[int] = []

        class Nervous(Recorder):
            inside = 0

            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                self.inside += 1
                depth.append(self.inside)
                self.transport.pauseProducing()
                self.transport.resumeProducing()
                self.inside -= 1

        near, far = self.pair.channel(raw=True)
        nervous = Nervous()
        near.attach(nervous)
        for number in range(5):
            far.send(b"%d" % number)
        self.pair.pump()
        self.assertEqual((nervous.data, depth), (b"01234", [1] * 5))

    def test_stop_producing_closes_the_channel(self) -> None:
        """Stopping it closes the channel."""
        self.transport.stopProducing()
        self.pair.pump()
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)


class Writing(TransportCase):
    """Producers that write to it."""

    def setUp(self) -> None:
        super().setUp()
        self.producer = Producer()

    def test_push_producer_is_paused_and_resumed(self) -> None:
        """A push producer is paused when too much waits, and resumed when all is written."""
        self.transport.registerProducer(self.producer, True)
        self.transport.write(HUGE)
        self.assertEqual(self.producer.calls, ["pause"])
        self.transport.write(b"more")
        self.assertEqual(self.producer.calls, ["pause"])
        got = b""
        while len(got) < len(HUGE) + 4:
            got += self.take()
        self.assertEqual(self.producer.calls, ["pause", "resume"])
        self.transport.write(bytes(HIGH_WATER))
        self.pair.pump()
        self.assertEqual(self.producer.calls, ["pause", "resume"])

    def test_second_producer_is_refused(self) -> None:
        """There is one producer at a time."""
        self.transport.registerProducer(self.producer, True)
        with self.assertRaises(RuntimeError):
            self.transport.registerProducer(Producer(), True)
        self.transport.unregisterProducer()
        self.transport.registerProducer(Producer(), True)

    def test_pull_producer_is_asked_until_done(self) -> None:
        """A pull producer is asked again and again, whether or not there is room at once."""
        sender = FileSender()
        done = sender.beginFileTransfer(io.BytesIO(HUGE), self.transport)
        got = b""
        while len(got) < len(HUGE):
            piece = self.take()
            self.assertTrue(piece)
            got += piece
        self.pair.pump()
        self.successResultOf(done)
        self.assertTrue(got == HUGE)
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])

    def test_pull_producer_is_not_asked_while_data_waits(self) -> None:
        """It is not asked while what it wrote waits for room."""
        transport = self.transport

        class Writer(Producer):
            def resumeProducing(self) -> None:
                super().resumeProducing()
                transport.write(bytes(600_000))

        writer = Writer()
        transport.registerProducer(writer, False)
        for _ in range(10):
            self.pair.turn()
            self.pair.to_far()
        self.assertEqual(writer.calls, ["resume", "resume"])
        self.take()
        self.take()
        self.assertGreater(len(writer.calls), 2)
        transport.unregisterProducer()
        self.take()

    def test_registered_producer_keeps_the_channel_open(self) -> None:
        """A registered producer keeps the channel open until it unregisters."""
        self.transport.registerProducer(self.producer, True)
        self.transport.loseConnection()
        self.pair.pump()
        self.assertFalse(self.far.isclosed())
        self.transport.unregisterProducer()
        self.pair.pump()
        self.assertTrue(self.far.isclosed())
        self.assertEqual(self.producer.calls, [])

    def test_producer_is_stopped_when_the_channel_ends(self) -> None:
        """When the channel ends, the producer is stopped, and not resumed."""
        self.transport.registerProducer(self.producer, True)
        self.transport.write(HUGE)
        self.far.close()
        self.pair.pump()
        self.assertEqual(self.producer.calls, ["pause", "stop"])
        late = Producer()
        self.transport.registerProducer(late, True)
        self.assertEqual(late.calls, ["stop"])

    def test_raising_producer_does_not_keep_the_end_back(self) -> None:
        """A producer that raises when it is stopped does not keep the protocol from being told."""

        class Broken(Producer):
            def stopProducing(self) -> None:
                raise KeyError("broken")

        self.transport.registerProducer(Broken(), True)
        self.far.close()
        self.pair.pump()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertIsInstance(self.protocol.reason(), error.ConnectionDone)

    def test_joined_channels_pass_back_pressure_on(self) -> None:
        """Two channels joined as producer and consumer pass the back pressure on."""
        in_near, in_far = self.pair.channel(raw=True)

        class Forward(Recorder):
            def __init__(self, target: Any) -> None:
                super().__init__()
                self.target = target

            def connectionMade(self) -> None:
                self.target.registerProducer(self.transport, True)

            def dataReceived(self, data: bytes) -> None:
                self.target.write(data)

            def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
                self.target.unregisterProducer()
                self.target.loseConnection()

        in_near.attach(Forward(self.transport))
        data = HUGE * 2
        sending = in_far.send(data)
        self.pair.pump()
        self.assertNoResult(sending)  # two windows are full
        got = b""
        while len(got) < len(data):
            piece = self.take()
            self.assertTrue(piece)
            got += piece
        self.successResultOf(sending)
        self.assertTrue(got == data)
        in_far.close()
        self.pair.pump()
        self.assertTrue(self.far.isclosed())


@collects
class Holding(PairCase):
    """What keeps a channel with a protocol."""

    def test_attached_protocol_keeps_the_channel_open(self) -> None:
        """The protocol keeps it open, whether or not anybody holds the channel."""
        near, far = self.pair.channel(raw=True)
        recorder = Recorder()
        near.attach(recorder)
        del near
        self.pair.kept = [far]
        gc.collect()
        self.pair.pump()
        far.send(b"data")
        self.pair.pump()
        self.assertEqual(recorder.data, b"data")
        self.assertEqual(recorder.reasons, [])
