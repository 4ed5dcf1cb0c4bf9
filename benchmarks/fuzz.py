"""Fuzz the wire: mutated streams against a mux at either end, mutated values against the codecs.

    python benchmarks/fuzz.py --count 20000 --seed 1
    python benchmarks/fuzz.py --seconds 600 --seed 7

Nothing that arrives may do more than end its connection with a named error: no other exception, no
input that takes long, no memory beyond the limits. The status is 1 when something did; the case can
be run again by its seed and number. pycomnet/test/wire/fuzzkit.py is what it does.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from pycomnet.test.wire import fuzzkit


def main() -> int:
    """Run, print each finding and a line about the whole."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, help="cases to run; 3000 unless --seconds is given")
    parser.add_argument("--seconds", type=float, help="for how long to run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="run only this one")
    arguments = parser.parse_args()
    count, first = arguments.count, 0
    if arguments.case is not None:
        count, first = 1, arguments.case
    elif count is None and arguments.seconds is None:
        count = 3000
    start = time.process_time()
    report = fuzzkit.run(arguments.seed, count, first, arguments.seconds)
    for finding in report.findings[:20]:
        print(finding)
        traceback.print_exception(finding.problem, limit=-6)
        print(f"again: python {sys.argv[0]} --seed {finding.seed} --case {finding.case}\n")
    outcomes = ", ".join(f"{name} {number}" for name, number in report.outcomes.most_common())
    print(
        f"fuzz: seed {arguments.seed}, {report.cases} cases, {report.size / 1e6:.1f} MB, "
        f"{time.process_time() - start:.1f} s: {outcomes}; {len(report.findings)} findings"
    )
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
