"""pycomnet's nameserver beside Pyro5's own, and against its own limits, in one run.

Server and client are a process each, on loopback TCP. Run it as ``python
benchmarks/nameserver.py``; docs/benchmarks-nameserver.rst says what the rows are.
"""

from __future__ import annotations

import sys

from compare import Comparison, main
from name_rows import JOBS, PACKAGES, PEERS

NAMESERVERS = Comparison(
    description="pycomnet's nameserver beside Pyro5's own.",
    program="{}_names.py",
    jobs=JOBS,
    columns=PEERS,
    packages=PACKAGES,
    against="pyro5",
)

if __name__ == "__main__":
    sys.exit(main(NAMESERVERS, sys.argv[1:]))
