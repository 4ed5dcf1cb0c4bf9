"""Gateways through the http mediator beside popen's, and Jupyter's kernels through their gateway.

Run it as ``python benchmarks/mediator.py``; docs/benchmarks-mediator.rst says what the rows are.
"""

from __future__ import annotations

import sys

from compare import Comparison, main
from mediator_rows import JOBS, PACKAGES, PEERS

MEDIATOR = Comparison(
    description="Gateways through the http mediator beside popen's and Jupyter's kernels.",
    program="{}_mediated.py",
    jobs=JOBS,
    columns=PEERS,
    packages=PACKAGES,
    against="popen",
    heavy="the 1,000 cuts too",
)

if __name__ == "__main__":
    sys.exit(main(MEDIATOR, sys.argv[1:]))
