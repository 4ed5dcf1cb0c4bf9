"""A short run of the fuzzer; benchmarks/fuzz.py makes long ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import pycomnet
from pycomnet.channels.core import ChannelCore
from pycomnet.far.channel import FarChannel as FarChannel
from pycomnet.test.wire import fuzzkit
from pycomnet.wire.mux import Mux, Stream

if TYPE_CHECKING:
    from pycomnet.wire.mux import Event

ROOT = Path(pycomnet.__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "fuzz.py"


class FuzzTests(SynchronousTestCase):
    """Whatever comes, all that may happen is an event."""

    def test_short_run_finds_nothing_and_tries_all_kinds(self) -> None:
        """Nothing is found in some hundred cases; they are of all kinds."""
        report = fuzzkit.run(seed=20, count=150)
        self.assertEqual([str(finding) for finding in report.findings], [])
        self.assertEqual(report.cases, 150)
        self.assertGreaterEqual(
            set(report.outcomes), {"exit", "taken", "frame", "channel", "value", "refused value"}
        )

    def test_case_alone_does_the_same_again(self) -> None:
        """A case does the same again without those before it."""
        both = [fuzzkit.run(seed=3, count=1, first=number).outcomes for number in range(6, 8)]
        whole = fuzzkit.run(seed=3, count=8).outcomes
        first = fuzzkit.run(seed=3, count=6).outcomes
        self.assertEqual(sum(both, first), whole)

    def test_script_says_seed_cases_and_findings(self) -> None:
        """The script says what it did, and how to have it again."""
        if not SCRIPT.is_file():
            raise SkipTest("this is not a checkout: there are no benchmarks")
        ran = subprocess.run(
            [sys.executable, str(SCRIPT), "--count", "3", "--seed", "5"],
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertRegex(ran.stdout, r"^fuzz: seed 5, 3 cases from 0 on, .*; 0 findings\n$")


class Surprised(Mux):
    """It does not expect a CREDIT of more than 256 bytes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

        def credit_received(stream: Stream, payload: bytes) -> None:
            stream.credit += [256, 0][payload[2] or payload[3]]

        self.flow.credit_received = credit_received  # type: ignore[method-assign]


class Keeps(Mux):
    """It keeps what arrives."""

    kept: list[bytes]

    def receive_data(self, data: bytes) -> list[Event]:
        self.kept = [*getattr(self, "kept", ()), data * 60]
        return super().receive_data(data)


class Forgets(Mux):
    """It gives credit for what nobody has taken."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        real = self.flow.fragment

        def fragment(stream: Stream, payload: bytes) -> None:
            real(stream, payload)
            stream.partial_cost = 0

        self.flow.fragment = fragment  # type: ignore[assignment, method-assign]


class Hangs(Mux):
    """It never comes back from an OPEN."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

        def opened(*arguments: object) -> None:
            while True:
                pass

        self.lifecycle.opened = opened  # type: ignore[assignment, method-assign]


class FinderTests(SynchronousTestCase):
    """The fuzzer finds what is wrong with a mux that is."""

    def found(self, make_mux: Callable[..., Mux], count: int) -> list[fuzzkit.Finding]:
        return fuzzkit.run(seed=2, count=count, make_mux=make_mux).findings

    def test_exception_is_found_and_reproduced(self) -> None:
        """Another exception, with the case to reproduce it."""
        [finding, *_] = self.found(Surprised, 80)
        self.assertRegex(str(finding), r"^seed 2, case \d+: IndexError: list index out of range$")
        again = fuzzkit.run(2, 1, finding.case, make_mux=Surprised).findings
        self.assertEqual([str(other) for other in again], [str(finding)])

    def test_growing_memory_is_found(self) -> None:
        """Memory that grows with what arrives."""
        self.patch(fuzzkit, "MEMORY_FACTOR", 40)
        self.patch(fuzzkit, "MEMORY_FIXED", 1 << 20)
        problems = [str(finding.problem) for finding in self.found(Keeps, 40)]
        self.assertTrue(any("bytes of memory" in problem for problem in problems), problems)

    def test_faults_above_the_mux_are_found(self) -> None:
        """What goes wrong above the mux, at either side."""

        def fail(*_: object) -> None:
            raise KeyError("fails")

        for kind, method in ((ChannelCore, "closed"), (FarChannel, "peer_closed")):
            with self.subTest(kind):
                self.patch(kind, method, fail)
                problems = [str(finding.problem) for finding in self.found(Mux, 60)]
                self.assertIn("'fails'", problems)

    def test_wrong_credit_is_found(self) -> None:
        """Credit that does not add up."""
        self.assertNotEqual(self.found(Forgets, 120), [])

    def test_hang_is_found(self) -> None:
        """A case that takes too long."""
        self.patch(fuzzkit, "TOO_LONG", 0.5)
        [finding, *_] = self.found(Hangs, 4)
        self.assertIsInstance(finding.problem, fuzzkit.TooLong)
