"""A directory for temporary files where others have been first: sockets, links, directories."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.test.adversary.kit import as_user, in_thread
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons

NOBODY = 65534
TOKEN = "a-token-that-nobody-may-see-1234567890"
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("PYCOMNET_REQUIRE_ALL"),
    reason="only root has processes of two users",
)


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory as /tmp is: everybody may write there."""
    found = tmp_path_factory.mktemp("t")
    found.chmod(0o1777)
    for parent in found.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    yield found


def factory(running: Daemons, shared: Path) -> Daemon:
    """A factory at its default place, below this directory."""
    return running.start("pycomnet-factory", TMPDIR=str(shared), XDG_RUNTIME_DIR="")


def own(shared: Path) -> Path:
    """Where this user's factory has its socket."""
    return shared / f"pycomnet-{os.geteuid()}"


@pytest_twisted.ensureDeferred
async def test_factory_below_tmpdir_is_its_users_alone(
    running: Daemons, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The factory is found below TMPDIR by who has that, too, and nobody else can reach it."""
    from twisted.internet import reactor

    factory(running, shared).wait_for("listening on")
    where = own(shared)
    assert stat.S_IMODE(where.stat().st_mode) == 0o700
    assert stat.S_IMODE((where / "factory.sock").stat().st_mode) == 0o600
    monkeypatch.setenv("TMPDIR", str(shared))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    async with pycomnet.Group(reactor) as group:
        group.setlocalfactory()
        gateway = await group.makegateway("popen")
        assert await gateway.remote_exec("channel.send(3)").receive() == 3


def plant_directory(place: Path) -> None:
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)


def plant_open_directory(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def plant_link(place: Path) -> None:
    target = place.with_name("elsewhere")
    target.mkdir(0o777)
    os.chown(target, NOBODY, NOBODY)
    place.symlink_to(target)
    os.lchown(place, NOBODY, NOBODY)


def plant_link_to_own(place: Path) -> None:
    target = place.with_name("mine")
    target.mkdir(0o700)
    place.symlink_to(target)
    os.lchown(place, NOBODY, NOBODY)


def plant_file(place: Path) -> None:
    place.write_text("a file")


@needs_root
@pytest.mark.parametrize(
    "plant", [plant_directory, plant_open_directory, plant_link, plant_link_to_own, plant_file]
)
def test_planted_directory_is_refused(running: Daemons, shared: Path, plant: Any) -> None:
    """What is another's, or what others may write to, is not used: the daemon says so and ends."""
    place = own(shared)
    plant(place)
    before = sorted(str(path) for path in shared.rglob("*"))
    daemon = factory(running, shared)
    assert daemon.wait() == 1, daemon.said
    lines = [line for line in daemon.lines if line.startswith("pycomnet-factory: ")]
    assert len(lines) == 1 and str(place) in lines[0], daemon.said
    assert "Traceback" not in daemon.said
    assert sorted(str(path) for path in shared.rglob("*")) == before


@pytest.mark.parametrize("what", ["file", "directory", "link"])
def test_planted_file_at_the_socket_stays(running: Daemons, shared: Path, what: str) -> None:
    """What is at the socket's own place and is none stays: a daemon removes dead sockets alone."""
    place = own(shared)
    place.mkdir(0o700)
    precious = shared / "precious"
    precious.write_text("precious")
    sock = place / "factory.sock"
    if what == "file":
        sock.write_text("precious")
    elif what == "directory":
        sock.mkdir()
    else:
        sock.symlink_to(precious)
    (place / "factory.sock.lock").symlink_to("1")
    daemon = factory(running, shared)
    assert daemon.wait() == 1, daemon.said
    assert "Traceback" not in daemon.said
    assert precious.read_text() == "precious"
    assert sock.lstat()
    if what == "file":
        assert sock.read_text() == "precious"


LISTENS = """
import socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listening.listen()
listening.settimeout(60)
print(open("/proc/self/status").read().split("Uid:")[1].split()[0], flush=True)
open(sys.argv[1] + ".ready", "w").close()
connection, _ = listening.accept()
connection.settimeout(5)
heard = b""
try:
    while piece := connection.recv(65536):
        heard += piece
except OSError:
    pass
print(heard.hex())
"""


@needs_root
@pytest_twisted.ensureDeferred
async def test_another_users_factory_is_told_nothing(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user listens where this one's factory would be: the program says nothing to it, least
    of all the token of its environment, and says whose it is."""
    from twisted.internet import reactor

    # An own directory that was open to all for a moment, and the other was quick.
    place = own(shared)
    place.mkdir()
    place.chmod(0o777)
    sock = place / "factory.sock"
    listening = in_thread(as_user, NOBODY, LISTENS, str(sock))
    ready = threading.Event()

    def wait() -> None:
        end = PATIENCE * 50
        while not Path(f"{sock}.ready").exists() and end:
            end -= 1
            ready.wait(0.02)

    await in_thread(wait)
    monkeypatch.setenv("TMPDIR", str(shared))
    monkeypatch.setenv("PYCOMNET_TOKEN", TOKEN)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    async with pycomnet.Group(reactor) as group:
        group.setlocalfactory()
        with pytest.raises(pycomnet.PycomnetError, match=f"another user's .uid {NOBODY}"):
            await group.makegateway("popen")
    heard = await listening
    assert heard.returncode == 0, heard.stderr
    assert heard.stdout.splitlines() == [str(NOBODY), ""], "it was told something"


def test_dead_socket_and_lock_are_replaced(running: Daemons, shared: Path) -> None:
    """A socket that a killed factory left is replaced, with its lock."""
    place = own(shared)
    place.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place / "factory.sock"))
    (place / "factory.sock.lock").symlink_to("1")
    factory(running, shared).wait_for("listening on")
