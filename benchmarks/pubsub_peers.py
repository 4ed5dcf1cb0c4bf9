"""The peers of ``benchmarks/pubsub.py``: for each a publisher's process, and its subscribers'."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import shutil
import socket
import time
from collections.abc import Callable
from typing import Any

from pubsub_common import (
    NAME,
    Job,
    cpu,
    direct_round,
    free_port,
    nats_server,
    redis_server,
    run,
    serve,
    until_subscribed,
)

# -- pycomnet ------------------------------------------------------------------------------------


def pycomnet_publisher(pipe: Any, job: Job, port: int) -> None:
    from twisted.internet import defer
    from twisted.internet.task import deferLater

    from pycomnet.ext.pubsub import publisher

    @publisher(NAME, block=True)
    class Events:
        """Publishes."""

    async def main(reactor: Any) -> None:
        service: Any = Events()
        await serve(reactor, pipe, service)
        await until_subscribed(reactor, service, job.subscribers)
        begun, used = time.perf_counter(), cpu()
        publish, payload = service.topic.publish, job.payload
        for number in range(1, job.count + 1):
            waiting = publish(payload)
            if not waiting.called:
                await waiting
            if not number % 500:
                await deferLater(reactor, 0)
        service.topic.end()
        pipe.send((begun, cpu() - used))
        await defer.Deferred()

    run(main)


def pycomnet_subscribers(pipe: Any, job: Job, address: str) -> None:
    from twisted.internet import defer

    from pycomnet.ext.pubsub import subscriber
    from pycomnet.services.client.context import Context

    async def one(context: Any) -> int:
        client = subscriber(NAME, context=context, address=address, policy="block", bound=1 << 22)
        await client.when_subscribed()
        count = 0
        async for _ in client:
            count += 1
        return count

    async def main(reactor: Any) -> None:
        used = cpu()
        contexts = [Context(reactor) for _ in range(job.subscribers)]
        running = [defer.Deferred.fromCoroutine(one(context)) for context in contexts]
        counts = await defer.gatherResults(running)
        ended = time.perf_counter()
        assert counts == [job.count] * job.subscribers, (counts[:3], job.count)
        pipe.send((ended, cpu() - used))

    run(main)


def pycomnet_round(job: Job) -> tuple[float, float]:
    return direct_round(job, pycomnet_publisher, pycomnet_subscribers, 0)


# -- pyzmq ---------------------------------------------------------------------------------------


def zmq_publisher(pipe: Any, job: Job, port: int) -> None:
    import zmq

    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, 0)
    bound = socket.bind_to_random_port("tcp://127.0.0.1")
    pipe.send(f"tcp://127.0.0.1:{bound}")
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    for _ in range(job.subscribers):
        socket.recv()
    begun, used = time.perf_counter(), cpu()
    for _ in range(job.count):
        socket.send(job.payload)
    pipe.send((begun, cpu() - used))
    time.sleep(3600)


def zmq_subscribers(pipe: Any, job: Job, address: str) -> None:
    import zmq

    used = cpu()
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    poller = zmq.Poller()
    left = {}
    for _ in range(job.subscribers):
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.connect(address)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        poller.register(socket, zmq.POLLIN)
        left[socket] = job.count
    while any(left.values()):
        for socket, _ in poller.poll():
            with contextlib.suppress(zmq.Again):
                for _ in range(100):
                    socket.recv(zmq.NOBLOCK)
                    left[socket] -= 1
    pipe.send((time.perf_counter(), cpu() - used))


def zmq_round(job: Job) -> tuple[float, float]:
    return direct_round(job, zmq_publisher, zmq_subscribers, 0)


# -- nats-py -------------------------------------------------------------------------------------


def nats_publisher(pipe: Any, job: Job, port: int) -> None:
    import nats

    async def main() -> None:
        client = await nats.connect(
            f"nats://127.0.0.1:{port}", pending_size=64 << 20, allow_reconnect=False
        )
        pipe.send(f"nats://127.0.0.1:{port}")
        await asyncio.to_thread(pipe.recv)  # the subscribers are there
        begun, used = time.perf_counter(), cpu()
        for number in range(1, job.count + 1):
            await client.publish(NAME, job.payload)
            if not number % 500:
                await client.flush(60)
        await client.flush(60)
        pipe.send((begun, cpu() - used))
        await asyncio.sleep(3600)

    asyncio.run(main())


def nats_subscribers(pipe: Any, job: Job, address: str) -> None:
    import nats

    async def main() -> None:
        used = cpu()
        over = asyncio.Event()
        left = [job.subscribers]

        async def one() -> Any:
            client = await nats.connect(address, allow_reconnect=False)
            counted = [0]

            async def came(_: Any) -> None:
                counted[0] += 1
                if counted[0] == job.count:
                    left[0] -= 1
                    if not left[0]:
                        over.set()

            await client.subscribe(NAME, cb=came, pending_msgs_limit=-1, pending_bytes_limit=-1)
            await client.flush()
            return client

        kept = [await one() for _ in range(job.subscribers)]
        pipe.send("there")
        await over.wait()
        pipe.send((time.perf_counter(), cpu() - used))
        await asyncio.sleep(0.1)
        del kept

    asyncio.run(main())


def nats_round(job: Job) -> tuple[float, float]:
    port = free_port()
    with nats_server(port) as pid:
        return direct_round(job, nats_publisher, nats_subscribers, port, pid)


# -- redis-py ------------------------------------------------------------------------------------


def redis_publisher(pipe: Any, job: Job, port: int) -> None:
    import redis

    client = redis.Redis(port=port)
    pipe.send(f"{port}")
    pipe.recv()
    begun, used = time.perf_counter(), cpu()
    sent = 0
    while sent < job.count:
        now = min(500, job.count - sent)
        with client.pipeline(transaction=False) as pipeline:
            for _ in range(now):
                pipeline.publish(NAME, job.payload)
            pipeline.execute()
        sent += now
    pipe.send((begun, cpu() - used))
    time.sleep(3600)


def redis_subscribers(pipe: Any, job: Job, address: str) -> None:
    import redis
    import redis.asyncio

    used = cpu()
    if job.subscribers == 1:
        client = redis.Redis(port=int(address)).pubsub()
        client.subscribe(NAME)
        client.get_message(timeout=60)  # the confirmation
        pipe.send("there")
        left = job.count
        for _ in client.listen():
            left -= 1
            if not left:
                break
        pipe.send((time.perf_counter(), cpu() - used))
        return

    async def one(there: Any) -> None:
        client = redis.asyncio.Redis(port=int(address)).pubsub()
        await client.subscribe(NAME)
        await client.get_message(timeout=60)
        there.release()
        left = job.count
        async for _ in client.listen():
            left -= 1
            if not left:
                return

    async def main() -> None:
        there = asyncio.Semaphore(0)
        running = [asyncio.ensure_future(one(there)) for _ in range(job.subscribers)]
        for _ in running:
            await there.acquire()
        pipe.send("there")
        await asyncio.gather(*running)
        pipe.send((time.perf_counter(), cpu() - used))

    asyncio.run(main())


def redis_round(job: Job) -> tuple[float, float]:
    port = free_port()
    with redis_server(port) as pid:
        return direct_round(job, redis_publisher, redis_subscribers, port, pid)


# -- bare sockets --------------------------------------------------------------------------------


def bare_publisher(pipe: Any, job: Job, port: int) -> None:
    """Writes the same bytes to each of its connections: what nobody does faster in Python."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(str(listener.getsockname()[1]))
        ends = [listener.accept()[0] for _ in range(job.subscribers)]
    begun, used = time.perf_counter(), cpu()
    for _ in range(job.count):
        for end in ends:
            end.sendall(job.payload)
    pipe.send((begun, cpu() - used))
    time.sleep(3600)


