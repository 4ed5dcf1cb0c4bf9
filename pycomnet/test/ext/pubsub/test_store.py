"""A durable history in SQLite, and groups that go on where they acknowledged."""

from __future__ import annotations

import os
import sqlite3
from typing import Any

import attrs

from pycomnet.errors import InvalidArguments, Overloaded, StoreFailed
from pycomnet.ext.pubsub import Gap, SQLiteEventStore, TopicLimits
from pycomnet.ext.pubsub.history import KeptEvents
from pycomnet.ext.pubsub.stores import sqlite as sqlite_store
from pycomnet.services.server.server import ServiceServer
from pycomnet.services.threads import MethodThreads
from pycomnet.test.ext.pubsub.kit import NAME, PublishCase
from pycomnet.test.ext.pubsub.test_subscriberqueue import event
from pycomnet.test.processes import posix_locks


class StoreCase(PublishCase):
    """A publisher with a store; it is written when the network delivers."""

    settings: dict[str, Any] = {"history": 100, "retain": True}

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory, 0o700)
        self.path = os.path.join(self.directory, "events.db")
        super().setUp()

    def make_server(self) -> ServiceServer:
        self.network.runs_threads = True
        self.settings = {**self.settings, "store": self.new_store()}
        return super().make_server()

    def new_store(self, **options: Any) -> SQLiteEventStore:
        return SQLiteEventStore(self.path, threads=self.network, **options)

    def tearDown(self) -> None:
        self.network.runs_threads = True
        self.result(self.topic.store.close())

    def restart(self, **settings: Any) -> None:
        """As a killed process: what is not in the file is lost."""
        self.result(self.topic.store.close())
        super().restart(store=self.new_store(), **settings)

    def publish(self, *values: Any, **how: Any) -> None:
        for value in values:
            self.result(self.topic.publish(value, **how))


class DurableTests(StoreCase):
    """What is published is in the file."""

    def test_an_event_is_seen_once_it_is_durable(self) -> None:
        """Not before: what a subscriber has seen is there after a crash."""
        one = self.subscribe()
        self.network.runs_threads = False
        publishing = self.topic.publish(1)
        receiving = one.receive()
        self.network.deliver()
        self.assertNoResult(publishing)
        self.assertNoResult(receiving)
        self.network.runs_threads = True
        self.network.deliver()
        self.successResultOf(publishing)
        self.assertEqual(self.successResultOf(receiving), 1)

    def test_a_client_that_is_cut_off_while_it_publishes_ends_nothing(self) -> None:
        """Its event is stored and published, and so are those that follow."""
        self.service.settings = attrs.evolve(self.service.settings, may_publish=True)
        service = self.connect()
        self.network.runs_threads = False
        calling = service.invoke("publish", {"value": 1})
        self.network.deliver()
        self.network.cut()
        self.failure(calling)
        self.network.runs_threads = True
        self.network.deliver()
        self.publish(2)
        self.assertFalse(self.topic.over)
        self.assertEqual(self.take(self.subscribe(last=10)), [1, 2])

    def test_many_events_are_one_commit(self) -> None:
        """While one is written, the others wait for the next."""
        self.network.runs_threads = False
        publishing = [self.topic.publish(number) for number in range(50)]
        runs = 0
        while not all(one.called for one in publishing):
            self.network.run_threads()
            self.network.advance(0)
            runs += 1
            self.assertLess(runs, 5)
        self.assertEqual(self.topic.history.last, 50)

    def test_what_waits_to_be_written_is_bounded(self) -> None:
        """An event too many is refused, and nothing else ends."""
        self.network.runs_threads = False
        self.patch(sqlite_store, "MAX_QUEUED", 10_000)
        publishing = [self.topic.publish(bytes(1000)) for _ in range(20)]
        refused = [one for one in publishing if one.called]
        for one in refused:
            self.failureResultOf(one, Overloaded)
        self.assertTrue(refused)
        self.network.runs_threads = True
        self.network.deliver()
        self.assertEqual(self.topic.history.last, 20 - len(refused))
        self.publish("fine")

    def test_numbers_epoch_and_events_survive_a_restart(self) -> None:
        """A subscriber goes on, without a gap."""
        one = self.subscribe()
        self.publish("a", "b")
        self.assertEqual(self.take(one), ["a", "b"])
        epoch = self.topic.epoch
        self.restart()
        self.assertEqual((self.topic.epoch, self.topic.history.last), (epoch, 2))
        self.publish("c")
        self.network.wait(10)
        self.assertEqual(self.take(one), ["c"])
        late = self.subscribe(last=10)
        self.assertEqual(self.take(late), ["a", "b", "c"])

    def test_retained_values_survive_a_restart(self) -> None:
        """The last of each subject and key."""
        for number, key in enumerate("abcab"):
            self.publish(number, key=key)
        self.restart()
        self.assertEqual(self.take(self.subscribe()), [2, 3, 4])

    def test_the_history_goes_back_further_than_memory(self) -> None:
        """It is read from the file, in turns with what is published meanwhile."""
        self.topic.history.most = 1000
        self.publish(*range(40))
        self.assertLess(len(self.topic.history), 10)
        one = self.subscribe(last=1000)
        self.publish(*range(40, 50))
        self.assertEqual(self.take(one), list(range(50)))

    def test_the_history_is_found_by_time(self) -> None:
        """Also in the file."""
        self.topic.history.most = 1000
        for number in range(20):
            self.publish(number)
            self.network.wait(1, step=1)
        self.assertEqual(self.take(self.subscribe(since=5.5)), [15, 16, 17, 18, 19])

    def test_what_the_file_has_forgotten_is_told(self) -> None:
        """It keeps 100 events."""
        one = self.subscribe()
        self.publish("first")
        self.assertEqual(self.take(one), ["first"])
        self.network.cut()
        self.publish(*range(150))
        self.network.wait(10)
        found = self.take(one)
        self.assertEqual(found, [Gap(50, 2, 51, why="history"), *range(50, 150)])

    def test_a_store_that_fails_ends_the_publisher(self) -> None:
        """With the error: what is not durable is not published."""
        one = self.subscribe()
        self.topic.store._connection.close()
        self.failure(self.topic.publish(1), StoreFailed)
        self.flushLoggedErrors(StoreFailed)
        problem = self.failure(one.receive())
        self.assertIn("database", str(problem))
        self.assertTrue(self.topic.over)
        self.topic.store._connection = sqlite3.connect(":memory:", check_same_thread=False)


