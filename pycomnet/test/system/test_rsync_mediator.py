"""rsync through a mediator whose token does not allow ``chdir``: neither end writes outside."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.far.rsync import entries
from pycomnet.rsync import fetch, modules
from pycomnet.test.rsync.fetch_cases import SCRIPTED, batch
from pycomnet.test.rsync.kit import tree_of, write
from pycomnet.test.system.daemons import Daemons, daemons
from pycomnet.test.system.mediators import Mediator

NOON = 1700000000123456789
#: 16 characters at least.
TOKEN = "0123456789abcdef"
#: What a far side says of its root.
ROOT = ["root", 0o755, NOON, ["", [[b"", ""]]]]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Daemons]:
    """Daemons that end with the test, in a directory that tests look at afterwards."""
    (tmp_path / "work").mkdir()
    with daemons(tmp_path / "work") as started:
        yield started


@pytest.fixture
def mediator(running: Daemons) -> Mediator:
    """A server with one user, who may set nothing but a gateway's id."""
    token = running.directory / "token"
    token.write_text(TOKEN)
    tokens = running.directory / "tokens"
    tokens.write_text("[alice]\ntoken_file = token\nallow = id\n")
    for path in (token, tokens):
        path.chmod(0o600)
    return Mediator(running, "--tokens", str(tokens), token=str(token))


@pytest_twisted.async_yield_fixture
async def group() -> AsyncIterator[pycomnet.Group]:
    """A group."""
    from twisted.internet import reactor

    made = pycomnet.Group(reactor)
    yield made
    await made.close()


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory that nobody may write to, with a file."""
    made = tmp_path / "outside"
    write(f"{made}/precious", b"as it was", NOON)
    return made


async def send(gateway: pycomnet.Gateway, source: Path, target: str) -> pycomnet.TargetResult:
    """The result of one run to one target."""
    sync = pycomnet.RSync(source, delete=True)
    sync.add_target(gateway, target)
    (result,) = (await sync.send()).targets
    return result


@pytest_twisted.ensureDeferred
async def test_chdir_is_refused_and_a_tree_goes_to_the_servers_directory(
    mediator: Mediator, group: pycomnet.Group, tmp_path: Path, outside: Path
) -> None:
    """A gateway elsewhere is refused; a relative destination is in the server's own directory."""
    with pytest.raises(pycomnet.GatewayNotStarted, match="'chdir' is not allowed"):
        await group.makegateway(mediator.spec(chdir=outside))
    source, work = tmp_path / "source", tmp_path / "work"
    write(f"{source}/sub/file", b"content", NOON)
    write(f"{source}/long", os.urandom(300_000), NOON)
    gateway = await group.makegateway(mediator.spec())
    (await send(gateway, source, "copy")).raise_for_failures()
    assert tree_of(str(work / "copy")) == tree_of(str(source))
    back = tmp_path / "back"
    (await pycomnet.fetch(gateway, "copy", back)).raise_for_failures()
    assert tree_of(str(back)) == tree_of(str(source))
    assert (outside / "precious").read_bytes() == b"as it was"
    assert sorted(os.listdir(tmp_path)) == ["back", "outside", "source", "work"]


@pytest_twisted.ensureDeferred
async def test_links_at_the_server_are_not_followed(
    mediator: Mediator, group: pycomnet.Group, tmp_path: Path, outside: Path
) -> None:
    """A tree is written in the place of links in the destination, and not through them."""
    source, copy = tmp_path / "source", tmp_path / "work" / "copy"
    write(f"{source}/sub/precious", b"content", NOON + 1)
    write(f"{source}/precious", b"content", NOON + 1)
    copy.mkdir()
    (copy / "sub").symlink_to(outside)
    (copy / "precious").symlink_to(outside / "precious")
    gateway = await group.makegateway(mediator.spec())
    (await send(gateway, source, "copy")).raise_for_failures()
    assert tree_of(str(copy)) == tree_of(str(source))
    assert os.listdir(outside) == ["precious"]
    assert (outside / "precious").read_bytes() == b"as it was"


@pytest.mark.parametrize(
    "listed",
    [
        batch([b"../../outside/new"], [entries.FILE]),
        batch([b"precious"], [entries.FILE], [[b"../../outside", 1, 1]]),
        batch([b"new"], [entries.DIRECTORY], [[b"/tmp", 1, 1]]),
    ],
    ids=["name", "directory", "absolute"],
)
@pytest_twisted.ensureDeferred
async def test_lists_that_lead_out_are_refused(
    mediator: Mediator,
    group: pycomnet.Group,
    tmp_path: Path,
    outside: Path,
    listed: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the server nor this end writes where a list of the other one leads out."""
    gateway = await group.makegateway(mediator.spec())
    monkeypatch.setattr(fetch, "SEND", hostile(ROOT, listed))
    with pytest.raises(pycomnet.SyncError, match="no name"):
        await pycomnet.fetch(gateway, "any", tmp_path / "back" / "tree")
    data = gateway.newchannel(raw=True)
    options = {"root": b"copy", "mode": 0o755, "time": NOON}
    channel = gateway.remote_exec(modules.RECEIVE, data=data, options=options)
    await channel.send(listed)
    kind, reason = await channel.receive()
    assert kind == "stopped"
    assert "no name" in reason
    await channel.waitclose()
    assert os.listdir(outside) == ["precious"]
    assert (outside / "precious").read_bytes() == b"as it was"
    assert os.listdir(tmp_path / "work" / "copy") == []
    assert os.listdir(tmp_path / "back" / "tree") == []


def hostile(*messages: list[Any]) -> str:
    """The code of a far side that sends these messages."""
    return f"messages, pieces = {list(messages)!r}, ()\n{SCRIPTED}"
