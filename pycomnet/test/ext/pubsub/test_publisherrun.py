"""Publishers' code: generators and functions, their ends, their errors, and running them again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

import pycomnet
from pycomnet.errors import ChannelClosed, RemoteError
from pycomnet.ext.pubsub import (
    Publication,
    PublisherService,
    Restarted,
    TopicLimits,
    publisher,
    subscriber,
)
from pycomnet.services.interface import Service
from pycomnet.services.launch.loading import load
from pycomnet.test.services.network import ServiceCase

NAME = "org.example.run"
#: How a generator of :class:`RunningTests` was used.
log: list[Any] = []


@publisher(NAME)
def found_by_the_launcher() -> Iterator[int]:
    """Counts."""
    yield 1


class RunningTests(ServiceCase):
    """In the reactor, with a clock that the test turns."""

    def setUp(self) -> None:
        super().setUp()
        log.clear()

    def serve(self, function: Any, **how: Any) -> Any:
        """Serve a publisher."""
        service = publisher(NAME, **how)(function)()
        self.successResultOf(self.server.add(service))
        self.addCleanup(lambda: self.result(self.server.close()))
        return service

    def subscribe(self) -> Any:
        made = subscriber(NAME, context=self.context, address=self.address)
        self.addCleanup(made.close)
        self.result(made.when_subscribed())
        return made

    def ticks(self) -> Any:
        """An async generator that counts seconds."""
        network = self.network

        async def count() -> AsyncIterator[int]:
            log.append("begun")
            try:
                for number in range(100):
                    await deferLater(network, 1)
                    yield number
            finally:
                log.append("closed")

        return count

    def test_what_a_decorator_makes_is_a_service(self) -> None:
        """Which a launcher finds in a module as any other, with its name and documentation."""
        (found,) = load(__name__)
        self.assertIsInstance(found, PublisherService)
        self.assertIsInstance(found, Service)
        self.assertEqual(list(found.interfaces), [NAME])
        self.assertEqual(found.interfaces[NAME].doc, "Counts.")
        self.assertEqual(type(found).__name__, "found_by_the_launcher")

    def test_a_generator_runs_once_for_all_and_always(self) -> None:
        """Also while nobody is there."""
        self.serve(self.ticks())
        self.network.wait(2.5)
        one, other = self.subscribe(), self.subscribe()
        self.network.wait(2)
        self.assertEqual([self.result(one.receive()) for _ in range(2)], [2, 3])
        self.assertEqual([self.result(other.receive()) for _ in range(2)], [2, 3])
        self.assertEqual(log, ["begun"])

    def test_a_lazy_one_runs_while_somebody_is_there(self) -> None:
        """It is closed with the last subscriber, and begins anew with the next."""
        self.serve(self.ticks(), lazy=True)
        self.network.wait(2)
        self.assertEqual(log, [])
        one, other = self.subscribe(), self.subscribe()
        self.network.wait(1)
        self.assertEqual(self.result(one.receive()), 0)
        self.result(one.close())
        self.network.wait(1)
        self.assertEqual(log, ["begun"])
        self.result(other.close())
        self.network.deliver()
        self.assertEqual(log, ["begun", "closed"])
        again = self.subscribe()
        self.network.wait(1)
        self.assertEqual(self.result(again.receive()), 0)
        self.assertEqual(log, ["begun", "closed", "begun"])

    def test_a_lazy_one_stops_though_its_own_event_ends_the_last_subscription(self) -> None:
        """The subscriber was too slow, and is disconnected while the generator runs."""
        closed = []

        def numbers() -> Any:
            try:
                while True:
                    yield bytes(1 << 17)
            finally:
                closed.append(True)

        self.serve(numbers, lazy=True, thread=False)
        made = subscriber(
            NAME, context=self.context, address=self.address, policy="disconnect", bound=1 << 17
        )
        self.addCleanup(made.close)
        made.start()
        for _ in range(40):
            self.network.advance(0)
            for client, server in list(self.network.wires):
                self.network._move(client, server)
                self.network._move(server, client)
            if closed:
                break
        self.assertEqual(closed, [True])

    def test_its_end_is_the_subscribers_end(self) -> None:
        """Whether they were there or come later."""

        def two() -> Iterator[Any]:
            yield 1
            yield Publication(2, key="k", subject="s")

        self.serve(two, thread=False, history=10, lazy=True)
        one = self.subscribe()
        self.assertEqual([self.result(one.receive()) for _ in range(2)], [1, 2])
        self.failure(one.receive(), ChannelClosed)
        late = subscriber(NAME, context=self.context, address=self.address, last=1)
        event = self.result(late.receive_event())
        self.assertEqual((event.value, event.key, event.subject), (2, "k", "s"))
        self.failure(late.receive(), ChannelClosed)

    def failing(self, times: int) -> Any:
        def fail() -> Iterator[int]:
            log.append(1)
            yield len(log)
            if len(log) <= times:
                raise ValueError("it broke")

        return fail

    def test_its_error_is_the_subscribers_error(self) -> None:
        """With its type and message; it does not run again."""
        self.serve(self.failing(5), thread=False, lazy=True)
        one = self.subscribe()
        self.assertEqual(self.result(one.receive()), 1)
        problem = self.failure(one.receive(), RemoteError)
        self.assertEqual((problem.type, problem.message), ("ValueError", "it broke"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.network.wait(100, step=5)
        self.assertEqual(log, [1])

    def test_it_runs_again_by_its_policy_and_subscribers_are_told(self) -> None:
        """After an error, later each time; its end is then an end."""
        self.serve(self.failing(2), thread=False, restart="failed", lazy=True)
        one = self.subscribe()
        self.network.wait(10)
        found = [self.result(one.receive()) for _ in range(5)]
        told = Restarted("ValueError: it broke")
        self.assertEqual(found, [1, told, 2, told, 3])
        self.failure(one.receive(), ChannelClosed)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_one_that_always_runs_tells_each_time(self) -> None:
        """Also when it has ended without an error."""

        def one_each() -> Iterator[int]:
            log.append("run")
            yield len(log)

        self.serve(one_each, thread=False, restart="always", lazy=True)
        one = self.subscribe()
        self.network.wait(5)
        told = Restarted("it had ended")
        found = [self.result(one.receive()) for _ in range(5)]
        self.assertEqual(found, [1, told, 2, told, 3])

    def test_a_function_is_given_publish(self) -> None:
        """An async one, which awaits what it returns; its end is the end."""
        network = self.network

        async def run(publish: Any) -> None:
            for number in range(3):
                await publish(number, key="k", subject=f"s{number}")
                await deferLater(network, 1)

        self.serve(run)
        one = self.subscribe()
        self.network.wait(4)
        events = [self.result(one.receive_event()) for _ in range(2)]
        self.assertEqual([event.subject for event in events], ["s1", "s2"])
        self.failure(one.receive(), ChannelClosed)

    def test_a_class_publishes_with_its_topic(self) -> None:
        """Beside the methods of its interface."""

        @publisher(NAME, retain=True)
        class Orders:
            """Takes orders."""

            topic: Any

            @pycomnet.method()
            def create(self, request: Any) -> int:
                self.topic.publish(request.args, subject="created")
                return 1

        self.successResultOf(self.server.add(Orders()))  # type: ignore[arg-type]
        one = self.subscribe()
        self.assertEqual(self.result(self.connect().invoke("create", {"id": 7})), 1)
        self.assertEqual(self.result(one.receive()), {"id": 7})
        self.assertIn("create", self.result(self.connect().introspect())[NAME]["methods"])

    def test_a_fast_generator_leaves_others_their_turn(self) -> None:
        """One that never waits does not keep the reactor."""

        async def fast() -> AsyncIterator[int]:
            while True:
                yield 1

        service = self.serve(fast)
        for _ in range(5):
            self.network.advance(0)
        self.assertLess(service.topic.history.last, 5000)

    def test_a_generator_without_a_docstring_has_none(self) -> None:
        """What it offers is not described by the words for a class of ours."""

        @publisher("org.example.silent")
        def silent() -> Iterator[int]:
            yield 1

        self.assertEqual(silent.__doc__, "")

    def test_a_class_does_not_replace_what_subscribers_call(self) -> None:
        """Nor the checks of their rights."""
        with self.assertRaises(TypeError) as caught:

            @publisher("org.example.own")
            class Own:
                """With a method of a publisher's name."""

                def publish(self) -> None:
                    """Something else."""

        self.assertIn("publishers have publish already", str(caught.exception))

    def test_what_makes_no_publisher_is_refused(self) -> None:
        """Where it is made."""
        for wrong in (lambda: publisher(cast(Any, 5)), lambda: publisher("x", restart="sometimes")):
            with self.assertRaises((TypeError, ValueError)):
                wrong()
        with self.assertRaises(TypeError):
            publisher("x", thread=True)(self.ticks())
        with self.assertRaises(TypeError):
            publisher("x")(5)