def bare_subscribers(pipe: Any, job: Job, address: str) -> None:
    used = cpu()
    total = job.count * len(job.payload)
    buffer = bytearray(1 << 20)
    with selectors.DefaultSelector() as selector:
        for _ in range(job.subscribers):
            end = socket.create_connection(("127.0.0.1", int(address)))
            selector.register(end, selectors.EVENT_READ, [total])
        left = job.subscribers
        while left:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                key.data[0] -= key.fileobj.recv_into(buffer)
                if not key.data[0]:
                    selector.unregister(key.fileobj)
                    left -= 1
    pipe.send((time.perf_counter(), cpu() - used))


def bare_round(job: Job) -> tuple[float, float]:
    return direct_round(job, bare_publisher, bare_subscribers, 0)


PEERS: dict[str, Callable[[Job], tuple[float, float]]] = {
    "pycomnet": pycomnet_round,
    "nats-py": nats_round,
    "redis-py": redis_round,
    "pyzmq": zmq_round,
    "bare": bare_round,
}


def available(name: str) -> bool:
    """Whether a peer can be run here."""
    needed = {
        "nats-py": ("nats", "nats-server"),
        "redis-py": ("redis", "redis-server"),
        "pyzmq": ("zmq", ""),
    }
    module, program = needed.get(name, ("pycomnet", ""))
    try:
        __import__(module)
    except ImportError:
        return False
    return not program or shutil.which(program) is not None
