"""Virtual environments: pycomnet, ``python -m venv``, pip and uv.

Run it as ``python benchmarks/xdeploy.py``; docs/benchmarks-xdeploy.rst says what the rows are.
"""

from __future__ import annotations

import sys

from compare import Comparison, main
from venv_rows import JOBS, PACKAGES, PEERS

VENVS = Comparison(
    description="Virtual environments, empty and with packages, and by many at once.",
    program="{}_venvs.py",
    jobs=JOBS,
    columns=PEERS,
    packages=PACKAGES,
    against="pip",
)

if __name__ == "__main__":
    sys.exit(main(VENVS, sys.argv[1:]))
