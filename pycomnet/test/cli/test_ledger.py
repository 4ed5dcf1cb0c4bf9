"""The ledger of ``map``: all lines come out once and in order, whatever the workers do."""

from __future__ import annotations

from collections import deque
from random import Random

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.cli import ledger as ledger_module
from pycomnet.cli.ledger import DEATHS_TILL_ALONE, MAX_DEATHS, Failed, Item, Ledger
from pycomnet.test.properties import given, settings


def texts(ledger: Ledger) -> list[str]:
    """What comes out now."""
    return [r if isinstance(r, str) else f"!{r.message}" for _, r in ledger.results()]


def filled(count: int) -> Ledger:
    """A ledger with the lines "1", "2"..., and no more to come."""
    ledger = Ledger()
    ledger.add(str(number) for number in range(1, count + 1))
    ledger.end()
    return ledger


class Order(SynchronousTestCase):
    """What comes out, and when."""

    def test_later_results_wait_for_earlier_ones(self) -> None:
        """Nothing comes out before what was read before it."""
        ledger = filled(3)
        first, rest = ledger.take(1, False), ledger.take(2, False)
        ledger.answered(rest, ["b", "c"])
        self.assertEqual(texts(ledger), [])
        ledger.answered(first, ["a"])
        self.assertEqual(texts(ledger), ["a", "b", "c"])
        self.assertTrue(ledger.finished)

    def test_what_is_given_back_is_taken_first(self) -> None:
        """The items that an answer leaves out go to the next who asks, the oldest first."""
        ledger = filled(5)
        first, second = ledger.take(2, False), ledger.take(2, False)
        ledger.answered(second, ["3"])
        ledger.answered(first, ["1"])
        self.assertEqual([item.text for item in ledger.take(9, False)], ["2", "4", "5"])
        self.assertEqual([item.deaths for item in first], [0, 0])

    def test_a_failure_takes_its_place(self) -> None:
        """An item that failed comes out in its turn, as a failure."""
        ledger = filled(2)
        ledger.answered(ledger.take(2, False), [["ValueError", "no", "traceback"], "b"])
        (first, failed), (second, result) = ledger.results()
        self.assertEqual(failed, Failed("ValueError", "no", "traceback"))
        self.assertEqual((first.number, second.number, result), (1, 2, "b"))

    def test_stop_after(self) -> None:
        """What comes before is still done, what comes after is forgotten wherever it is."""
        ledger = filled(9)
        early, bad, late = (ledger.take(2, False) for _ in range(3))
        ledger.answered(bad, [["ValueError", "no", ""], "4"])
        ledger.stop_after(bad[0])
        self.assertEqual(ledger.take(9, True), [])
        ledger.answered(late, ["5"])  # and gives 6 back
        ledger.lost(late)
        self.assertEqual(ledger.take(9, True), [])
        self.assertFalse(ledger.finished)
        ledger.answered(early, ["1"])
        self.assertEqual([item.text for item in ledger.take(9, True)], ["2"])
        ledger.answered(early[1:], ["2"])
        self.assertEqual(texts(ledger), ["1", "2", "!no"])
        self.assertTrue(ledger.finished)


class Bounds(SynchronousTestCase):
    """What is kept is bounded."""

    def test_full_of_items(self) -> None:
        """Many small items fill it, and coming out makes room."""
        ledger = Ledger()
        ledger.add([""] * ledger_module.MAX_ITEMS)
        self.assertTrue(ledger.full)
        self.assertFalse(ledger.crowded)
        ledger.answered(ledger.take(1, False), [""])
        self.assertTrue(ledger.full)
        texts(ledger)
        self.assertFalse(ledger.full)

    def test_crowded_by_results(self) -> None:
        """Results that wait for an earlier one count; all is given back when they are out."""
        ledger = filled(3)
        first, second, third = (ledger.take(1, False) for _ in range(3))
        large = "x" * ledger_module.MAX_TEXT
        ledger.answered(second, [large])
        self.assertTrue(ledger.crowded and ledger.full)
        self.assertFalse(ledger.holds_up(third))
        self.assertTrue(ledger.holds_up(first))
        ledger.answered(first, ["a"])
        self.assertEqual(texts(ledger), ["a", large])
        self.assertFalse(ledger.crowded)
        ledger.answered(third, [["E", large, large]])
        self.assertTrue(ledger.crowded)
        texts(ledger)
        self.assertEqual(ledger._text, 0)

    def test_an_oldest_item_that_nobody_has(self) -> None:
        """It holds up everybody: whoever is free first has to take it."""
        ledger = filled(2)
        first, second = ledger.take(1, False), ledger.take(1, False)
        self.assertFalse(ledger.holds_up(second))
        ledger.lost(first)
        self.assertTrue(ledger.holds_up(second))

    def test_chunks_are_short(self) -> None:
        """A chunk has one item, or as many as fit."""
        ledger = Ledger()
        ledger.add(["x" * ledger_module.CHUNK_TEXT * 2, "y" * 40_000, "z" * 40_000])
        self.assertEqual([len(ledger.take(9, False)) for _ in range(4)], [1, 1, 1, 0])


