"""What daemons leave in the file system, and what others may have put there."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pycomnet.auth.tokens import new_token
from pycomnet.nameserver.stores.sqlite import BUSY
from pycomnet.test.system.daemons import Daemon, Daemons, daemons
from pycomnet.test.system.mediators import LOOPBACK
from pycomnet.test.waiting import DEADLINE

KINDS = ("gateway", "http-exec", "factory", "nameserver")
READY = r"(?:listening|the nameserver is at)"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Daemons]:
    """Daemons that end with the test; they begin with a umask that takes nothing away."""
    before = os.umask(0)
    try:
        with daemons(tmp_path) as started:
            yield started
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    """What others, and this user, may do with it."""
    return stat.S_IMODE(path.lstat().st_mode)


def start(running: Daemons, kind: str, *more: str) -> Daemon:
    """A daemon whose files are where they are by default, below a home of the test's own."""
    home = running.directory / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    options = ["--listen", LOOPBACK, *more]
    environment: dict[str, Any] = {"HOME": str(home), "XDG_STATE_HOME": str(home / "a" / "state")}
    return running.start(f"pycomnet-{kind}", *options, **environment)


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_a_daemon_makes_is_its_users(running: Daemons, kind: str) -> None:
    """All that a daemon makes is its user's alone: directories, tokens, the store, the log."""
    store = running.directory / "ns.sqlite"
    audit = running.directory / "audit"
    more = {
        "nameserver": ["--store", f"sqlite:{store}"],
        "http-exec": ["--audit-log", str(audit)],
    }.get(kind, [])
    start(running, kind, *more).wait_for(READY)
    found = [path for path in running.directory.rglob("*") if path.is_file() or path.is_dir()]
    made = [path for path in found if path not in (running.directory,)]
    assert len(made) > (3 if kind != "nameserver" else 1)
    for path in made:
        assert mode(path) == (0o700 if path.is_dir() else 0o600), (path, oct(mode(path)))


@pytest.mark.parametrize("kind", ("gateway", "factory"))
def test_socket_is_its_users_from_the_start(running: Daemons, kind: str) -> None:
    """A socket is its user's, from when it is made; so is the directory that it needs."""
    path = running.directory / "run" / "deep" / "s"
    daemon = running.start(f"pycomnet-{kind}", "--listen", f"unix:{path}")
    end = time.monotonic() + DEADLINE
    # Without a pause: the moment counts in which it is there.
    while not path.exists() and time.monotonic() < end and daemon.process.poll() is None:
        pass
    seen = {mode(path)}
    daemon.wait_for("listening")
    seen.add(mode(path))
    assert seen == {0o600}
    assert mode(path.parent) == mode(path.parent.parent) == 0o700


def refused(daemon: Daemon) -> str:
    """What a daemon says that does not begin."""
    assert daemon.wait() == 1
    assert "Traceback" not in daemon.said
    return daemon.said


@pytest.mark.parametrize("kind", ("gateway", "http-exec", "factory"))
def test_token_others_can_read_is_refused_with_advice(running: Daemons, kind: str) -> None:
    """A token that others can read, or whose directory they can write to, is said, and how to mend
    that.
    """
    directory = running.directory / "tokens"
    directory.mkdir(mode=0o777)
    token = directory / "token"
    said = refused(start(running, kind, "--token-file", str(token)))
    assert f"chmod go-w {directory}" in said
    assert not token.exists()
    directory.chmod(0o700)
    token.write_text(new_token())
    token.chmod(0o644)
    assert "chmod 600" in refused(start(running, kind, "--token-file", str(token)))


def test_store_others_can_read_or_link_is_refused(running: Daemons) -> None:
    """A store that others can read, a link, or a planted file beside it."""
    victim = running.directory / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    store = running.directory / "ns.sqlite"

    def said() -> str:
        return refused(start(running, "nameserver", "--store", f"sqlite:{store}"))

    store.symlink_to(victim)
    assert "a symbolic link" in said()
    store.unlink()
    store.touch()
    store.chmod(0o644)
    assert f"chmod 600 {store}" in said()
    store.unlink()
    beside = Path(f"{store}-wal")
    beside.symlink_to(victim)
    assert "a symbolic link" in said()
    assert victim.read_text() == "precious"


def test_audit_log_link_or_others_file_is_refused(running: Daemons) -> None:
    """The audit log follows no link, and is none that others can change."""
    victim = running.directory / "victim"
    audit = running.directory / "audit"
    audit.symlink_to(victim)
    assert "a symbolic link" in refused(start(running, "http-exec", "--audit-log", str(audit)))
    assert not victim.exists()
    audit.unlink()
    audit.touch()
    audit.chmod(0o666)
    assert "chmod go-w" in refused(start(running, "http-exec", "--audit-log", str(audit)))


def test_second_nameserver_on_one_store_says_so(running: Daemons) -> None:
    """One that finds its file in use says so at once; one that follows on another does not."""
    store = f"sqlite:{running.directory / 'ns.sqlite'}"
    began = time.monotonic()
    first = start(running, "nameserver", "--store", store)
    first.wait_for(READY)
    usual = time.monotonic() - began
    took = []
    for _ in range(3):  # one may be slow for other reasons
        began = time.monotonic()
        assert "another nameserver has it open" in refused(
            start(running, "nameserver", "--store", store)
        )
        took.append(time.monotonic() - began)
        if took[-1] < BUSY + usual / 2:
            break
    else:
        raise AssertionError(f"it waited before it said so: {took}")
    first.signal()
    second = start(running, "nameserver", "--store", store)
    second.wait_for(READY)
    assert first.wait() == -signal.SIGTERM  # as twistd ends
