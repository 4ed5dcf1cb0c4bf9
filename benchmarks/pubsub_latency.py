"""Latency one to one, for ``benchmarks/pubsub.py --latency``."""

from __future__ import annotations

import asyncio
import statistics
import struct
import time
from typing import Any

from pubsub_common import (
    NAME,
    SMALL,
    Job,
    direct_round,
    free_port,
    nats_server,
    redis_server,
    run,
    serve,
    until_subscribed,
)

#: Events a second, and events in all.
RATE, TIMED = 1000, 3000
STAMP = struct.Struct("d")


def pycomnet_timed_publisher(pipe: Any, job: Job, port: int) -> None:
    from twisted.internet import defer
    from twisted.internet.task import LoopingCall

    from pycomnet.ext.pubsub import publisher

    @publisher(NAME)
    class Events:
        """Publishes."""

    async def main(reactor: Any) -> None:
        service: Any = Events()
        await serve(reactor, pipe, service)
        await until_subscribed(reactor, service, job.subscribers)
        left = [job.count]
        over: Any = defer.Deferred()

        def publish() -> None:
            service.topic.publish(STAMP.pack(time.perf_counter()))
            left[0] -= 1
            if not left[0]:
                looping.stop()
                over.callback(None)

        looping = LoopingCall(publish)
        looping.start(1 / RATE)
        await over
        service.topic.end()
        pipe.send((0.0, 0.0))
        await defer.Deferred()

    run(main)


def pycomnet_timed_subscriber(pipe: Any, job: Job, address: str) -> None:
    from pycomnet.ext.pubsub import subscriber
    from pycomnet.services.client.context import Context

    async def main(reactor: Any) -> None:
        client = subscriber(NAME, context=Context(reactor), address=address)
        seen = []
        async for value in client:
            seen.append(time.perf_counter() - STAMP.unpack(value)[0])
        pipe.send((quantiles(seen), 0.0))

    run(main)


def nats_timed_publisher(pipe: Any, job: Job, port: int) -> None:
    import nats

    async def main() -> None:
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        pipe.send(f"nats://127.0.0.1:{port}")
        await asyncio.to_thread(pipe.recv)
        begun = time.perf_counter()
        for number in range(job.count):
            delay = begun + number / RATE - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            await client.publish(NAME, STAMP.pack(time.perf_counter()))
        await client.flush(60)
        pipe.send((0.0, 0.0))
        await asyncio.sleep(3600)

    asyncio.run(main())


def nats_timed_subscriber(pipe: Any, job: Job, address: str) -> None:
    import nats

    async def main() -> None:
        client = await nats.connect(address)
        seen: list[float] = []
        over = asyncio.Event()

        async def came(message: Any) -> None:
            seen.append(time.perf_counter() - STAMP.unpack(message.data)[0])
            if len(seen) == job.count:
                over.set()

        await client.subscribe(NAME, cb=came)
        await client.flush()
        pipe.send("there")
        await over.wait()
        pipe.send((quantiles(seen), 0.0))

    asyncio.run(main())


def redis_timed_publisher(pipe: Any, job: Job, port: int) -> None:
    import redis

    client = redis.Redis(port=port)
    pipe.send(f"{port}")
    pipe.recv()
    begun = time.perf_counter()
    for number in range(job.count):
        delay = begun + number / RATE - time.perf_counter()
        if delay > 0:
            time.sleep(delay)
        client.publish(NAME, STAMP.pack(time.perf_counter()))
    pipe.send((0.0, 0.0))
    time.sleep(3600)


def redis_timed_subscriber(pipe: Any, job: Job, address: str) -> None:
    import redis

    client = redis.Redis(port=int(address)).pubsub()
    client.subscribe(NAME)
    client.get_message(timeout=60)
    pipe.send("there")
    seen: list[float] = []
    for message in client.listen():
        seen.append(time.perf_counter() - STAMP.unpack(message["data"])[0])
        if len(seen) == job.count:
            break
    pipe.send((quantiles(seen), 0.0))


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def timed_round(name: str) -> tuple[float, float]:
    """One round of a peer: its p50 and p99 in seconds."""
    job = Job(1, TIMED, SMALL)
    port = free_port()
    if name == "nats-py":
        with nats_server(port) as pid:
            publish, subscribe = nats_timed_publisher, nats_timed_subscriber
            return timed(job, publish, subscribe, port, pid)
    if name == "redis-py":
        with redis_server(port) as pid:
            return timed(job, redis_timed_publisher, redis_timed_subscriber, port, pid)
    return timed(job, pycomnet_timed_publisher, pycomnet_timed_subscriber, port, None)


def timed(job: Job, publish: Any, subscribe: Any, port: int, pid: int | None) -> Any:
    return direct_round(job, publish, subscribe, port, pid, raw=True)


def latency(peers: list[str], rounds: int) -> dict[str, tuple[float, float]]:
    """Latency one to one, at a rate that nobody has trouble with; p50 and p99, in seconds."""
    peers = [name for name in peers if name not in ("pyzmq", "bare")]
    found = {}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name in peers:
            seen[name].append(timed_round(name))
    print(f"latency one to one, {RATE} events a second")
    for name in peers:
        p50, p99 = (statistics.median(one[place] for one in seen[name]) for place in (0, 1))
        print(f"  {name:10} p50 {p50 * 1e6:8,.0f} us   p99 {p99 * 1e6:8,.0f} us")
        found[name] = p50, p99
    return found
