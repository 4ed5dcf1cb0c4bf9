"""Passwords that commands ask for at a terminal."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pycomnet.test.system.daemons import COMMAND, PATIENCE, environment
from pycomnet.test.system.test_access_commands import NAME, start, started

__all__ = ["started"]  # the fixture

#: Makes standard input the controlling terminal, as a terminal's window does.
CONTROL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); " + (
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A terminal on which a command runs.

    :ivar text: what it has shown since the last thing that was waited for.
    """

    def __init__(self, *command: str, **env: str) -> None:
        self._main, self._end = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", CONTROL, *command],
            stdin=self._end,
            stdout=self._end,
            stderr=self._end,
            env=environment(XDG_CONFIG_HOME="/nowhere", NO_COLOR="1", **env),
            start_new_session=True,
        )
        self.text = ""

    def wait_for(self, text: str) -> None:
        """Read until the terminal has shown a text."""
        until = time.monotonic() + PATIENCE
        while text not in self.text:
            ready, _, _ = select.select([self._main], [], [], until - time.monotonic())
            assert ready, self.text
            self.text += os.read(self._main, 65536).decode()
        self.text = self.text.partition(text)[2]

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._main, text.encode())

    def wait(self) -> int:
        """The exit status."""
        return self._process.wait(PATIENCE)

    @property
    def shows_what_is_typed(self) -> bool:
        """Whether what is typed is shown."""
        return bool(termios.tcgetattr(self._end)[3] & termios.ECHO)

    def close(self) -> None:
        """End the command, if it runs."""
        self._process.kill()
        self._process.wait(PATIENCE)
        os.close(self._main)
        os.close(self._end)


@pytest.fixture
def terminal(started: Any) -> Iterator[Any]:
    """Makes a terminal with a call of the service by alice."""
    _, tcp, _ = start(started)
    made: list[Terminal] = []

    def call(*options: str) -> Terminal:
        command = [*COMMAND, "call", "--address", tcp, "--user", "alice", *options, NAME, "whoami"]
        made.append(Terminal(*command))
        made[-1].wait_for(f"Password of alice for {tcp}: ")
        assert not made[-1].shows_what_is_typed
        return made[-1]

    yield call
    for one in made:
        one.close()


def test_password_is_asked_for(terminal: Any) -> None:
    """It is not shown, and what is typed is shown again afterwards."""
    asking = terminal()
    asking.type("a secret\n")
    asking.wait_for("]")
    assert asking.wait() == 0
    assert asking.shows_what_is_typed


@pytest.mark.parametrize(
    ("typed", "options", "said", "status"),
    [
        ("\x03", (), "interrupted", 130),
        ("half\x03", (), "interrupted", 130),
        ("\x04", (), "none was entered", 1),
        ("wrong\n", (), "nobody here has these credentials", 1),
        ("", ("--timeout", "2"), "in 2 seconds", 124),
    ],
)
def test_question_ends(
    terminal: Any, typed: str, options: tuple[str, ...], said: str, status: int
) -> None:
    """By Ctrl-C, Ctrl-D, a wrong password, or the time that is up: the command ends by itself, says
    so, and leaves a terminal that shows what is typed."""
    asking = terminal(*options)
    asking.type(typed)
    asking.wait_for(said)
    assert asking.wait() == status
    assert asking.shows_what_is_typed
