"""A publisher and a subscriber in an asyncio program."""

import asyncio
from collections.abc import AsyncIterator

from pycomnet import aio
from pycomnet.ext.pubsub import publisher


@publisher("org.example.ticks")
async def ticks() -> AsyncIterator[int]:
    number = 0
    while True:
        yield number
        number += 1
        await asyncio.sleep(0.01)


async def main() -> None:
    async with aio.ServiceServer() as server, aio.Context() as context:
        await server.add(ticks())
        address = await server.listen("tcp:0:interface=127.0.0.1")
        async with aio.subscriber("org.example.ticks", context=context, address=address) as client:
            async for number in client:
                print(number)
                if number > 3:
                    break


asyncio.run(main())
