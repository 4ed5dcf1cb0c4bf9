"""Events from a publisher to its subscribers, in memory."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet import defer

import pycomnet
from pycomnet.errors import (
    ChannelClosed,
    Forbidden,
    InvalidArguments,
    Overloaded,
    RemoteError,
)
from pycomnet.ext.pubsub import InvalidSubject, TopicLimits, allow, subscriber
from pycomnet.services.client.context import Context
from pycomnet.test.ext.pubsub.kit import NAME, PublishCase
from pycomnet.test.garbage import collects


@collects
class EventTests(PublishCase):
    """What is published comes."""

    def test_each_event_after_the_subscription_comes_once_and_in_order(self) -> None:
        """15 events after "subscribed" are 15, not 14 (libzmq 2826, 2267)."""
        one = self.subscribe()
        self.publish(*range(15))
        self.assertEqual(self.take(one), list(range(15)))

    def test_every_subscriber_gets_every_event(self) -> None:
        """Also several of one connection."""
        all_of_them = [self.subscribe() for _ in range(3)]
        all_of_them.append(self.subscribe(context=self.other_context()))
        self.publish("a", {"b": [1, (2, 3)]})
        for one in all_of_them:
            self.assertEqual(self.take(one), ["a", {"b": [1, (2, 3)]}])

    def test_events_say_subject_key_number_and_time(self) -> None:
        """``receive_event`` gives all that is known."""
        one = self.subscribe()
        self.publish("x", key="k", subject="eu.created")
        (event,) = self.take(one, events=True)
        self.assertEqual((event.value, event.key, event.subject), ("x", "k", "eu.created"))
        self.assertEqual((event.sequence, event.time), (1, self.topic.now()))

    def test_the_server_filters_and_the_subscriber_can_change_it(self) -> None:
        """Patterns with * and >; a change counts once it is confirmed."""
        one = self.subscribe("eu.*", "us.>")
        for subject in ("eu.a", "eu.a.b", "us.a.b", "us", "asia.x", ""):
            self.publish(subject, subject=subject)
        self.assertEqual(self.take(one), ["eu.a", "us.a.b"])
        self.result(one.change("asia.>"))
        for subject in ("eu.a", "asia.x"):
            self.publish(subject, subject=subject)
        self.assertEqual(self.take(one), ["asia.x"])

    def test_patterns_that_are_none_are_refused_at_both_ends(self) -> None:
        """Here before anything is sent; there as an error of the stream."""
        with self.assertRaises(InvalidSubject):
            self.subscribe("a..b")
        stream = self.connect().stream("subscribe", {"subjects": ["a..b"]})
        self.failure(stream.receive(), InvalidSubject)
        self.assertEqual(self.topic.sinks, {})

    def test_an_event_is_encoded_once_for_all(self) -> None:
        """5,000 subscribers x 5 KB is one copy (redis 1880): a lone event is the same bytes."""
        sinks = [self.subscribe(context=self.other_context()) for _ in range(3)]
        sent: list[bytes] = []
        for sink in self.topic.sinks.values():
            connection = sink.call.connection
            original = connection.send_encoded

            def spy(call: object, payload: bytes, token: object, original=original) -> bool:  # type: ignore[no-untyped-def]
                sent.append(payload)
                return bool(original(call, payload, token))

            connection.send_encoded = spy
        self.publish(bytes(5000))
        self.assertEqual(len(sent), 3)
        self.assertIs(sent[0], sent[1])
        self.assertIs(sent[0], sent[2])
        for one in sinks:
            self.assertEqual(self.take(one), [bytes(5000)])

    def test_values_may_carry_blocks(self) -> None:
        """A value and blocks of binary data, each with its name."""
        one = self.subscribe()
        self.publish(({"n": 1}, pycomnet.Binary(b"abc", name="x"), pycomnet.Binary(b"de")))
        (event,) = self.take(one, events=True)
        self.assertEqual(event.value, {"n": 1})
        self.assertEqual(event.files, [("x", b"abc"), (None, b"de")])

    def test_what_can_not_be_published_is_the_publishers_error(self) -> None:
        """Nothing is counted or sent then."""
        one = self.subscribe()
        wrong: list[tuple[Any, dict[str, Any]]] = [
            (object(), {}),
            (1, {"subject": "a..b"}),
            (1, {"key": 5}),
        ]
        for value, how in wrong:
            self.failureResultOf(self.topic.publish(value, **how))
        self.publish("right")
        self.assertEqual([event.sequence for event in self.take(one, events=True)], [1])

    def test_the_end_of_a_publisher_is_the_end_of_the_iteration(self) -> None:
        """And its error is the error; in either case behind all events."""
        one, other = self.subscribe(), self.subscribe()
        self.topic.publish(1)
        self.topic.end()
        self.assertEqual(self.result(one.receive()), 1)
        self.failure(one.receive(), ChannelClosed)
        self.assertEqual(self.take_all(other), [1])

    def take_all(self, one: object) -> list[object]:
        async def run() -> list[object]:
            return [value async for value in one]  # type: ignore[attr-defined]

        found: list[object] = self.result(defer.Deferred.fromCoroutine(run()))
        return found

    def test_the_error_of_a_publisher_is_its_subscribers(self) -> None:
        """With its type and message."""
        one = self.subscribe()
        self.topic.publish(1)
        self.topic.end(ZeroDivisionError("by zero"))
        self.assertEqual(self.result(one.receive()), 1)
        problem = self.failure(one.receive(), RemoteError)
        self.assertEqual((problem.type, problem.message), ("ZeroDivisionError", "by zero"))

    def test_closing_ends_the_subscription_at_the_publisher(self) -> None:
        """It holds nothing any more."""
        one = self.subscribe()
        self.assertEqual(len(self.topic.sinks), 1)
        self.result(one.close())
        self.network.deliver()
        self.assertEqual((self.topic.sinks, dict(self.topic._per_connection)), ({}, {}))
        self.failure(one.receive(), ChannelClosed)

    def test_a_subscriber_that_nobody_holds_ends(self) -> None:
        """As a stream does; one that somebody waits for does not."""
        one = self.subscribe()
        self._cleanups.clear()
        receiving = one.receive()
        del one
        gc.collect()
        self.network.deliver()
        self.assertEqual(len(self.topic.sinks), 1)
        self.publish("x")
        self.assertEqual(self.successResultOf(receiving), "x")
        del receiving
        gc.collect()
        self.network.deliver()
        self.assertEqual(self.topic.sinks, {})

    def test_one_that_looks_for_publishers_and_is_held_by_nobody_ends(self) -> None:
        """The watch of the nameserver does not hold it."""
        context = Context(self.network, nameserver="tcp:127.0.0.1:1")
        one = subscriber(NAME, context=context)
        one.start()
        reference = weakref.ref(one)
        del one
        gc.collect()
        self.assertIsNone(reference())
        self.network.deliver()

    def test_a_burst_is_no_slowness(self) -> None:
        """More in one turn than a bound has room for: what can be sent is, and nothing dropped."""
        one = self.subscribe(bound=10_000)
        for number in range(2000):
            self.topic.publish(number)
        self.assertEqual(self.take(one), list(range(2000)))

    def test_a_server_that_ends_ends_subscriptions_at_once(self) -> None:
        """It does not wait for them as for calls."""
        one = self.subscribe()
        closing = self.server.close(timeout=1000)
        self.network.deliver()
        self.successResultOf(closing)
        self.assertEqual(self.topic.sinks, {})
        self.result(one.close())

    def test_subscriptions_do_not_count_as_running_calls(self) -> None:
        """They have limits of their own."""
        for _ in range(5):
            self.subscribe()
        self.assertEqual(self.server.running, 0)

    def test_a_subscription_is_changed_by_its_own_connection_only(self) -> None:
        """The numbers of others' are of no use."""
        self.subscribe()
        other = self.result(self.other_context().connect(self.address))
        for number in (1, 2, -1):
            args: dict[str, Any] = {"id": number, "subjects": ["a"]}
            self.failure(other.invoke("change", args), InvalidArguments)
            args = {"id": number, "sequences": [1]}
            self.failure(other.invoke("acknowledge", args), InvalidArguments)

    def test_nobody_publishes_from_outside_by_default(self) -> None:
        """Where nothing is said."""
        self.failure(self.connect().invoke("publish", {"value": 1}), Forbidden)
        self.assertEqual(self.topic.history.last, 0)


