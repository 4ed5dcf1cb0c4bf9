"""A thread that asks and waits for the answer writes and reads the pipe itself; nothing is lost."""

from __future__ import annotations

import functools
import os
from typing import Any

from pycomnet.execnet.channel import Channel
from pycomnet.execnet.reactorbypass import CHECK_INTERVAL, RESERVE, SHORT
from pycomnet.gateways.transports import pipes
from pycomnet.test.execnet.reactorbypasscase import SOON, BypassCase, Threads
from pycomnet.wire.frames import CREDIT, WINDOW, pack


class BypassTests(BypassCase):
    """:class:`pycomnet.execnet.reactorbypass.ReactorBypass`, between two pipes."""

    # -- it is lent, and taken back --------------------------------------------------------------

    def test_a_round_trip_needs_no_turn_of_the_reactor(self) -> None:
        """Once it has been seen that answers are waited for."""
        self.lend()

        def trips() -> list[Any]:
            got = []
            for number in range(50):
                self.channel.send(number)
                got.append(self.channel.receive(SOON))
            return got

        self.assertEqual(self.user(trips), list(range(50)))
        self.assertEqual(self.reactor.from_threads, [])

    def test_it_is_not_lent_to_a_thread_that_does_not_wait(self) -> None:
        """An answer that has come before it is asked for shows nothing."""
        for number in range(10):
            self.threads.run(functools.partial(self.channel.send, number))
            self.turn()
            self.turn()
            self.assertEqual(self.threads.run(self.channel.receive), [number])
        self.assertIs(self.bypass.core, None)

    def test_it_is_taken_back_when_nobody_uses_it(self) -> None:
        """So what comes later wakes the reactor, which learns of the end, too."""
        self.lend()
        self.reactor.advance(CHECK_INTERVAL)
        self.reactor.advance(CHECK_INTERVAL)
        self.assertIs(self.bypass.core, None)
        self.far.send(self.far_stream(), b"\x07")
        self.far_write()
        self.turn()
        self.assertEqual(self.threads.run(self.channel.receive), [7])

    def test_it_stays_while_it_is_used(self) -> None:
        """A tick only takes note."""
        self.lend()
        for number in range(5):
            self.user(functools.partial(self.channel.send, number))
            self.assertEqual(self.user(lambda: self.channel.receive(SOON)), number)
            self.reactor.advance(CHECK_INTERVAL)
            self.assertIs(self.bypass.core, self.core)

    def test_it_is_not_lent_while_a_channel_has_a_callback(self) -> None:
        """What comes for that would come late."""
        other = self.open()
        self.threads.run(lambda: other._inbox.set_callback(lambda _: None, None, self.in_reactor))
        for number in range(10):
            self.assertEqual(self.ask(number), number)
        self.assertIs(self.bypass.core, None)

    def test_a_thread_that_waits_elsewhere_lets_the_reactor_read(self) -> None:
        """On another channel, or for the end of one."""
        other = self.open()
        self.lend()
        self.far.send(self.far_stream(other), b"\x05")
        self.far_write()
        self.assertEqual(self.threads.run(lambda: other.receive(SOON)), [5])
        self.assertIs(self.bypass.core, None)
        self.lend()
        self.far.close(self.far_stream(other), 0)
        self.far_write()
        self.assertEqual(self.threads.run(lambda: other.waitclose(SOON)), [None])
        self.assertIs(self.bypass.core, None)

    def test_two_threads_on_one_channel_get_all(self) -> None:
        """Each value once."""
        self.lend()

        def trips(first: int) -> list[Any]:
            got = []
            for number in range(first, first + 200):
                self.channel.send(number)
                got.append(self.channel.receive(SOON))
            return got

        one, two = self.threads.run(lambda: trips(0), lambda: trips(1000))
        self.assertEqual(sorted(one + two), [*range(200), *range(1000, 1200)])

    def test_threads_on_several_channels_get_their_own(self) -> None:
        """In their order."""
        channels = [self.open() for _ in range(3)]

        def trips(channel: Channel) -> bool:
            for number in range(200):
                channel.send([channel.id, number])
                if channel.receive(SOON) != [channel.id, number]:
                    return False
            return True

        done = self.threads.run(*(lambda each=each: trips(each) for each in channels))
        self.assertEqual(done, [True] * 3)

    # -- what is not for the thread --------------------------------------------------------------

    def test_what_is_not_one_short_answer_goes_to_the_reactor_in_order(self) -> None:
        """Two values at once, long ones, those with extensions in them, and parts of a value."""
        encode = self.connection.encode
        for values in (
            [1, 2],
            ["x" * 2 * SHORT],
            [(1, 2)],
            [{3}],
            [0.1],
            ["\u0628"],
            [[1.5]],
            [b"x"],
        ):
            self.lend()
            self.answer = functools.partial(self.send_all, [encode(value) for value in values])
            self.threads.run(lambda: self.channel.send(None))
            got = [self.threads.run(lambda: self.channel.receive(SOON))[0] for _ in values]
            self.assertEqual(got, values)
            self.answer = self.echo

    def test_a_value_in_parts_arrives(self) -> None:
        """A thread reads its beginning, the reactor the rest."""
        for cut in (1, 5, 9, 10):
            self.lend()
            self.answer = self.silent
            self.threads.run(lambda: self.channel.send("ask"))
            frame = self.frame(b"\xa5hello")
            os.write(self.far_out, frame[:cut])
            self.assertIsInstance(
                self.threads.run(lambda: self.channel.receive(0.05))[0], Channel.TimeoutError
            )
            os.write(self.far_out, frame[cut:])
            self.assertEqual(self.threads.run(lambda: self.channel.receive(SOON)), ["hello"])
            self.answer = self.echo

    def frame(self, payload: bytes) -> bytes:
        """A value's frame, from the far side."""
        self.far.send(self.far_stream(), payload)
        return bytes(self.far.data_to_send())

    def test_what_comes_for_another_channel_first_is_kept_for_it(self) -> None:
        """And the answer behind it is received."""
        other = self.open()
        self.lend()

        def both(stream: Any, payload: bytes) -> None:
            self.far.send(self.far_stream(other), b"\x09")
            self.far.send(stream, bytes(payload))

        self.answer = both
        self.assertEqual(self.ask(3), 3)
        self.assertEqual(self.threads.run(other.receive), [9])

    def test_an_error_of_the_far_side_is_raised(self) -> None:
        """Where an answer is waited for."""
        self.lend()
        error = self.connection.encode({"type": "ValueError", "message": "why", "formatted": "why"})
        self.answer = lambda stream, _: self.far.close(stream, 1, error)
        self.assertIsInstance(self.ask(1), Channel.RemoteError)

    def test_bad_bytes_end_the_connection(self) -> None:
        """As they do when the reactor reads them."""
        self.lend()
        self.answer = functools.partial(self.send_all, [b"\xa5x"])
        self.assertIsInstance(self.ask(1), EOFError)

    def test_the_end_of_the_far_side_is_the_end(self) -> None:
        """For who waits, and for who sends later."""
        self.lend()
        os.close(self.far_out)
        self.far_out = -1
        self.assertIsInstance(self.ask(1), EOFError)
        self.assertIsInstance(self.ask(1), OSError)

    def test_a_loss_here_ends_the_wait(self) -> None:
        """The descriptors are closed, and not used any more."""
        self.lend()
        self.answer = self.silent
        waiting = lambda: self.channel.receive(SOON)  # noqa: E731
        self.threads.run(lambda: self.channel.send(1))
        self.reactor.callFromThread(self.transport.abortConnection)
        self.assertIsInstance(self.threads.run(waiting)[0], EOFError)
        self.assertFalse(self.transport.write_short(b"x"))
        self.assertEqual(self.transport.read_lent(), b"")

    # -- order and credit ------------------------------------------------------------------------

    def test_what_is_sent_keeps_its_order(self) -> None:
        """Whether it goes past the reactor or not."""
        self.lend()
        self.came.clear()

        def answer_the_last(stream: Any, payload: bytes) -> None:
            if payload == b"\x63":
                self.echo(stream, payload)

        self.answer = answer_the_last

        def send() -> Any:
            for number in range(99):
                self.channel.send(number)
            self.channel.send(99)
            return self.channel.receive(SOON)

        self.assertEqual(self.threads.run(send), [99])
        self.assertEqual(self.came, [bytes([number]) for number in range(100)])

    def test_nothing_overtakes_what_the_pipe_did_not_take(self) -> None:
        """A pipe that is full has a part of a value in it."""
        self.patch(pipes, "_grow_pipe", lambda fd: False)
        self.lend()
        self.came.clear()
        long = [b"x" * 65000 for _ in range(12)]
        turns = Threads(self.reactor.turn)  # the far side does not read
        turns.run(lambda: [self.channel.send(value) for value in long])
        turns.run(lambda: self.channel.send(1))
        self.reactor.turn()
        self.assertFalse(self.transport.write_short(b"x"))
        self.answer = self.silent
        for _ in range(100):
            self.far_turn()
            self.reactor.turn()
        self.assertEqual([len(value) for value in self.came], [65003] * 12 + [1])

    def test_nothing_is_sent_after_a_close(self) -> None:
        """Of another thread, or of the other end."""
        self.lend()
        self.threads.run(self.channel.close)
        self.turn()
        self.assertEqual(self.closed, [self.channel.id])
        self.assertFalse(self.bypass.send(self.core, b"\x01"))
        self.assertIsInstance(self.threads.run(lambda: self.channel.send(1))[0], OSError)
        self.assertIs(self.far.failed, None)

    def test_the_credit_comes_out_even(self) -> None:
        """Both ends' windows are whole again, whoever has written and read."""
        self.lend()

        def trips() -> None:
            for _ in range(300):
                self.channel.send("y" * 1000)
                self.channel.receive(SOON)

        for _ in range(20):
            self.threads.run(trips)
            self.reactor.advance(CHECK_INTERVAL)
        self.reactor.advance(CHECK_INTERVAL)
        self.reactor.advance(CHECK_INTERVAL)
        self.turn()
        self.turn()
        near, far = self.core.stream, self.far_stream()
        self.assertEqual(near.credit, far.window)
        self.assertEqual(far.credit, near.window)
        self.assertEqual(near.window + near.unacked, WINDOW)
        self.assertEqual(far.window + far.unacked, WINDOW)

    def test_what_waits_for_set_aside_credit_is_sent_when_it_comes_back(self) -> None:
        """The far side gives no more, as it has taken nothing."""
        self.lend()
        self.answer = self.silent
        self.far.consumed = lambda stream, cost: None
        self.core.stream.credit = RESERVE // 4
        self.came.clear()
        self.threads.run(lambda: self.channel.send(b"z" * (RESERVE // 2)))
        self.turn()
        self.assertEqual(self.came, [])
        self.reactor.advance(CHECK_INTERVAL)
        self.reactor.advance(CHECK_INTERVAL)
        self.turn()
        self.assertEqual([len(value) for value in self.came], [RESERVE // 2])

    def test_a_peer_that_overruns_its_window_is_refused(self) -> None:
        """What a thread takes itself counts as well."""
        self.lend()
        stream = self.core.stream
        stream.window = 100
        self.assertEqual(self.ask("x" * 200), "x" * 200)
        self.reactor.advance(CHECK_INTERVAL)
        self.reactor.advance(CHECK_INTERVAL)
        self.reactor.advance(CHECK_INTERVAL)
        os.write(self.far_out, pack(1, 1, stream.id) + b"\x01")
        self.turn()
        self.assertIsNot(self.connection.mux.failed, None)
        self.assertNotIn(CREDIT, self.came)

    def test_what_waits_for_set_aside_credit_is_sent_before_the_end(self) -> None:
        """Also if the channel was closed meanwhile."""
        self.lend()
        self.far.consumed = lambda stream, cost: None
        self.answer = self.silent
        self.core.stream.credit = RESERVE // 4
        self.came.clear()
        self.threads.run(lambda: self.channel.send(b"z" * (RESERVE // 2)), self.channel.close)
        self.turn()
        self.assertEqual((self.came, self.closed), ([], []))
        self.reactor.advance(CHECK_INTERVAL)
        self.reactor.advance(CHECK_INTERVAL)
        self.turn()
        self.assertEqual([len(value) for value in self.came], [RESERVE // 2])
        self.assertEqual(self.closed, [self.channel.id])

    def test_it_is_not_lent_to_a_thread_that_uses_two_channels_in_turn(self) -> None:
        """It would be taken back all the time."""
        other = self.open()
        for number in range(20):
            for channel in (self.channel, other):
                self.assertEqual(self.ask(number, channel), number)
                self.assertIs(self.bypass.core, None)
        self.lend()

    def test_it_is_not_lent_and_not_read_when_the_connection_is_being_closed(self) -> None:
        """What comes then is not for anybody."""
        self.lend()
        self.transport.loseConnection()
        self.bypass.take_back()
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertFalse(self.transport.lend())

    def test_what_ends_the_connection_ends_the_reading(self) -> None:
        """A thread has read it; nothing behind it is given to the protocol any more."""
        self.lend()
        got: list[bytes] = []

        def end(data: bytes) -> None:
            got.append(data)
            self.transport.abortConnection()

        self.connection.dataReceived = end  # type: ignore[method-assign]
        os.write(self.far_out, b"first")
        with self.transport.reading.held:
            self.assertEqual(self.transport.read_lent(), b"first")
        os.write(self.far_out, b"second")
        self.reactor.running = True  # it closes descriptors after the turn
        self.transport.read_rest()
        self.assertEqual(got, [b"first"])

    def test_what_the_system_may_write_in_part_is_not_written(self) -> None:
        """A pipe takes so many bytes as a whole."""
        self.assertFalse(self.transport.write_short(b"x" * (pipes.SHORT + 1)))
        self.assertRaises(BlockingIOError, os.read, self.far_in, 1)

    def test_a_value_that_the_reactor_has_got_meanwhile_is_not_used_twice(self) -> None:
        """A thread has read it, and has not said yet that it uses it."""
        self.lend()
        self.answer = self.silent
        self.user(lambda: self.channel.send("ask"))
        decode = self.connection.decode

        def decode_late(payload: bytes) -> Any:
            self.connection.decode = decode
            self.bypass.take_back()
            return decode(payload)

        self.connection.decode = decode_late
        os.write(self.far_out, self.frame(b"\x05"))
        self.assertEqual(self.user(lambda: self.channel.receive(SOON)), 5)
        self.assertTrue(self.channel._inbox.queue.empty())
        self.answer = self.echo
        self.assertEqual(self.ask(6), 6)
