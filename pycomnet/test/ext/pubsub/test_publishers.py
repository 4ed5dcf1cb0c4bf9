"""Several publishers that a nameserver knows, and such as say what isn't so."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet import defer

from pycomnet.errors import (
    ChannelClosed,
    DeadlineExceeded,
    NameserverStale,
    Overloaded,
    PycomnetError,
)
from pycomnet.ext.pubsub import Gap, subscriber
from pycomnet.ext.pubsub.feeds import REACHED_IN, WELCOME
from pycomnet.ext.pubsub.interfacewatch import InterfaceWatch, ServiceWatcher
from pycomnet.ext.pubsub.publishermessages import MAX_NUMBER, MOST_HAD, EventSequence, decode_batch
from pycomnet.nameserver.server import make_server
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.pubsub.kit import NAME, PublishCase, make

WELCOMED = {"id": 1, "epoch": "a" * 16, "sequence": 0, "begins": 0, "resumed": False}


@interface(NAME)
class Scripted(Service):
    """A publisher that says what the test says, to each that subscribes.

    :ivar asked: the arguments of each subscription.
    """

    def __init__(self, *says: Any) -> None:
        self.says = list(says)
        self.asked: list[Any] = []

    @method("subscribe", stream=True)
    async def subscribe(self, request: Any) -> AsyncIterator[Any]:
        """Say it, and go on for ever."""
        self.asked.append(request.args)
        for one in self.says:
            if isinstance(one, Exception):
                raise one
            yield one
        await defer.Deferred()


@interface(NAMESERVER)
class CutOffNameserver(Service):
    """A nameserver that is cut off from its store when it is watched for the first time."""

    def __init__(self) -> None:
        self.watches = 0

    @method("stat")
    def stat(self, request: Any) -> dict[str, Any]:
        """It is there."""
        return {}

    @method("watch", stream=True)
    async def watch(self, request: Any) -> AsyncIterator[Any]:
        """An empty snapshot, the second time."""
        self.watches += 1
        if self.watches == 1:
            raise NameserverStale("this nameserver was cut off from its store")
        yield {"event": "end-of-snapshot", "revision": 1}
        await defer.Deferred()


class FoundCase(PublishCase):
    """A nameserver, at which publishers are registered."""

    settings = {"history": 1000}

    def setUp(self) -> None:
        super().setUp()
        self.network.advance(1000.0)
        leases = iter(range(1, 1_000_000))
        names = NameService(
            MemoryStore(lambda: 100),
            self.network,
            seconds=self.network.seconds,
            random_lease=lambda: next(leases),
            random_secret=lambda: f"secret-number-{next(leases):06}",
        )
        server = make_server(self.network)
        self.successResultOf(server.add(names))
        where = self.successResultOf(server.listen("tcp:2012:interface=127.0.0.1"))
        self.addCleanup(self.network.deliver)
        self.addCleanup(self.network.cut)
        self.named = Context(self.network, nameserver=where)
        self.names = self.result(self.named.connect(where, NAMESERVER))
        self.secrets: dict[str, str] = {}

    def register(self, name: str, address: str | None = None) -> dict[str, Any]:
        """Register a publisher; by default that of the case."""
        secret = self.secrets.setdefault(name, f"the secret of {name:>16}")
        found: dict[str, Any] = self.result(
            self.names.invoke(
                "register",
                {
                    "service": name,
                    "interfaces": [NAME],
                    "address": address or self.address,
                    "secret": secret,
                    "ttl": 3000,
                },
            )
        )
        return found

    def unregister(self, held: dict[str, Any]) -> None:
        """End a registration."""
        asked = {"lease": held["lease"], "secret": held["secret"]}
        self.result(self.names.invoke("unregister", asked))
        self.network.deliver()

    def serve(self, service: Any) -> str:
        """Serve another publisher; its address."""
        server = ServiceServer(self.network, threads=self.network)
        self.result(server.add(service))
        address: str = self.successResultOf(server.listen("tcp:0:interface=127.0.0.1"))
        return address

    def follow(self, **options: Any) -> Any:
        """A subscriber of all publishers."""
        made = subscriber(NAME, context=self.named, **options)
        self.addCleanup(made.close)
        made.start()
        self.network.wait(1)
        return made


class ForgedTests(FoundCase):
    """A publisher that says what isn't so hurts nobody but itself."""

    def test_another_publishers_number_out_of_range_ends_its_own_feed_alone(self) -> None:
        """Its welcome is refused, and the others go on, also after their connections were lost."""
        self.register("honest")
        one = self.follow()
        for begins in (-1, MAX_NUMBER + 1, "0"):
            self.register("wrong", self.serve(Scripted({**WELCOMED, "begins": begins})))
            self.failure(one.receive(), PycomnetError)
        self.network.cut()
        self.network.wait(10)
        self.publish("here")
        found = self.take(one)
        self.assertIn("here", [each for each in found if not isinstance(each, Exception)])

    def test_a_publisher_is_not_told_of_those_that_live(self) -> None:
        """Neither their epochs nor their positions."""
        self.register("honest")
        one = self.follow()
        self.publish(1, 2)
        self.assertEqual(self.take(one), [1, 2])
        curious = Scripted(WELCOMED)
        self.register("curious", self.serve(curious))
        self.network.wait(1)
        self.assertEqual([asked.get("after") for asked in curious.asked], [None])

    def test_another_that_says_it_is_this_one_moves_nothing(self) -> None:
        """The honest one's position is its own, whoever comes first, and so is that of a group."""
        epoch = self.topic.epoch
        liar = self.serve(Scripted({**WELCOMED, "epoch": epoch, "begins": 500}, [900]))
        self.register("liar", liar)
        one = self.follow()
        self.register("honest")
        self.network.wait(1)
        self.publish(*range(3))
        self.assertEqual(self.take(one), [0, 1, 2])
        for client, _ in self.network.wires:
            client.transport.take()
        self.publish(3)
        self.network.cut()
        self.network.wait(10)
        self.publish(4)
        found = [each for each in self.take(one) if getattr(each, "publisher", "") != "liar"]
        self.assertEqual(found, [3, 4])

    def test_a_durable_publisher_that_moves_goes_on_where_it_was(self) -> None:
        """Under another name; whatever position another has said for its epoch meanwhile."""
        kept = {**WELCOMED, "durable": True}
        held = self.register("old", self.serve(Scripted({**kept, "begins": 5})))
        liar = self.register("z-liar", self.serve(Scripted({**kept, "begins": 500})))
        self.follow()
        self.unregister(held)
        self.unregister(liar)
        self.network.cut()
        self.network.wait(2)
        again = {**kept, "begins": 5, "resumed": True}
        held = self.register("new", self.serve(first := Scripted(again, [9])))
        self.network.wait(2)
        self.assertEqual(first.asked[0]["after"], [[WELCOMED["epoch"], 5]])
        self.unregister(held)
        self.network.cut()
        self.network.wait(2)
        self.register("newest", self.serve(second := Scripted({**again, "begins": 9})))
        self.network.wait(2)
        self.assertEqual(second.asked[0]["after"], [[WELCOMED["epoch"], 9]])

    def test_numbers_that_another_marked_in_a_group_still_come(self) -> None:
        """What was done with is known of each publisher for itself."""
        event = [1, "", None, 0.0, "forged"]
        liar = self.serve(Scripted({**WELCOMED, "epoch": self.topic.epoch}, [1, event]))
        self.register("liar", liar)
        one = self.follow(group="workers")
        self.assertEqual([event.value for event in self.take(one, events=True)], ["forged"])
        self.register("honest")
        self.network.wait(1)
        self.publish("true")
        self.assertEqual([event.value for event in self.take(one, events=True)], ["true"])

    def test_a_position_that_is_none_counts_for_nothing(self) -> None:
        """The publisher does not refuse the subscription for what another may have said."""
        self.publish(1, 2)
        for number in (-1, 1 << 60, 1.5, None, 3):
            stream = self.connect().stream("subscribe", {"after": [[self.topic.epoch, number]]})
            welcome = self.result(stream.receive())
            self.assertEqual((welcome["resumed"], welcome["begins"]), (False, 0), number)
            stream.close()

    def test_an_epoch_that_goes_on_elsewhere_is_told(self) -> None:
        """As after a restored backup: the count has the old name, and not the position."""
        one = self.subscribe()
        self.publish(*range(10))
        self.assertEqual(len(self.take(one)), 10)
        epoch = self.topic.epoch
        self.restart()
        self.topic.epoch = epoch
        self.publish("a", "b")
        self.network.wait(10)
        self.assertEqual(self.take(one), [Gap(None, 11, None, why="restarted"), "a", "b"])

    def test_a_jump_of_the_beginning_is_told(self) -> None:
        """A publisher that says that it goes on, and begins later, has lost what is between."""
        address = self.serve(service := Scripted(WELCOMED, [5]))
        one = subscriber(NAME, context=self.context, address=address)
        self.addCleanup(one.close)
        self.result(one.when_subscribed())
        self.network.deliver()
        service.says = [{**WELCOMED, "begins": 9, "resumed": True}]
        self.network.cut()
        self.network.wait(10)
        self.assertEqual(self.take(one), [Gap(None, 6, 9, why="history")])