class KeepAllTests(StoreCase):
    """A store without a word on the history."""

    settings = {"retain": True}

    def test_a_store_keeps_what_it_may(self) -> None:
        """All events, and what is retained: a restart is no gap."""
        one = self.subscribe(name="billing", acknowledged=True)
        self.result(one.close())
        self.publish(1, 2, 3, key="k")
        self.restart()
        self.assertEqual(self.take(self.subscribe()), [3])
        self.assertEqual(self.take(self.subscribe(last=10)), [1, 2, 3])
        again = self.subscribe(name="billing", acknowledged=True)
        self.assertEqual(self.take(again), [1, 2, 3])


class ReadingTests(StoreCase):
    """Many who read far back, and take nothing."""

    settings = {"history": 100_000, "limits": TopicLimits(history=1 << 16, waiting=4 << 20)}

    def test_what_is_read_for_them_is_bounded(self) -> None:
        """Each event is in memory for one alone: those beyond the bound are to come again."""
        for number in range(200):
            self.publish([number, bytes(20_000)])
        context, kept = self.other_context(), []
        for _ in range(60):
            service = self.result(context.connect(self.address))
            stream = service.stream("subscribe", {"last": 200, "bound": 1024})
            stream.receive().addErrback(lambda _: None)
            kept.append(stream)
            self.network.deliver()
        self.assertLess(self.topic.waiting.size, (4 << 20) + (1 << 18))


