"""Publishers and subscribers through core NATS, on a network in memory."""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure

from pycomnet import Binary
from pycomnet.errors import ChannelClosed, InvalidArguments, RemoteError
from pycomnet.ext.pubsub import (
    Gap,
    PublisherGone,
    Restarted,
    SlowSubscriber,
    TopicSettings,
    publisher,
    subscriber,
)
from pycomnet.ext.pubsub.nats.natsnames import NatsNames
from pycomnet.nats import NatsAuthFailed, NatsUnreachable
from pycomnet.services.client.context import Context
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.garbage import collects
from pycomnet.test.nats.server import NatsCase

NAME = "org.example.events"


class ViaCase(NatsCase):
    """A test with a publisher through NATS, :attr:`topic`, and subscribers."""

    def setUp(self) -> None:
        super().setUp()
        self.service = self.start()
        self.topic = self.service.topic

    def start(self, server: ServiceServer | None = None, **settings: Any) -> Any:
        """A publisher."""

        @publisher(NAME, via=self.nats.address, **settings)
        class Events:
            """Publishes what the test says."""

        made: Any = Events()
        self.result((server or self.server).add(made))
        return made

    def subscribe(self, *subjects: str, **options: Any) -> Any:
        """A subscriber whose subscription counts."""
        given = {"context": self.context, "via": self.nats.address, **options}
        made = subscriber(NAME, subjects or None, **given)
        self.addCleanup(made.close)
        self.result(made.when_subscribed())
        self.network.deliver()
        return made

    def publish(self, *values: Any, topic: Any = None, **how: Any) -> None:
        """Publish values."""
        for value in values:
            self.successResultOf((topic or self.topic).publish(value, **how))
        self.network.deliver()

    def take(self, subscribed: Any, events: bool = False) -> list[Any]:
        """All that has come by now."""
        found: list[Any] = []
        while True:
            self.network.deliver()
            receiving = subscribed.receive_many(1000, events)
            self.network.deliver()
            if not receiving.called:
                receiving.cancel()
                self.failureResultOf(receiving)
                return found
            found += self.successResultOf(receiving)


