"""Does harm to etcd and to nameservers under load, and checks what their clients were told.

Three members, two nameservers, and six clients that contend for names and record what they are
told. ``python benchmarks/etcd_faults.py`` applies each fault for 30 s; ``leader-killed --times 30``
just that one, so often. It prints how long registrations were away each time, and what can't have
been (nothing, it should be). The members have the heartbeats and election timeouts that
docs/howto/nameservers.rst gives them; ``--election 1000`` has etcd's defaults. Short forms are in
pycomnet/test/system/test_etcd_store.py.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from ending import react

from pycomnet.test.system.etcdfaults import FAULTS, run_fault


async def main(reactor: Any, options: argparse.Namespace) -> None:
    """Run it."""
    problems = 0
    for name in options.faults or FAULTS:
        run, back = await run_fault(
            reactor,
            name,
            times=options.times,
            seconds=options.seconds,
            between=options.between,
            memory=options.directory,
            arguments=[
                *("--heartbeat-interval", str(options.election // 10)),
                *("--election-timeout", str(options.election)),
            ],
        )
        print(
            f"{name}: {options.times} times, {run.operations} calls; registering took "
            f"{statistics.median(back):.2f} s, at most {max(back):.2f} s; "
            f"each registration was looked for at {run.watched} watchers; "
            f"{len(run.problems)} things can't have been",
            flush=True,
        )
        for problem in run.problems[:20]:
            print(problem, flush=True)
        problems += len(run.problems)
    if problems:
        sys.exit(f"{problems} things can't have been")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", help=f"some of {', '.join(FAULTS)}; default: all")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each")
    parser.add_argument("--between", type=float, default=3.0, help="seconds of load before each")
    parser.add_argument("--election", type=int, default=500, help="members' timeout, milliseconds")
    parser.add_argument("--directory", default=None, help="for the members' data")
    found = parser.parse_args()
    unknown = set(found.faults) - set(FAULTS)
    if unknown:
        parser.error(f"no such faults: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    react(lambda reactor: main(reactor, found))
