"""What a frame costs is computed in one module; a copy says which benchmark row needs it."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.test.properties import given
from pycomnet.wire.frames import (
    HEADER_SIZE,
    frame_cost,
    frame_costs,
    frame_room,
    run_cost,
)

ROOT = Path(pycomnet.__file__).parent
#: where the cost is computed, and how many copies other modules have
HOME = "wire/frames.py"
COPIES = {"wire/reader.py": 1, "wire/scheduler.py": 3}
#: lines above a copy in which the comment stands
ABOVE = 3


class CostTests(SynchronousTestCase):
    """The cost of frames."""

    @given(st.lists(st.integers(0, 5000), max_size=20))
    def test_costs_agree_alone_together_and_backwards(self, sizes: list[int]) -> None:
        """One by one, together and backwards it is the same."""
        payloads = [bytes(size) for size in sizes]
        costs = [frame_cost(size) for size in sizes]
        self.assertEqual(frame_costs(payloads), costs)
        in_all = sum(sizes) + HEADER_SIZE * len(sizes)
        self.assertEqual(run_cost(in_all, len(sizes)), sum(costs))
        self.assertEqual([frame_room(cost) for cost in costs], sizes)

    def test_inlined_costs_name_their_benchmark_row(self) -> None:
        """Who adds it up elsewhere says which row of the benchmarks a call would slow down."""
        found: dict[str, int] = {}
        for path in ROOT.rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            lines = path.read_text().splitlines()
            for number, line in enumerate(lines):
                if not re.search(r"[-+] *FRAME_COST|FRAME_COST *[-+]", line):
                    continue
                if name == HOME or name.startswith("test/"):
                    continue
                found[name] = found.get(name, 0) + 1
                above = "\n".join(lines[max(0, number - ABOVE) : number])
                self.assertRegex(above, r"# Inlined \(.*\) for the rows? ", f"{name}:{number + 1}")
        self.assertEqual(found, COPIES)