class CoreTests(ViaCase):
    """The plain kind."""

    def test_all_that_is_published_comes(self) -> None:
        """Fifteen events after "subscribed" are fifteen (libzmq 2826), with keys and blocks."""
        one = self.subscribe()
        self.publish(*range(14), key="k", subject="eu.x")
        self.publish(("text", Binary(b"block", name="b")))
        events = self.take(one, events=True)
        self.assertEqual([event.value for event in events], [*range(14), "text"])
        self.assertEqual(events[-1].files, [("b", b"block")])
        self.assertEqual((events[0].subject, events[0].key), ("eu.x", "k"))

    def test_the_server_filters(self) -> None:
        """What matches, once, also if two patterns match; others' numbers are no gap."""
        one = self.subscribe("eu.*", "*.x")
        for subject in ("us.y", "eu.x", "", "us.x", "eu.x.z", "eu.y"):
            self.publish(subject, subject=subject)
        self.assertEqual(self.take(one), ["eu.x", "us.x", "eu.y"])

    def test_other_subjects_from_now_on(self) -> None:
        """A change is no gap."""
        one = self.subscribe("a")
        self.publish(1, subject="a")
        self.publish(2, subject="b")
        self.result(one.change(["b"]))
        self.publish(3, subject="a")
        self.publish(4, subject="b")
        self.assertEqual(self.take(one), [1, 4])

    def test_lost_events_are_told(self) -> None:
        """The server has lost some: whoever wanted them learns it with the next."""
        everything, some = self.subscribe(), self.subscribe("a")
        self.publish(1, subject="a")
        self.nats.drops = True
        self.publish(2, 3, subject="a")
        self.nats.drops = False
        self.publish(4, subject="b")
        self.publish(5, subject="a")
        self.assertEqual(self.take(everything), [1, Gap(2, 2, 3, why="lost"), 4, 5])
        self.assertEqual(self.take(some), [1, Gap(None, 2, 3, why="lost"), 5])

    def test_the_first_event_may_be_the_lost_one(self) -> None:
        """The publisher has said where it was."""
        self.publish(1)
        one = self.subscribe()
        self.nats.drops = True
        self.publish(2)
        self.nats.drops = False
        self.publish(3)
        self.assertEqual(self.take(one), [Gap(1, 2, 2, why="lost"), 3])

    def test_a_slow_subscriber_hurts_itself_alone(self) -> None:
        """Its bound holds; it is told what is missing, and another has all."""
        slow = self.subscribe(bound=10_000)
        newest = self.subscribe(bound=10_000, policy="drop_newest")
        fast = self.subscribe()
        seen = []
        for number in range(1000):
            self.publish(number)
            seen += self.take(fast)
        self.assertEqual(seen, list(range(1000)))
        for one in (slow, newest):
            got = self.take(one)
            gaps = [value for value in got if isinstance(value, Gap)]
            self.assertEqual(sum(gap.count or 0 for gap in gaps) + len(got) - len(gaps), 1000)
            self.assertLess(len(got), 200)

    def test_a_subscriber_that_may_not_be_slow(self) -> None:
        """It ends with an error."""
        one = self.subscribe(bound=10_000, policy="disconnect")
        self.publish(*range(200))
        receiving = one.receive_many(1000)
        while receiving.called and not isinstance(receiving.result, Failure):
            receiving = one.receive_many(1000)
        self.failureResultOf(receiving, SlowSubscriber)

    def test_the_latest_of_each_key(self) -> None:
        """For one that is slow."""
        one = self.subscribe(policy="latest")
        for number in range(100):
            self.publish(number, key="AB"[number % 2])
        got = [value for value in self.take(one) if not isinstance(value, Gap)]
        self.assertEqual(got[-2:], [98, 99])

    def test_a_group_shares_the_events(self) -> None:
        """Each goes to one."""
        one, two = self.subscribe(group="g"), self.subscribe(group="g")
        self.publish(*range(10))
        self.assertEqual(sorted(self.take(one) + self.take(two)), list(range(10)))

    def test_what_this_can_not_is_refused(self) -> None:
        """With what to do instead, before anything is published."""
        for options in ({"last": 5}, {"since": 60}, {"policy": "block"}):
            made = subscriber(NAME, context=self.context, via=self.nats.address, **options)
            self.failure(made.when_subscribed(), InvalidArguments)
        made = subscriber(
            NAME, context=self.context, via=self.nats.address, name="n", acknowledged=True
        )
        self.assertIn("history=", str(self.failure(made.when_subscribed(), InvalidArguments)))
        for settings in ({"lazy": True}, {"store": "x"}, {"may_subscribe": False}):
            self.assertRaises(InvalidArguments, publisher, NAME, via="a", **settings)
        self.assertRaises(InvalidArguments, subscriber, NAME, via="a", address="tcp:a:1")
        self.assertFalse(TopicSettings().may_publish)

    def test_who_subscribes_at_the_publisher_gets_the_same(self) -> None:
        """Without NATS, on the connections of services."""
        one = subscriber(NAME, context=self.context, address=self.address)
        self.addCleanup(one.close)
        self.result(one.when_subscribed())
        self.publish(1, 2)
        self.assertEqual(self.take(one), [1, 2])


class EndTests(ViaCase):
    """Ends, errors, restarts."""

    def test_the_end_is_the_subscribers_end(self) -> None:
        """After all that was published, also for those who come late."""
        one = self.subscribe()
        self.publish(1)
        self.topic.end()
        self.assertEqual(self.success_of_many(one), [1])
        self.failure(one.receive(), ChannelClosed)
        late = subscriber(NAME, context=self.context, via=self.nats.address)
        self.failure(late.receive(), ChannelClosed)

    def success_of_many(self, one: Any) -> Any:
        """What has come."""
        return self.result(one.receive_many(1000))

    def test_an_error_is_the_subscribers_error(self) -> None:
        """As a call's."""
        one = self.subscribe()
        self.publish(1)
        self.topic.end(ValueError("broken"))
        self.assertEqual(self.success_of_many(one), [1])
        self.assertIn("broken", str(self.failure(one.receive(), RemoteError)))

    def test_a_restart_is_told(self) -> None:
        """At its place."""
        one = self.subscribe()
        self.publish(1)
        self.topic.tell_restarted("ValueError: x")
        self.publish(2)
        self.assertEqual(self.take(one), [1, Restarted("ValueError: x"), 2])

    def test_a_publisher_that_goes_may_come_back(self) -> None:
        """The subscriber stays, and gets the events of the next."""
        one = self.subscribe()
        self.publish(1)
        self.result(self.server.close())
        again = self.start(ServiceServer(self.network))
        self.publish(2, topic=again.topic)
        self.assertEqual(self.take(one), [1, 2])
        self.failure(self.topic.publish(3), PublisherGone)

    def test_several_publishers_are_merged(self) -> None:
        """Each has its own numbers; the end of one is not that of the others."""
        one = self.subscribe()
        other = self.start(ServiceServer(self.network))
        self.publish("a")
        self.publish("b", topic=other.topic)
        self.topic.end()
        self.publish("c", topic=other.topic)
        self.assertEqual(self.take(one), ["a", "b", "c"])
        other.topic.end()
        self.failure(one.receive(), ChannelClosed)

    def test_hostile_messages_are_no_events(self) -> None:
        """They are logged, and nothing else."""
        one = self.subscribe()
        for payload in (b"", b"\x93", b"\xc1", b"x" * 100):
            self.nats.send(f"{NAME}.!.!.!", payload)
            self.nats.send(f"{NAME}.!!.notice", payload)
        self.publish(1)
        self.assertEqual(self.take(one), [1])


