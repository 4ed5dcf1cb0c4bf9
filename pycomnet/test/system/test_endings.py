"""Nothing is left: far sides and what they started end with the near side, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from pycomnet.test.processes import children, command_line
from pycomnet.test.system.near_side import FAR_CODE
from pycomnet.test.system.nearby import Near, near, processes_end
from pycomnet.test.waiting import wait_until

SCRIPT = str(Path(__file__).with_name("near_side.py"))
#: All that the far side can be doing, side by side, but for what takes a processor.
ALL = [name for name in FAR_CODE if name != "c_loop"]
#: The same, but for what would have to be shown on the terminal.
SILENT = [name for name in ALL if name != "print"]


def alive(program: Near) -> bool:
    """Whether it still runs."""
    return program.process.poll() is None


def is_near_side(pid: int) -> bool:
    """Whether this is a near side, or one that it forked."""
    return SCRIPT.encode() in command_line(pid).split(b"\0")


@pytest.mark.parametrize("far_code", FAR_CODE)
def test_killed_near_side_takes_far_code_along(far_code: str) -> None:
    """The near side is killed with -9 while the far side does this."""
    with near(SCRIPT, "wait", far_code) as program, processes_end(program.line()):
        program.signal(signal.SIGKILL)


def test_killed_near_side_takes_all_along_despite_its_child() -> None:
    """The near side is killed, and a process that it forked goes on and holds its descriptors."""
    with near(SCRIPT, "fork_wait", *ALL) as program:
        pids = program.line()
        # Its other child is the fork server.
        forked = wait_until(
            lambda: {pid for pid in children(program.pid) if is_near_side(pid)}, "it has forked"
        )
        try:
            with processes_end(pids):
                program.signal(signal.SIGKILL)
            for pid in forked:
                os.kill(pid, 0)
        finally:
            for pid in forked:
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_signal_to_the_near_side_ends_all(number: signal.Signals) -> None:
    """Ctrl-C, or SIGTERM, that reaches only the near side stops its reactor and so all."""
    with near(SCRIPT, "wait", *ALL) as program:
        with processes_end(program.line()):
            program.signal(number)
        program.ended()


def test_second_ctrl_c_changes_nothing() -> None:
    """A second Ctrl-C, while it waits for far sides that swallow theirs, changes nothing."""
    with near(SCRIPT, "wait", "swallow", "stubborn", "c_call") as program:
        with processes_end(program.line()):
            program.signal(signal.SIGINT)
            program.signal(signal.SIGINT)
        program.ended()


@pytest.mark.parametrize("ending", ["return", "stop", "exit", "os_exit", "raise"])
def test_near_side_that_ends_takes_all_along(ending: str) -> None:
    """The near side ends by itself, in this way, without terminating its group."""
    with near(SCRIPT, ending, *ALL) as program:
        with processes_end(program.line()):
            program.tell("end")
        status, _, stderr = program.ended()
    assert status == {"return": 0, "stop": 0, "exit": 3, "os_exit": 3, "raise": 1}[ending], stderr
    assert ("unhandled" in stderr) == (ending == "raise")


def test_collected_group_ends_its_gateways() -> None:
    """A group that nobody holds any more ends its gateways while the near side goes on."""
    with near(SCRIPT, "collect", *ALL) as program:
        with processes_end(program.line()):
            program.tell("end")
        assert alive(program)


@pytest.mark.parametrize("far_code", ["idle", "receive", "c_call", "session", "forked"])
def test_killed_supervisor_takes_its_worker_along(far_code: str) -> None:
    """The process between the near side and the worker is killed with -9: the worker goes, too."""
    with near(SCRIPT, "wait", far_code) as program:
        worker, supervisor, *others = program.line()
        try:
            with processes_end([worker, supervisor]):
                os.kill(supervisor, signal.SIGKILL)
            assert alive(program)
        finally:
            for pid in others:  # a process that left the worker's session has nobody to end it now
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("far_code", FAR_CODE)
def test_killed_worker_takes_supervisor_and_children_along(far_code: str) -> None:
    """The worker is killed with -9: its supervisor, and what it started, go, too."""
    with near(SCRIPT, "wait", far_code) as program:
        pids = program.line()
        with processes_end(pids):
            os.kill(pids[0], signal.SIGKILL)
        assert alive(program)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_killed_blocking_script_takes_all_along(number: signal.Signals) -> None:
    """A script on the blocking API is killed."""
    with near(SCRIPT, "blocking_wait", *SILENT) as program, processes_end(program.line()):
        program.signal(number)


def test_ctrl_c_in_a_blocking_receive_is_a_keyboard_interrupt() -> None:
    """Ctrl-C while a blocking script waits to receive: KeyboardInterrupt, then its end."""
    with near(SCRIPT, "blocking_receive", *SILENT) as program:
        with processes_end(program.line()):
            program.signal(signal.SIGINT)
        status, _, stderr = program.ended()
    assert stderr.rstrip().endswith("KeyboardInterrupt"), stderr
    assert status == -signal.SIGINT


@pytest.mark.parametrize("ending", ["blocking_end", "blocking_raise"])
def test_blocking_script_that_ends_takes_all_along(ending: str) -> None:
    """A script on the blocking API ends, in this way, without terminating its group."""
    with near(SCRIPT, ending, *SILENT) as program:
        with processes_end(program.line()):
            program.tell("end")
        status, _, stderr = program.ended()
    assert status == (ending == "blocking_raise"), stderr
    assert ("unhandled" in stderr) == (ending == "blocking_raise")


def test_collected_blocking_group_ends_its_gateways() -> None:
    """A blocking group that nobody holds any more ends its gateways while the script goes on."""
    with near(SCRIPT, "blocking_collect", *SILENT) as program:
        with processes_end(program.line()):
            program.tell("end")
        assert alive(program)