class DurableGroupTests(StoreCase):
    """Named subscriptions that are acknowledged."""

    def named(self, **options: Any) -> Any:
        """One with a connection of its own."""
        return self.subscribe(
            name="billing", acknowledged=True, context=self.other_context(), **options
        )

    def test_it_goes_on_where_it_acknowledged_also_when_both_ends_are_new(self) -> None:
        """The third of five was taken and is not acknowledged: it comes again."""
        one = self.named()
        self.publish(*range(5))
        self.assertEqual([self.result(one.receive()) for _ in range(3)], [0, 1, 2])
        self.network.deliver()
        self.result(one.close())
        self.restart()
        self.publish(5)
        self.assertEqual(self.take(self.named()), [2, 3, 4, 5])

    def test_what_was_published_while_nobody_was_there_comes(self) -> None:
        """Also while the group is not even known in memory."""
        one = self.named()
        self.result(one.close())
        self.restart()
        self.publish(*range(3))
        self.assertEqual(self.take(self.named()), [0, 1, 2])

    def test_what_was_acknowledged_out_of_order_does_not_come_again(self) -> None:
        """Only what was not."""
        one = self.named()
        self.publish(*range(6))
        events = [self.result(one.receive_event()) for _ in range(5)]
        for place in (1, 3, 4):
            self.result(events[place].acknowledge())
        self.restart()
        found = self.take(self.named())
        self.assertEqual(found, [0, 2, 5])

    def test_a_living_subscriber_gets_nothing_twice_that_it_has_done(self) -> None:
        """The publisher was lost before it had noted it: then it is told again."""
        one = self.named()
        self.publish(*range(3))
        events = [self.result(one.receive_event()) for _ in range(3)]
        self.network.cut()
        for each in events:
            each.acknowledge().addErrback(lambda _: None)
        self.publish(3)
        self.network.wait(10)
        (event,) = self.take(one, events=True)
        self.assertEqual(event.value, 3)
        self.assertEqual(self.result(self.topic.store.group("", "billing")).floor, 3)

    def test_a_group_that_falls_behind_reads_the_file(self) -> None:
        """More than its bound: nothing is lost."""
        one = self.named(bound=2000, prefetch=2)
        self.publish(*range(60))
        self.assertLessEqual(self.topic.waiting.size, 2000)
        self.assertEqual(self.take(one), list(range(60)))

    def test_a_group_keeps_its_subjects(self) -> None:
        """Nobody moves it on with others, also while its subscribers are away."""
        made = self.subscribe("bills.>", name="billing", acknowledged=True)
        self.publish(1, 2, subject="bills.x")
        self.assertEqual(self.result(made.receive()), 1)
        self.result(made.close())
        self.network.wait(70)
        other = {"group": "billing", "durable": True, "subjects": ["public.>"]}
        problem = self.failure(self.connect().stream("subscribe", other).receive())
        self.assertIn("is for other subjects: bills.>", str(problem))
        again = self.subscribe("bills.>", name="billing", acknowledged=True)
        self.assertEqual(self.take(again), [1, 2])

    def test_a_group_in_memory_and_a_durable_one_of_one_name_are_two(self) -> None:
        """Neither takes the other's name."""
        memory = self.subscribe(group="billing")
        self.publish(1)
        durable = self.named()
        self.publish(2)
        self.assertEqual((self.take(memory), self.take(durable)), ([1, 2], [2]))

    def test_a_group_is_forgotten(self) -> None:
        """By its user, once it has no subscribers; then it begins anew."""
        one = self.named()
        self.publish(1)
        service = self.connect()
        self.failure(service.invoke("forget", {"group": "billing"}), InvalidArguments)
        self.result(one.close())
        for there in (True, False):
            found = self.result(service.invoke("forget", {"group": "billing"}))
            self.assertIs(found["found"], there)
        self.publish(2)
        again = self.named()
        self.publish(3)
        self.assertEqual(self.take(again), [3])

    def test_what_was_acknowledged_does_not_come_again_after_a_rewind(self) -> None:
        """The bound was reached in the meantime, and the file is read once more."""
        one = self.named(bound=4096)
        self.publish(*range(20))
        for each in self.take(one, events=True)[1:]:
            self.result(each.acknowledge())
        self.result(one.close())
        self.network.wait(70, step=10)
        again = self.named(bound=4096)
        self.assertEqual(self.take(again, events=True)[0].value, 0)  # and reads the rest
        self.result(again.close())
        self.network.deliver()
        self.publish(*range(100, 130))  # more than its bound, while the group is in memory
        self.assertEqual(self.take(self.named(bound=4096)), [0, *range(100, 130)])

    def test_members_share_a_durable_group(self) -> None:
        """Each event goes to one, and to the other if the first is lost."""
        one, other = self.named(prefetch=5), self.named(prefetch=100)
        self.publish(*range(10))
        self.result(one.close())
        self.network.deliver()
        self.assertEqual(sorted(self.take(other)), list(range(10)))