class Deaths(SynchronousTestCase):
    """Items whose workers died."""

    def test_given_up(self) -> None:
        """An item is tried again, the last time alone, and then given up."""
        ledger = filled(2)
        self.assertEqual(ledger.lost(ledger.take(2, False)), 2)
        both = ledger.take(2, False)
        self.assertEqual(len(both), 2)
        ledger.lost(both)
        self.assertEqual(ledger.take(2, False), [])
        (first,) = ledger.take(2, True)
        self.assertEqual(ledger.lost([first]), 0)
        (second,) = ledger.take(2, True)
        ledger.answered([second], ["b"])
        self.assertEqual(texts(ledger), [f"!given up: {MAX_DEATHS} gateways died of it", "b"])


class Worker:
    """A worker of the simulation: chunks that it has, and what it does with them."""

    def __init__(self) -> None:
        self.chunks: deque[list[Item]] = deque()


@settings(max_examples=200, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["good", "good", "good", "bad", "killer"]), max_size=40),
    workers=st.integers(1, 4),
    accidents=st.integers(0, 10),
    seed=st.integers(0, 2**32),
)
def any_history(kinds, workers, accidents, seed):
    """Workers that answer in part, fail, and die, at any time and in any order."""
    random = Random(seed)
    ledger = Ledger()
    pool = [Worker() for _ in range(workers)]
    out: list[str] = []
    unread = deque(f"{kind} {number}" for number, kind in enumerate(kinds))
    steps = 0
    while not ledger.finished:
        steps += 1
        assert steps < 5000, "it does not come to an end"
        if unread and random.random() < 0.5:
            ledger.add([unread.popleft() for _ in range(min(3, len(unread)))])
        if not unread:
            ledger.end()
        worker = random.choice(pool)
        suspect = any(i.deaths >= DEATHS_TILL_ALONE for chunk in worker.chunks for i in chunk)
        if len(worker.chunks) < 2 and not suspect:
            items = ledger.take(random.randint(1, 5), alone=not worker.chunks)
            assert all(i.deaths < DEATHS_TILL_ALONE for i in items) or not worker.chunks
            if items:
                worker.chunks.append(items)
        worker = random.choice(pool)
        if worker.chunks:
            items = worker.chunks[0]
            done = items[: random.randint(1, len(items))]
            if any(item.text.startswith("killer") for item in done) or (
                accidents and not items[0].deaths and random.random() < 0.1
            ):
                accidents -= 1
                ledger.lost([item for chunk in worker.chunks for item in chunk])
                worker.chunks.clear()
            else:
                worker.chunks.popleft()
                ledger.answered(
                    items,
                    [i.text if i.text.startswith("good") else ["E", "raised", ""] for i in done],
                )
        out += texts(ledger)
    expected = {"bad": "!raised", "killer": f"!given up: {MAX_DEATHS} gateways died of it"}
    assert out == [expected.get(kind, f"{kind} {n}") for n, kind in enumerate(kinds)]
    assert ledger._text == 0


class Histories(SynchronousTestCase):
    """Any order of things."""

    def test_all_come_out_in_order(self) -> None:
        """Each line has its own result, and only those that kill are given up."""
        any_history()
