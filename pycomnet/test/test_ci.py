"""The scripts of continuous integration, on what trial and pytest print."""

import subprocess
import sys
from pathlib import Path
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "failed_tests.py"
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


__all__ = ["FailedTests"]