@collects
class ConnectionTests(ViaCase):
    """Lost connections, and none."""

    def test_a_cut_connection_is_made_again(self) -> None:
        """What was published meanwhile comes, or is told as missing."""
        one = self.subscribe()
        self.publish(1)
        self.network.cut()
        self.topic.publish(2)
        self.network.wait(10)
        self.publish(3)
        got = self.take(one)
        self.assertEqual((got[0], got[-1]), (1, 3))
        self.assertTrue(2 in got or any(isinstance(value, Gap) for value in got), got)

    def test_a_publisher_whose_first_events_are_cut_off_leaves_a_gap(self) -> None:
        """Nothing of it had come, not even where it is: how many are missing is not known."""
        self.nats.loses = f"{NatsNames(NAME).interface}.!!.>"
        one = self.subscribe()
        self.nats.drops = True
        self.publish(1, 2)
        self.nats.drops = False
        self.network.cut()
        self.network.wait(10)
        self.publish(3)
        self.assertEqual(self.take(one), [Gap(None, 1, 2, why="lost"), 3])

    def test_a_publisher_waits_while_nats_is_away(self) -> None:
        """What it returns fires when there is room again."""
        self.nats.port.stopListening()
        self.network.cut()
        waiting = [self.topic.publish(bytes(200_000)) for _ in range(30)]
        self.assertTrue(waiting[0].called)
        self.assertFalse(waiting[-1].called)
        self.nats.port = self.network.listenTCP(
            self.nats.port.number, self.nats, interface="127.0.0.1"
        )
        self.network.wait(10)
        self.assertTrue(all(one.called for one in waiting))

    def test_no_server_is_a_clear_error(self) -> None:
        """Of a publisher, and of a subscriber."""
        self.nats.port.stopListening()
        self.network.cut()

        @publisher("org.example.other", via=self.nats.address)
        class Other:
            """Publishes nothing."""

        made: Any = Other()
        adding = ServiceServer(self.network).add(made)
        problem = self.failure(adding)
        self.assertIn("nothing listens there", str(problem))
        one = subscriber(NAME, context=Context(self.network), via=self.nats.address)
        self.failure(one.receive(), NatsUnreachable)

    def test_wrong_credentials_are_a_clear_error(self) -> None:
        """Of a subscriber."""
        self.nats.user = {"auth_token": "right"}
        one = subscriber(NAME, context=Context(self.network), via=self.nats.address)
        self.failure(one.receive(), NatsAuthFailed)

    def test_one_connection_is_shared_and_closed_by_the_last(self) -> None:
        """Of one context."""
        before = len(self.nats.sides)
        one, two = self.subscribe(), self.subscribe()
        self.assertEqual(len(self.nats.sides), before + 1)
        self.result(one.close())
        self.publish(1)
        self.assertEqual(self.take(two), [1])
        self.result(two.close())
        self.network.deliver()
        self.assertEqual(len(self.nats.sides), before)

    def test_a_subscriber_that_nobody_holds_ends(self) -> None:
        """Its connection is closed."""
        import gc

        before = len(self.nats.sides)
        one = subscriber(NAME, context=self.context, via=self.nats.address)
        self.result(one.when_subscribed())
        self.publish(1)
        self.assertEqual(len(self.nats.sides), before + 1)
        del one
        gc.collect()
        self.network.deliver()
        self.assertEqual(len(self.nats.sides), before)