class LimitTests(PublishCase):
    """Limits of a publisher."""

    settings = {"limits": TopicLimits(subscriptions=5, per_connection=3, event=1000, groups=2)}

    def test_subscriptions_are_limited(self) -> None:
        """On one connection, and of all."""
        for _ in range(3):
            self.subscribe()
        service = self.connect()
        self.failure(service.stream("subscribe", {}).receive(), Overloaded)
        for _ in range(2):
            self.subscribe(context=self.other_context())
        other = self.result(self.other_context().connect(self.address))
        self.failure(other.stream("subscribe", {}).receive(), Overloaded)

    def test_a_subscription_with_many_patterns_counts_for_several(self) -> None:
        """Also when it asks for them later; each part of a pattern takes memory here."""
        service = self.connect()
        many = [f"{n}.b.c.d" for n in range(7)]  # 28 parts: as four subscriptions
        self.failure(service.stream("subscribe", {"subjects": many}).receive(), Overloaded)
        one, other = self.subscribe("a"), self.subscribe("b")
        self.failure(one.change(many[:5]), Overloaded)
        self.result(one.change(many[:4]))
        self.failure(service.stream("subscribe", {}).receive(), Overloaded)
        self.result(one.change("a"))
        self.subscribe()
        self.result(other.close())
        self.subscribe()

    def test_events_and_groups_are_limited(self) -> None:
        """Bytes of an event, and groups at a time."""
        problem = self.failureResultOf(self.topic.publish(bytes(1001)), InvalidArguments).value
        self.assertIn("the limit is 1000", str(problem))
        service = self.connect()
        self.subscribe(group="a")
        self.subscribe(group="b")
        self.failure(service.stream("subscribe", {"group": "c"}).receive(), Overloaded)

    def test_arguments_out_of_range_are_refused(self) -> None:
        """Each as an error of the stream; nothing is left behind."""
        service = self.connect()
        refused: list[dict[str, Any]] = [
            {"bound": 1},
            {"bound": 1 << 40},
            {"policy": "none"},
            {"policy": "block"},
            {"after": [["e", 1]] * 33},
            {"after": ["e"]},
            {"last": -1},
            {"since": float("nan")},
            {"group": "x" * 256},
            {"group": "g", "durable": True},
            {"durable": True},
            {"group": "g", "policy": "disconnect"},
            {"group": "g", "prefetch": 0},
            {"group": "g", "prefetch": 1 << 30},
            {"subjects": ["a"] * 65},
            {"nothing": 1},
        ]
        for args in refused:
            receiving = service.stream("subscribe", args).receive()
            self.failure(receiving, InvalidArguments, InvalidSubject)
        self.assertEqual((self.topic.sinks, len(self.topic.groups)), ({}, 0))


class PermissionTests(PublishCase):
    """Grants, without logins: for everybody."""

    settings = {"may_subscribe": allow("public.>"), "may_publish": allow("in.*")}

    def test_patterns_have_to_be_allowed_as_a_whole(self) -> None:
        """A wider pattern is refused, and so is a change to one."""
        one = self.subscribe("public.a.>")
        service = self.connect()
        for pattern in (">", "*", "*.a", "secret"):
            stream = service.stream("subscribe", {"subjects": [pattern]})
            self.failure(stream.receive(), Forbidden)
            self.failure(one.change(pattern), Forbidden)
        self.publish(1, subject="public.a.b")
        self.publish(2, subject="secret")
        self.assertEqual(self.take(one)[-1:], [1])

    def test_clients_publish_what_they_may(self) -> None:
        """And get the number; the subject is checked."""
        service = self.connect()
        found = self.result(service.invoke("publish", {"value": 7, "subject": "in.x"}))
        self.assertEqual(found, {"sequence": 1})
        for subject in ("out.x", "in", "in.x.y", ""):
            self.failure(service.invoke("publish", {"value": 1, "subject": subject}), Forbidden)
        problem = service.invoke("publish", {"value": 1, "subject": "in.*"})
        self.failure(problem, InvalidSubject)
