"""Fuzz the wire: mutated streams against a mux at either end, mutated values against the codecs.

    python benchmarks/fuzz.py --count 20000 --seed 1
    python benchmarks/fuzz.py --count 1000000 --jobs 2
    python benchmarks/fuzz.py --seconds 600 --seed 7

Nothing that arrives may do more than end its connection with a named error: no other exception, no
input that takes long, no memory beyond the limits. The status is 1 when something did; the case can
be run again by its seed and number. pycomnet/test/wire/fuzzkit.py is what it does. A long run says
from time to time how far it is, and what it has found until it is ended, by Ctrl-C too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from functools import partial

from pycomnet.test.wire import fuzzkit

#: cases that a process takes at a time
PART = 1000


def parts(first: int, count: int | None, seconds: float | None) -> Iterator[tuple[int, int]]:
    """The first case and the number of cases of each part, until the count or the time is over."""
    end = None if seconds is None else time.monotonic() + seconds
    case = first
    while (count is None or case < first + count) and (end is None or time.monotonic() < end):
        size = PART if count is None else min(PART, first + count - case)
        yield case, size
        case += size


def run_part(seed: int, seconds: float | None, part: tuple[int, int]) -> fuzzkit.Report:
    """Run a part, and print what it finds, as no traceback goes from a process to another."""
    first, count = part
    report = fuzzkit.run(seed, count, first, seconds)
    for finding in report.findings:
        print(finding)
        traceback.print_exception(finding.problem, limit=-6, file=sys.stdout)
        print(f"again: python {sys.argv[0]} --seed {finding.seed} --case {finding.case}\n")
        finding.problem = RuntimeError(str(finding.problem))
    sys.stdout.flush()
    return report


def main() -> int:
    """Run, print each finding and a line about the whole."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, help="cases to run; 3000 unless --seconds is given")
    parser.add_argument("--seconds", type=float, help="for how long to run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, metavar="CASE", help="where to begin")
    parser.add_argument("--case", type=int, help="run only this one")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in; 1")
    arguments = parser.parse_args()
    count, first = arguments.count, arguments.first
    if arguments.case is not None:
        count, first = 1, arguments.case
    elif count is None and arguments.seconds is None:
        count = 3000
    start = told = time.monotonic()
    total = fuzzkit.Report()

    def say(what: str) -> None:
        outcomes = ", ".join(f"{name} {number}" for name, number in total.outcomes.most_common())
        print(
            f"{what}: seed {arguments.seed}, {total.cases} cases from {first} on, "
            f"{total.size / 1e6:.1f} MB, {time.monotonic() - start:.1f} s: {outcomes}; "
            f"{len(total.findings)} findings",
            flush=True,
        )

    run = partial(run_part, arguments.seed, arguments.seconds)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with multiprocessing.Pool(max(arguments.jobs, 1), ignore_interrupts) as pool:
        try:
            # No more than are needed to keep each process busy are taken from what may be no end.
            waiting = []
            for part in parts(first, count, arguments.seconds):
                waiting.append(pool.apply_async(run, (part,)))
                if len(waiting) <= 2 * arguments.jobs:
                    continue
                total.add(waiting.pop(0).get())
                if time.monotonic() > told + 60:
                    told = time.monotonic()
                    say("so far")
            for result in waiting:
                total.add(result.get())
        except KeyboardInterrupt:
            say("interrupted")
            return 130
    say("fuzz")
    return 1 if total.findings else 0


def ignore_interrupts() -> None:
    """In each process: it is the first of them that ends the run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
