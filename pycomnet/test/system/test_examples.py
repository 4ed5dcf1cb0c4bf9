"""The documentation's examples run.

They lie in ``docs/examples/``, beside the package in a checkout. Each is a program of its own that
asserts what it says; here it runs in a process of its own, with real gateways.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pycomnet

DOCS = Path(pycomnet.__file__).parent.parent / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
#: Seconds for each: ten times what the slowest takes on a busy machine.
TIMEOUT = 120


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


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_does_what_its_first_line_says(path: Path) -> None:
    """Each does what its first line says."""
    run(path)


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("assert 1 == 2", "AssertionError"),
        ("from twisted.internet import defer\ndefer.fail(ValueError('lost'))", "lost"),
        ("async def main(): pass\nmain()", "never awaited"),
    ],
)
def test_failing_example_is_seen(tmp_path: Path, source: str, seen: str) -> None:
    """A failing assertion is seen, an unhandled failure, and a coroutine that nobody awaits."""
    path = tmp_path / "example.py"
    path.write_text(source)
    with pytest.raises(AssertionError, match=seen):
        run(path)


def test_right_example_passes(tmp_path: Path) -> None:
    """One that is right passes, whatever it prints."""
    path = tmp_path / "example.py"
    path.write_text("print('fine')")
    run(path)
