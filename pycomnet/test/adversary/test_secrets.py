"""What a daemon's children begin with: none of the secrets that let somebody in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.auth.tokens import CREDENTIAL_VARIABLES, new_token
from pycomnet.test.processes import children
from pycomnet.test.system.daemons import Daemons, daemons
from pycomnet.test.system.mediators import LOOPBACK, Mediator

SECRET = new_token()
#: What a daemon, and a program, have in their environment: each with a value that can be told.
VARIABLES = dict.fromkeys(CREDENTIAL_VARIABLES, SECRET)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Daemons]:
    """Daemons that end with the test."""
    with daemons(tmp_path) as started:
        yield started


def variables() -> dict[str, str]:
    """The far side's environment."""
    import os

    return dict(os.environ)


def assert_clean(found: dict[str, str], pid: int) -> None:
    """Nothing of it is in a child's environment, as it has it and as the system knows it."""
    assert "PATH" in found
    assert SECRET not in found.values()
    below = children(pid)
    assert below, "there is no child to look at"
    while below:
        child = below.pop()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            assert SECRET.encode() not in Path(f"/proc/{child}/environ").read_bytes()
        below |= children(child)


@pytest.mark.parametrize("kind", ("gateway", "factory"))
@pytest_twisted.ensureDeferred
async def test_workers_do_not_inherit_the_daemons_secrets(
    running: Daemons, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that a daemon starts for a program, which has secrets of its own."""
    from twisted.internet import reactor

    path = running.directory / "s"
    more: dict[str, Any] = VARIABLES
    daemon = running.start(f"pycomnet-{kind}", "--listen", f"unix:{path}", **more)
    await daemon.seen("listening")
    group: Any = pycomnet.Group(reactor)
    try:
        if kind == "factory":
            group.setlocalfactory(path=path)
            for name, value in VARIABLES.items():
                monkeypatch.setenv(name, value)
            gateway = await group.makegateway("popen")
        else:
            gateway = await group.makegateway(f"socket=unix:{path}")
        assert_clean(await gateway.call(variables), daemon.pid)
    finally:
        await group.terminate()


def test_subprocesses_do_not_inherit_the_mediators_secrets(
    running: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Subprocesses of the mediator, with variables of their own and without."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    mediator = Mediator(running, "--processes", "9", listen=LOOPBACK)
    for options in ({}, {"env": {"A": "b"}}):
        body = json.dumps({"python": "sh -c 'env; echo END; exec cat'", **options})
        pid = mediator.curl("/popen", "-d", body).json["pid"]
        path = f"/exec/{pid}?offset=0&wait=30&max=65536"
        printed = b""
        while not printed.endswith(b"END\n"):
            printed = mediator.curl(path).body
        found = dict(line.partition("=")[::2] for line in printed.decode().splitlines())
        assert_clean(found, mediator.pid)


@pytest_twisted.ensureDeferred
async def test_secret_given_by_a_client_is_kept(running: Daemons) -> None:
    """What a client gives to its own subprocess is its own."""
    from twisted.internet import reactor

    mediator = Mediator(running)
    group: Any = pycomnet.Group(reactor)
    try:
        gateway = await group.makegateway(mediator.spec(), env={"PYCOMNET_TOKEN": SECRET})
        assert (await gateway.call(variables))["PYCOMNET_TOKEN"] == SECRET
    finally:
        await group.terminate()
