"""Random histories, with connections cut and publishers killed; and the checker itself."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.ext.pubsub import Gap
from pycomnet.test.ext.pubsub.histories import (
    Entry,
    Handed,
    Seen,
    entry_of,
    faults_of,
    faults_of_group,
)
from pycomnet.test.ext.pubsub.kit import PublishCase
from pycomnet.test.ext.pubsub.test_store import StoreCase

#: How many random histories there are of each kind, and steps in each.
SEEDS, STEPS = 3, 50


class CheckerTests(SynchronousTestCase):
    """Recorded histories with something wrong."""

    def faults(self, *entries: Entry | int, **options: Any) -> int:
        made = [Seen("p", "1", one) if isinstance(one, int) else one for one in entries]
        return len(list(faults_of(made, **options)))

    def test_what_is_right_has_no_faults(self) -> None:
        """Wherever it begins; with gaps that say what is missing, and a new life that is told."""
        gap = Gap(2, 8, 9, publisher="p")
        restart = Gap(None, 12, 0, why="restarted", publisher="p")
        self.assertEqual(self.faults(5, 6, 7, gap, 10, restart, Seen("p", "2", 1)), 0)
        self.assertEqual(self.faults(5, Seen("q", "1", 1), 6, Seen("q", "1", 2)), 0)

    def test_what_is_missing_or_out_of_order_is_found(self) -> None:
        """Each is one fault."""
        self.assertEqual(self.faults(1, 2, 4), 1)
        self.assertEqual(self.faults(1, 3, Gap(1, 2, 2, publisher="p"), 4), 2)
        self.assertEqual(self.faults(1, 2, 2), 1)
        self.assertEqual(self.faults(1, 3, 2), 2)
        self.assertEqual(self.faults(1, Gap(2, 2, 2, publisher="p"), 3), 1)
        self.assertEqual(self.faults(1, Gap(1, 2, 2, publisher="p"), 4), 1)
        self.assertEqual(self.faults(1, Gap(1, 2, 2, publisher="q"), 3), 1)
        self.assertEqual(self.faults(1, Seen("p", "2", 2)), 1)
        gap = Gap(1, 2, 2, publisher="p")
        self.assertEqual(self.faults(1, gap, 3, gaps_allowed=False), 1)

    def test_what_a_group_loses_or_gets_twice_is_found(self) -> None:
        """Twice is right if the first one was lost before it had acknowledged."""

        def faults(*handed: Handed, living: tuple[str, ...] = ()) -> int:
            return len(list(faults_of_group(handed, [1, 2], living)))

        right = Handed("a", 1, True), Handed("b", 2, True)
        self.assertEqual(faults(*right), 0)
        self.assertEqual(faults(Handed("a", 2), *right), 0)
        self.assertEqual(faults(right[0]), 1)
        self.assertEqual(faults(*right, Handed("a", 2)), 1)
        self.assertEqual(faults(Handed("a", 1), *right), 0)

    def test_what_was_on_its_way_when_another_acknowledged_it_is_no_fault(self) -> None:
        """It was sent to both before; what is sent later is one."""
        first = Handed("a", 1, True, taken=1.0, noted=10.0)
        for taken, expected in ((9.0, 0), (11.0, 0), (13.0, 1)):
            handed = first, Handed("b", 1, taken=taken)
            self.assertEqual(len(list(faults_of_group(handed, [1], underway=2.0))), expected)

    def test_who_lives_gets_nothing_twice(self) -> None:
        """Acknowledged or not."""

        def faults(*handed: Handed, living: tuple[str, ...] = ()) -> int:
            return len(list(faults_of_group(handed, [1, 2], living)))

        right = Handed("a", 1, True), Handed("b", 2, True)
        self.assertEqual(faults(Handed("a", 1), *right, living=("a",)), 1)


class RandomTests(PublishCase):
    """A publisher with a short history, in memory."""

    settings = {"history": 30}

    def test_nothing_is_lost_without_a_gap(self) -> None:
        """Whatever is cut, killed, stalled and published, in whatever order."""
        for seed in range(SEEDS):
            self.run_one(random.Random(seed), seed)

    def run_one(self, numbers: random.Random, seed: int) -> None:
        life, number = 0, self.topic.history.last
        ones = [
            self.subscribe(context=self.other_context(), **options)
            for options in ({}, {"bound": 2000}, {"bound": 2000, "policy": "drop_newest"})
        ]
        histories: list[list[Entry]] = [[] for _ in ones]

        def take(most: int) -> None:
            for one, history in zip(ones, histories, strict=True):
                receiving = one.receive_many(most, True)
                if not receiving.called:
                    receiving.cancel()
                    receiving.addErrback(lambda _: None)
                    continue
                history += [entry_of(item, "p") for item in self.successResultOf(receiving)]

        for _ in range(STEPS):
            what = numbers.choice(["publish", "publish", "publish", "move", "cut", "kill", "take"])
            if what == "publish":
                for _ in range(numbers.choice([1, 3, 40])):
                    number += 1
                    size = numbers.choice([10, 1000, 30_000, 70_000])
                    self.topic.publish([f"{seed}.{life}", number, bytes(size)])
            elif what == "move":
                for client, server in list(self.network.wires):
                    if numbers.random() < 0.5:
                        self.network._move(server, client)
                    else:
                        self.network._move(client, server)
                self.network.advance(0)
            elif what == "cut":
                for wire in list(self.network.wires):
                    if numbers.random() < 0.5:
                        self.network.cut(wire)
                self.network.advance(numbers.choice([0, 0.1, 1]))
            elif what == "kill" and numbers.random() < 0.3:
                life, number = life + 1, 0
                self.restart()
            else:
                take(numbers.choice([1, 5, 1000]))
        for _ in range(10):
            self.network.wait(6, step=1)
            take(100_000)
        number += 1
        self.topic.publish([f"{seed}.{life}", number, b"the last"])
        for _ in range(10):
            self.network.wait(6, step=1)
            take(100_000)
        for history, one in zip(histories, ones, strict=True):
            self.assertEqual(list(faults_of(history)), [], f"seed {seed}, {one._wanted}")
            self.assertEqual(history[-1], Seen("p", f"{seed}.{life}", number), f"seed {seed}")
            self.result(one.close())


class RandomDurableTests(StoreCase):
    """A publisher with a store."""

    settings = {"history": 100_000}

    def test_nothing_is_lost_and_nothing_comes_again_that_is_done(self) -> None:
        """Neither to one who takes all, nor to a group whose members are lost."""
        for seed in range(SEEDS):
            self.run_one(random.Random(seed), f"workers {seed}")

    def run_one(self, numbers: random.Random, group: str) -> None:
        base = self.topic.history.last
        everything = self.subscribe()
        history: list[Entry] = []
        members: list[Any] = []
        handed: list[Handed] = []
        names = iter(range(1000))

        def join() -> None:
            one = self.subscribe(
                name=group, acknowledged=True, context=self.other_context(), prefetch=5, bound=4096
            )
            members.append((f"m{next(names)}", one))

        def take(one: Any, most: int) -> list[Any]:
            receiving: defer.Deferred[Any] = one.receive_many(most, True)
            if not receiving.called:
                receiving.cancel()
                receiving.addErrback(lambda _: None)
                return []
            found: Any = self.successResultOf(receiving)
            return list(found)

        def work(share: float = 0.9) -> None:
            history.extend(entry_of(item, "p") for item in take(everything, 1000))
            for name, one in members:
                for event in take(one, numbers.choice([1, 5])):
                    note = Handed(name, event.sequence)
                    handed.append(note)
                    if numbers.random() < share:
                        done = event.acknowledge()
                        done.addCallbacks(
                            lambda _, note=note: setattr(note, "confirmed", True), lambda _: None
                        )

        join()
        join()
        number = base
        for _ in range(STEPS):
            what = numbers.choice(["publish", "publish", "move", "cut", "kill", "work", "leave"])
            if what == "publish":
                for _ in range(numbers.choice([1, 3, 40])):
                    number += 1
                    self.publish(["1", number, bytes(numbers.choice([10, 1000, 30_000]))])
            elif what == "move":
                self.network.advance(0.1)
                self.network.deliver()
            elif what == "cut":
                for wire in list(self.network.wires):
                    if numbers.random() < 0.3:
                        self.network.cut(wire)
            elif what == "kill" and numbers.random() < 0.2:
                self.restart()
                self.network.wait(2, step=0.5)
            elif what == "leave":
                _, one = members.pop(0)
                self.result(one.close())
                join()
            else:
                work()
        for _, one in members:
            self.result(one.close())
        members.clear()
        join()
        for _ in range(200):
            self.network.wait(3, step=1)
            before = len(handed)
            work(1.0)
            if len(handed) == before and self.is_done(handed, number):
                break
        history.extend(entry_of(item, "p") for item in self.take(everything, True))
        self.assertEqual(list(faults_of(history, gaps_allowed=False)), [], group)
        self.assertEqual(history[-1], Seen("p", "1", number), group)
        living = [name for name, _ in members]
        faults = list(faults_of_group(handed, range(base + 1, number + 1), living))
        self.assertEqual(faults, [], group)
        self.result(members[0][1].close())
        self.result(everything.close())

    def is_done(self, handed: list[Handed], last: int) -> bool:
        """Whether the last event has come."""
        return any(one.number == last for one in handed)
