"""Services in trouble, as processes: frozen, blocked, ended while they work, with another loop."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet.task import deferLater

import pycomnet
from pycomnet.errors import CallInterrupted
from pycomnet.services.launch.launcher import CLOSE_TIMEOUT
from pycomnet.test.processes import stop
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons, command, daemons

MODULE = """
import asyncio, os, signal, sys, time
import pycomnet

@pycomnet.interface("t.w")
class Worker(pycomnet.Service):
    @pycomnet.method()
    def ping(self, request):
        return os.getpid()

    @pycomnet.method(idempotent=True)
    def again(self, request):
        return os.getpid()

    @pycomnet.method(idempotent=True)
    def die(self, request):
        print("die was called", flush=True)
        raise SystemExit(3)

    @pycomnet.method(thread=True)
    def work(self, request):
        print("at work", flush=True)
        time.sleep(request.args)

    @pycomnet.method()
    def block(self, request):
        time.sleep(request.args)

    @pycomnet.method()
    async def nap(self, request):
        await asyncio.sleep(0.01)
        return type(asyncio.current_task()).__name__
"""
REGISTERED = r"registered '(\S+)' at (\S+): \S+ \(lease"


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons of a test, in a directory with the module."""
    directory = Path(tmp_path_factory.mktemp("t"))
    (directory / "tw.py").write_text(MODULE)
    with daemons(directory) as found:
        yield found


def registered(daemon: Daemon) -> tuple[str, str]:
    """Wait for it to be registered: its name and address."""
    name, address = daemon.wait_for(REGISTERED).groups()
    return name, address


@pytest_twisted.ensureDeferred
async def test_frozen_instances_calls_go_to_the_other(started: Daemons) -> None:
    """One of two instances is stopped: what was sent to it fails or is made elsewhere, and all
    later calls go to the other, each within its deadline.
    """
    from twisted.internet import reactor

    nameserver = started.nameserver()
    services = [started.service(nameserver, module="tw") for _ in range(2)]
    for service in services:
        registered(service)
    pids = [service.pid for service in services]
    context = pycomnet.Context(reactor, nameserver=nameserver, timeout=PATIENCE)
    fresh = pycomnet.Context(reactor, nameserver=nameserver, timeout=PATIENCE)
    try:
        remote = await context.locate("t.w")
        found = {await remote.invoke("ping") for _ in range(4)}
        assert found == set(pids)
        stop(services[0].pid)
        # Either would be asked first: those that may be run twice come to the other.
        calls = [remote.invoke("again", timeout=PATIENCE) for _ in range(4)]
        assert [await call for call in calls] == [pids[1]] * 4
        assert [await remote.invoke("ping", timeout=PATIENCE) for _ in range(20)] == [pids[1]] * 20
        # A client that has no connection to it yet, and does not know.
        other = await fresh.locate("t.w")
        assert [await other.invoke("ping", timeout=PATIENCE) for _ in range(20)] == [pids[1]] * 20
        services[0].signal(signal.SIGCONT)
        for _ in range(PATIENCE * 10):
            if await remote.invoke("ping") == pids[0]:
                break
            await deferLater(reactor, 0.1)
        else:
            raise AssertionError("it gets no calls, though it answers")
    finally:
        services[0].signal(signal.SIGCONT)
        await context.close()
        await fresh.close()


@pytest_twisted.ensureDeferred
async def test_system_exit_in_a_method_ends_nothing(started: Daemons) -> None:
    """A method that raises SystemExit is run once; the service and the connection stay."""
    from twisted.internet import reactor

    service = started.start("pycomnet-service", "--nameserver", "none", "--listen", "unix:s", "tw")
    service.wait_for("Worker offers")
    context = pycomnet.Context(reactor)
    try:
        remote = await context.connect(f"unix:{started.directory}/s")
        with pytest.raises(pycomnet.RemoteError) as caught:
            await remote.invoke("die", timeout=PATIENCE)
        assert caught.value.type == "SystemExit"
        assert await remote.invoke("ping", timeout=PATIENCE) == service.pid
    finally:
        await context.close()
    await service.seen("die was called")
    assert service.said.count("die was called") == 1


@pytest_twisted.ensureDeferred
async def test_sigterm_names_the_thread_that_still_runs(started: Daemons) -> None:
    """SIGTERM while a method runs in a thread: it ends after the grace, and says what still ran."""
    from twisted.internet import reactor

    service = started.start("pycomnet-service", "--nameserver", "none", "--listen", "unix:s", "tw")
    service.wait_for("Worker offers")
    context = pycomnet.Context(reactor)
    remote = await context.connect(f"unix:{started.directory}/s")
    call = remote.invoke("work", 10 * PATIENCE, timeout=None)
    await service.seen("at work")
    begun = time.monotonic()
    service.signal(signal.SIGTERM)
    with pytest.raises(CallInterrupted):
        await call
    assert await service.ended() == -signal.SIGTERM  # as twistd ends
    # Far from the ten minutes that the method takes, and not before the grace.
    assert CLOSE_TIMEOUT - 1 < time.monotonic() - begun < PATIENCE
    assert "t.w.work still runs in its thread" in service.said
    assert "Server Shut Down" in service.said
    await context.close()


