"""A thread that asks and waits for the answer writes and reads the pipe itself; nothing is lost."""

from __future__ import annotations

import functools
import linecache
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.channels.connection import Connection
from pycomnet.channels.core import ChannelCore
from pycomnet.execnet import bypass as bypass_module
from pycomnet.execnet.bypass import ROOM, SHORT, TICK
from pycomnet.execnet.callbackthread import CallbackThread
from pycomnet.execnet.channel import Channel
from pycomnet.execnet.inbox import Inbox
from pycomnet.execnet.outbox import Outbox
from pycomnet.gateways.transports import pipes
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.wire.frames import CREDIT, WINDOW, pack
from pycomnet.wire.mux import EV_CLOSED, EV_DATA, EV_OPENED, EV_RUN, Mux

#: Seconds for what comes at once.
SOON = 10.0
#: Seconds for which a thread reads itself here.
PATIENCE = 2.0
#: The modules in which a thread may be interrupted.
INTERRUPTED = {bypass_module.__file__, pipes.__file__}


def is_block(frame: Any) -> bool:
    """Whether it enters or leaves a block: there Python does not look for signals."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return line.startswith("with ") or line == "try:"


class Reactor(MemoryReactorClock):
    """Is turned by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: list[Callable[[], object]] = []

    def callFromThread(self, call: Callable[..., Any], *args: object) -> None:
        """Keep it for the next turn."""
        self.from_threads.append(lambda: call(*args))

    def turn(self) -> None:
        """Do what is to be done now."""
        calls, self.from_threads = self.from_threads, []
        for call in calls:
            call()
        self.advance(0)
        for reader in list(self.readers):
            if select.select([reader], [], [], 0)[0]:
                self._done(reader, reader.doRead())
        for writer in list(self.writers):
            if select.select([], [writer], [], 0)[1]:
                self._done(writer, writer.doWrite())

    def _done(self, descriptor: Any, why: Any) -> None:
        if why is not None:
            self.removeReader(descriptor)
            self.removeWriter(descriptor)
            descriptor.connectionLost(Failure(why))


class Gateway:
    """What channels need of one."""

    era = -1

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.callbacks = CallbackThread("test")

    def is_connected(self) -> bool:
        """Whether it is not lost."""
        return True

    def inbox(self) -> Inbox:
        """What takes all that comes over one channel."""
        return Inbox(self.callbacks)


