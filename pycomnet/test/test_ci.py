"""The scripts of continuous integration, on what trial and pytest print, and on steps that fail."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.system.suites import REAL

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "failed_tests.py"
#: A script of steps: what follows is its own.
STEPS = """\
set -euo pipefail
exec </dev/null
root=$1 work=$2
log=$work/log
. "$root/.ci/steps.sh"
trap finish EXIT
trap 'exit 130' INT TERM HUP
"""
#: Two processes' output, one after the other: the second names its modules, too.
TRIAL = """\
pycomnet.test.test_first
  SomeTests
    test_good ...                                                          [OK]
===============================================================================
[ERROR]
Traceback (most recent call last):
builtins.ValueError: list modified during sort

pycomnet.test.test_first.SomeTests.test_bad
pycomnet.test.test_first.SomeTests.test_worse
-------------------------------------------------------------------------------
Ran 3 tests in 0.100s

FAILED (errors=2, successes=1)

pycomnet.test.test_second
  OtherTests
    test_good ...                                                          [OK]
"""
PYTEST = """\
=================================== short test summary info ====================
FAILED pycomnet/test/system/test_a.py::test_bad[one] - assert 1 == 2
ERROR pycomnet/test/system/test_a.py::test_worse
"""


@skipUnless(SCRIPT.exists(), "only in a checkout")
class FailedTests(SynchronousTestCase):
    """What is run once more."""

    def names(self, text: str, most: int = 3) -> tuple[int, list[str], str]:
        """The exit status, the names and the message for a log."""
        log = Path(self.mktemp())
        log.write_text(text)
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(log), str(most)], capture_output=True, text=True
        )
        return done.returncode, done.stdout.split(), done.stderr.strip()

    def test_trials_failures_are_named_and_no_heading(self) -> None:
        bad = "pycomnet.test.test_first.SomeTests"
        self.assertEqual(self.names(TRIAL), (0, [f"{bad}.test_bad", f"{bad}.test_worse"], ""))

    def test_pytests_failures_are_named_without_reasons(self) -> None:
        bad = "pycomnet/test/system/test_a.py::test_"
        self.assertEqual(self.names(PYTEST), (0, [f"{bad}bad[one]", f"{bad}worse"], ""))

    def test_too_many_are_not_run_again(self) -> None:
        words = "2 tests failed; at most 1 are run once more"
        self.assertEqual(self.names(PYTEST, 1), (1, [], words))

    def test_none_is_a_failure(self) -> None:
        self.assertEqual(self.names("Ran 3 tests"), (1, [], "no test that failed is named"))


class RealCasesTests(SynchronousTestCase):
    """The test cases with real far sides, which only the system tests run, by their modules."""

    def test_each_module_of_cases_is_run(self) -> None:
        """Each name has its module, and each module is run by a system test that names it."""
        tests = ROOT / "pycomnet" / "test"
        for name in REAL:
            self.assertTrue(tests.joinpath(*name.split(".")).with_suffix(".py").is_file(), name)
        texts = [path.read_text(encoding="utf-8") for path in (tests / "system").glob("*.py")]
        for path in tests.rglob("*_cases.py"):
            if not path.name.startswith("test_"):
                self.assertTrue(any(path.stem in text for text in texts), path)


@skipUnless(SCRIPT.exists(), "only in a checkout")
class StepsTests(SynchronousTestCase):
    """What a script of steps says at its end, and that it leaves nothing."""

    def start(self, script: str) -> "subprocess.Popen[str]":
        """Start a script of steps; ``self.work`` is the directory that it removes."""
        self.work = Path(self.mktemp()).absolute()
        self.work.mkdir()
        os.mkfifo(self.work / "pid")
        argv = ["bash", "-c", STEPS + script, "steps", str(ROOT), str(self.work)]
        return subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )

    def summary(self, script: str) -> tuple[int, str]:
        """The exit status of a script and its summary."""
        process = self.start(script)
        output, _ = process.communicate(timeout=100)
        self.assertFalse(self.work.exists())
        return process.returncode, output.partition("== summary\n")[2]

    def test_output_is_shown_and_steps_are_named(self) -> None:
        process = self.start("step one / 'echo hello'\nstep two / true")
        output, _ = process.communicate(timeout=100)
        self.assertEqual(output.count("hello\n"), 1)
        self.assertRegex(output, r"ok +one \(\d s\)\nok +two \(\d s\)\n0 passed")

    def test_step_that_fails_ends_it(self) -> None:
        status, summary = self.summary("step one / false\nstep two / true")
        self.assertEqual((status, summary), (1, "FAILED  one (exit status 1)\n"))

    def test_each_lane_that_fails_is_named(self) -> None:
        """And what the others have done: each has its end, also if another fails before."""
        status, summary = self.summary(
            "a() { step one / true; step bad / 'exit 3'; step three / true; }\n"
            "b() { step worse / false; }\n"
            "c() { step good / true; }\n"
            "together a b c\n"
        )
        self.assertEqual(status, 1)
        self.assertRegex(summary, r"^ok +one .*\nok +good .*\nFAILED  bad and worse ")

    def test_lane_that_can_say_nothing_has_failed(self) -> None:
        """As one that was killed, or has no room on the disk for its summary."""
        for way in ("kill -9 $BASHPID", "mkdir $work/a.current; false"):
            status, summary = self.summary(f"a() {{ {way}; }}\nb() {{ true; }}\ntogether a b\n")
            self.assertEqual((status, summary[:10]), (1, "FAILED  a "), way)

    def test_unsteady_tests_of_a_lane_are_named(self) -> None:
        _, summary = self.summary("a() { unsteady+=('x y' z); }\ntogether a\n")
        self.assertEqual(summary.count("UNSTEADY"), 2)

    def test_signal_ends_all_steps_at_once(self) -> None:
        """Those in lanes, too; nothing of them is left."""
        waits = "step a / \"echo \\$\\$ >'$work/pid'; sleep 1000\""
        for script in (waits, f"a() {{ {waits}; }}\nb() {{ step b / true; }}\ntogether a b"):
            process = self.start(script)
            pid = int((self.work / "pid").read_text())
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 1)
            self.assertIn("FAILED  ", output)
            self.assertRaises(ProcessLookupError, os.kill, pid, 0)
            self.assertFalse(self.work.exists())
