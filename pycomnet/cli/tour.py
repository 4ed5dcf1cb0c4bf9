"""The steps of ``pycomnet demo``: short functions, whose source is shown and which then run.

A function whose first parameter is ``channel`` runs at the far side: its source is sent there.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from pycomnet.channels.channel import Channel
from pycomnet.errors import (
    GatewayDied,
    RemoteError,
    ServiceNotFound,
    ServiceUnreachable,
    StoreCutOff,
    StoreUncertain,
)
from pycomnet.ext.pubsub import subscriber
from pycomnet.ext.workflow import Task, workflow
from pycomnet.gateways.gateway import Gateway
from pycomnet.gateways.group import Group
from pycomnet.gateways.output import Output
from pycomnet.rsync.result import SyncEvent
from pycomnet.rsync.rsync import RSync
from pycomnet.services.client.context import Context
from pycomnet.services.client.remoteservice import RemoteService


async def start(group: Group, number: int) -> list[Gateway]:
    return await group.makegateways(["popen"] * number)


def echo(channel: Any) -> None:
    for value in channel:
        channel.send(value)


async def round_trips(channel: Channel, values: list[Any]) -> list[float]:
    seconds = []
    for value in values:
        begun = perf_counter()
        channel.send(value)
        assert await channel.receive() == value
        seconds.append(perf_counter() - begun)
    return seconds


def produce(channel: Any, blocks: int, size: int) -> None:
    for number in range(blocks):
        channel.send((number, bytes(size)))


async def consume(channel: Channel) -> int:
    total = 0
    async for _number, block in channel:
        total += len(block)
    return total


def talk(channel: Any) -> None:
    import sys

    print("hello from", sys.implementation.name, sys.version.split()[0])
    print("and this is an error message", file=sys.stderr)


async def listen(gateway: Gateway) -> list[Output]:
    events: list[Output] = []
    gateway.setoutput(events.append)
    await gateway.remote_exec(talk).waitclose()
    return events


def average(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


async def fail(gateway: Gateway) -> RemoteError:
    assert await gateway.call(average, [1, 2, 6]) == 3
    try:
        await gateway.call(average, [])
    except RemoteError as error:
        return error
    raise AssertionError("the error got lost")


def add_one(channel: Any) -> None:
    channel.send(channel.receive() + 1)


async def through_http(group: Group, spec: str) -> Any:
    gateway = await group.makegateway(spec)
    channel = gateway.remote_exec(add_one)
    await channel.send(1)
    answer = await channel.receive()
    await gateway.exit()
    return answer


def prefix() -> str:
    import sys

    return sys.prefix


async def in_environment(gateway: Gateway, directory: str) -> str:
    from pycomnet import xdeploy

    requirements = ""  # such as "requests>=2": wheels are found here, and sent
    inside = await xdeploy.create_venv_gateway(gateway, "tour", requirements, directory=directory)
    found: str = await inside.call(prefix)
    await inside.exit()
    return found


async def copy(gateway: Gateway, source: str, target: str) -> list[SyncEvent]:
    sync = RSync(source, delete=True)  # add_target may be called for any number of gateways
    sync.add_target(gateway, target)
    events: list[SyncEvent] = []
    (await sync.send(events.append)).raise_for_failures()
    return events  # the next time, only what differs is sent


def die(channel: Any) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


async def lose(gateway: Gateway) -> GatewayDied:
    try:
        await gateway.remote_exec(die).receive()
    except GatewayDied as error:
        return error
    raise AssertionError("it should be dead")


async def find(context: Context, check: Callable[[], None]) -> RemoteService:
    while True:
        check()
        try:
            return await context.locate("org.pycom.tour")
        except (ServiceNotFound, ServiceUnreachable):  # the daemons are still starting
            await context.sleep(0.05)


async def answering(context: Context, check: Callable[[], None]) -> None:
    while True:
        check()
        try:
            await (await context.nameserver()).invoke("cluster")
            return
        except (ServiceUnreachable, StoreCutOff):  # they wait for etcd, and listen after that
            await context.sleep(0.05)


async def follow(context: Context, last: int, count: int) -> list[int]:
    async with subscriber("org.pycom.tour.ticks", context=context, last=last) as ticks:
        return [await ticks.receive() for _ in range(count)]


def visit() -> Task:
    task = Task("visit")
    for _ in range(2):
        task.call("org.pycom.tour", "pid_after", args=0.2)
    return task


async def outlive(context: Context, restart: Callable[[], None]) -> dict[str, Any]:
    w = workflow("/tour/workflow", context=context)
    await w.start("visit", id="run-1")
    await context.sleep(0.3)  # a step is done, the next one's call is under way ...
    restart()  # ... when the workflow service is killed and another one started
    await w.result("run-1")
    shown: dict[str, Any] = await w.show("run-1")
    return shown


async def outlive_leader(
    context: Context, secret: str, kill: Callable[[str], None]
) -> tuple[str, str, float]:
    names = await context.nameserver()  # one of two
    mine = {"interfaces": ["org.pycom.x"], "address": "tcp:127.0.0.1:1", "secret": secret}
    first = await names.invoke("register", {"service": "first", **mine})
    leader = await leader_of(names)
    kill(leader)
    begun = perf_counter()
    found = await names.invoke("locate", {"service": "first"})  # answered from memory
    assert found["fence"] == first["fence"]
    while True:
        try:
            second = await names.invoke("register", {"service": "second", **mine})
            took = perf_counter() - begun
            assert second["fence"] > first["fence"]
            return leader, await leader_of(names), took
        except (StoreCutOff, StoreUncertain):  # there is no leader: the secret allows a repetition
            await context.sleep(0.05)


async def leader_of(names: RemoteService) -> str:
    while True:
        members = (await names.invoke("cluster"))["members"]
        for member in members:
            if member.get("leader"):
                return str(member["name"])


async def survive(service: RemoteService, restart: Callable[[int], None]) -> tuple[int, int]:
    first: int = await service.invoke("pid_after", 0)
    call = service.invoke("pid_after", 0.1)  # the call is under way ...
    restart(first)  # ... when its process is killed and another one started
    second: int = await call
    return first, second