class Threads:
    """Runs functions in threads, while the reactor turns and the far side answers."""

    def __init__(self, turn: Callable[[], None]) -> None:
        self._turn = turn

    def run(self, *functions: Callable[[], Any]) -> list[Any]:
        """What they return, or the errors that they raise."""
        results: list[Any] = [None] * len(functions)

        def run(number: int, function: Callable[[], Any]) -> None:
            try:
                results[number] = function()
            except BaseException as problem:
                results[number] = problem

        threads = [
            threading.Thread(target=run, args=arguments, daemon=True)
            for arguments in enumerate(functions)
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + SOON
        for thread in threads:
            while thread.is_alive():
                if time.monotonic() > end:
                    raise AssertionError("a thread waits for ever")
                self._turn()
                thread.join(0.0002)
        return results


class BypassTests(SynchronousTestCase):
    """:class:`pycomnet.execnet.bypass.Bypass`, between two pipes."""

    def setUp(self) -> None:
        # The far side here may get its turn late, when the machine is busy.
        self.patch(bypass_module, "PATIENCE", PATIENCE)
        self.far_in, near_out = os.pipe()
        near_in, self.far_out = os.pipe()
        os.set_blocking(self.far_in, False)
        self.reactor = reactor = Reactor()
        untyped: Any = reactor
        self.connection = Connection(untyped)
        self.transport = ProcessTransport(near_out, near_in, self.connection, untyped)
        self.addCleanup(self.close)
        self.far = Mux(False)
        #: what the far side got
        self.came: list[bytes] = []
        self.closed: list[int] = []
        #: how it answers a value: with bytes for the pipe
        self.answer: Callable[[Any, bytes], None] = self.echo
        self.outbox = Outbox(untyped, self.connection)
        self.bypass = self.outbox.bypass
        self.gateway: Any = Gateway(self.outbox)
        for _ in range(3):
            self.turn()  # the hellos
        self.channel = self.open()
        self.core: ChannelCore = self.channel.core
        self.threads = Threads(self.turn)

    def close(self) -> None:
        """Close the pipes."""
        self.transport.abortConnection()
        self.reactor.advance(0)
        for fd in (self.far_in, self.far_out):
            if fd >= 0:
                os.close(fd)

    def open(self) -> Channel:
        """Open a channel."""
        channel = Channel.of(self.gateway, self.connection.open("channel"))
        self.turn()
        return channel

    def turn(self) -> None:
        """Both ends do what there is to do."""
        self.reactor.turn()
        self.far_turn()

    def far_turn(self) -> None:
        """The far side does."""
        try:
            data = os.read(self.far_in, 1 << 20)
        except OSError:
            data = b""
        for event in self.far.receive_data(data) if data else ():
            if event[0] == EV_OPENED:
                continue
            if event[0] in (EV_DATA, EV_RUN):
                payloads: Any = [event[2]] if event[0] == EV_DATA else event[2]
                self.far.consumed(event[1], event[3])
                for payload in payloads:
                    self.came.append(payload)
                    self.answer(event[1], payload)
            elif event[0] == EV_CLOSED:
                self.closed.append(event[1].id)
        self.far_write()

    def far_write(self) -> None:
        """The far side writes what it has to."""
        data = self.far.data_to_send()
        if data and self.far_out >= 0:
            os.write(self.far_out, data)

    def echo(self, stream: Any, payload: bytes) -> None:
        """Answer with the same."""
        self.far.send(stream, bytes(payload))

    def send_all(self, payloads: list[bytes], stream: Any, _: bytes) -> None:
        """Answer with several values."""
        for payload in payloads:
            self.far.send(stream, payload)

    def silent(self, stream: Any, payload: bytes) -> None:
        """Do not answer."""

    def far_stream(self, channel: Channel | None = None) -> Any:
        """The far side's end of a channel."""
        return self.far.streams[(channel or self.channel).id]

    def ask(self, value: object, channel: Channel | None = None) -> Any:
        """In a thread: send a value, and return the answer."""
        channel = channel or self.channel

        def do() -> Any:
            channel.send(value)
            return channel.receive(SOON)

        return self.threads.run(do)[0]

    def lend(self) -> None:
        """Let it be lent to the channel's thread."""
        for number in range(1000):
            self.assertEqual(self.ask(number), number)
            if self.bypass.core is self.core:
                return
        self.fail("it is not lent")

    def user(self, function: Callable[[], Any]) -> Any:
        """What a thread returns, or raises, while the reactor stands still and the far end goes."""
        return Threads(self.far_turn).run(function)[0]

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

    def test_it_is_not_lent_to_who_does_not_wait(self) -> None:
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
        self.reactor.advance(TICK)
        self.reactor.advance(TICK)
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
            self.reactor.advance(TICK)
            self.assertIs(self.bypass.core, self.core)

    def test_it_is_not_lent_while_a_channel_has_a_callback(self) -> None:
        """What comes for that would come late."""
        other = self.open()
        self.threads.run(lambda: other._inbox.set_callback(print, None, self.in_reactor))
        for number in range(10):
            self.assertEqual(self.ask(number), number)
        self.assertIs(self.bypass.core, None)

    def in_reactor(self, function: Callable[[], list[Any]]) -> list[Any]:
        """Call a function in the reactor's thread."""
        found: list[list[Any]] = []
        done = threading.Event()

        def call() -> None:
            found.append(function())
            done.set()

        self.reactor.callFromThread(call)
        done.wait(SOON)
        return found[0]

    def test_who_waits_elsewhere_gets_the_reactor_to_read(self) -> None:
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
            self.reactor.advance(TICK)
        self.reactor.advance(TICK)
        self.reactor.advance(TICK)
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
        self.core.stream.credit = ROOM // 4
        self.came.clear()
        self.threads.run(lambda: self.channel.send(b"z" * (ROOM // 2)))
        self.turn()
        self.assertEqual(self.came, [])
        self.reactor.advance(TICK)
        self.reactor.advance(TICK)
        self.turn()
        self.assertEqual([len(value) for value in self.came], [ROOM // 2])

    def test_a_peer_that_overruns_its_window_is_refused(self) -> None:
        """What a thread takes itself counts as well."""
        self.lend()
        stream = self.core.stream
        stream.window = 100
        self.assertEqual(self.ask("x" * 200), "x" * 200)
        self.reactor.advance(TICK)
        self.reactor.advance(TICK)
        self.reactor.advance(TICK)
        os.write(self.far_out, pack(1, 1, stream.id) + b"\x01")
        self.turn()
        self.assertIsNot(self.connection.mux.failed, None)
        self.assertNotIn(CREDIT, self.came)

    # -- Ctrl-C ----------------------------------------------------------------------------------

    def test_an_interrupt_anywhere_loses_nothing(self) -> None:
        """A thread that is interrupted in any line of a round trip can go on."""
        for line in range(1, 400):
            self.lend()
            trip = InterruptedTrip(self.channel, line)
            [outcome] = self.threads.run(trip.run)
            if outcome is None:
                self.assertGreater(line, 30)
                return
            self.assertIsInstance(outcome, KeyboardInterrupt)
            self.assertEqual(self.threads.run(trip.rest), [None], trip.where)
            self.assertIn(trip.got, ([1, "last"], ["last"]), trip.where)
            if trip.got == ["last"] and trip.sent:
                # As a queue's get, which may be interrupted when it has taken the value.
                self.assertIn("in drop_lent or after it", trip.where)
            self.reactor.advance(TICK)
            self.reactor.advance(TICK)
        self.fail("a round trip has no end")


class InterruptedTrip:
    """A round trip, in which a thread gets a KeyboardInterrupt.

    :param line: in which line of this package's code, as they are executed.
    :ivar where: the line.
    :ivar sent: whether ``send`` returned.
    :ivar got: what came.
    """

    def __init__(self, channel: Channel, line: int) -> None:
        self._channel = channel
        self._left = line
        self._dropped = False
        self.where = ""
        self.sent = False
        self.got: list[object] = []

    def run(self) -> None:
        """Do it."""
        sys.settrace(self._trace)
        try:
            self._channel.send(1)
            self.sent = True
            self.got.append(self._channel.receive(SOON))
        finally:
            sys.settrace(None)

    def _trace(self, frame: Any, event: str, argument: object) -> Any:
        code = frame.f_code
        if code.co_filename not in INTERRUPTED:
            return None
        if event == "call" and code.co_name == "drop_lent":
            self._dropped = True
        if event == "line" and not is_block(frame):
            self._left -= 1
            if not self._left:
                sys.settrace(None)
                self.where = f"{code.co_filename}:{frame.f_lineno}"
                if self._dropped:
                    self.where += " in drop_lent or after it"
                raise KeyboardInterrupt
        return self._trace

    def rest(self) -> None:
        """Another one; all that comes up to its answer is received."""
        self._channel.send("last")
        while self.got[-1:] != ["last"]:
            self.got.append(self._channel.receive(SOON))
