"""Thousands who connect and say nothing: whoever says who they are still gets in."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

import pycomnet
from pycomnet.test.system.daemons import EXAMPLES, PATIENCE, Daemon, Daemons, daemons
from pycomnet.test.system.mediators import LOOPBACK, Mediator

#: How many there are; and how many descriptors a daemon has that is short of them.
MANY = 1100
FEW = 100
KINDS = ("gateway", "http-exec", "factory", "nameserver", "service")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Daemons]:
    """Daemons that end with the test."""
    with daemons(tmp_path) as started:
        yield started


@contextlib.contextmanager
def idle(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections over which nothing is said."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 500:
        if hard < count + 500:
            pytest.skip("too few descriptors are allowed here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 500, hard))
    found: list[socket.socket] = []
    try:
        for _ in range(count):
            found.append(socket.create_connection(("127.0.0.1", port), PATIENCE))
        yield found
    finally:
        for one in found:
            one.close()


def double(number: int) -> int:
    """What the far side is asked for."""
    return 2 * number


class Target:
    """A daemon of a kind, and a program that uses it."""

    def __init__(self, running: Daemons, kind: str) -> None:
        self.kind = kind
        self.running = running
        self.token = running.directory / "token"
        name, options = f"pycomnet-{kind}", ["--listen", LOOPBACK]
        if kind == "http-exec":
            self.mediator = Mediator(running)
            self.daemon: Daemon = self.mediator.daemon
            self.port = self.mediator.port
            return
        if kind in ("gateway", "factory"):
            options += ["--token-file", str(self.token)]
        if kind == "nameserver":
            options += ["--store", "memory:"]
        directory = None
        if kind == "service":
            options, directory = [*options, "--nameserver", "none", "calc"], EXAMPLES
        self.daemon = running.start(name, *options, directory=directory)
        said = r"(?:listening on |socket=|nameserver is at |offers .* at )tcp:127\.0\.0\.1:(\d+)"
        self.port = int(self.daemon.wait_for(said)[1])

    async def use(self) -> None:
        """Do what it is for, once."""
        from twisted.internet import reactor

        if self.kind == "http-exec":
            answer = await deferToThread(self.mediator.curl, "/")
            assert answer.status == 200, answer.errors
        elif self.kind in ("nameserver", "service"):
            context = pycomnet.Context(reactor)
            remote = await context.connect(
                f"tcp:127.0.0.1:{self.port}", "org.pycom.introspection", timeout=60
            )
            assert await remote.invoke("introspect", timeout=60)
            await context.close()
        else:
            group: Any = pycomnet.Group(reactor)
            address = f"tcp:127.0.0.1:{self.port}"
            try:
                if self.kind == "factory":
                    group.setlocalfactory(self.port, token_file=str(self.token))
                    gateway = await group.makegateway("popen")
                else:
                    gateway = await group.makegateway(f"socket={address}//token_file={self.token}")
                assert await gateway.call(double, 3) == 6
            finally:
                await group.terminate()


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_idle_strangers_shut_nobody_out(running: Daemons, kind: str) -> None:
    """More of them than a daemon keeps shut nobody out."""
    target = Target(running, kind)
    with idle(target.port, MANY):
        await target.use()
        await target.use()
    assert "Traceback" not in target.daemon.said, target.daemon.said[-3000:]


@pytest.mark.parametrize("kind", KINDS)
@pytest_twisted.ensureDeferred
async def test_strangers_go_first_when_descriptors_run_out(running: Daemons, kind: str) -> None:
    """Where descriptors run out, they are those who go."""
    target = Target(running, kind)
    resource.prlimit(target.daemon.pid, resource.RLIMIT_NOFILE, (FEW, FEW))
    with idle(target.port, 3 * FEW):
        await target.use()
        await target.use()
    await target.daemon.seen("unauthenticated connections, the last from")
