"""A program that uses a factory: ``factory_program.py ADDRESS WHAT SPEC ...``; see :func:`main`."""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

import pycomnet
from pycomnet.test.system.near_side import BEGIN, FAR_CODE


def count(channel, total):
    """Far code: numbers, and between them the sum of what has come."""
    import threading

    came = []

    def collect():
        for value in channel:
            came.append(value)

    thread = threading.Thread(target=collect)
    thread.daemon = True
    thread.start()
    for number in range(total):
        channel.send([number, b"x" * (number % 3000)])
    thread.join()
    channel.send(["came", came])


#: Far code: numbers with much data, 6 MB; how many were sent is the length of a file.
FLOOD = """
begun.send(None)
with open(path, "wb", 0) as file:
    for number in range(100):
        channel.send([number, b"x" * 60000])
        file.write(b".")
"""


def say(value: Any) -> None:
    """Print a line of JSON."""
    print(json.dumps(value), flush=True)


async def take(reactor: Any, channel: pycomnet.Channel, answer: bool) -> None:
    """Print each number, each in a turn of its own, and send one."""
    while True:
        first, second = await channel.receive()
        if first == "came":
            say(second)
            return
        assert not second.strip(b"x")
        say(first)
        if answer:
            await channel.send(first)
        await deferLater(reactor, 0)


async def main(reactor: Any, address: str, what: str, spec: str, *more: str) -> None:
    """Do what the command line says, and print lines of JSON of it."""
    group = pycomnet.Group(reactor, output=lambda output: None)
    group.setlocalfactory(endpoint=address)
    gateway = await group.makegateway(spec)
    if what == "stream":
        say(gateway.info["pid"])
        await take(reactor, gateway.remote_exec(count, total=5000), True)
    elif what == "resume":
        [channel] = gateway.resumed.values()
        say(gateway.info["pid"])
        for _ in range(500):
            first, _ = await channel.receive()
            say(first)
            await channel.send(first)
            await deferLater(reactor, 0)
        channel.send_end()
        await take(reactor, channel, False)
        await gateway.exit()
    elif what == "take":
        say(gateway.info["pid"])
        [channel] = gateway.resumed.values()
        await take(reactor, channel, False)
    elif what == "idle":
        sent = gateway.newchannel()
        source = "for n in range(10000):\n channel.send([n, b'x' * 100])\n if n == 99: sent.send(n)"
        channel = gateway.remote_exec(source, sent=sent)
        await sent.receive()
        say([gateway.info["pid"], channel.id])
        await Deferred()
    elif what == "flood":
        [path] = more
        begun = gateway.newchannel()
        channels = [
            gateway.remote_exec(FLOOD, path=f"{path}{number}", begun=begun) for number in range(4)
        ]
        for _ in channels:
            await begun.receive()
        say([channel.id for channel in channels])
        await Deferred()
    elif what == "end":
        channel = gateway.remote_exec("channel.send(1); channel.send(channel.receive())")
        say([gateway.info["pid"], channel.id, await channel.receive()])
        await channel.send("kept")
        say(await gateway.remote_status())
    elif what == "leave":
        channel = gateway.remote_exec("channel.send(1); channel.send(channel.receive())")
        say([gateway.info["pid"], channel.id, await channel.receive()])
        await channel.send("kept")
        await gateway.leave()
        say([item.id for item in await group.resumable()])
        await Deferred()
    elif what == "call":
        call = gateway.call("time:sleep", 0.2)
        say(gateway.info["pid"])
        await call
        await Deferred()
    elif what in FAR_CODE:
        channel = gateway.remote_exec(BEGIN + FAR_CODE[what])
        say(await channel.receive())
        await channel.waitclose()


if __name__ == "__main__":
    react(main, sys.argv[1:])
