"""Measure the branch coverage of the unit tests: ``python .ci/unit_coverage.py [--floor PERCENT]``.

The tests run in two processes, as with ``trial -j 2``. Only these are measured: what they start are
bare interpreters, as on other machines, and a tracer in each would change what is tested. So
the code of ``far/`` that only runs there counts as not covered, although the system tests run it.

It prints the tests' output, the total and the ten least covered modules. The exit status is that of
the tests, or 2 if the total is below the floor (by default ``fail_under`` of pyproject.toml).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "pycomnet" / "test"
LEFT_OUT = {"system", "adversary"}  # pytest's
PROCESSES = 2
#: Properties that are tried on many examples take longer than their source's size says.
FACTORS = {"pycomnet.test.wire": 2}


def packages() -> dict[str, int]:
    """Test package or module -> its time, for which the size of its source stands."""
    sizes = {}
    for path in sorted(TESTS.iterdir()):
        name = f"pycomnet.test.{path.stem}"
        if path.is_dir() and (path / "__init__.py").exists() and path.name not in LEFT_OUT:
            sizes[name] = sum(each.stat().st_size for each in path.rglob("test_*.py"))
        elif path.match("test_*.py"):
            sizes[name] = path.stat().st_size
    return {name: size * FACTORS.get(name, 1) for name, size in sizes.items()}


def shares(sizes: dict[str, int]) -> list[list[str]]:
    """Names for each process: the largest first, each to the process that has least."""
    found: list[list[str]] = [[] for _ in range(PROCESSES)]
    totals = [0] * PROCESSES
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        least = totals.index(min(totals))
        totals[least] += sizes[name]
        found[least].append(name)
    return found


def run(directory: Path) -> int:
    """Run the tests, each share in a process with a tracer; return 0 if all have passed."""
    coverage = [sys.executable, "-m", "coverage", "run", f"--data-file={directory}/data"]
    started = []
    for number, names in enumerate(shares(packages())):
        trial = ["-m", "twisted.trial", f"--temp-directory={directory}/trial{number}", *names]
        log = (directory / f"log{number}").open("w+")
        process = subprocess.Popen([*coverage, *trial], cwd=ROOT, stdout=log, stderr=log)
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
    floor = parser.parse_args().floor
    with tempfile.TemporaryDirectory(prefix="pycomnet-coverage.") as name:
        status = run(Path(name))
        return report(Path(name), floor) or status


if __name__ == "__main__":
    sys.exit(main())
