"""Calls of pycomnet's services beside Pyro5, rpyc, AMP, gRPC and bare Twisted, in one run.

Client and server are a process each, on loopback TCP. Run it as ``python benchmarks/services.py``;
benchmarks/README.rst says what the files are and docs/benchmarks-services.rst what the rows are.
"""

from __future__ import annotations

import sys

from compare import Comparison, main
from rows import BEST
from service_rows import JOBS, PACKAGES, PEERS

SERVICES = Comparison(
    description="Calls of pycomnet's services beside Pyro5, rpyc, AMP, gRPC and bare Twisted.",
    program="{}_calls.py",
    jobs=JOBS,
    columns=PEERS,
    packages=PACKAGES,
    against=BEST,
)

if __name__ == "__main__":
    sys.exit(main(SERVICES, sys.argv[1:]))