class ItemTests(FoundCase):
    """What a publisher sends is checked before it is taken apart."""

    wrong: list[Any] = [
        {},
        [],
        ["upto"],
        [-1],
        [MAX_NUMBER + 1],
        [1, []],
        [1, "event"],
        [1, ["x", "gap", 1]],
        [1, ["x", 1, 2, 3, 4]],
        [1, [5, 1, None, 0.0, "value"]],
        [1, [5, "", {}, 0.0, "value"]],
        [1, [5, "", None, "now", "value"]],
        [1, [5, "", None, 0.0, "value", 8]],
        [1, [5, "", None, 0.0, "value", [8]]],
        [1, [0, "", None, 0.0, "value"]],
        [1, [1 << 60, "", None, 0.0, "value"]],
        [1, [None]],
        [1, [None, "gap", 1 << 60, 1, 1, None, "bound"]],
        [1, [None, "gap", 1, -5, 1, None, "bound"]],
        [1, [None, "gap", 1, 1, 1, {}, "bound"]],
        [1, [None, "gap", 1, 1, 1, None, 5]],
        [1, [None, "gap"]],
        [1, [None, "restarted", 5]],
        [1, [None, "restarted"]],
    ]

    def test_what_is_no_batch_ends_the_feed_with_words(self) -> None:
        """And gives the user nothing else."""
        for batch in self.wrong:
            address = self.serve(Scripted(WELCOMED, batch))
            one = subscriber(NAME, context=self.context, address=address)
            self.failure(one.receive_event(), PycomnetError)
            self.assertEqual((one.missed, len(one._feeds)), (0, 0), batch)
            self.failure(one.receive(), ChannelClosed)

    def test_what_is_a_batch_is_given(self) -> None:
        """Events with and without blocks, and notices; those of a later version say nothing."""
        count = EventSequence(next(iter(self.subscribe()._feeds)), "e")
        batch = [
            9,
            [5, "s", "k", 0.0, None],
            [6, "", None, 0.0, 1, [[None, b"x"]]],
            [None, "later", "of a later version"],
            [None, "gap", 2, 7, 8, None, "history"],
        ]
        self.assertEqual(decode_batch(batch, count), 9)
        events = [[5, "s", "k", 0.0, None], [6, "", None, 0.0, 1, [[None, b"x"]]]]
        self.assertEqual(batch, [*events, Gap(2, 7, 8, None, "history")])


