"""The wall clock is set forward and back by days: no timer of a daemon notices."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.adversary.kit import CALC, Http, Victim, in_thread, ready, start
from pycomnet.test.system.daemons import Daemons

DAY = 86400
#: Debian's package libfaketime.
LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)

needs_faketime = pytest.mark.skipif(
    LIBRARY is None and not os.environ.get("PYCOMNET_REQUIRE_ALL"),
    reason="libfaketime is not installed",
)
pytestmark = needs_faketime


class Clock:
    """The wall clock of the daemons that are started with its environment."""

    def __init__(self, directory: Path) -> None:
        assert LIBRARY is not None, "libfaketime is not installed"
        self._file = directory / "clock"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        """Set it so far from what it really is."""
        other = self._file.with_suffix(".new")
        other.write_text(f"{seconds:+d}\n")
        other.rename(self._file)


def shared_memory() -> set[Path]:
    """What libfaketime has made for processes: one that is killed leaves it."""
    return set(Path("/dev/shm").glob("*faketime_*_*"))


@pytest.fixture(autouse=True)
def no_shared_memory_is_left() -> Iterator[None]:
    """Remove what the daemons of a test have left; they have ended by then."""
    before = shared_memory()
    yield
    for path in shared_memory() - before:
        if not Path("/proc", path.name.rpartition("_")[2]).exists():
            path.unlink(missing_ok=True)


@pytest.fixture
def clock(running: Daemons) -> Clock:
    """The clock of a test's daemons."""
    return Clock(running.directory)


def started(running: Daemons, clock: Clock, kind: str, *options: str) -> Victim:
    return ready(start(running, kind, *options, **clock.environment))


def registration(service: str, **args: Any) -> dict[str, Any]:
    return {"service": service, "interfaces": ["org.example.x"], "address": "tcp:h:1", **args}


@pytest_twisted.ensureDeferred
async def test_leases_end_in_their_time_whatever_the_clock(running: Daemons, clock: Clock) -> None:
    """A lease ends when its seconds have passed, whatever the clock says meanwhile."""
    from twisted.internet import reactor

    victim = started(running, clock, "nameserver")
    async with pycomnet.Context(reactor, timeout=120) as context:
        names = context.at(victim.where, NAMESERVER)
        await names.invoke("register", registration("long", ttl=600))
        begun = time.monotonic()
        await names.invoke("register", registration("short", ttl=2))
        clock.set(-DAY)
        services = {"long", "short"}
        while "short" in services:
            assert time.monotonic() - begun < 120, "a lease did not end"
            services = {one["service"] for one in await names.invoke("list_services")}
        assert time.monotonic() - begun >= 2, "a lease ended early"
        for jump in (2 * DAY, -2 * DAY, 0):
            clock.set(jump)
            found = await names.invoke("locate", {"interface": "org.example.x"})
            assert found["service"] == "long" and 500 < found["ttl"] <= 600, found


@pytest_twisted.ensureDeferred
async def test_clock_jumps_end_no_call_or_connection(running: Daemons, clock: Clock) -> None:
    """A service's clients are not silent for a day because the clock says so."""
    from twisted.internet import reactor

    victim = started(running, clock, "service")
    async with pycomnet.Context(reactor, timeout=120) as context:
        calc = await context.connect(victim.where, CALC)
        for jump in (DAY, -DAY, 3 * DAY, 0):
            clock.set(jump)
            # None is repeated on another connection: there is one.
            assert await calc.invoke("add", {"a": jump, "b": 1}, timeout=60) == jump + 1
    assert "silent" not in victim.daemon.said


def wait_and_say(channel):
    channel.send("waiting")
    try:
        channel.send(channel.receive(timeout=3600))
    except Exception as problem:
        channel.send("gave up: " + type(problem).__name__)


def time_of_day(channel):
    import time

    channel.send(time.time())


def seconds_of_a_short_wait(channel):
    import time

    now = getattr(time, "monotonic", time.time)
    channel.send("waiting")
    begun = now()
    try:
        channel.receive(timeout=1)
    except Exception:
        channel.send(now() - begun)


@pytest.mark.parametrize("kind", ["gateway", "factory", "http-exec"])
@pytest_twisted.ensureDeferred
async def test_gateways_live_through_clock_jumps(running: Daemons, clock: Clock, kind: str) -> None:
    """A gateway, and what its code waits for, live through it: the far side's clock jumps too."""
    from twisted.internet import reactor

    victim = started(running, clock, kind)
    async with pycomnet.Group(reactor) as group:
        gateway = await victim.gateway(group)
        for jump in (DAY, 0):
            channel = gateway.remote_exec(wait_and_say)
            assert await channel.receive() == "waiting"
            clock.set(jump)
            said = await gateway.remote_exec(time_of_day).receive()
            assert abs(said - time.time() - jump) < 60, "its clock was not set"
            channel.send("it is there")
            assert await channel.receive().addTimeout(120, reactor) == "it is there"
        channel = gateway.remote_exec(seconds_of_a_short_wait)
        assert await channel.receive() == "waiting"
        clock.set(-DAY)
        assert 0.9 < await channel.receive().addTimeout(120, reactor) < 60


@pytest_twisted.ensureDeferred
async def test_clock_jumps_end_no_lingering_gateway(running: Daemons, clock: Clock) -> None:
    """What waits for its program, or is idle, in a factory is not ended by the clock."""
    from twisted.internet import reactor

    victim = started(running, clock, "factory")
    async with pycomnet.Group(reactor) as group:
        gateway = await victim.gateway(group, "//id=kept//linger=600")
        for jump in (DAY, -DAY, 2 * DAY):
            await gateway.leave()
            clock.set(jump)
            gateway = await victim.gateway(group, "//id=kept//linger=600//resume=yes")
            assert await gateway.remote_exec("channel.send(3)").receive() == 3
        brief = await victim.gateway(group, "//id=brief//linger=1")
        await brief.leave()
        clock.set(-3 * DAY)
        begun = time.monotonic()
        while any(item.id == "brief" for item in await group.resumable()):
            assert time.monotonic() - begun < 120, "its time is never over"


@pytest_twisted.ensureDeferred
async def test_clock_jumps_end_no_session_or_ticket(running: Daemons, clock: Clock) -> None:
    """What waits for its client at the mediator is not ended, and a ticket is good for its time.
    What is shown and written is the time of day."""
    audit = running.directory / "audit"
    victim = started(running, clock, "http-exec", "--audit-log", str(audit))
    jump = 10 * DAY
    clock.set(jump)

    def ask() -> None:
        http = Http(victim.connect())
        assert http.request(victim, "POST", "/popen", body='{"linger": 60}') == 201, http.head
        pid = json.loads(http.body())["pid"]
        http.request(victim, "POST", "/tickets", body='{"path": "/ws"}')
        ticket = json.loads(http.body())["ticket"]
        for seconds in (12 * DAY, 8 * DAY):
            clock.set(seconds)
            assert http.request(victim, "GET", f"/exec/{pid}/status") == 200
            state = json.loads(http.body())
            assert state["state"] == "running" and state["seconds"] < 60, state
            assert abs(state["started"] - time.time() - jump) < 60, state
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        assert http.request(victim, "GET", f"/ws?ticket={ticket}", *upgrade, key) == 101
        http.close()

    await in_thread(ask)
    written = json.loads(audit.read_text().splitlines()[0])
    assert abs(written["time"] - time.time() - jump) < 60, written
