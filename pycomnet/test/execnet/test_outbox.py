"""What threads send is handed over in its order, and others are served meanwhile."""

from __future__ import annotations

import gc
import types
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pycomnet.execnet.callbackthread import CallbackThread
from pycomnet.execnet.channel import Channel as DropInChannel
from pycomnet.execnet.inbox import Inbox
from pycomnet.execnet.outbox import MOST_PER_TURN, Outbox
from pycomnet.test.garbage import collects
from pycomnet.test.kit import PairCase


@implementer(IReactorFromThreads)
class Reactor(Clock):
    """Keeps what is to be called."""

    def __init__(self) -> None:
        super().__init__()
        #: what threads want to have called
        self.given: list[Callable[[], object]] = []

    def callFromThread(self, function: Callable[[], object]) -> None:  # type: ignore[override]
        """Keep it."""
        self.given.append(function)

    def turn(self) -> None:
        """Call what is there, as a reactor does in one turn."""
        calls, self.given = self.given, []
        for function in calls:
            function()


class SendingCore:
    """The connection's part of a channel.

    :param sent: what has been sent.
    """

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.connection = self
        self.mux = self
        self.stream = self
        self.hook = self.options = None

    def pack(self, value: object, hook: object, options: object) -> object:
        """Encode a value: here as itself."""
        return value

    def send_together(self, send: Callable[[], object]) -> None:
        """Nothing else writes."""
        send()

    def send_now(self, stream: object, payload: object) -> int:
        """It can't."""
        return 0

    def send(self, payload: object, prefix: bytes = b"") -> defer.Deferred[None]:
        """Note what is sent."""
        self.sent.append(payload)
        return defer.succeed(None)


