"""pycomnet beside execnet, Mitogen and a bare socket pair: one run, one machine, interleaved.

Run it as ``python benchmarks/gateway.py``; benchmarks/README.rst says what the files are and
docs/benchmarks.rst what the rows are.
"""

from __future__ import annotations

import sys

from compare import Comparison, main
from rows import JOBS, PEERS

GATEWAYS = Comparison(
    description="pycomnet beside execnet, Mitogen and a bare socket pair, in one run.",
    program="{}_peer.py",
    jobs=JOBS,
    columns=PEERS,
    packages={"bare": None, "pycomnet": "pycomnet", "execnet": "execnet", "mitogen": "mitogen"},
    against="execnet",
    heavy="the 1 GB rows too: needs 8 GB",
)

if __name__ == "__main__":
    sys.exit(main(GATEWAYS, sys.argv[1:]))