class FileTests(StoreCase):
    """The file itself."""

    def store(self, **options: Any) -> Any:
        return SQLiteEventStore(
            os.path.join(self.directory, "other.db"), threads=self.network, **options
        )

    def opened(self, keep: KeptEvents, **options: Any) -> Any:
        keys = options.pop("keys", 0)
        made = self.store(**options)
        self.result(made.open(self.network, keep, keys))
        return made

    def test_one_publisher_has_a_file(self) -> None:
        """Another one is refused, in this process or another."""
        self.failure(self.new_store().open(self.network, KeptEvents()), StoreFailed)

    def test_who_is_refused_takes_no_lock_from_who_has_it(self) -> None:
        """Closing any descriptor of a file would release the locks that SQLite has on it."""
        before = posix_locks(self.path)
        self.assertTrue(before)
        self.failure(self.new_store().open(self.network, KeptEvents()), StoreFailed)
        self.assertEqual(posix_locks(self.path), before)

    def test_durable_groups_of_a_user_are_limited(self) -> None:
        """Those that nobody has used for long make room."""
        now = [1000.0]
        made = self.opened(KeptEvents(), clock=lambda: now[0])
        for name in "abc":
            self.result(made.add_group("alice", name, (">",), 0, 3))
        self.failure(made.add_group("alice", "d", (">",), 0, 3), Overloaded)
        self.result(made.add_group("bob", "a", (">",), 5, 3))
        now[0] += 31 * 86400
        used = self.result(made.group("alice", "c"))
        self.result(made.acknowledge(used.id, 1, [3]))
        self.result(made.add_group("alice", "d", (">",), 0, 3))
        self.assertIsNone(self.result(made.group("alice", "a")))
        found = self.result(made.group("alice", "c"))
        self.assertEqual((found.floor, found.above), (1, (3,)))
        self.assertEqual(self.result(made.group("bob", "a")).floor, 5)
        self.result(made.close())

    def test_what_is_retained_outlives_the_history(self) -> None:
        """The last of each subject and key; no more of them than may be."""
        made = self.opened(KeptEvents(count=2), keys=3)
        for number, key in enumerate(["a", "b", None, "c", "c", "c"], 1):
            self.result(made.append(event(number, key)))
        found = self.result(made.retained(1 << 20))
        self.assertEqual([one.key for one in found], ["b", None, "c"])
        self.result(made.close())

    def test_files_of_others_are_left_alone(self) -> None:
        """No database, and another program's."""
        path = os.path.join(self.directory, "other.db")
        with open(path, "wb") as file:
            file.write(b"not a database at all, but long enough to be read" * 100)
        os.chmod(path, 0o600)
        self.failure(self.store().open(self.network, KeptEvents()), StoreFailed)
        os.unlink(path)
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.commit()
        connection.close()
        os.chmod(path, 0o600)
        self.failure(self.store().open(self.network, KeptEvents()), StoreFailed)

    def test_a_file_that_can_not_be_opened_leaves_no_thread(self) -> None:
        """The thread for it ends as that of a store that is closed."""
        ended: list[object] = []

        class Threads(MethodThreads):
            def close(self) -> None:
                ended.append(self)
                super().close()

        self.patch(sqlite_store, "MethodThreads", Threads)
        store = self.store()
        with open(os.path.join(self.directory, "other.db"), "wb") as file:
            file.write(b"no database" * 100)
        os.chmod(file.name, 0o600)
        self.failure(store.open(self.network, KeptEvents()), StoreFailed)
        self.assertEqual(len(ended), 1)

    def test_a_file_is_bounded(self) -> None:
        """By number, time and bytes; numbers go on after all were forgotten."""
        store = self.opened(KeptEvents(count=10), most=2000)
        for number in range(1, 31):
            self.result(store.append(event(number)))
        self.assertEqual((store.first, store.last), (25, 30))
        found = self.result(store.read(0))
        self.assertEqual([one.sequence for one in found], list(range(25, 31)))
        self.result(store.close())
        store = self.opened(KeptEvents(count=0))
        self.result(store.append(event(31)))
        self.assertEqual((store.first, store.last), (32, 31))
        self.result(store.close())
        store = self.opened(KeptEvents(count=0))
        self.assertEqual((store.first, store.last), (32, 31))
        self.result(store.close())

    def test_what_waits_is_written_before_it_is_closed(self) -> None:
        """Nothing that was accepted is lost."""
        store = self.opened(KeptEvents())
        self.network.runs_threads = False
        waiting = [store.append(event(number)) for number in range(1, 6)]
        closing = store.close()
        self.network.runs_threads = True
        self.network.deliver()
        self.successResultOf(closing)
        for one in waiting:
            self.successResultOf(one)
        store = self.opened(KeptEvents())
        self.assertEqual(store.last, 5)
        self.result(store.close())

    def test_groups_need_a_store(self) -> None:
        """Else there is nothing that could be kept."""
        self.assertTrue(NAME)
        args = {"group": "g", "durable": True}
        self.topic.store, kept = None, self.topic.store
        self.failure(self.connect().stream("subscribe", args).receive(), InvalidArguments)
        self.topic.store = kept
