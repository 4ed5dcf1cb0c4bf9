"""Publish and subscribe, side by side with peers, in one run: ``python benchmarks/pubsub.py``.

Each peer is a module's function here: a publisher in one process and its subscribers in another, in
Python, over loopback TCP; a broker where the peer needs one. Rounds of all peers alternate, and the
medians are shown as ratios. Absolute figures are of this machine; with other programs on it only
the ratios say something, and processor time is shown beside them.

Peers that are not installed are left out: nats-py with nats-server, redis-py with redis-server,
pyzmq. *bare* writes to sockets, and reads them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import resource
import selectors
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

#: What an event of the small rows carries.
SMALL = bytes(128)
LONG = bytes(1 << 20)
NAME = "bench.events"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu() -> float:
    """Seconds of processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Job:
    """What a round does.

    :ivar subscribers: how many there are, all in one process.
    :ivar count: events that are published.
    :ivar payload: of each.
    :ivar stalled: how many further subscribers take nothing (of pycomnet only).
    """

    def __init__(self, subscribers: int, count: int, payload: bytes, stalled: int = 0) -> None:
        self.stalled = stalled
        self.subscribers = subscribers
        self.count = count
        self.payload = payload


# -- pycomnet ------------------------------------------------------------------------------------


def pycomnet_publisher(pipe: Any, job: Job, port: int) -> None:
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import defer
    from twisted.internet.task import deferLater, react

    from pycomnet.ext.pubsub import publisher
    from pycomnet.services.server.server import ServiceServer

    @publisher(NAME, block=True)
    class Events:
        """Publishes."""

    async def main(reactor: Any) -> None:
        service: Any = Events()
        server = ServiceServer(reactor)
        await server.add(service)
        pipe.send(await server.listen("tcp:0:interface=127.0.0.1"))
        while len(service.topic.outlets) < job.subscribers + job.stalled:
            await deferLater(reactor, 0.02)
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

    react(main)


def pycomnet_subscribers(pipe: Any, job: Job, address: str) -> None:
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import defer
    from twisted.internet.task import react

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
        stalled = [
            subscriber(NAME, context=Context(reactor), address=address) for _ in range(job.stalled)
        ]
        for each in stalled:
            await each.when_subscribed()
        contexts = [Context(reactor) for _ in range(job.subscribers)]
        running = [defer.Deferred.fromCoroutine(one(context)) for context in contexts]
        counts = await defer.gatherResults(running)
        ended = time.perf_counter()
        assert counts == [job.count] * job.subscribers, (counts[:3], job.count)
        pipe.send((ended, cpu() - used))

    react(main)


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
    with broker("nats-server", "-a", "127.0.0.1", "-p", str(port), port=port) as pid:
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
    options = ("--port", str(port), "--save", "", "--appendonly", "no")
    limit = ("--client-output-buffer-limit", "pubsub", "0", "0", "0")
    with broker("redis-server", "--bind", "127.0.0.1", *options, *limit, port=port) as pid:
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


@contextlib.contextmanager
def broker(program: str, *args: str, port: int) -> Iterator[int]:
    """A broker's process; its id, once it listens."""
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [program, *args],
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(500):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.02)
            yield process.pid
        finally:
            process.kill()
            process.wait()


