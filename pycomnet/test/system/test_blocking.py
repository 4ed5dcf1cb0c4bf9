"""pycomnet.blocking: the same API for scripts and threads, each script in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
#: Seconds for each script: many times what the slowest takes on a busy machine.
TIMEOUT = 120
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
#: The scripts, and what each prints.
SCRIPTS = [
    ("blocking_scripts", name, "")
    for name in (
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
    )
]
SCRIPTS += [
    ("proxy_scripts", name, "")
    for name in ("calls", "seeds", "said", "started", "threads", "typed")
]
SCRIPTS += [
    ("fork_scripts", name, "")
    for name in (
        "forked_old",
        "forked_new",
        "forked_from_callback",
        "forked_service",
        "forked_subscriber",
        "forked_pool",
        "forked_exit",
        "forked_leaves",
    )
]
SCRIPTS += [
    ("fork_scripts", name, "all\n")
    for name in (
        "forked_deferred",
        "ends_late",
        "exits_at_end",
        "exits_after_end",
        "submitted_after_end",
    )
]


@contextmanager
def started(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """A Python with these arguments; it is killed at the end, if it has not ended."""
    process = subprocess.Popen(
        [sys.executable, *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def end_of(process: subprocess.Popen[str]) -> str:
    """What it has printed, when it has ended with status 0 and no complaint."""
    out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, err) == (0, ""), out
    return out


def _about(module: str, name: str) -> str:
    assert getattr(import_module(f"pycomnet.test.system.{module}"), name).__doc__
    return name


@pytest.mark.parametrize(
    ("module", "name", "printed"), SCRIPTS, ids=[_about(*script[:2]) for script in SCRIPTS]
)
def test_script_prints_what_its_docstring_says(module: str, name: str, printed: str) -> None:
    with started("-m", f"pycomnet.test.system.{module}", name) as process:
        assert end_of(process) == printed


def test_example_of_the_issue_runs_from_a_file(tmp_path: Path) -> None:
    """The example of the issue runs as it stands, from a file."""
    path = tmp_path / "example.py"
    path.write_text(EXAMPLE)
    with started(str(path)) as process:
        end_of(process)


def test_blocking_api_works_in_the_repl() -> None:
    """It is there for the REPL, too."""
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
        timeout=TIMEOUT,
    )
    assert (process.returncode, process.stdout) == (0, "2\n"), process.stderr


def test_ctrl_c_ends_only_what_the_main_thread_awaits() -> None:
    """Ctrl-C ends what the main thread waits for, and nothing else."""
    with started("-m", "pycomnet.test.system.blocking_scripts", "interrupted") as process:
        assert process.stdout is not None
        waits = 0
        for line in process.stdout:
            if line == "done\n":
                break
            waits += 1
            process.send_signal(signal.SIGINT)
        assert waits == 5, process.communicate(timeout=TIMEOUT)[1]
        end_of(process)
