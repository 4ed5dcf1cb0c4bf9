"""Trees of files sent to gateways: pycomnet, execnet's RSync and rsync itself.

Run it as ``python benchmarks/rsync.py``; docs/benchmarks-rsync.rst says what the rows are.
"""

from __future__ import annotations

import sys

from compare import Comparison, main
from rsync_rows import JOBS, PACKAGES, PEERS

RSYNC = Comparison(
    description="Trees of files, sent to gateways.",
    program="{}_files.py",
    jobs=JOBS,
    columns=PEERS,
    packages=PACKAGES,
    against="execnet",
)

if __name__ == "__main__":
    sys.exit(main(RSYNC, sys.argv[1:]))
