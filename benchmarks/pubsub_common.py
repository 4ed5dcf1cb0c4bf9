"""What the rounds of ``benchmarks/pubsub.py`` share: processes, brokers, and a publisher."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
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
    """

    def __init__(self, subscribers: int, count: int, payload: bytes) -> None:
        self.subscribers = subscribers
        self.count = count
        self.payload = payload


def run(main: Callable[[Any], Any]) -> None:
    """Run a coroutine of the reactor, in a process of its own."""
    from twisted.internet import epollreactor

    epollreactor.install()
    from twisted.internet.task import react

    react(main)


async def serve(reactor: Any, pipe: Any, service: Any) -> None:
    """Serve a publisher, and say where."""
    from pycomnet.services.server.server import ServiceServer

    server = ServiceServer(reactor)
    await server.add(service)
    pipe.send(await server.listen("tcp:0:interface=127.0.0.1"))


async def until_subscribed(reactor: Any, service: Any, count: int) -> None:
    """Wait until there are so many subscriptions."""
    from twisted.internet.task import deferLater

    while len(service.topic.sinks) < count:
        await deferLater(reactor, 0.02)


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


def nats_server(port: int) -> AbstractContextManager[int]:
    """NATS on a port."""
    return broker("nats-server", "-a", "127.0.0.1", "-p", str(port), port=port)


def redis_server(port: int) -> AbstractContextManager[int]:
    """Redis on a port: in memory, and without a bound for its subscribers."""
    options = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no")
    limit = ("--client-output-buffer-limit", "pubsub", "0", "0", "0")
    return broker("redis-server", *options, *limit, port=port)


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
