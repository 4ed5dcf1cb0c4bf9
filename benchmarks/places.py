"""Many gateways, further ones on a host, and through each other: pycomnet, execnet and Mitogen.

Run it as ``python benchmarks/places.py``; docs/benchmarks-places.rst says what the rows are.
"""

from __future__ import annotations

import sys

from compare import Comparison, main
from place_rows import JOBS, PACKAGES, PEERS

PLACES = Comparison(
    description="Many gateways, on hosts and through each other.",
    program="{}_places.py",
    jobs=JOBS,
    columns=PEERS,
    packages=PACKAGES,
    against="execnet",
)

if __name__ == "__main__":
    sys.exit(main(PLACES, sys.argv[1:]))
