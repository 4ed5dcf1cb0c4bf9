"""Near sides whose memory is measured: ``python -m ... SCENARIO [NUMBER]``.

Each runs one scenario in a process of its own and prints what it measured as one line of JSON.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import defer
from twisted.internet.task import react

import pycomnet
from pycomnet.test.processes import children, resident
from pycomnet.test.waiting import until

PIECE = 1_000_000
PIECES = 300


def send_pieces(channel, count, size):
    import sys

    sys.sent = 0
    data = b"p" * size
    for _ in range(count):
        channel.send(data)
        sys.sent += 1


def print_pieces(channel, count, size):
    import sys

    sys.sent = 0
    data = "p" * (size - 1)
    for _ in range(count):
        print(data)
        sys.sent += 1


def receive_pieces(channel, go):
    go.receive()
    channel.send(sum(len(piece) for piece in channel))


def sent():
    import sys

    return getattr(sys, "sent", 0)


def far_memory():
    import gc

    gc.collect()
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024, len(gc.get_objects())


def near_memory() -> tuple[int, int]:
    """Bytes of memory and number of objects of this process."""
    gc.collect()
    return resident(os.getpid()), len(gc.get_objects())


async def turns(reactor: Any, count: int = 3) -> None:
    """Let the reactor turn a few times."""
    for _ in range(count):
        turned: defer.Deferred[None] = defer.Deferred()
        reactor.callLater(0, turned.callback, None)
        await turned


async def thin(reactor: Any) -> None:
    """Have the reactor drop cancelled timeouts, which it does when there are many."""
    calls = [reactor.callLater(600, int) for _ in range(300)]
    await turns(reactor)
    for call in calls:
        call.cancel()
    await turns(reactor)


async def warm(gateway: pycomnet.Gateway) -> None:
    """Do all once, so that what is only made once is there."""
    channel = gateway.remote_exec("for value in channel: channel.send(value)")
    for _ in range(3):
        await channel.send(b"x" * 3 * PIECE)
        await channel.receive()
    channel.close()


async def still(gateway: pycomnet.Gateway) -> int:
    """How much far code has sent when it has come to a stand."""
    before = -1
    while True:
        for _ in range(20):
            now: int = await gateway.call(sent)
        if now == before and now:
            return now
        before = now


async def far_to_near(reactor: Any, how: str) -> dict[str, Any]:
    """Far code sends 300 MB; nobody receives them for a while, then all are received."""
    gate: defer.Deferred[None] = defer.Deferred()
    done: defer.Deferred[None] = defer.Deferred()
    total = 0

    def take(value: Any) -> Any:
        nonlocal total
        if value is None:
            done.callback(None)
            return None
        total += len(value.text if how == "print" else value)
        if how == "print" and total == PIECE * PIECES:
            done.callback(None)
        return gate

    async with pycomnet.Group(reactor, output=take) as group:
        gateway = await group.makegateway("popen")
        await warm(gateway)
        before, _ = near_memory()
        code = print_pieces if how == "print" else send_pieces
        channel = gateway.remote_exec(code, count=PIECES, size=PIECE)
        if how == "callback":
            channel.setcallback(take, None, None)
        stood_at = await still(gateway)
        grown = near_memory()[0] - before
        gate.callback(None)
        if how == "receive":
            async for piece in channel:
                total += len(piece)
        else:
            await done
        return {"grown": grown, "stood_at": stood_at, "total": total}


async def near_to_far(reactor: Any, how: str) -> dict[str, Any]:
    """The near side sends 300 MB; far code receives them only after a while."""
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")
        await warm(gateway)
        before, _ = await gateway.call(far_memory)
        near_before, _ = near_memory()
        go = gateway.newchannel()
        channel = gateway.remote_exec(receive_pieces, go=go)
        count = 0

        async def send() -> None:
            nonlocal count
            for _ in range(PIECES):
                await channel.send(b"p" * PIECE)
                count += 1

        sending = defer.Deferred.fromCoroutine(send())
        for _ in range(50):
            grown = (await gateway.call(far_memory))[0] - before
        near_grown = near_memory()[0] - near_before
        stood_at = count
        await go.send(True)
        await sending
        channel.send_end()
        total = await channel.receive()
        return {"grown": grown, "near_grown": near_grown, "stood_at": stood_at, "total": total}


async def one_gateway(group: pycomnet.Group, number: int) -> None:
    """Make a gateway, use it and end it, in one of several ways."""
    gateway = await group.makegateway("popen")
    channel = gateway.remote_exec("channel.send(channel.receive()); print(1); channel.receive()")
    await channel.send(b"x" * 100_000)
    await channel.receive()
    way = number % 4
    if way == 0:
        await gateway.exit()
    elif way == 1:
        gateway.remote_exec("import os; os._exit(1)")
        await gateway.join()
        await gateway.exit()
    elif way == 2:
        await group.terminate()
    else:
        with contextlib.suppress(pycomnet.GatewayNotStarted):
            await group.makegateway("popen//python=/bin/false")
        await gateway.exit()


def is_at_most(count: Callable[[], dict[str, int]], most: dict[str, int]) -> bool:
    """Whether none of the numbers is larger than it may be."""
    return all(number <= most.get(key, number) for key, number in count().items())


async def gateways(reactor: Any, number: str) -> dict[str, Any]:
    """So many gateways, one after the other, in ten rounds."""

    def open_now() -> dict[str, int]:
        return {
            "descriptors": len(os.listdir("/proc/self/fd")),
            "children": len(children(os.getpid())),
            "readers": len(reactor.getReaders()),
        }

    rounds: list[dict[str, int]] = []
    group = pycomnet.Group(reactor, output=lambda output: None)
    for _ in range(10):
        for n in range(int(number) // 10):
            await one_gateway(group, n)
        await thin(reactor)
        # The system may tell a moment later that something has ended.
        most = rounds[0] if rounds else {"children": 1}
        await until(partial(is_at_most, open_now, most), f"no more is open than {most}")
        memory, objects = near_memory()
        calls = len(reactor.getDelayedCalls())
        rounds.append({"memory": memory, "objects": objects, "calls": calls, **open_now()})
    await group.terminate()
    return {"rounds": rounds, "left": len(children(os.getpid()))}


async def some_channels(gateway: pycomnet.Gateway, number: int) -> None:
    """Open so many channels, of every kind, use them and close them."""
    source = "new = channel.gateway.newchannel(); channel.send(new); new.send(1); new.close()"
    for n in range(number // 5):
        assert await gateway.call("operator:add", n, 1) == n + 1
        channel = gateway.remote_exec("channel.send(channel.receive())")
        await channel.send(n)
        assert await channel.receive() == n
        await channel.waitclose()
        unused = gateway.newchannel()
        unused.close()
        made = gateway.remote_exec(source)
        new = await made.receive()
        assert await new.receive() == 1
        await new.waitclose()
        await made.waitclose()


async def channels(reactor: Any, number: str) -> dict[str, Any]:
    """So many channels opened and closed, in ten rounds."""
    rounds = []
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")
        for _ in range(10):
            await some_channels(gateway, int(number) // 10)
            await turns(reactor)
            far = await gateway.call(far_memory)
            near = near_memory()
            status = await gateway.remote_status()
            rounds.append(
                {
                    "memory": near[0],
                    "objects": near[1],
                    "far_memory": far[0],
                    "far_objects": far[1],
                    "far_channels": status["channels"],
                    "near_channels": len(gateway._connection.mux.streams),
                }
            )
    return {"rounds": rounds}


SCENARIOS = (far_to_near, near_to_far, gateways, channels)


async def run(reactor: Any, name: str, argument: str) -> None:
    """Run the scenario and print what it measured."""
    [scenario] = [scenario for scenario in SCENARIOS if scenario.__name__ == name]
    print(json.dumps(await scenario(reactor, argument)), flush=True)


if __name__ == "__main__":
    react(run, sys.argv[1:])
