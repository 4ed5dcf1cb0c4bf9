"""A history in a file, and a subscriber that goes on where it acknowledged, after a restart."""

import os
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.task import react

import pycomnet
from pycomnet.ext.pubsub import publisher, subscriber


def make(path: str) -> Any:
    @publisher("org.example.bills", history="7d", store=path)
    class Bills:
        """Bills of the last week."""

    return Bills()


async def main(reactor: Any) -> None:
    with TemporaryDirectory() as directory:
        for run in range(2):
            server = pycomnet.ServiceServer(reactor)
            bills = make(os.path.join(directory, "events.db"))
            await server.add(bills)
            address = await server.listen("tcp:0:interface=127.0.0.1")
            async with pycomnet.Context(reactor) as context:
                client = subscriber(
                    "org.example.bills",
                    name="printer",  # its position is kept under this name
                    acknowledged=True,
                    context=context,
                    address=address,
                )
                await client.when_subscribed()
                if run == 0:
                    for number in range(4):
                        await bills.topic.publish(number)  # it is in the file now
                    for expected in (0, 1):
                        event = await client.receive_event()
                        assert event.value == expected
                        await event.acknowledge()
                else:
                    assert [await client.receive() for _ in range(2)] == [2, 3]
                await client.close()
            await server.close()


react(main)