class ComingTests(FoundCase):
    """Publishers come and go."""

    def test_one_that_has_ended_and_is_registered_again_is_followed(self) -> None:
        """Without an end of its registration between: it was killed, and is back in its lease."""
        self.register("stays")
        first = make(history=10)()
        self.register("back", self.serve(first))
        one = self.follow()
        first.topic.end()
        self.network.deliver()
        second = make(history=10)()
        self.register("back", self.serve(second))
        self.network.wait(1)
        self.successResultOf(second.topic.publish("again"))
        self.assertEqual(self.take(one)[-1], "again")

    def test_a_publisher_whose_registration_is_told_again_is_not_asked_again(self) -> None:
        """After its end, as when the connection to the nameserver was lost."""
        self.register("stays")
        self.register("refuses", self.serve(refusing := Scripted(WELCOMED, KeyError("no"))))
        one = self.follow()
        self.assertIn("no", str(self.failure(one.receive(), Exception)))
        self.network.cut()
        self.network.wait(20)
        self.assertEqual(len(refusing.asked), 1)
        self.publish("x")
        self.assertEqual(self.take(one), ["x"])

    def test_when_all_have_ended_nothing_is_left(self) -> None:
        """Who comes later is for another subscriber: this one has said that it is over."""
        self.register("only")
        one = self.follow()
        self.topic.end()
        self.failure(one.receive(), ChannelClosed)
        later = Scripted(WELCOMED)
        self.register("later", self.serve(later))
        self.network.wait(5)
        self.failure(one.receive(), ChannelClosed)
        self.assertEqual((later.asked, self.named.pool.shared), ([], {}))

    def test_many_publishers_of_a_group_are_remembered_each(self) -> None:
        """However many others there are, an event that a lost connection brings again is new to
        nobody."""
        for number in range(40):
            self.register(f"quiet-{number}", self.serve(make()()))
        self.register("loud")
        one = self.follow(group="workers")
        self.publish(*range(3))
        events = self.take(one, events=True)
        self.assertEqual([event.value for event in events], [0, 1, 2])
        self.network.cut()
        self.network.wait(20)
        self.assertEqual(self.take(one), [])
        (feed,) = [feed for feed in one._feeds if feed.name == "loud"]
        self.assertLess(len(feed.count.had), MOST_HAD)

    def test_gaps_of_restarts_do_not_pile_up(self) -> None:
        """While the user takes nothing, one says it all."""
        one = self.subscribe()
        for number in range(30):
            self.topic.epoch = f"{number:016}"
            self.network.cut()
            self.network.wait(2)
        self.assertEqual(len(one._batches), 1)