class ThreadTests(TestCase):
    """Generators that block, in threads, with a real reactor and sockets."""

    timeout = 60

    @defer.inlineCallbacks
    def serve(self, function: Any, **how: Any) -> Any:
        from twisted.internet import reactor

        server = pycomnet.ServiceServer(reactor)
        self.addCleanup(server.close)
        self.service = publisher(NAME, **how)(function)()
        yield server.add(self.service)
        address = yield server.listen("tcp:0:interface=127.0.0.1")
        context = pycomnet.Context(reactor)
        self.addCleanup(context.close)
        one = subscriber(NAME, context=context, address=address, last=100_000, policy="block")
        self.addCleanup(one.close)
        return one

    @defer.inlineCallbacks
    def test_a_generator_may_sleep(self) -> Any:
        """The reactor goes on."""

        def sleeps() -> Iterator[int]:
            for number in range(3):
                time.sleep(0.01)
                yield number

        one = yield self.serve(sleeps, history=100, block=True)
        found = []
        for _ in range(3):
            found.append((yield one.receive()))
        self.assertEqual(found, [0, 1, 2])
        yield self.assertFailure(one.receive(), ChannelClosed)

    @defer.inlineCallbacks
    def test_a_fast_generator_waits_for_a_subscriber_that_blocks(self) -> Any:
        """Nothing is lost, and it is not far ahead."""
        made = []

        def fast() -> Iterator[int]:
            for number in range(20_000):
                made.append(number)
                yield number

        one = yield self.serve(fast, history=100_000, block=True, lazy=True)
        found: list[Any] = []
        while len(found) < 20_000:
            found += yield one.receive_many()
        self.assertEqual(found, list(range(20_000)))
        yield self.assertFailure(one.receive(), ChannelClosed)

    @defer.inlineCallbacks
    def test_the_last_value_may_be_the_wrong_one(self) -> Any:
        """Its error is the publisher's, though the generator has ended by then."""

        def wrong() -> Iterator[Any]:
            yield object()

        one = yield self.serve(wrong, history=10, block=True, lazy=True)
        problem = yield self.assertFailure(one.receive(), RemoteError)
        self.assertIn("object", str(problem))
        self.flushLoggedErrors()

    @defer.inlineCallbacks
    def test_a_fast_generator_is_as_far_ahead_as_the_publisher_allows(self) -> Any:
        """Events that may wait for a subscriber that blocks are few: none is refused."""
        one = yield self.serve(
            lambda: iter([bytes(10_000)] * 500),
            block=True,
            lazy=True,
            limits=TopicLimits(blocked=3),
        )
        found = 0
        while found < 500:
            found += len((yield one.receive_many()))
        yield self.assertFailure(one.receive(), ChannelClosed)

    @defer.inlineCallbacks
    def test_a_function_in_a_thread_gets_the_error_of_what_it_publishes(self) -> Any:
        """From ``publish`` itself, which returns once it is published."""
        raised = []

        def run(publish: Any) -> None:
            publish(1)
            try:
                publish(object())
            except Exception as problem:
                raised.append(problem)
            publish(2)

        one = yield self.serve(run, history=10, block=True)
        found = [(yield one.receive()), (yield one.receive())]
        self.assertEqual(found, [1, 2])
        yield self.assertFailure(one.receive(), ChannelClosed)
        self.assertIn("object", str(raised[0]))

    @defer.inlineCallbacks
    def test_what_a_generator_yields_and_can_not_be_sent_is_its_error(self) -> Any:
        """It ends with it."""

        def wrong() -> Iterator[Any]:
            yield 1
            yield object()
            time.sleep(0.01)
            yield 2

        one = yield self.serve(wrong, history=10, block=True)
        self.assertEqual((yield one.receive()), 1)
        problem = yield self.assertFailure(one.receive(), RemoteError)
        self.assertIn("object", str(problem))
        self.flushLoggedErrors()
