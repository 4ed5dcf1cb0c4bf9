"""The queue of ``map``: all lines come out once and in order, whatever the workers do."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.cli import linequeue
from pycomnet.cli.linequeue import Line, LineQueue
from pycomnet.gateways.pool.workqueue import CHUNK_SIZE, LOSSES_TILL_ALONE, MAX_TRIES, Failed
from pycomnet.test.properties import examples, given, settings


def texts(queue: LineQueue) -> list[str]:
    """What comes out now."""
    return [r if isinstance(r, str) else f"!{r.message}" for _, r in queue.results()]


def answer(queue: LineQueue, items: Sequence[Line], results: Sequence[Any]) -> None:
    """A worker answers; a list is a failure."""
    failures = {at: result for at, result in enumerate(results) if isinstance(result, list)}
    queue.answered(items, results, failures)


def filled(count: int) -> LineQueue:
    """A queue with the lines "1", "2"..., and no more to come."""
    queue = LineQueue()
    queue.add(str(number) for number in range(1, count + 1))
    queue.end()
    return queue


class Order(SynchronousTestCase):
    """What comes out, and when."""

    def test_later_results_wait_for_earlier_ones(self) -> None:
        """Nothing comes out before what was read before it."""
        queue = filled(3)
        first, rest = queue.take(1, False), queue.take(2, False)
        answer(queue, rest, ["b", "c"])
        self.assertEqual(texts(queue), [])
        answer(queue, first, ["a"])
        self.assertEqual(texts(queue), ["a", "b", "c"])
        self.assertTrue(queue.finished)

    def test_what_is_given_back_is_taken_first(self) -> None:
        """The items that an answer leaves out go to the next who asks, the oldest first."""
        queue = filled(5)
        first, second = queue.take(2, False), queue.take(2, False)
        answer(queue, second, ["3"])
        answer(queue, first, ["1"])
        self.assertEqual([item.text for item in queue.take(9, False)], ["2", "4", "5"])
        self.assertEqual([item.losses for item in first], [0, 0])

    def test_a_failure_takes_its_place(self) -> None:
        """An item that failed comes out in its turn, as a failure."""
        queue = filled(2)
        answer(queue, queue.take(2, False), [["ValueError", "no", "traceback"], "b"])
        (first, failed), (second, result) = queue.results()
        self.assertEqual(failed, Failed("ValueError", "no", "traceback"))
        self.assertEqual((first.number, second.number, result), (1, 2, "b"))

    def test_what_comes_after_a_stop_is_forgotten(self) -> None:
        """What comes before is still done, what comes after is forgotten wherever it is."""
        queue = filled(9)
        early, bad, late = (queue.take(2, False) for _ in range(3))
        answer(queue, bad, [["ValueError", "no", ""], "4"])
        queue.stop_after(bad[0])
        self.assertEqual(queue.take(9, True), [])
        answer(queue, late, ["5"])  # and gives 6 back
        queue.lost(late)
        self.assertEqual(queue.take(9, True), [])
        self.assertFalse(queue.finished)
        answer(queue, early, ["1"])
        self.assertEqual([item.text for item in queue.take(9, True)], ["2"])
        answer(queue, early[1:], ["2"])
        self.assertEqual(texts(queue), ["1", "2", "!no"])
        self.assertTrue(queue.finished)


class Bounds(SynchronousTestCase):
    """What is kept is bounded."""

    def test_full_of_items(self) -> None:
        """Many small items fill it, and coming out makes room."""
        queue = LineQueue()
        queue.add([""] * linequeue.MAX_ITEMS)
        self.assertTrue(queue.full)
        self.assertFalse(queue.crowded)
        answer(queue, queue.take(1, False), [""])
        self.assertTrue(queue.full)
        texts(queue)
        self.assertFalse(queue.full)

    def test_crowded_by_results(self) -> None:
        """Results that wait for an earlier one count; all is given back when they are out."""
        queue = filled(3)
        first, second, third = (queue.take(1, False) for _ in range(3))
        large = "x" * linequeue.MAX_TEXT
        answer(queue, second, [large])
        self.assertTrue(queue.crowded and queue.full)
        self.assertFalse(queue.holds_up(third))
        self.assertTrue(queue.holds_up(first))
        answer(queue, first, ["a"])
        self.assertEqual(texts(queue), ["a", large])
        self.assertFalse(queue.crowded)
        answer(queue, third, [["E", large, large]])
        self.assertTrue(queue.crowded)
        texts(queue)
        self.assertEqual(queue._text, 0)

    def test_an_oldest_item_that_nobody_has(self) -> None:
        """It holds up everybody: whoever is free first has to take it."""
        queue = filled(2)
        first, second = queue.take(1, False), queue.take(1, False)
        self.assertFalse(queue.holds_up(second))
        queue.lost(first)
        self.assertTrue(queue.holds_up(second))

    def test_chunks_are_short(self) -> None:
        """A chunk has one item, or as many as fit."""
        queue = LineQueue()
        queue.add(["x" * CHUNK_SIZE * 2, "y" * 40_000, "z" * 40_000])
        self.assertEqual([len(queue.take(9, False)) for _ in range(4)], [1, 1, 1, 0])


class Deaths(SynchronousTestCase):
    """Items whose workers died."""

    def test_item_is_given_up_after_a_try_alone(self) -> None:
        """An item is tried again, the last time alone, and then given up."""
        queue = filled(2)
        self.assertEqual(queue.lost(queue.take(2, False)), 2)
        both = queue.take(2, False)
        self.assertEqual(len(both), 2)
        queue.lost(both)
        self.assertEqual(queue.take(2, False), [])
        (first,) = queue.take(2, True)
        self.assertEqual(queue.lost([first]), 0)
        (second,) = queue.take(2, True)
        answer(queue, [second], ["b"])
        self.assertEqual(texts(queue), [f"!given up: {MAX_TRIES} gateways died of it", "b"])


class Worker:
    """A worker of the simulation: chunks that it has, and what it does with them."""

    def __init__(self) -> None:
        self.chunks: deque[list[Line]] = deque()


@settings(max_examples=examples(100), deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["good", "good", "good", "bad", "killer"]), max_size=40),
    workers=st.integers(1, 4),
    accidents=st.integers(0, 10),
    seed=st.integers(0, 2**32),
)
def any_history(kinds, workers, accidents, seed):
    """Workers that answer in part, fail, and die, at any time and in any order."""
    random = Random(seed)
    queue = LineQueue()
    pool = [Worker() for _ in range(workers)]
    out: list[str] = []
    unread = deque(f"{kind} {number}" for number, kind in enumerate(kinds))
    steps = 0
    while not queue.finished:
        steps += 1
        assert steps < 5000, "it does not come to an end"
        if unread and random.random() < 0.5:
            queue.add([unread.popleft() for _ in range(min(3, len(unread)))])
        if not unread:
            queue.end()
        worker = random.choice(pool)
        suspect = any(i.losses >= LOSSES_TILL_ALONE for chunk in worker.chunks for i in chunk)
        if len(worker.chunks) < 2 and not suspect:
            items = queue.take(random.randint(1, 5), alone=not worker.chunks)
            assert all(i.losses < LOSSES_TILL_ALONE for i in items) or not worker.chunks
            if items:
                worker.chunks.append(items)
        worker = random.choice(pool)
        if worker.chunks:
            items = worker.chunks[0]
            done = items[: random.randint(1, len(items))]
            if any(item.text.startswith("killer") for item in done) or (
                accidents and not items[0].losses and random.random() < 0.1
            ):
                accidents -= 1
                queue.lost([item for chunk in worker.chunks for item in chunk])
                worker.chunks.clear()
            else:
                worker.chunks.popleft()
                answer(
                    queue,
                    items,
                    [i.text if i.text.startswith("good") else ["E", "raised", ""] for i in done],
                )
        out += texts(queue)
    expected = {"bad": "!raised", "killer": f"!given up: {MAX_TRIES} gateways died of it"}
    assert out == [expected.get(kind, f"{kind} {n}") for n, kind in enumerate(kinds)]
    assert queue._text == 0


class Histories(SynchronousTestCase):
    """Any order of things."""

    def test_all_come_out_in_order(self) -> None:
        """Each line has its own result, and only those that kill are given up."""
        any_history()