class SubscribedTests(FoundCase):
    """Waiting for a subscription."""

    def test_a_dead_registration_holds_nobody(self) -> None:
        """Those that can be reached have confirmed."""
        self.register("dead", "tcp:127.0.0.1:9")
        self.register("here")
        one = self.follow()
        waiting = one.when_subscribed()
        self.network.wait(REACHED_IN + 1)
        self.successResultOf(waiting)
        self.result(one.change("a"))
        self.publish("x", subject="a")
        self.assertEqual(self.take(one), ["x"])

    def test_one_that_never_confirms_holds_nobody_for_long(self) -> None:
        """It has its time; then the others count."""
        self.register("silent", self.serve(Scripted()))
        self.register("here")
        one = self.follow()
        waiting = one.when_subscribed()
        self.network.deliver()
        self.assertNoResult(waiting)
        self.network.wait(WELCOME + 1, step=5)
        self.successResultOf(waiting)

    def test_that_the_only_one_does_not_confirm_is_an_error(self) -> None:
        """Once its time is over; then it is tried on."""
        address = self.serve(service := Scripted())
        one = subscriber(NAME, context=self.context, address=address)
        self.addCleanup(one.close)
        waiting = one.when_subscribed()
        self.network.wait(WELCOME - 1, step=1)
        self.assertNoResult(waiting)
        service.says = [WELCOMED]
        self.network.wait(3)
        self.failureResultOf(waiting, DeadlineExceeded)
        self.successResultOf(one.when_subscribed())

    def test_that_the_only_one_refuses_again_and_again_is_an_error(self) -> None:
        """As when there are too many subscriptions; then it is tried on."""
        address = self.serve(service := Scripted(Overloaded("full")))
        one = subscriber(NAME, context=self.context, address=address)
        self.addCleanup(one.close)
        waiting = one.when_subscribed()
        self.network.wait(10)
        self.failureResultOf(waiting, Overloaded)
        service.says = [WELCOMED]
        waiting = one.when_subscribed()
        self.network.wait(10)
        self.successResultOf(waiting)


