"""Passwords that commands ask for at a terminal."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pycomnet.test.needs import needs
from pycomnet.test.system.daemons import COMMAND, PATIENCE, environment
from pycomnet.test.system.natsserver import PROGRAM, nats_server
from pycomnet.test.system.test_access_commands import NAME, start, started

__all__ = ["started"]  # the fixture

#: Seconds of a ``--timeout`` that a test lets pass.
SHORT = 5
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

    def is_silent(self, seconds: float) -> bool:
        """Whether the terminal shows nothing for some seconds."""
        return not select.select([self._main], [], [], seconds)[0]

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._main, text.encode())

    def send_signal(self, number: signal.Signals) -> None:
        """Send the command a signal."""
        self._process.send_signal(number)

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
    ("typed", "said", "status"),
    [
        ("\x03", "interrupted", 130),
        ("half\x03", "interrupted", 130),
        ("\x04", "none was entered", 1),
        ("wrong\n", "nobody here has these credentials", 1),
    ],
)
def test_question_ends(terminal: Any, typed: str, said: str, status: int) -> None:
    """By Ctrl-C, Ctrl-D or a wrong password: the command ends by itself, says so, and leaves a
    terminal that shows what is typed."""
    asking = terminal()
    asking.type(typed)
    asking.wait_for(said)
    assert asking.wait() == status
    assert asking.shows_what_is_typed


def test_typing_does_not_count_against_the_timeout(terminal: Any) -> None:
    """A question that is open for longer than that is still answered."""
    asking = terminal("--timeout", str(SHORT))
    assert asking.is_silent(SHORT + 1)
    asking.type("a secret\n")
    asking.wait_for("]")
    assert asking.wait() == 0


def test_timeout_counts_after_the_password(started: Any) -> None:
    """A server that does not answer the login is given up."""
    daemon, tcp, _ = start(started)
    asking = Terminal(
        *(*COMMAND, "call", "--address", tcp, "--user", "alice", "--timeout", str(SHORT)),
        *(NAME, "whoami"),
    )
    try:
        asking.wait_for(f"Password of alice for {tcp}: ")
        daemon.signal(signal.SIGSTOP)
        asking.type("a secret\n")
        asking.wait_for(f"no login at {tcp} in {SHORT} seconds")
        assert asking.wait() == 124
    finally:
        daemon.signal(signal.SIGCONT)
        asking.close()


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Any]:
    """Makes a terminal with ``pycomnet passwd``, which asks for alice's new password."""
    made: list[Terminal] = []

    def run(*options: str) -> Terminal:
        made.append(Terminal(*COMMAND, "passwd", *options, str(tmp_path / "passwd"), "alice"))
        made[-1].wait_for("Password of alice: ")
        assert not made[-1].shows_what_is_typed
        return made[-1]

    yield run
    for one in made:
        one.close()


def test_new_password_is_asked_for_twice(asked: Any, tmp_path: Path) -> None:
    """Until both are the same; to verify it, once. It is never shown."""
    terminal = asked()
    terminal.type("one\n")
    terminal.wait_for("The same again: ")
    terminal.type("other\n")
    terminal.wait_for("not the same")
    terminal.wait_for("Password of alice: ")
    terminal.type("one\n")
    terminal.wait_for("The same again: ")
    terminal.type("one\n")
    terminal.wait_for("alice is added to")
    assert terminal.wait() == 0
    assert terminal.shows_what_is_typed
    for typed, status, said in (("one\n", 0, "is right"), ("other\n", 1, "is wrong")):
        terminal = asked("--verify")
        terminal.type(typed)
        terminal.wait_for(said)
        assert terminal.wait() == status


@pytest.mark.parametrize(
    ("end", "said", "status"),
    [
        ("\x03", "interrupted", 130),
        ("\x04", "none was entered", 1),
        (signal.SIGTERM, "terminated", 143),
        (signal.SIGHUP, "the terminal is gone", 129),
    ],
)
def test_question_for_a_new_password_ends(
    asked: Any, end: str | signal.Signals, said: str, status: int, tmp_path: Path
) -> None:
    """By Ctrl-C, Ctrl-D or a signal: nothing is written, and the terminal shows what is typed."""
    terminal = asked()
    if isinstance(end, str):
        terminal.type(end)
    else:
        terminal.send_signal(end)
    terminal.wait_for(said)
    assert terminal.wait() == status
    assert terminal.shows_what_is_typed
    assert not list(tmp_path.iterdir())


@needs(PROGRAM)
def test_password_for_nats_is_asked_for(tmp_path: Path) -> None:
    """By the commands that publish and subscribe through it."""
    config = tmp_path / "nats.conf"
    config.write_text("authorization: {user: alice, password: right}")
    with nats_server(tmp_path, "-c", str(config)) as nats:
        terminal = Terminal(
            *COMMAND, "pub", "--via", nats.address, "--user", "alice", "org.example.asked", "1"
        )
        try:
            terminal.wait_for("Password of alice for ")
            terminal.type("right\n")
            assert terminal.wait() == 0
        finally:
            terminal.close()
