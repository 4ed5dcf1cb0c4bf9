"""Publish and subscribe through NATS beside bare clients: ``benchmarks/pubsub.py --nats``.

One publisher and its subscribers, each with a connection of its own, and one nats-server: by
``via=``, by ``pycomnet.nats`` alone (bytes, without codec, numbers and bounds), and by nats-py.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from pubsub_common import NAME, SMALL, Job, cpu, direct_round, free_port, nats_server, time
from pubsub_peers import nats_publisher, nats_subscribers

#: Events that are published before the others have their turn.
TURN = 500


def via_publisher(pipe: Any, job: Job, port: int) -> None:
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import defer
    from twisted.internet.task import deferLater, react
    from twisted.internet.threads import deferToThread

    from pycomnet.ext.pubsub import publisher
    from pycomnet.services.server.server import ServiceServer

    @publisher(NAME, via=f"nats://127.0.0.1:{port}")
    class Events:
        """Publishes."""

    async def main(reactor: Any) -> None:
        service: Any = Events()
        server = ServiceServer(reactor)
        await server.add(service)
        pipe.send(f"nats://127.0.0.1:{port}")
        await deferToThread(pipe.recv)  # the subscribers are there
        begun, used = time.perf_counter(), cpu()
        publish, payload, client = service.topic.publish, job.payload, service.topic.relay.client
        for number in range(1, job.count + 1):
            waiting = publish(payload)
            if not waiting.called:
                await waiting
            if not number % TURN:
                await client.flush(60)  # as nats-py does here
        await client.flush(60)
        pipe.send((begun, cpu() - used))
        await deferLater(reactor, 0)
        await defer.Deferred()

    react(main)


def via_subscribers(pipe: Any, job: Job, address: str) -> None:
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import defer
    from twisted.internet.task import react

    from pycomnet.ext.pubsub import subscriber
    from pycomnet.services.client.context import Context

    async def one(client: Any) -> None:
        left = job.count
        async for _ in client:
            left -= 1
            if not left:
                return

    async def main(reactor: Any) -> None:
        used = cpu()
        clients = [
            subscriber(NAME, context=Context(reactor), via=address, bound=1 << 26)
            for _ in range(job.subscribers)
        ]
        for client in clients:
            await client.when_subscribed()
        running = [defer.Deferred.fromCoroutine(one(client)) for client in clients]
        pipe.send("there")
        await defer.gatherResults(running)
        pipe.send((time.perf_counter(), cpu() - used))

    react(main)


def bare_publisher(pipe: Any, job: Job, port: int) -> None:
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import defer
    from twisted.internet.task import react
    from twisted.internet.threads import deferToThread

    from pycomnet.nats import connect

    async def main(reactor: Any) -> None:
        client = await connect(f"nats://127.0.0.1:{port}", reactor)
        pipe.send(f"nats://127.0.0.1:{port}")
        await deferToThread(pipe.recv)
        begun, used = time.perf_counter(), cpu()
        for number in range(1, job.count + 1):
            client.publish(NAME, job.payload)
            if not number % TURN:
                await client.flush(60)
        await client.flush(60)
        pipe.send((begun, cpu() - used))
        await defer.Deferred()

    react(main)


def bare_subscribers(pipe: Any, job: Job, address: str) -> None:
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import defer
    from twisted.internet.task import react

    from pycomnet.nats import connect

    async def one(client: Any, subscription: Any) -> None:
        left = job.count
        async for _ in subscription:
            left -= 1
            if not left:
                return

    async def main(reactor: Any) -> None:
        used = cpu()
        running = []
        for _ in range(job.subscribers):
            client = await connect(address, reactor)
            subscription = client.subscribe(NAME)
            await client.flush()
            running.append(defer.Deferred.fromCoroutine(one(client, subscription)))
        pipe.send("there")
        await defer.gatherResults(running)
        pipe.send((time.perf_counter(), cpu() - used))

    react(main)


PAIRS: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
    "via=": (via_publisher, via_subscribers),
    "pycomnet.nats": (bare_publisher, bare_subscribers),
    "nats-py": (nats_publisher, nats_subscribers),
}


def one_round(name: str, job: Job) -> tuple[float, float]:
    """The seconds of a round, and those of all processors."""
    port = free_port()
    with nats_server(port) as pid:
        found: tuple[float, float] = direct_round(job, *PAIRS[name], port, pid)
        return found


def through_nats(rounds: int, scale: float) -> dict[int, dict[str, float]]:
    """Measure, and show what each has to the others: subscribers -> name -> deliveries a second."""
    found: dict[int, dict[str, float]] = {}
    for subscribers, count in ((100, 5_000), (1, 100_000)):
        job = Job(subscribers, int(count * scale), SMALL)
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in PAIRS}
        for _ in range(rounds):
            for name in PAIRS:
                seen[name].append(one_round(name, job))
        print(f"through NATS, 128 B, one to {subscribers}")
        deliveries = job.count * subscribers
        ours = [statistics.median(one[place] for one in seen["via="]) for place in (0, 1)]
        for name in PAIRS:
            took, used = (statistics.median(one[place] for one in seen[name]) for place in (0, 1))
            found.setdefault(subscribers, {})[name] = deliveries / took
            print(
                f"  {name:14} {deliveries / took:10,.0f} a second   {used / deliveries * 1e6:6.2f} "
                f"us of processors; via= has {took / ours[0]:.2f} of its rate, "
                f"{used / ours[1]:.2f} by processor time"
            )
    return found