class OutboxTests(SynchronousTestCase):
    """:class:`Outbox`."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        core: Any = SendingCore()
        self.core = core
        self.outbox = Outbox(self.reactor, core)

    def test_the_reactor_is_woken_once_for_all_that_waits(self) -> None:
        """Values and functions, in their order."""
        self.outbox.send(self.core, 1)
        self.outbox.put(self.core, lambda: self.core.sent.append("called"))
        self.outbox.send(self.core, 2)
        self.assertEqual(len(self.reactor.given), 1)
        self.reactor.turn()
        self.assertEqual(self.core.sent, [1, "called", 2])
        self.outbox.send(self.core, 3)
        self.reactor.turn()
        self.assertEqual(self.core.sent[3:], [3])

    def test_a_thread_that_sends_continuously_does_not_block_the_reactor(self) -> None:
        """A turn ends, and the rest follows in the next ones."""
        send = self.core.send

        def send_and_more(payload: int, prefix: bytes = b"") -> defer.Deferred[None]:
            if payload < 3 * MOST_PER_TURN:
                self.outbox.send(self.core, payload + 1)
            result: defer.Deferred[None] = send(payload)
            return result

        self.core.send = send_and_more
        self.outbox.send(self.core, 0)
        self.reactor.turn()
        self.assertEqual(self.core.sent, [0])
        turns = 0
        while self.reactor.given:
            self.reactor.turn()
            turns += 1
        self.assertEqual(self.core.sent, list(range(3 * MOST_PER_TURN + 1)))
        self.assertEqual(turns, 3 * MOST_PER_TURN)

    def test_a_turn_sends_a_limited_number_of_values(self) -> None:
        """However much waits."""
        for value in range(MOST_PER_TURN + 1):
            self.outbox.send(self.core, value)
        self.reactor.turn()
        self.assertEqual(len(self.core.sent), MOST_PER_TURN)
        self.reactor.turn()
        self.assertEqual(len(self.core.sent), MOST_PER_TURN + 1)
        self.assertEqual(self.reactor.given, [])

    def test_what_was_sent_before_can_be_sent_now(self) -> None:
        """Before a request of the same thread; nothing is sent twice."""
        self.outbox.send(self.core, 1)
        self.outbox.flush()
        self.assertEqual(self.core.sent, [1])
        self.reactor.turn()
        self.assertEqual(self.core.sent, [1])

    def test_after_an_interrupt_the_next_value_wakes_the_reactor(self) -> None:
        """A Ctrl-C while it was being told: what waits is not forgotten."""
        tell = self.reactor.callFromThread

        def interrupted(function: object) -> None:
            self.outbox._call_in_reactor = tell
            raise KeyboardInterrupt

        self.outbox._call_in_reactor = interrupted
        with self.assertRaises(KeyboardInterrupt):
            self.outbox.send(self.core, 1)
        self.outbox.send(self.core, 2)
        self.reactor.turn()
        self.assertEqual(self.core.sent, [1, 2])

    def test_a_value_that_can_not_be_sent_does_not_stop_the_others(self) -> None:
        """Not even at the limit of memory."""
        send = self.core.send

        def no_memory(payload: object, prefix: bytes = b"") -> defer.Deferred[None]:
            self.core.send = send
            raise MemoryError

        self.core.send = no_memory
        for value in (1, 2):
            self.outbox.send(self.core, value)
        self.reactor.turn()
        self.assertEqual(self.core.sent, [2])
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)


class TogetherTests(PairCase):
    """A hand-over writes once, and needs no further turn."""

    def test_values_are_written_at_once_and_in_their_order(self) -> None:
        """Also if a long one is before a short one."""
        near, far = self.pair.channel()
        reactor = Reactor()
        outbox = Outbox(reactor, self.pair.near)
        writes: list[object] = []
        write = self.pair.near._write
        self.pair.near._write = lambda parts: (writes.append(parts), write(parts))[1]  # type: ignore[method-assign]
        values = [1, "x" * 100000, 2, b"y" * 200000, 3]
        for value in values[:1] + values[2:3]:
            outbox.send(near.core, value)
        reactor.turn()
        self.assertEqual(len(writes), 1)
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])
        for value in values:
            outbox.send(near.core, value)
        reactor.turn()
        self.pair.pump()
        self.assertEqual(self.receive_all(far), [1, 2, *values])

    def test_a_lost_connection_is_no_error_of_the_hand_over(self) -> None:
        """What is sent then is dropped, and nothing is written later."""
        near, _ = self.pair.channel()
        reactor = Reactor()
        outbox = Outbox(reactor, self.pair.near)
        self.pair.lose()
        outbox.send(near.core, 1)
        reactor.turn()
        self.assertTrue(self.pair.near.corked)


@collects
class HandleTests(PairCase):
    """A channel that nobody held comes back."""

    def test_a_dropped_channel_that_comes_back_goes_on(self) -> None:
        """In a value from the far side; the connection and its other channels go on, too."""
        near, far = self.pair.channel()
        carrier, far_carrier = self.pair.channel()
        gateway: Any = types.SimpleNamespace(era=0, is_connected=lambda: False)
        gateway.outbox = Outbox(Reactor(), self.pair.near)
        thread = CallbackThread("test")
        gateway.inbox = lambda: Inbox(thread)
        owner = Owner(gateway)
        self.pair.near.make_handle = lambda core: DropInChannel.of(owner, core)  # type: ignore[arg-type]
        core = near.core
        first = DropInChannel.of(owner, core)  # type: ignore[arg-type]
        far.send(1)
        self.pair.pump()
        del first
        gc.collect()
        self.assertFalse(core.is_held())
        far_carrier.send(far)
        self.pair.pump()
        found = self.receive_now(carrier)
        self.assertIsInstance(found, DropInChannel)
        far.send(2)
        self.pair.pump()
        self.assertEqual([found.receive(0), found.receive(0)], [1, 2])
        self.assertIsNone(self.pair.near.lost)

    def test_one_that_has_ended_comes_back_as_ended(self) -> None:
        """It is closed for receiving, and still open for sending."""
        near, far = self.pair.channel()
        owner = Owner(types.SimpleNamespace(era=0, is_connected=lambda: False))
        owner.inbox = lambda: Inbox(CallbackThread("test"))  # type: ignore[attr-defined]
        owner.outbox = Outbox(Reactor(), self.pair.near)  # type: ignore[attr-defined]
        far.core.end()
        self.pair.pump()
        for _ in range(2):
            channel = DropInChannel.of(owner, near.core)  # type: ignore[arg-type]
            with self.assertRaises(EOFError):
                channel.receive(0)
            del channel
            gc.collect()


class Owner:
    """The gateway of a channel, of which finalizers have weak references."""

    def __init__(self, given: Any) -> None:
        self.__dict__.update(given.__dict__)
