"""What threads send is handed over in its order, and others are served meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pycomnet.execnet.outbox import CROWD, Outbox


@implementer(IReactorFromThreads)
class Reactor:
    """Keeps what is to be called."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def callFromThread(self, function: Callable[[], object]) -> None:  # type: ignore[override]
        """Keep it."""
        self.calls.append(function)

    def turn(self) -> None:
        """Call what is there, as a reactor does in one turn."""
        calls, self.calls = self.calls, []
        for function in calls:
            function()


class SendingCore:
    """The connection's part of a channel.

    :param sent: what has been sent.
    """

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.connection = self
        self.hook = self.options = None

    def pack(self, value: object, hook: object, options: object) -> object:
        """Encode a value: here as itself."""
        return value

    def send(self, payload: object, prefix: bytes = b"") -> defer.Deferred[None]:
        """Note what is sent."""
        self.sent.append(payload)
        return defer.succeed(None)


class OutboxTests(SynchronousTestCase):
    """:class:`Outbox`."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.outbox = Outbox(self.reactor)
        self.core: Any = SendingCore()

    def test_the_reactor_is_woken_once_for_all_that_waits(self) -> None:
        """Values and functions, in their order."""
        self.outbox.send(self.core, 1)
        self.outbox.put(self.core, lambda: self.core.sent.append("called"))
        self.outbox.send(self.core, 2)
        self.assertEqual(len(self.reactor.calls), 1)
        self.reactor.turn()
        self.assertEqual(self.core.sent, [1, "called", 2])
        self.outbox.send(self.core, 3)
        self.reactor.turn()
        self.assertEqual(self.core.sent[3:], [3])

    def test_a_thread_that_sends_without_a_pause_does_not_keep_the_reactor(self) -> None:
        """A turn ends, and the rest follows in the next ones."""
        send = self.core.send

        def send_and_more(payload: int, prefix: bytes = b"") -> defer.Deferred[None]:
            if payload < 3 * CROWD:
                self.outbox.send(self.core, payload + 1)
            result: defer.Deferred[None] = send(payload)
            return result

        self.core.send = send_and_more
        self.outbox.send(self.core, 0)
        self.reactor.turn()
        self.assertEqual(self.core.sent, [0])
        turns = 0
        while self.reactor.calls:
            self.reactor.turn()
            turns += 1
        self.assertEqual(self.core.sent, list(range(3 * CROWD + 1)))
        self.assertEqual(turns, 3 * CROWD)

    def test_a_turn_sends_a_crowd_at_most(self) -> None:
        """However much waits."""
        for value in range(CROWD + 1):
            self.outbox.send(self.core, value)
        self.reactor.turn()
        self.assertEqual(len(self.core.sent), CROWD)
        self.reactor.turn()
        self.assertEqual(len(self.core.sent), CROWD + 1)
        self.assertEqual(self.reactor.calls, [])

    def test_what_was_sent_before_can_be_sent_now(self) -> None:
        """Before a request of the same thread; nothing is sent twice."""
        self.outbox.send(self.core, 1)
        self.outbox.flush()
        self.assertEqual(self.core.sent, [1])
        self.reactor.turn()
        self.assertEqual(self.core.sent, [1])
