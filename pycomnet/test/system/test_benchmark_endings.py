"""A benchmark that is ended by a signal leaves no process and no directory of its daemons."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pycomnet.test.needs import needs
from pycomnet.test.system.daemons import PATIENCE, environment
from pycomnet.test.system.nearby import ROOT

BENCHMARKS = ROOT / "benchmarks"
#: Their arguments, what a command of theirs has in it when they are well under way, and what it
#: takes.
LONG = {
    "etcd.py": ("--seconds 60", "--peer pycomnet", "etcd"),
    "etcd_faults.py": ("leader-killed", "pycomnet-nameserver", "etcd"),
    "etcd_names.py": ("--count 1000000", "--watch", "etcd"),
    "etcd_scale.py": ("leases --count 1000000", "pycomnet-nameserver", "etcd"),
    "pubsub.py": ("--stalled --scale 1000", "spawn_main", ""),
    "pubsub_faults.py": ("", "faulty:kept", ""),
    "rsync_kills.py": ("--kills 1000000", "fetch", ""),
    "workflow_kills.py": ("--kills 1000000", "forkserver", ""),
    "workflow_shared.py": ("--runs 1000000", "pycomnet-workflow", "postgres"),
}


def commands(session: int) -> dict[int, str]:
    """The processes of a session that have not ended, and their commands."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                line = (path / "cmdline").read_bytes()
                found[int(path.name)] = line.replace(b"\0", b" ").decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs(*need.split())) for name, (*_, need) in LONG.items()]
)
def test_a_benchmark_that_a_signal_ends_ends_its_processes(
    name: str, number: int, tmp_path: Path
) -> None:
    """Its status is not 0, so a script that runs it knows."""
    if not BENCHMARKS.is_dir():
        pytest.skip("this is not a checkout: there are no benchmarks")
    arguments, under_way, _ = LONG[name]
    # pytest's own path is too long for sockets.
    where = Path("/tmp") / f"pycomnet-e-{os.getpid()}"
    where.mkdir()
    log = (tmp_path / "log").open("wb")
    running = subprocess.Popen(
        [sys.executable, str(BENCHMARKS / name), *arguments.split()],
        cwd=tmp_path,
        env=environment(TMPDIR=str(where)),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + PATIENCE
        while not any(under_way in line for line in commands(running.pid).values()):
            assert running.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end, commands(running.pid)
            time.sleep(0.05)
        running.send_signal(number)
        assert running.wait(PATIENCE) != 0, (tmp_path / "log").read_text()
        # Their pipes have ended, so those of multiprocessing (its tracker) end, too.
        end = time.monotonic() + 10
        while (left := commands(running.pid)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not left, (tmp_path / "log").read_text()
        assert os.listdir(where) == []
    finally:
        for pid in commands(running.pid):
            os.kill(pid, signal.SIGKILL)
        running.wait()
        log.close()
        shutil.rmtree(where)
