"""The least that workers which are forked can take: pytest's sessions, without any connection.

One process imports pytest with its own plugins, and forks; each child runs one test. Beside it
another process collects the tests and runs none, as pytest-xdist's does. What follows the number
is for pytest.

python forked_pytest.py 8 -p no:cacheprovider
"""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys

import pytest
from _pytest.config import default_plugins

#: The option with which this program starts itself as the process that forks.
FORKS = "--forks"


def fork_workers(count: int, options: list[str]) -> int:
    """Run a test in each of some forked children; return how many passed."""
    for name in default_plugins:
        importlib.import_module(f"_pytest.{name}")
    gc.freeze()  # children do not look through what is there, and so do not copy it
    pids = []
    for number in range(count):
        pid = os.fork()
        if not pid:
            os._exit(pytest.main([*options, "-p", "no:xdist", f"test_many.py::test[{number}]"]))
        pids.append(pid)
    return sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 for pid in pids)


def main() -> None:
    """Run both processes, and print how many tests passed."""
    if sys.argv[1] == FORKS:
        passed = fork_workers(int(sys.argv[2]), sys.argv[3:])
        raise SystemExit(0 if passed == int(sys.argv[2]) else 1)
    workers = subprocess.Popen([sys.executable, __file__, FORKS, *sys.argv[1:]])
    pytest.main([*sys.argv[2:], "--collect-only"])
    if workers.wait() == 0:
        print(f"{sys.argv[1]} passed")


if __name__ == "__main__":
    main()
