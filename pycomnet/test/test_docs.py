"""The documentation's examples run, and each is shown somewhere.

They lie in ``docs/examples/``, beside the package in a checkout. Each is a program of its own that
asserts what it says; here it runs in a process of its own, with real gateways.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import pycomnet

DOCS = Path(pycomnet.__file__).parent.parent / "docs"
EXAMPLES = DOCS / "examples"
#: Seconds for each: ten times what the slowest takes on a busy machine.
TIMEOUT = 60


def run(path: Path) -> None:
    """Run an example; fail with what it wrote if it fails or leaves a failure unhandled."""
    search = [str(DOCS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    ran = subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    if ran.returncode or re.search("Unhandled|Traceback|never awaited", ran.stdout):
        raise AssertionError(f"{path.name}: exit status {ran.returncode}\n{ran.stdout}")


def _case(path: Path) -> Callable[[SynchronousTestCase], None]:
    def test(self: SynchronousTestCase) -> None:
        run(path)

    first = path.read_text(encoding="utf-8").partition("\n")[0].strip('"')
    test.__doc__ = f"{path.name}: {first}"
    return test


class ExampleTests(SynchronousTestCase):
    """Each example does what it says. The methods are made from the files."""


for _path in sorted(EXAMPLES.glob("*.py")):
    setattr(ExampleTests, f"test_{_path.stem}", _case(_path))


class PageTests(SynchronousTestCase):
    """The pages and the examples know of each other."""

    if not EXAMPLES.is_dir():
        skip = "there are no docs beside an installed package"

    def test_all_are_shown(self) -> None:
        """Every example is in a page, and every page's example is there."""
        shown = {
            (page.parent / name).resolve()
            for page in DOCS.rglob("*.rst")
            for name in re.findall(
                r"^\.\. literalinclude:: (\S+)", page.read_text(encoding="utf-8"), re.M
            )
        }
        self.assertEqual(shown, {path.resolve() for path in EXAMPLES.glob("*.py")})

    def test_api_is_complete(self) -> None:
        """Every public name is described in the reference."""
        text = (DOCS / "api.rst").read_text(encoding="utf-8")
        described = set(re.findall(r"^\.\. auto\w+:: pycomnet\.(\w+)", text, re.M))
        self.assertEqual(set(pycomnet.__all__) - {"__version__"} - described, set())


class RunnerTests(SynchronousTestCase):
    """The runner sees what is wrong with an example."""

    def run_source(self, source: str) -> None:
        path = Path(self.mktemp() + ".py")
        path.write_text(source)
        run(path)

    def test_failure(self) -> None:
        """A failing assertion is seen, an unhandled failure, and a coroutine that nobody awaits."""
        for source, seen in (
            ("assert 1 == 2", "AssertionError"),
            ("from twisted.internet import defer\ndefer.fail(ValueError('lost'))", "lost"),
            ("async def main(): pass\nmain()", "never awaited"),
        ):
            problem = self.assertRaises(AssertionError, self.run_source, source)
            self.assertIn(seen, str(problem))

    def test_success(self) -> None:
        """One that is right passes, whatever it prints."""
        self.run_source("print('fine')")
