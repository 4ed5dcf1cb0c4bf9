"""A service and a caller in an asyncio program, with futures in place of Deferreds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pycomnet
from pycomnet import aio


@pycomnet.interface("org.example.clock")
class Clock(pycomnet.Service):
    """Its methods await what is asyncio's: each call runs as a task of the loop."""

    @pycomnet.method()
    async def sleep(self, request: Any) -> str:
        await asyncio.sleep(request.args)
        return "awake"

    @pycomnet.method(stream=True)
    async def ticks(self, request: Any) -> AsyncIterator[int]:
        for number in range(request.args):
            yield number
            await asyncio.sleep(0.01)


async def main() -> None:
    async with aio.ServiceServer() as server, aio.Context(timeout=30) as context:
        await server.add(Clock())
        address = await server.listen("tcp:0:interface=127.0.0.1")

        clock = await context.connect(address)
        assert await clock.invoke("sleep", 0.01) == "awake"
        several = [clock.invoke("sleep", 0.01) for _ in range(10)]
        assert await asyncio.gather(*several) == ["awake"] * 10
        assert [tick async for tick in clock.stream("ticks", 3)] == [0, 1, 2]

        # Cancelling a future cancels the method.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(clock.invoke("sleep", 3600), timeout=0.05)


asyncio.run(main())