def process_time(pid: int) -> float:
    """Seconds of processor time of another process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def direct_round(
    job: Job,
    publish: Callable[[Any, Job, int], None],
    subscribe: Callable[[Any, Job, str], None],
    port: int,
    broker_pid: int | None = None,
    raw: bool = False,
) -> Any:
    """Run a publisher and its subscribers. Returns the seconds, and those of all processors.

    :param raw: return what the subscribers say instead.
    """
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    publisher = spawn.Process(target=publish, args=(theirs, job, port), daemon=True)
    publisher.start()
    assert mine.poll(60), "no publisher"
    address = mine.recv()
    near, far = spawn.Pipe()
    subscribers = spawn.Process(target=subscribe, args=(far, job, address), daemon=True)
    subscribers.start()
    try:
        if broker_pid is not None:
            assert near.poll(120), "no subscribers"
            near.recv()
            time.sleep(0.2)
            mine.send("go")
        assert mine.poll(300), "nothing was published"
        begun, first = mine.recv()
        assert near.poll(300), "not all has come"
        ended, second = near.recv()
        if raw:
            return ended
        third = 0.0 if broker_pid is None else process_time(broker_pid)
        return ended - begun, first + second + third
    finally:
        for process in (publisher, subscribers):
            process.kill()
            process.join()


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


#: name -> subscribers, events, payload, and whether events or deliveries are counted
ROWS = {
    "128 B, one to one": (1, 100_000, SMALL),
    "128 B, one to 100": (100, 5_000, SMALL),
    "1 MB, one to 10": (10, 100, LONG),
}


# -- latency -------------------------------------------------------------------------------------

#: Events a second, and events in all.
RATE, TIMED = 1000, 3000
STAMP = struct.Struct("d")


def pycomnet_timed_publisher(pipe: Any, job: Job, port: int) -> None:
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import defer
    from twisted.internet.task import LoopingCall, deferLater, react

    from pycomnet.ext.pubsub import publisher
    from pycomnet.services.server.server import ServiceServer

    @publisher(NAME)
    class Events:
        """Publishes."""

    async def main(reactor: Any) -> None:
        service: Any = Events()
        server = ServiceServer(reactor)
        await server.add(service)
        pipe.send(await server.listen("tcp:0:interface=127.0.0.1"))
        while len(service.topic.outlets) < job.subscribers:
            await deferLater(reactor, 0.02)
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

    react(main)


def pycomnet_timed_subscriber(pipe: Any, job: Job, address: str) -> None:
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet.task import react

    from pycomnet.ext.pubsub import subscriber
    from pycomnet.services.client.context import Context

    async def main(reactor: Any) -> None:
        client = subscriber(NAME, context=Context(reactor), address=address)
        seen = []
        async for value in client:
            seen.append(time.perf_counter() - STAMP.unpack(value)[0])
        pipe.send((quantiles(seen), 0.0))

    react(main)


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
        with broker("nats-server", "-a", "127.0.0.1", "-p", str(port), port=port) as pid:
            publish, subscribe = nats_timed_publisher, nats_timed_subscriber
            return timed(job, publish, subscribe, port, pid)
    if name == "redis-py":
        options = ("--bind", "127.0.0.1", "--port", str(port), "--save", "")
        with broker("redis-server", *options, port=port) as pid:
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


# -- what only pycomnet is measured in -----------------------------------------------------------


def idle_publisher(pipe: Any) -> None:
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet import defer
    from twisted.internet.task import deferLater, react

    from pycomnet.ext.pubsub import publisher
    from pycomnet.services.server.server import ServiceServer

    @publisher(NAME)
    class Events:
        """Publishes nothing."""

    async def main(reactor: Any) -> None:
        service: Any = Events()
        server = ServiceServer(reactor)
        await server.add(service)
        pipe.send(await server.listen("tcp:0:interface=127.0.0.1"))
        before = memory()
        while len(service.topic.outlets) < 10_000:
            await deferLater(reactor, 0.05)
        pipe.send((memory() - before) / 10_000)
        await defer.Deferred()

    react(main)


def idle_subscribers(address: str) -> None:
    from twisted.internet import defer
    from twisted.internet.task import react

    from pycomnet.services.client.context import Context

    async def main(reactor: Any) -> None:
        kept = []
        for _ in range(10):
            service = await Context(reactor).connect(address)
            streams = [service.stream("subscribe", {}) for _ in range(1000)]
            for stream in streams:
                await stream.receive()
            kept.append(streams)
        await defer.Deferred()

    react(main)


def memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def idle() -> float:
    """What an idle subscription takes at its publisher, in bytes."""
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    publisher = spawn.Process(target=idle_publisher, args=(theirs,), daemon=True)
    publisher.start()
    address = mine.recv()
    subscribers = spawn.Process(target=idle_subscribers, args=(address,), daemon=True)
    subscribers.start()
    try:
        assert mine.poll(300), "they do not all subscribe"
        found: float = mine.recv()
        print(f"idle subscriptions: {found:,.0f} bytes each at the publisher, of 10,000")
        return found
    finally:
        for process in (publisher, subscribers):
            process.kill()
            process.join()


def stalled(rounds: int) -> float:
    """What one stalled subscriber costs a hundred others: their share of the rate without it."""
    found: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    shares = []
    for _ in range(rounds):
        for count in found:
            found[count].append(pycomnet_round(Job(100, 5000, bytes(1024), count)))
    for place, what in enumerate(("time", "processor time")):
        without, with_one = (
            statistics.median(one[place] for one in found[count]) for count in (0, 1)
        )
        print(f"one of 101 stalled: the others at {without / with_one:.2f} of their rate by {what}")
        shares.append(without / with_one)
    return shares[0]


def durable() -> tuple[float, float]:
    """Durable events a second, and SQLite's commits one by one in the same directory."""
    found: list[float] = []
    import sqlite3

    from twisted.internet import defer
    from twisted.internet.task import react

    from pycomnet.ext.pubsub import publisher
    from pycomnet.services.server.server import ServiceServer

    directory = tempfile.mkdtemp(dir=os.environ.get("TMPDIR"))

    @publisher(NAME, history=1_000_000, store=os.path.join(directory, "events.db"))
    class Events:
        """Keeps them."""

    async def main(reactor: Any) -> None:
        service: Any = Events()
        server = ServiceServer(reactor)
        await server.add(service)
        rates = []
        for _ in range(3):
            begun = time.perf_counter()
            for _ in range(20):
                await defer.gatherResults([service.topic.publish(SMALL) for _ in range(500)])
            rates.append(10_000 / (time.perf_counter() - begun))
            rates.append(one_by_one())
        ours, theirs = statistics.median(rates[::2]), statistics.median(rates[1::2])
        found.extend((ours, theirs))
        print(
            f"durable: {ours:,.0f} events a second, 500 at a time; SQLite commits one by one: "
            f"{theirs:,.0f}; {ours / theirs:.1f} times as many"
        )
        await server.close()

    def one_by_one() -> float:
        connection = sqlite3.connect(os.path.join(directory, "other.db"), isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x BLOB)")
        begun = time.perf_counter()
        for _ in range(500):
            connection.execute("INSERT INTO t (x) VALUES (?)", (SMALL,))
        seconds = time.perf_counter() - begun
        connection.close()
        return 500 / seconds

    try:
        react(main)
    except SystemExit:
        pass
    finally:
        shutil.rmtree(directory)
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="rows whose name has this")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--scale", type=float, default=1.0, help="times the number of events")
    parser.add_argument("--latency", action="store_true", help="measure the latency only")
    parser.add_argument("--stalled", action="store_true", help="measure a stalled subscriber only")
    parser.add_argument("--idle", action="store_true", help="measure idle subscriptions only")
    parser.add_argument("--durable", action="store_true", help="measure durable events only")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="measure all, write a table")
    parser.add_argument("--nats", action="store_true", help="measure via= beside clients of NATS")
    options = parser.parse_args()
    if options.nats:
        from nats_rows import through_nats

        through_nats(options.rounds, options.scale)
        return
    if options.latency:
        latency([name for name in options.peers.split(",") if available(name)], options.rounds)
        return
    if options.stalled:
        stalled(options.rounds)
        return
    if options.idle or options.durable:
        if options.idle:
            idle()
        if options.durable:
            durable()
        return
    peers = [name for name in options.peers.split(",") if available(name)]
    if options.rst is not None:
        from pubsub_table import write_table

        write_table(options.rst, peers, options.rounds, options.scale)
        return
    for row in ROWS:
        if not options.only or options.only in row:
            throughput(row, peers, options.rounds, options.scale)


def throughput(
    row: str, peers: list[str], rounds: int, scale: float
) -> dict[str, tuple[float, float]]:
    """Measure a row: deliveries a second, and microseconds of all processors for each."""
    subscribers, count, payload = ROWS[row]
    job = Job(subscribers, max(1, int(count * scale)), payload)
    if payload is SMALL:
        peers = [name for name in peers if name != "bare"]
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name in peers:
            seen[name].append(PEERS[name](job))
    print(f"{row}: {job.count} events, {job.subscribers} subscribers")
    deliveries = job.count * job.subscribers
    found = {}
    for name in peers:
        seconds, used = (statistics.median(one[place] for one in seen[name]) for place in (0, 1))
        found[name] = deliveries / seconds, used / deliveries * 1e6
        base = found[peers[0]]
        print(
            f"  {name:10} {found[name][0]:12,.0f} /s   "
            f"{found[name][1]:8.2f} us of processors each   "
            f"{peers[0]} is {base[0] / found[name][0]:5.2f} times as fast, "
            f"with {base[1] / found[name][1]:5.2f} of the processor time"
        )
    return found


if __name__ == "__main__":
    main()
