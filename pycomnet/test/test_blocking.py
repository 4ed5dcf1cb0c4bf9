"""pycomnet.blocking: the same API for scripts and threads, each script in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
#: What the blocking API is for, as it was asked for.
EXAMPLE = """
from pycomnet.blocking import Group
group = Group()
gw = group.makegateway("popen")
def fun(channel):
    return channel.send(channel.receive() + 1)
ch = gw.remote_exec(fun)
ch.send(1)
assert ch.receive() == 2
"""


class Scripts(SynchronousTestCase):
    """Each runs one script of :mod:`pycomnet.test.blocking_scripts`."""

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """A Python with these arguments; it is killed at the end, if it has not ended."""
        process = subprocess.Popen(
            [sys.executable, *argv],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def ends_well(self, process: subprocess.Popen[str]) -> None:
        """Fail unless it ends with status 0 and no complaint."""
        out, err = process.communicate(timeout=100)
        self.assertEqual((process.returncode, err), (0, ""), out)

    def run_script(self, name: str, module: str = "blocking_scripts") -> str:
        """Run one to its end; what it printed."""
        process = self.start("-m", f"pycomnet.test.{module}", name)
        out, err = process.communicate(timeout=100)
        self.assertEqual((process.returncode, err), (0, ""), out)
        return out

    def test_example(self) -> None:
        """The example of the issue runs as it stands, from a file."""
        path = Path(self.mktemp())
        path.write_text(EXAMPLE)
        self.ends_well(self.start(str(path)))

    def test_interactive(self) -> None:
        """It is there for the REPL, too, which has no source of a function to send."""
        lines = [
            "from pycomnet.blocking import Group",
            "gw = Group().makegateway('popen')",
            "ch = gw.remote_exec('channel.send(channel.receive() + 1)')",
            "ch.send(1)",
            "print(ch.receive())",
        ]
        process = subprocess.run(
            [sys.executable, "-i", "-q"],
            input="\n".join(lines) + "\n",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=100,
        )
        self.assertEqual((process.returncode, process.stdout), (0, "2\n"), process.stderr)

    def test_interrupted(self) -> None:
        """Ctrl-C ends what the main thread waits for, and nothing else."""
        process = self.start("-m", "pycomnet.test.blocking_scripts", "interrupted")
        assert process.stdout is not None
        waits = 0
        for line in process.stdout:
            if line == "done\n":
                break
            waits += 1
            process.send_signal(signal.SIGINT)
        self.assertEqual(waits, 5, process.communicate(timeout=100)[1])
        self.ends_well(process)


def _add(name: str, module: str = "blocking_scripts", printed: str = "") -> None:
    scripts = import_module(f"pycomnet.test.{module}")

    def test(self: Scripts) -> None:
        self.assertEqual(self.run_script(name, module), printed)

    test.__doc__ = getattr(scripts, name).__doc__
    setattr(Scripts, f"test_{name}", test)


for _name in (
    "services",
    "values",
    "errors",
    "executor",
    "executor_dropped",
    "timeouts",
    "threads",
    "callbacks",
    "callbacks_end",
    "dropped",
    "output",
    "multichannel",
    "deep_values",
    "objects",
    "complete",
):
    _add(_name)
for _name in (
    "forked_old",
    "forked_new",
    "forked_from_callback",
    "forked_service",
    "forked_pool",
    "forked_exit",
    "forked_leaves",
):
    _add(_name, "fork_scripts")
for _name in ("forked_deferred", "ends_late", "exits_at_end", "exits_after_end"):
    _add(_name, "fork_scripts", "all\n")
