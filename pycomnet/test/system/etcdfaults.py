"""What is done to etcd and to nameservers under load; each fault says how long writes were away."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.threads import deferToThread

from pycomnet.test.system.daemons import daemons
from pycomnet.test.system.etcdnetwork import network
from pycomnet.test.system.etcdruns import READY, ClusterRun
from pycomnet.test.system.etcds import EtcdMembers
from pycomnet.test.system.histories import Restored

#: A library that tells a process another time, and the file with the offset from the true one.
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
OFFSET = "offset"
#: Seconds of the leases of those that die together: longer than it takes to register them.
MANY_TTL = 60.0
#: How many are registered before those that are registered are renewed.
MANY_AT_ONCE = 1_000


@attrs.frozen
class Fault:
    """A fault.

    :ivar apply: does it for some seconds; returns after how many seconds a registration succeeded.
    :ivar has_network: whether each member and nameserver needs a network of its own.
    :ivar has_clock: whether the nameservers need a clock that can be set.
    """

    apply: Callable[[ClusterRun, float], Awaitable[float]]
    has_network: bool = False
    has_clock: bool = False


async def leader_killed(run: ClusterRun, seconds: float) -> float:
    leader = await run.leader()
    leader.kill()
    begun = run.now
    others = [one for one in run.members.members if one is not leader]
    electing = defer.Deferred.fromCoroutine(run.elected(others))
    back = await run.registered(begun)
    print(f"  elected after {await electing - begun:.2f} s, a registration after {back:.2f} s")
    leader.start()
    await deferToThread(run.members.wait)
    return back


async def follower_killed(run: ClusterRun, seconds: float) -> float:
    follower = await run.follower()
    follower.kill()
    back = await run.registered(run.now)
    follower.start()
    await deferToThread(run.members.wait)
    return back


async def nameserver_killed(run: ClusterRun, seconds: float) -> float:
    run.daemons[0].signal(signal.SIGKILL)
    back = await run.registered(run.now)
    await run.daemons[0].ended()
    run.daemons[0] = run.start_nameserver(0)
    await run.daemons[0].seen(READY)
    return back


async def leader_frozen(run: ClusterRun, seconds: float) -> float:
    return await run.frozen((await run.leader()).process, seconds)


async def follower_frozen(run: ClusterRun, seconds: float) -> float:
    return await run.frozen((await run.follower()).process, seconds)


async def nameserver_frozen(run: ClusterRun, seconds: float) -> float:
    return await run.frozen(run.daemons[0].process, seconds)


async def compacted_in_a_pause(run: ClusterRun, seconds: float) -> float:
    """History that a frozen nameserver has not seen goes: it has to compare."""
    freezing = defer.Deferred.fromCoroutine(run.frozen(run.daemons[0].process, seconds))
    await run.sleep(seconds * 0.8)
    done = await deferToThread(
        subprocess.run,
        ["etcdctl", "--endpoints", run.members.members[0].url, "get", "x", "-w", "fields"],
        capture_output=True,
        text=True,
        check=True,
    )
    (revision,) = (line for line in done.stdout.splitlines() if line.startswith('"Revision"'))
    await deferToThread(run.members.control, "compact", revision.partition(":")[2].strip())
    return await freezing


async def _parted(run: ClusterRun, seconds: float, *nodes: str) -> float:
    assert run.network is not None
    await deferToThread(run.network.part, *nodes)
    registering = run.registering(run.now)
    await run.sleep(seconds)
    await deferToThread(run.network.join, *nodes)
    await deferToThread(run.members.wait)
    return await registering


async def leader_in_minority(run: ClusterRun, seconds: float) -> float:
    return await _parted(run, seconds, (await run.leader()).name)


async def nameserver_in_minority(run: ClusterRun, seconds: float) -> float:
    return await _parted(run, seconds, (await run.leader()).name, "n0")


async def snapshot_restored(run: ClusterRun, seconds: float) -> float:
    """All members are put back to a snapshot, as after a disaster; what came later is gone."""
    snapshot = run.members.directory / "snapshot"
    saved = run.now
    await deferToThread(run.members.control, "snapshot", "save", str(snapshot))
    await run.sleep(seconds)
    for member in run.members.members:
        member.kill()
    for member in run.members.members:
        await deferToThread(member.restore, snapshot, run.members.cluster, "restored")
    begun = run.now
    for member in run.members.members:
        member.start()
    back = await run.registered(begun)
    # Meanwhile both have compared, or do within a sign of life.
    await run.sleep(2.0)
    run.restored = Restored(saved, run.now)
    return back


async def slow_disk(run: ClusterRun, seconds: float) -> float:
    """Each sync of the leader's disk takes 0.3 s more.

    A transaction then takes a second. strace also stops the leader at each of its system calls:
    that alone takes two thirds of its transactions, and more on a busy machine.
    """
    leader = await run.leader()
    tracing = subprocess.Popen(
        [
            *("strace", "-f", "-o", "/dev/null", "-p", str(leader.process.pid)),
            *("-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:delay_enter=300000"),
        ],
        stderr=subprocess.DEVNULL,
    )
    while not is_traced(leader.process.pid):
        assert tracing.poll() is None, "strace has ended"
        await run.sleep(0.02)
    begun = run.now
    try:
        registering = run.registering(begun, patience=8.0)
        await run.sleep(seconds)
        slow = run.now
        new = await run.leader()
        print(f"  slow for {slow - begun:.1f} s; {leader.name} led, {new.name} leads")
    finally:
        # It lets go of each thread when that has left the call that it is delayed in. The reactor
        # goes on meanwhile: else the clients' own leases would end.
        ended = run.now
        tracing.terminate()
        await deferToThread(tracing.wait)
        print(f"  no longer traced {run.now - ended:.1f} s after that")
    ended = run.now
    back = await registering
    await run.registered(run.now, patience=8.0)
    print(f"  another registration {run.now - ended:.2f} s later")
    return back


def is_traced(pid: int) -> bool:
    """Whether another process traces all threads of one."""
    statuses = Path(f"/proc/{pid}/task").glob("*/status")
    return not any("TracerPid:\t0\n" in one.read_text() for one in statuses)


async def clock_jumps(run: ClusterRun, seconds: float) -> float:
    """The clocks of the nameservers jump an hour forth, and two back. etcd's members have no clock
    that can be set for them alone; leases go by the monotonic one there."""
    back = 0.0
    for offset in ("+3600", "-3600", "+0"):
        (run.directory / OFFSET).write_text(offset)
        waiting = run.sleep(seconds / 3)
        back = max(back, await run.registered(run.now))
        await waiting
    return back


async def many_die(run: ClusterRun, seconds: float) -> float:
    """10,000 services die in the same second (so many less as the run is shorter)."""
    nameserver = await run.context.nameserver()
    names = [f"dying-{number}" for number in range(min(10_000, int(seconds * 400)))]
    leases: dict[str, int] = {}

    async def each(one: Callable[[str], Awaitable[None]], some: list[str]) -> None:
        waiting = iter(some)

        async def work() -> None:
            for name in waiting:
                await one(name)

        await defer.gatherResults([defer.Deferred.fromCoroutine(work()) for _ in range(64)])

    async def register(name: str) -> None:
        found = await nameserver.invoke("register", run.registration(name, MANY_TTL))
        leases[name] = found["lease"]

    async def renew(name: str) -> None:
        owner = {"lease": leases[name], "secret": "the secret of the run"}
        await nameserver.invoke("renew", owner)

    begun = time.monotonic()
    for at in range(0, len(names), MANY_AT_ONCE):
        await each(register, names[at : at + MANY_AT_ONCE])
        await each(renew, names[: at + MANY_AT_ONCE])
    print(f"  {len(names)} registered in {time.monotonic() - begun:.1f} s")
    begun = run.now
    await each(renew, names)
    last = run.now
    await run.sleep(max(0.0, begun + MANY_TTL - run.now))
    back = await run.registered(run.now)
    doubtful = 0
    while (stat := await nameserver.invoke("stat"))["services"] - stat["doubtful"] > 60:
        doubtful = max(doubtful, stat["doubtful"])
        if run.now > last + MANY_TTL + 90.0:
            run.problems.append("the dead are there for 90 s more than their leases")
            break
        await run.sleep(0.1)
    print(f"  all ended {run.now - last - MANY_TTL:.1f} s after the last lease's time")
    doubtful = max(doubtful, stat["doubtful"])
    if doubtful < len(names) * 0.9:
        run.problems.append(f"only {doubtful} of {len(names)} ends were doubted")
    while (stat := await nameserver.invoke("stat"))["doubtful"]:
        if run.now > last + 2 * MANY_TTL + 90.0:
            run.problems.append(f"{stat['doubtful']} are doubtful for too long")
            break
        await run.sleep(0.1)
    print(f"  {doubtful} were doubtful, until {run.now - last:.1f} s after they were renewed last")
    return back


#: All of them by name.
FAULTS = {
    "leader-killed": Fault(leader_killed),
    "follower-killed": Fault(follower_killed),
    "nameserver-killed": Fault(nameserver_killed),
    "leader-frozen": Fault(leader_frozen),
    "follower-frozen": Fault(follower_frozen),
    "nameserver-frozen": Fault(nameserver_frozen),
    "compacted-in-a-pause": Fault(compacted_in_a_pause),
    "leader-in-minority": Fault(leader_in_minority, has_network=True),
    "nameserver-in-minority": Fault(nameserver_in_minority, has_network=True),
    "snapshot-restored": Fault(snapshot_restored),
    "slow-disk": Fault(slow_disk),
    "clock-jumps": Fault(clock_jumps, has_clock=True),
    "many-die": Fault(many_die),
}


async def run_fault(
    reactor: Any,
    name: str,
    *,
    times: int,
    seconds: float,
    between: float,
    memory: str | None,
    arguments: Sequence[str] = (),
) -> tuple[ClusterRun, list[float]]:
    """Start three members and two nameservers, and apply a fault some times.

    :param seconds: how long each takes, where it takes time.
    :param between: seconds of load before each, and after the last.
    :param memory: a directory for the members' data.
    :param arguments: further ones that the members are started with.
    :returns: the run, and after how many seconds registrations succeeded, each time.
    """
    fault = FAULTS[name]
    back: list[float] = []
    with ExitStack() as stack:
        where = Path(tempfile.mkdtemp(prefix="pycomnet-f-", dir=memory))
        stack.callback(shutil.rmtree, where, ignore_errors=True)
        net = None
        if fault.has_network:
            net = stack.enter_context(network("m0", "m1", "m2", "n0", "n1"))
        members = EtcdMembers(where, 3, net)
        for one in members.members:
            one.add_arguments(*arguments)
        stack.callback(members.stop)
        for one in members.members:
            one.start()  # not in a thread, which would go on if this is cancelled
        await deferToThread(members.wait)
        started = stack.enter_context(daemons(where))
        environment = {}
        if fault.has_clock:
            (where / OFFSET).write_text("+0")
            environment = {
                "LD_PRELOAD": FAKETIME,
                "FAKETIME_TIMESTAMP_FILE": str(where / OFFSET),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        run = ClusterRun(reactor, members, started, network=net, environment=environment)
        try:
            await run.start()
            for _ in range(times):
                await run.sleep(between)
                back.append(await fault.apply(run, seconds))
            await run.sleep(between)
            await run.check()
        finally:
            await run.close()
    return run, back
