"""A method that gives one value after the other, for as long as they are wanted."""

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.task import deferLater, react

import pycomnet


@pycomnet.interface("org.example.clock")
class Clock(pycomnet.Service):
    """Ticks."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.running = 0

    @pycomnet.method(stream=True)
    async def ticks(self, request: Any) -> AsyncIterator[int]:
        """Count, from where it is told to."""
        self.running += 1
        try:
            number = request.args
            while True:
                yield number
                number += 1
                await deferLater(self.reactor, 0.01)
        finally:
            self.running -= 1  # nobody wants them any more


async def main(reactor: Any) -> None:
    server = pycomnet.ServiceServer(reactor)
    clock = Clock(reactor)
    await server.add(clock)
    address = await server.listen("tcp:0:interface=127.0.0.1")

    async with pycomnet.Context(reactor) as context:
        remote = await context.connect(address)
        ticks = remote.stream("ticks", 100)
        async for tick in ticks:
            if tick == 105:
                break
        assert clock.running == 1
        ticks.close()
        while clock.running:
            await deferLater(reactor, 0.01)
    await server.close()


react(main)
