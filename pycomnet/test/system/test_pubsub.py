"""Publishers and subscribers as processes: the first example, kills, moves, slow subscribers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

import pycomnet
from pycomnet.ext.pubsub import Gap, subscriber
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons, daemons, environment

#: The publisher of the wish, with the imports that it needs and a shorter sleep.
DEMO = """
import random
import time

from pycomnet.ext.pubsub import publisher

# Publish random number every second
@publisher("demo.interface.name")
def pub_demo():
    while True:
        yield random.random()
        time.sleep(0.1)
"""
#: Its client, as it stands but for the print statement.
CLIENT = """
import pycomnet
pycomnet.configure(nameserver={nameserver!r})

from pycomnet.ext.pubsub import subscriber

client = subscriber("demo.interface.name")
print(client[:10]) # Print 10 random numbers in 10 seconds
"""
#: Counts; what it says of itself comes with it.
COUNTER = """
import itertools, os, time
from pycomnet.ext.pubsub import publisher

@publisher("org.example.count", {options})
def count():
    for number in itertools.count():
        yield os.getpid(), number
        time.sleep(0.005)
"""


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons of a test, in a directory of its own."""
    directory = Path(tmp_path_factory.mktemp("d"))
    with daemons(directory) as found:
        yield found


@pytest.fixture(scope="module")
def nameserver(tmp_path_factory: Any) -> Iterator[str]:
    """A nameserver that the tests share; each uses interfaces of its own."""
    with daemons(Path(tmp_path_factory.mktemp("n"))) as found:
        yield found.nameserver()


@pytest_twisted.async_yield_fixture
async def context(nameserver: str) -> Any:
    """A context that knows it."""
    from twisted.internet import reactor

    made = pycomnet.Context(reactor, nameserver=nameserver, timeout=PATIENCE)
    yield made
    await made.close()


def publish(started: Daemons, nameserver: str, module: str, source: str, *args: str) -> Daemon:
    """Run the publishers of a source."""
    (started.directory / f"{module}.py").write_text(source)
    return started.start("pycomnet-service", "--nameserver", nameserver, *args, module)


def script(source: str, **how: Any) -> str:
    """Run a program; what it prints."""
    ran = subprocess.run(
        [sys.executable, "-c", source],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        **how,
    )
    assert not ran.returncode, ran.stdout
    return ran.stdout


def test_the_wishs_example_runs_as_it_stands(started: Daemons, nameserver: str) -> None:
    """A launcher runs the generator, which sleeps; the client prints ten numbers, and ends."""
    daemon = publish(started, nameserver, "demo", DEMO)
    daemon.wait_for("registered")
    printed = script(CLIENT.format(nameserver=nameserver))
    numbers = eval(printed)
    assert len(numbers) == 10
    assert all(isinstance(one, float) and 0 <= one < 1 for one in numbers)
    daemon.signal(signal.SIGTERM)
    daemon.wait_for("all services have ended")
    daemon.wait()


@pytest_twisted.ensureDeferred
async def test_a_killed_publisher_is_found_again_and_the_gap_is_told(
    started: Daemons, nameserver: str, context: Any
) -> None:
    """Killed, back at another port: events flow, and a gap is where some may be missing
    (paho 375, nats.net.v1 125)."""
    source = COUNTER.format(options="history=100_000")
    first = publish(started, nameserver, "count", source, "--name", "counter", "--ttl", "2")
    await first.seen("registered")
    one = subscriber("org.example.count", context=context)
    got = [await one.receive() for _ in range(50)]
    first.process.kill()
    await first.ended()
    second = publish(started, nameserver, "count", source, "--name", "counter", "--ttl", "2")
    while not any(value[0] == second.pid for value in got if not isinstance(value, Gap)):
        got.append(await one.receive())
    await one.close()
    (place,) = [place for place, value in enumerate(got) if isinstance(value, Gap)]
    assert got[place].why in ("restarted", "gone")
    for values in (got[:place], got[place + 1 :]):
        numbers = [number for _, number in values]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert got[place + 1] == (second.pid, 0)  # all that the new one remembers
    await deferToThread(second.close)
