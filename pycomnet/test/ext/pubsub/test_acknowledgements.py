"""Acknowledgements on their way."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import CallInterrupted, Forbidden, Overloaded
from pycomnet.ext.pubsub.acknowledgements import LONGEST_RETRY, MOST_ACKNOWLEDGED, Acknowledgements
from pycomnet.test.ext.pubsub.kit import PublishCase
from pycomnet.test.kit import TurnClock


class AcknowledgementsTests(PublishCase):
    """Until the publisher has noted them."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = TurnClock()
        self.sent: list[tuple[list[int], defer.Deferred[Any]]] = []
        self.ways = Acknowledgements(self.clock, self.send)

    def send(self, numbers: list[int]) -> defer.Deferred[Any]:
        """What a feed does."""
        answer: defer.Deferred[Any] = defer.Deferred()
        self.sent.append((numbers, answer))
        return answer

    def test_those_of_a_turn_go_together(self) -> None:
        """Each once, at most so many in one call; all who wait for one call are told."""
        waiting = [self.ways.add(number) for number in (1, 2, 2, 3)]
        self.assertEqual(self.sent, [])
        self.clock.advance(0)
        ((numbers, answer),) = self.sent
        self.assertEqual(numbers, [1, 2, 3])
        answer.callback({"count": 3})
        for one in waiting:
            self.assertIsNone(self.successResultOf(one))
        for number in range(MOST_ACKNOWLEDGED + 1):
            self.ways.add(number)
        self.clock.advance(0)
        self.assertEqual([len(numbers) for numbers, _ in self.sent[1:]], [MOST_ACKNOWLEDGED, 1])

    def test_what_is_refused_for_now_is_sent_until_it_is_noted(self) -> None:
        """Whoever waits for it waits."""
        waiting = self.ways.add(7)
        self.clock.advance(0)
        for count in range(1, 10):
            self.assertEqual(len(self.sent), count)
            self.sent[-1][1].errback(Overloaded("for a moment"))
            self.assertNoResult(waiting)
            self.clock.advance(LONGEST_RETRY)
        self.sent[-1][1].callback({"count": 1})
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual({tuple(numbers) for numbers, _ in self.sent}, {(7,)})
        self.assertEqual(self.clock.calls, [])

    def test_what_is_refused_for_good_fails(self) -> None:
        """As a call does."""
        waiting = self.ways.add(7)
        self.clock.advance(0)
        self.sent[0][1].errback(Forbidden("no", "a", "acknowledge"))
        self.failureResultOf(waiting, Forbidden)

    def test_what_was_not_noted_when_the_stream_is_lost_fails(self) -> None:
        """Also what was to be sent again, and what is answered too late: it comes again."""
        refused = self.ways.add(1)
        self.clock.advance(0)
        self.sent[0][1].errback(Overloaded("for a moment"))
        late = self.ways.add(2)
        self.clock.advance(0)
        self.ways.interrupt()
        self.failureResultOf(refused, CallInterrupted)
        self.sent[-1][1].errback(Overloaded("for a moment"))
        self.failureResultOf(late, Overloaded)
        self.assertEqual(self.clock.calls, [])

    def test_what_has_gone_to_another_fails(self) -> None:
        """The publisher says that it had not all of them."""
        waiting = self.ways.add(1)
        self.clock.advance(0)
        self.sent[0][1].callback({"count": 0})
        self.failureResultOf(waiting, CallInterrupted)


class RefusedTests(PublishCase):
    """In a group, at a publisher."""

    def test_an_acknowledgement_that_may_not_be_made_is_told(self) -> None:
        """Whoever iterates would wait for ever for the next event."""
        one = self.subscribe(group="workers", prefetch=2)

        def sink(request: Any) -> Any:
            raise Forbidden("no", "a", "acknowledge")

        self.service._sink = sink
        self.publish(*range(5))
        self.assertEqual([self.result(one.receive()) for _ in range(2)], [0, 1])
        self.failure(one.receive(), Forbidden)

    def test_another_connection_is_told_nothing(self) -> None:
        """While the user has not taken what came, a connection may be lost and made again by
        others: there, the subscription's number is another's."""
        one = self.subscribe(group="workers")
        self.publish("mine 1")
        event = self.result(one.receive_event())
        self.publish("mine 2")  # the feed waits until the user has taken it
        self.network.deliver()
        self.publish("mine 3")
        self.restart()
        other = self.subscribe(group="workers")
        self.publish("theirs 1")
        self.network.deliver()
        (sink,) = self.topic.sinks.values()
        self.assertEqual(list(sink.unacknowledged), [1])  # type: ignore[attr-defined]
        self.failure(event.acknowledge(), CallInterrupted)
        self.assertEqual(list(sink.unacknowledged), [1])  # type: ignore[attr-defined]
        self.assertEqual(self.take(other), ["theirs 1"])
