"""Measure the branch coverage of the unit tests: ``python .ci/unit_coverage.py [--floor PERCENT]``.

The test cases with real far sides that trial runs for the system tests count as well: they test the
near side as unit tests do.

The tests run in two processes, each of which takes the next module when it has none. Only these
are measured: what they start are bare interpreters, as on other machines, and a tracer in each
would change what is tested. So the code of ``far/`` that only runs there counts as not covered,
although the system tests run it.

It prints the tests' output, the total and the ten least covered modules. The exit status is that of
the tests, or 2 if the total is below the floor (by default ``fail_under`` of pyproject.toml).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import IO

from twisted.trial.reporter import TreeReporter
from twisted.trial.runner import TestLoader, TrialRunner

from pycomnet.test.system.suites import REAL

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "pycomnet" / "test"
LEFT_OUT = {"system", "adversary"}  # pytest's
PROCESSES = 2
#: The longest name of a test module, and what each takes in the queue.
RECORD = 128


def modules() -> list[str]:
    """The test modules, those with the most source first."""
    found = [
        path
        for path in TESTS.rglob("test_*.py")
        if path.relative_to(TESTS).parts[0] not in LEFT_OUT
    ]
    found += [TESTS.joinpath(*name.split(".")).with_suffix(".py") for name in REAL]
    found.sort(key=lambda path: (-path.stat().st_size, path))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]


def queue(names: list[str]) -> IO[bytes]:
    """A file with all names, from which each process takes one when it has nothing to do.

    All processes that inherit the descriptor share its position: nobody reads a name twice.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by its user
    file.write(b"".join(name.encode().ljust(RECORD) for name in names))
    file.seek(0)
    return file


class Waiting(unittest.TestSuite):
    """What is in the queue."""

    def __init__(self, read: int) -> None:
        super().__init__()
        os.set_inheritable(read, False)
        self._read = read

    def run(self, result: unittest.TestResult, debug: bool = False) -> unittest.TestResult:
        """Run each module that this process gets."""
        loader = TestLoader()
        while name := os.read(self._read, RECORD).decode().strip():
            loader.loadByName(name, recurse=True).run(result)
        return result


def work(read: int, directory: str) -> int:
    """What each process does: run tests until there are none left; return the exit status."""
    runner = TrialRunner(TreeReporter, workingDirectory=directory)
    return 0 if runner.run(Waiting(read)).wasSuccessful() else 1


def run(directory: Path) -> int:
    """Run the tests in processes with a tracer; return 0 if all have passed."""
    coverage = [sys.executable, "-m", "coverage", "run", f"--data-file={directory}/data"]
    started = []
    with queue(modules()) as names:
        fd = names.fileno()
        for number in range(PROCESSES):
            command = [*coverage, __file__, "--work", str(fd), f"{directory}/trial{number}"]
            log = (directory / f"log{number}").open("w+")
            process = subprocess.Popen(command, cwd=ROOT, pass_fds=[fd], stdout=log, stderr=log)
            started.append((process, log))
    status = 0
    for process, log in started:
        status = process.wait() or status
        log.seek(0)
        print(log.read(), flush=True)
    return status


def report(directory: Path, floor: float | None) -> int:
    """Print the total and the least covered modules; return 2 if it is below the floor."""
    tool = [sys.executable, "-m", "coverage"]
    data = f"--data-file={directory}/data"
    subprocess.run([*tool, "combine", "-q", data], cwd=ROOT, check=True)
    out = directory / "report.json"
    below = [] if floor is None else [f"--fail-under={floor}"]
    status = subprocess.run([*tool, "json", "-q", data, "-o", out, *below], cwd=ROOT).returncode
    found = json.loads(out.read_text())
    files = {
        name: each["summary"]["percent_covered"]
        for name, each in found["files"].items()
        if each["summary"]["num_statements"]
    }
    print("the least covered modules:")
    for name in sorted(files, key=lambda name: files[name])[:10]:
        print(f"{files[name]:6.1f} %  {name}")
    print(f"branch coverage of the unit tests: {found['totals']['percent_covered']:.1f} %")
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the branch coverage of the unit tests.")
    parser.add_argument("--floor", type=float, help="the least percentage")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        return work(int(arguments.work[0]), arguments.work[1])
    floor = arguments.floor
    with tempfile.TemporaryDirectory(prefix="pycomnet-coverage.") as name:
        status = run(Path(name))
        return report(Path(name), floor) or status


if __name__ == "__main__":
    sys.exit(main())
