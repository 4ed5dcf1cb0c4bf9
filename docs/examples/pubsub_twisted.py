"""Orders: subjects, keys, retained values, a history, a slow subscriber and a group of workers."""

from typing import Any

from twisted.internet import defer
from twisted.internet.task import react

import pycomnet
from pycomnet.ext.pubsub import Gap, publisher, subscriber


@publisher("org.example.orders", history=1000, retain=True)
class Orders:
    """Takes orders, and says so."""

    topic: Any

    @pycomnet.method()
    async def create(self, request: Any) -> None:
        order = request.args
        await self.topic.publish(order, key=order["id"], subject=f"{order['where']}.created")


async def main(reactor: Any) -> None:
    server = pycomnet.ServiceServer(reactor)
    service: Any = Orders()
    await server.add(service)
    address = await server.listen("tcp:0:interface=127.0.0.1")

    async with pycomnet.Context(reactor) as context:
        remote = await context.connect(address)
        here = {"context": context, "address": address}

        async with subscriber("org.example.orders", "eu.*", **here) as client:
            await client.when_subscribed()  # from here on, nothing is missing
            await remote.invoke("create", {"id": "1", "where": "eu"})
            await remote.invoke("create", {"id": "2", "where": "us"})
            await remote.invoke("create", {"id": "3", "where": "eu"})
            assert [(await client.receive())["id"] for _ in range(2)] == ["1", "3"]
            await client.change(["eu.*", "us.*"])

        # Who comes later gets what is retained: the last of each subject and key.
        late = subscriber("org.example.orders", **here)
        event = await late.receive_event()
        print(event.subject, event.key, event.sequence, event.value)
        await late.close()

        # Who is slow misses something, and is told; nobody else is held up.
        slow = subscriber("org.example.orders", bound=1 << 16, retained=False, **here)
        await slow.when_subscribed()
        for _ in range(200):
            await service.topic.publish(bytes(50_000), subject="long")
        async for value in slow:
            if isinstance(value, Gap):
                print(f"{value.count} events are missing here")
                break
        await slow.close()

        # Each event goes to one of a group; what it has not done goes to another if it is lost.
        workers = [subscriber("org.example.orders", group="mail", **here) for _ in range(2)]
        for worker in workers:
            await worker.when_subscribed()
        for number in range(4):
            await service.topic.publish(number)
        done = await defer.gatherResults([worker.receive() for worker in workers])
        assert sorted(done) == [0, 1]
        for worker in workers:
            await worker.close()
    await server.close()


react(main)