@pytest_twisted.ensureDeferred
async def test_method_that_blocks_past_the_lease_is_named(started: Daemons) -> None:
    """A method that blocks past the lease is named in the log, and the service comes back; within
    two thirds of the lease nobody notices.
    """
    from twisted.internet import reactor

    nameserver = started.nameserver()
    service = started.service(nameserver, "--ttl", "8", "--name", "w", module="tw")
    registered(service)
    context = pycomnet.Context(reactor, nameserver=nameserver, timeout=PATIENCE)
    try:
        remote = await context.locate("t.w")
        await remote.invoke("block", 2)
        names = await context.nameserver()
        assert len(await names.invoke("list_services", {"service": "w"})) == 1
        await service.seen(r"reactor blocked for \S+ s in t\.w\.block \(\S+tw\.py:\d+\)")
        assert "registering it again" not in service.said
        await remote.invoke("block", 12)
        await service.seen(r"reactor blocked for \S+ s so far in t\.w\.block .*thread=True")
        await service.seen(r"registering it again[^~]*registered 'w'")
        assert len(await names.invoke("list_services", {"service": "w"})) == 1
    finally:
        await context.close()


@pytest_twisted.ensureDeferred
async def test_asyncio_method_needs_the_asyncio_reactor(started: Daemons) -> None:
    """A method awaits what is asyncio's on the asyncio reactor; elsewhere the error says so."""
    from twisted.internet import reactor

    for name, installed in (("a", "asyncio"), ("e", None)):
        options = ("--nameserver", "none", "--listen", f"unix:{name}", "tw")
        service = started.start("pycomnet-service", *options, reactor=installed)
        service.wait_for("Worker offers")
        context = pycomnet.Context(reactor, timeout=PATIENCE)
        try:
            remote = await context.connect(f"unix:{started.directory}/{name}")
            if installed:
                assert await remote.invoke("nap") == "Task"
            else:
                with pytest.raises(pycomnet.RemoteError) as caught:
                    await remote.invoke("nap")
                assert "--reactor=asyncio" in caught.value.message
        finally:
            await context.close()


def test_both_listeners_are_registered_and_usable(started: Daemons) -> None:
    """Both addresses are registered, and either can be used."""
    nameserver = started.nameserver()
    unix = f"unix:{started.directory}/s"
    service = started.service(
        nameserver, "--listen", unix, "--listen", "tcp:0:interface=127.0.0.1", module="tw"
    )
    registered(service)
    env = {"PYCOMNET_NAMESERVER": nameserver}
    found = command("ns", "list", "--json", env=env)
    assert unix in found.stdout, found
    assert "tcp:127.0.0.1:" in found.stdout
    assert command("call", "t.w", "ping", env=env).stdout.strip() == str(service.pid)
    os.unlink(started.directory / "s")
    assert command("call", "t.w", "ping", env=env).stdout.strip() == str(service.pid)


@pytest_twisted.ensureDeferred
async def test_replaced_certificate_is_shown_half_a_one_is_not(started: Daemons) -> None:
    """A certificate that is replaced on disk is shown from then on; half a one is not."""
    from twisted.internet import reactor

    directory = started.directory
    old, new = trustme.CA(), trustme.CA()
    for authority, name in ((old, "old"), (new, "new")):
        authority.cert_pem.write_to_path(str(directory / f"{name}-ca.pem"))
        leaf = authority.issue_cert("127.0.0.1")
        leaf.private_key_pem.write_to_path(str(directory / f"{name}-key.pem"))
        leaf.cert_chain_pems[0].write_to_path(str(directory / f"{name}-cert.pem"))

    def install(name: str, part: str) -> None:
        shutil.copy(directory / f"{name}-{part}.pem", directory / f"{part}.part")
        os.replace(directory / f"{part}.part", directory / f"{part}.pem")

    async def ask(name: str) -> Any:
        context = pycomnet.Context(reactor, timeout=PATIENCE)
        try:
            trust = f"trustRoots={directory}/{name}-ca.pem"
            remote = await context.connect(f"{where}:{trust}", "t.w")
            return await remote.invoke("ping")
        finally:
            await context.close()

    install("old", "key")
    install("old", "cert")
    listen = "tls:0:interface=127.0.0.1:privateKey=key.pem:certKey=cert.pem"
    service = started.start("pycomnet-service", "--nameserver", "none", "--listen", listen, "tw")
    where = service.wait_for(r"Worker offers t\.w at (tls:\S+)")[1]
    assert await ask("old") == service.pid
    install("new", "key")
    assert await ask("old") == service.pid  # that key is not the old certificate's
    await service.seen("TLS goes on with the certificate it had")
    install("new", "cert")
    assert await ask("new") == service.pid
    await service.seen("TLS has a new certificate")
    with pytest.raises(pycomnet.CertificateRefused):
        await ask("old")
