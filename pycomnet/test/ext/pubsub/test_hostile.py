"""Clients that keep no rule, and a publisher with a store: it hurts nobody, and nothing is left.

They call its methods with anything, subscribe to anything, change and end subscriptions at any
time, also while a history is read for them, and acknowledge what others have.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pycomnet.errors import RemoteError, ServiceError
from pycomnet.ext.pubsub import Gap, TopicLimits
from pycomnet.test.ext.pubsub.kit import NAME
from pycomnet.test.ext.pubsub.test_store import StoreCase
from pycomnet.test.properties import examples

SEEDS = examples(24)
#: What the attackers of one run do.
STEPS = 150
#: How long a text may get.
LONG = 300


def text(numbers: random.Random) -> str:
    """A subject, a pattern, a name, or something like one."""
    parts = ["a", "b", "eu", "*", ">", "", " ", "ä", "\x00", "'", '"', "%", "x" * 40]
    if numbers.random() < 0.2:
        return "".join(chr(numbers.randrange(1, 0xD7FF)) for _ in range(numbers.randrange(LONG)))
    return ".".join(numbers.choice(parts) for _ in range(numbers.choice([1, 1, 2, 3, 40])))


def number(numbers: random.Random) -> Any:
    """A number, of those that are at some limit."""
    some = [0, 1, -1, 2, 5, 100, 1023, 1024, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1]
    return numbers.choice([*some, 0.0, 0.5, -1.5, 1e-9, 1e308, float("inf"), float("nan")])


def anything(numbers: random.Random, depth: int = 0) -> Any:
    """Any value."""
    kinds: list[Callable[[], Any]] = [
        lambda: text(numbers),
        lambda: number(numbers),
        lambda: None,
        lambda: numbers.random() < 0.5,
        lambda: bytes(numbers.randrange(50)),
    ]
    if depth < 3:
        kinds += [
            lambda: [anything(numbers, depth + 1) for _ in range(numbers.randrange(4))],
            lambda: {text(numbers): anything(numbers, depth + 1) for _ in range(3)},
        ]
    return numbers.choice(kinds)()


def subscription(numbers: random.Random) -> dict[str, Any]:
    """What is asked for with a subscription: mostly something that can be."""
    policies = ["drop_oldest", "drop_newest", "latest", "disconnect", "block"]
    offered: dict[str, Callable[[], Any]] = {
        "subjects": lambda: [numbers.choice(["a.*", "b.>", ">", "a.b", text(numbers)])],
        "policy": lambda: numbers.choice(policies),
        "bound": lambda: numbers.choice([1024, 5000, 1 << 20]),
        "last": lambda: numbers.choice([0, 1, 50, 10**6]),
        "since": lambda: numbers.choice([0.0, 1.0, 1e9]),
        "retained": lambda: numbers.random() < 0.5,
        "after": lambda: [["0" * 16, 3]],
        "group": lambda: numbers.choice(["one", "two"]),
        "durable": lambda: numbers.random() < 0.5,
        "prefetch": lambda: numbers.choice([1, 3, 100]),
        "ack_timeout": lambda: numbers.choice([1e-9, 0.1, 5.0]),
    }
    found: dict[str, Any] = {}
    for name, make in offered.items():
        if numbers.random() < 0.3:
            found[name] = anything(numbers) if numbers.random() < 0.1 else make()
    return found


class HostileTests(StoreCase):
    """Others get every event, and the publisher is as before once the attackers are gone."""

    settings = {
        "history": 500,
        "retain": True,
        "may_publish": True,
        "block": 1.0,
        "limits": TopicLimits(history=30_000, waiting=300_000, groups_per_user=5),
    }

    def test_clients_that_keep_no_rule(self) -> None:
        """Whatever they ask for, and whenever they go."""
        for seed in range(SEEDS):
            self.run_one(random.Random(seed), seed)

    def run_one(self, numbers: random.Random, seed: int) -> None:
        good = self.subscribe("mine.>", retained=False)
        worker = self.subscribe(
            "mine.>", group=f"mine {seed}", context=self.other_context(), retained=False
        )
        seen: list[Any] = []
        worked: list[Any] = []
        attackers = [self.other_context() for _ in range(3)]
        streams: list[Any] = []
        published = 0

        def take() -> None:
            for one, found in ((good, seen), (worker, worked)):
                receiving = one.receive_many()
                if receiving.called:
                    found += self.successResultOf(receiving)
                else:
                    receiving.cancel()
                    receiving.addErrback(lambda _: None)

        def call(method: str, args: Any) -> None:
            service = numbers.choice(attackers).at(self.address, NAME)
            try:
                service.invoke(method, args).addErrback(self.refused)
            except ServiceError:
                return  # it can't even be sent

        for _ in range(STEPS):
            what = numbers.randrange(10)
            if what < 2:
                published += 1
                self.topic.publish(published, subject="mine.x").addErrback(self.refused)
            elif what == 2:
                service = numbers.choice(attackers).at(self.address, NAME)
                stream = service.stream("subscribe", subscription(numbers))
                streams.append(stream)
                stream.receive().addErrback(self.refused)
            elif what == 3 and streams:
                streams.pop(numbers.randrange(len(streams))).close()
            elif what == 4:
                ids = list(self.topic.sinks) or [0]
                subjects = [text(numbers)] if numbers.random() < 0.3 else ["a.*", "c"]
                call("change", {"id": numbers.choice(ids), "subjects": subjects})
            elif what == 5:
                ids = [*self.topic.sinks, anything(numbers)]
                sequences: Any = list(
                    range(max(0, self.topic.offered - 20), self.topic.offered + 2)
                )
                if numbers.random() < 0.2:
                    sequences = numbers.choice([anything(numbers), [number(numbers)], []])
                call("acknowledge", {"id": numbers.choice(ids), "sequences": sequences})
            elif what == 6:
                subject = numbers.choice(["a.b", "b.c.d", text(numbers)])
                value = numbers.choice([bytes(3000), anything(numbers)])
                key = numbers.choice([None, text(numbers)])
                call("publish", {"value": value, "subject": f"theirs.{subject}", "key": key})
            elif what == 7:
                method = numbers.choice(["forget", "topic", "change", "subscribe", "acknowledge"])
                call(method, numbers.choice([anything(numbers), {"group": text(numbers)}]))
            elif what == 8:
                wires = self.network.wires
                for wire in list(wires)[2:]:  # not those of the good ones
                    if numbers.random() < 0.1:
                        self.network.cut(wire)
            else:
                self.network.advance(numbers.choice([0, 0.01, 0.5]))
                self.network.deliver()
                take()
        for context in attackers:
            self.result(context.close())
        for _ in range(40):
            self.network.wait(2, step=0.5)
            take()
        for found in (seen, worked):
            gaps = [one for one in found if isinstance(one, Gap)]
            self.assertEqual(gaps, [], f"seed {seed}")
        self.assertEqual(seen, list(range(1, published + 1)), f"seed {seed}")
        self.assertEqual(sorted(set(worked)), list(range(1, published + 1)), f"seed {seed}")
        self.result(good.close())
        self.result(worker.close())
        self.network.wait(70, step=10)
        self.assertFalse(self.topic.over, f"seed {seed}")
        self.assertEqual(self.topic.sinks, {}, f"seed {seed}")
        self.assertEqual(len(self.topic.groups), 0, f"seed {seed}")
        self.assertEqual(
            (self.topic.waiting.size, [*self.topic.recipients]), (0, []), f"seed {seed}"
        )

    def refused(self, failure: Any) -> None:
        """An attacker is told so: by an error that says what was wrong, and not by a defect's."""
        self.assertNotIsInstance(failure.value, RemoteError)
