"""``map``: how many lines go to a gateway at a time."""

from __future__ import annotations

from typing import Any

from pycomnet.gateways.pool.scheduler import CHUNK_SECONDS, MAX_CHUNK, WorkLoop
from pycomnet.test.cli.case import CommandCase


class Chunks(CommandCase):
    """How many lines go at a time."""

    def test_small_and_large(self) -> None:
        """Quick items go many at a time, slow ones singly, and a change is followed."""
        place: WorkLoop[Any] = WorkLoop()
        counts = []
        for _ in range(12):
            counts.append(place.count)
            place.learn(place.count, place.count, place.count * 1e-5)
        self.assertEqual(counts[:4], [1, 2, 4, 8])
        self.assertEqual((place.count, place.depth), (MAX_CHUNK, 2))
        place.learn(500, 3, 0.2)
        self.assertEqual((place.count, place.depth), (3, 1))
        place.learn(3, 3, 3 * 10 * CHUNK_SECONDS)
        self.assertEqual((place.count, place.depth), (1, 1))
