"""A server of blocks, and what sends it some, as processes: says one line of JSON for each step.

``python -m pycomnet.test.system.blocks_side serve DIRECTORY``
``python -m pycomnet.test.system.blocks_side send ADDRESS PATH``
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from twisted.internet import defer
from twisted.internet.task import react

import pycomnet


def memory(what: str) -> int:
    """This process's memory in bytes: ``VmRSS`` now, ``VmHWM`` at the most so far."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(what + ":"):
                return int(line.split()[1]) * 1024
    raise AssertionError(what)


def begin() -> int:
    """This process's memory now, from which on its most is counted."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # proc(5): reset the peak resident set size
    return memory("VmRSS")


def say(**what: Any) -> None:
    """One line."""
    print(json.dumps(what), flush=True)


@pycomnet.interface("org.example.blocks")
class Blocks(pycomnet.Service):
    """Takes blocks, gives them back, and says how it is."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.taken = 0
        self.begin = 0

    @pycomnet.method()
    def take(self, request: Any) -> Any:
        self.taken += 1
        return [[file.size, file.in_memory] for file in request.files]

    @pycomnet.method()
    def echo(self, request: Any) -> Any:
        return ("echo", *(pycomnet.Binary(file) for file in request.files))

    @pycomnet.method()
    def give(self, request: Any) -> Any:
        return ("given", pycomnet.Binary(request.args))

    @pycomnet.method()
    def how(self, request: Any) -> Any:
        return {
            "taken": self.taken,
            "grown": memory("VmHWM") - self.begin,
            "files": len(os.listdir(self.directory)),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "running": len(request.connection.server._active),
        }

    @pycomnet.method(thread=True)
    def block(self, request: Any) -> str:
        while not os.path.exists(request.args):
            time.sleep(0.01)
        return "blocked"


async def serve(reactor: Any, directory: str) -> None:
    limits = pycomnet.ServerLimits(blocks=pycomnet.BlockLimits(directory=directory))
    server = pycomnet.ServiceServer(reactor, limits=limits)
    blocks = Blocks(directory)
    await server.add(blocks)
    address = await server.listen("tcp:0:interface=127.0.0.1")
    # What is only allocated by the first call is not what a block takes.
    async with pycomnet.Context(reactor) as context:
        warm = await context.connect(address)
        await warm.invoke("echo", attachments=[pycomnet.Binary(bytes(3_000_000))], with_binary=True)
    blocks.begin = begin()
    say(address=address)
    await defer.Deferred()


async def send(reactor: Any, address: str, path: str, method: str, directory: str) -> None:
    context = pycomnet.Context(
        reactor, blocks=pycomnet.BlockLimits(directory=directory), timeout=None
    )
    blocks = await context.connect(address)
    small = pycomnet.Binary(bytes(3_000_000))
    await blocks.invoke("echo", attachments=[small], with_binary=True)
    before = begin()
    say(begun=True)
    started = time.monotonic()
    try:
        result, files = await blocks.invoke(
            method,
            path if method == "give" else None,
            attachments=() if method == "give" else [pycomnet.Binary(path)],
            with_binary=True,
        )
    except pycomnet.PycomnetError as problem:
        say(error=type(problem).__name__, files=len(os.listdir(directory)))
    else:
        say(
            result=result,
            sizes=[file.size for file in files],
            grown=memory("VmHWM") - before,
            seconds=time.monotonic() - started,
        )
    await context.close()


if __name__ == "__main__":
    react(serve if sys.argv[1] == "serve" else send, sys.argv[2:])