class WatchTests(FoundCase):
    """The watch that subscribers share."""

    def test_a_subscriber_that_nobody_holds_ends(self) -> None:
        """Also one that the nameserver has found publishers for."""
        self.register("here")
        one = self.follow()
        self.assertEqual(len(self.topic.sinks), 1)
        self._cleanups = [each for each in self._cleanups if each[0] != one.close]
        reference = weakref.ref(one)
        gc.disable()
        self.addCleanup(gc.enable)
        del one
        self.assertIsNone(reference(), "something refers to it, if only in a circle")
        self.network.deliver()
        self.assertEqual((self.topic.sinks, self.named.pool.shared), ({}, {}))

    def test_one_that_was_used_without_deferreds_ends_as_well(self) -> None:
        """Its blocking form is not held by it."""
        one = subscriber(NAME, context=self.named)
        iter(one)
        reference = weakref.ref(one)
        gc.disable()
        self.addCleanup(gc.enable)
        del one
        self.assertIsNone(reference())

    def test_what_one_watcher_raises_is_not_the_others_end(self) -> None:
        """A subscriber that was collected, and is not let go yet, or a defect."""

        def collected(*_: object) -> None:
            raise defer.CancelledError

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        seen: list[Any] = []
        for found in (collected, broken, lambda name, _: seen.append(name)):
            watcher = ServiceWatcher(found, found, lambda: None, seen.append)  # type: ignore[arg-type]
            InterfaceWatch.watch(self.named, NAME, watcher)
        self.network.wait(1)
        self.register("a")
        self.register("b")
        self.network.wait(1)
        self.assertEqual(seen, ["a", "b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_a_nameserver_that_is_cut_off_is_watched_again(self) -> None:
        """Or another one, if the context has several: its subscribers do not end."""
        context = Context(self.network, nameserver=self.serve(CutOffNameserver()))
        self.addCleanup(context.close)
        seen: list[Any] = []
        watcher = ServiceWatcher(seen.append, seen.append, lambda: seen.append("all"), seen.append)  # type: ignore[arg-type]
        InterfaceWatch.watch(context, NAME, watcher)
        self.network.wait(10)
        self.assertEqual(seen, ["all"])

    def test_a_watcher_that_removes_itself_when_told_ends_the_watch(self) -> None:
        """It is told nothing more, and no stream is left."""
        self.register("a")
        self.register("b")
        seen: list[str] = []

        def found(name: str, _: object) -> None:
            seen.append(name)
            watch.remove(watcher)

        watcher = ServiceWatcher(found, seen.append, lambda: None, seen.append)  # type: ignore[arg-type]
        watch = InterfaceWatch.watch(self.named, NAME, watcher)
        self.network.wait(10)
        self.register("c")
        self.network.wait(10)
        self.assertEqual((seen, self.named.pool.shared), (["a"], {}))

    def test_the_deadline_of_who_came_first_is_not_the_others(self) -> None:
        """A subscriber in a method that has its caller's deadline, and one that goes on."""
        seconds = self.network.seconds
        first = subscriber(NAME, context=self.named.until(seconds() + 5))
        first.start()
        self.addCleanup(first.close)
        one = self.follow()
        self.network.wait(20)
        self.register("later")
        self.network.wait(1)
        self.publish("x")
        self.assertEqual(self.take(one), ["x"])

    def test_another_nameserver_has_another_watch(self) -> None:
        """Though the connections are shared."""
        self.register("here")
        other = subscriber(NAME, context=self.named.asking("tcp:127.0.0.1:9"))
        other.receive().addErrback(lambda _: None)
        self.addCleanup(other.close)
        one = self.follow()
        self.publish("x")
        self.assertEqual(self.take(one), ["x"])
