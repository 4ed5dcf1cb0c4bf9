"""Publishers and subscribers as processes: the first example, kills, moves, slow subscribers."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

import pycomnet
from pycomnet.ext.pubsub import Gap, subscriber
from pycomnet.test.system.daemons import (
    COMMAND,
    PATIENCE,
    Daemon,
    Daemons,
    daemons,
    environment,
)

#: What a launcher logs once it is found.
REGISTERED = "registered '"
#: Options of one that takes the place of one that was killed, once that one's lease is over.
SOON = ("--ttl", "2", "--wait")
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


def script(source: str) -> str:
    """Run a program; what it prints."""
    ran = subprocess.run(
        [sys.executable, "-c", source],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert not ran.returncode, ran.stdout
    return ran.stdout


def test_the_wishs_example_runs_as_it_stands(started: Daemons, nameserver: str) -> None:
    """A launcher runs the generator, which sleeps; the client prints ten numbers, and ends."""
    daemon = publish(started, nameserver, "demo", DEMO)
    daemon.wait_for(REGISTERED)
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
    first = publish(started, nameserver, "count", source, "--name", "counter", *SOON)
    await first.seen(REGISTERED)
    one = subscriber("org.example.count", context=context)
    got = [await one.receive() for _ in range(50)]
    first.process.kill()
    await first.ended()
    second = publish(started, nameserver, "count", source, "--name", "counter", *SOON)
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


@pytest_twisted.ensureDeferred
async def test_all_publishers_of_an_interface_are_merged(
    started: Daemons, nameserver: str, context: Any
) -> None:
    """With their names, each in its own order; one that comes later as well, and one that ends
    leaves the others. Who wants one of them gets one, and another when that is killed."""
    source = COUNTER.format(options="").replace("example.count", "example.merged")
    names = ["a", "b", "c"]
    ones = {
        name: publish(started, nameserver, "merged", source, "--name", name, "--ttl", "2")
        for name in names[:2]
    }
    for one in ones.values():
        await one.seen(REGISTERED)
    client = subscriber("org.example.merged", context=context)
    single = subscriber("org.example.merged", context=context, which="one")
    await client.when_subscribed()
    await single.when_subscribed()
    found = [await single.receive() for _ in range(50)]
    first = found[0][0]
    assert found == [(first, number) for number in range(found[0][1], found[0][1] + 50)]
    events = client.events()
    seen: dict[str, list[int]] = {name: [] for name in names}

    async def until(enough: Any) -> None:
        while not enough():
            event = await events.__anext__()
            if not isinstance(event, Gap):
                pid, number = event.value
                assert pid == ones[event.publisher].pid
                seen[event.publisher].append(number)

    await until(lambda: all(len(seen[name]) > 20 for name in "ab"))
    ones["c"] = publish(started, nameserver, "merged", source, "--name", "c", "--ttl", "2")
    await until(lambda: len(seen["c"]) > 20)
    killed = next(name for name, one in ones.items() if one.pid == first)
    ones[killed].process.kill()
    left = "b" if killed == "a" else "a"
    have = len(seen[left]) + 200
    await until(lambda: len(seen[left]) > have)
    await client.close()
    later = await single.receive()
    while not isinstance(later, Gap):
        assert later[0] == first
        later = await single.receive()
    assert later.why == "restarted"
    pid, number = await single.receive()
    assert pid in {one.pid for name, one in ones.items() if name != killed}
    assert await single.receive() == (pid, number + 1)
    await single.close()
    for numbers in seen.values():
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


#: Keeps what is published to it.
KEEPER = """
from pycomnet.ext.pubsub import publisher

@publisher("org.example.kept", history=1_000_000, store={path!r}, may_publish=True)
class Kept:
    pass
"""
#: Takes events, and writes what it has taken to a file before it asks for the next.
TAKER = """
import contextlib
import json
import os
import select
import pycomnet
pycomnet.configure(nameserver={nameserver!r})
from pycomnet.ext.pubsub import Gap, subscriber

client = subscriber("org.example.kept", name="taker", acknowledged=True)
with open({path!r}, "a", buffering=1) as file:
    for value in client:
        file.write(f"{{value}}\\n")
"""


#: PYCOMNET_TEST_LONG asks for more, which takes minutes.
#: benchmarks/pubsub_faults.py kills other processes as well, and cuts connections.
KILLS = 50 if os.environ.get("PYCOMNET_TEST_LONG") else 2


@pytest_twisted.ensureDeferred
async def test_kills_lose_nothing_and_what_is_acknowledged_comes_once(
    started: Daemons, nameserver: str, context: Any
) -> None:
    """A publisher with a store is killed again and again while clients publish: all that was
    confirmed comes, in its order; nothing comes twice to a subscriber that acknowledges and lives;
    everything comes to one that is killed as well."""
    (started.directory / "kept").mkdir(mode=0o700)
    source = KEEPER.format(path=str(started.directory / "kept" / "events.db"))
    written = started.directory / "taken"

    def start() -> Daemon:
        return publish(started, nameserver, "kept_module", source, "--name", "keeper", *SOON)

    def take() -> subprocess.Popen[bytes]:
        text = TAKER.format(nameserver=nameserver, path=str(written))
        return subprocess.Popen([sys.executable, "-c", text], env=environment())

    keeper = start()
    await keeper.seen(REGISTERED)
    client = subscriber("org.example.kept", context=context, name="living", acknowledged=True)
    await client.when_subscribed()
    got: list[Any] = []
    confirmed: list[int] = []
    stop: list[bool] = []

    async def receive() -> None:
        async for event in client.events():
            assert not isinstance(event, Gap), event
            got.append((event.sequence, event.value))
            event.acknowledge().addErrback(lambda _: None)

    receiving = defer.Deferred.fromCoroutine(receive())

    async def produce() -> None:
        service = await context.locate("org.example.kept")
        number = 0
        while not stop:
            number += 1
            try:
                await service.invoke("publish", {"value": number}, timeout=PATIENCE)
            except (pycomnet.CallInterrupted, pycomnet.ServiceUnreachable):
                continue  # perhaps it is there, perhaps not
            confirmed.append(number)

    producing = defer.Deferred.fromCoroutine(produce())
    taker = take()
    for kill in range(KILLS):
        before = len(confirmed)
        while len(confirmed) < before + 30:
            await deferLater(context.reactor, 0.02)
        keeper.process.kill()
        if kill % 2:
            taker.kill()
            taker.wait()
        await keeper.ended()
        keeper = start()
        await keeper.seen(REGISTERED)
        if kill % 2:
            taker = take()
    before = len(confirmed)
    while len(confirmed) < before + 30:
        await deferLater(context.reactor, 0.02)
    stop.append(True)
    await producing

    def lines() -> list[int]:
        return [int(line) for line in written.read_text().split()] if written.exists() else []

    last = confirmed[-1]
    for _ in range(PATIENCE * 20):
        if got and got[-1][1] == last and last in lines():
            break
        await deferLater(context.reactor, 0.05)
    taker.kill()
    taker.wait()
    await client.close()
    receiving.addErrback(lambda _: None)
    sequences = [sequence for sequence, _ in got]
    values = [value for _, value in got]
    assert len(set(sequences)) == len(sequences)  # none twice
    assert sequences == sorted(sequences)
    assert values == sorted(values)
    assert set(confirmed) <= set(values)  # none lost
    # The other one was not there at the very beginning: its group begins with its first visit.
    there = lines()
    assert {number for number in confirmed if number >= there[0]} <= set(there)


#: Publishes to whoever is there, as fast as it can; says what it has in memory.
FLOOD = """
import os, resource
from twisted.internet import reactor
from twisted.internet.task import deferLater
from pycomnet.ext.pubsub import publisher
import pycomnet

@publisher("org.example.flood")
class Flood:
    @pycomnet.method()
    async def flood(self, request):
        payload = os.urandom(2000)
        for number in range(request.args["count"]):
            await self.topic.publish([number, payload])
            if not number % 50:
                await deferLater(reactor, 0)
        return self.memory(request)

    @pycomnet.method()
    def memory(self, request):
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
"""


@pytest_twisted.ensureDeferred
async def test_a_hundred_stalled_subscribers_are_bounded_and_hurt_nobody(
    started: Daemons, nameserver: str, context: Any
) -> None:
    """24 MB are published: the process grows by what may wait, and not by all of them. Another
    subscriber gets each event or is told; once the stalled ones are gone nothing waits any more."""
    daemon = publish(started, nameserver, "flood", FLOOD, "--name", "flood")
    await daemon.seen(REGISTERED)
    service = await context.locate("org.example.flood")
    await service.invoke("flood", {"count": 100})
    before = await service.invoke("memory")
    stalled = [
        subscriber("org.example.flood", context=context, service="flood", bound=1 << 18)
        for _ in range(100)
    ]
    for one in stalled:
        await one.when_subscribed()
    other = pycomnet.Context(context.reactor, nameserver=context.nameserver_address)
    quick = subscriber("org.example.flood", context=other, service="flood", bound=1 << 20)
    await quick.when_subscribed()
    seen: list[Any] = []

    async def receive() -> None:
        async for value in quick:
            seen.append(value if isinstance(value, Gap) else value[0])
            if seen[-1] == 11_999:
                return

    receiving = defer.Deferred.fromCoroutine(receive())
    after = await service.invoke("flood", {"count": 12_000}, timeout=PATIENCE)
    await receiving
    numbers = [one for one in seen if not isinstance(one, Gap)]
    assert numbers == sorted(numbers)
    assert len(numbers) + sum(one.count or 0 for one in seen if isinstance(one, Gap)) == 12_000
    # What waits for the hundred is in memory once: 256 KiB; 1 MiB for the other; and what their
    # streams, the connections and the allocator take, 10 to 14 MB together.
    assert after - before < 20_000_000, after - before
    state = await service.invoke("topic")
    assert state["subscriptions"] == 101
    assert state["dropped"] > 0
    for one in (*stalled, quick):
        await one.close()
    for _ in range(PATIENCE * 20):
        state = await service.invoke("topic")
        if not state["subscriptions"]:
            break
        await deferLater(context.reactor, 0.05)
    assert (state["subscriptions"], state["queued"]) == (0, 0)
    await other.close()


#: A board that others write on.
BOARD = """
from pycomnet.ext.pubsub import publisher

@publisher("org.example.board", history=100, may_publish=True)
class Board:
    "What others say."
"""


def test_commands_publish_subscribe_and_describe(
    started: Daemons, nameserver: str, tmp_path: Path
) -> None:
    """``pycomnet pub`` values and lines, ``pycomnet sub`` with patterns, and what ``describe``
    says of the topic."""
    options = ("--name", "board", "--metrics", "tcp:0:interface=127.0.0.1")
    board = publish(started, nameserver, "board", BOARD, *options)
    page = board.wait_for(r"metrics are at (\S+),")[1]
    board.wait_for(REGISTERED)
    env = environment(PYCOMNET_NAMESERVER=nameserver)

    def run(*args: str, text: str = "", status: int = 0) -> str:
        ran = subprocess.run(
            [*COMMAND, *args],
            env=env,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert ran.returncode == status, ran.stdout
        return ran.stdout

    run("pub", "org.example.board.eu.created", '{"id": 7}', "plain text", "--about", "k")
    run("pub", "org.example.board.us", text='1\n[2, 3]\n"x"\n')
    lines = run("sub", "org.example.board.>", "--last", "100", "--count", "5").splitlines()
    assert lines == ['{"id": 7}', '"plain text"', "1", "[2, 3]", '"x"']
    found = run("sub", "org.example.board.eu.*", "--since", "1h", "-n", "1", "--json")
    event = json.loads(found)
    assert (event["value"], event["key"], event["subject"]) == ({"id": 7}, "k", "eu.created")
    assert (event["publisher"], event["sequence"]) == ("board", 1)
    assert "publishes: 5 events so far" in run("describe", "org.example.board")
    described = json.loads(run("describe", "--json", "org.example.board"))
    assert described["org.example.board"]["topic"]["sequence"] == 5
    with urllib.request.urlopen(f"http://{page.removeprefix('tcp:')}/metrics") as answer:
        figures = answer.read().decode()
    assert 'pycomnet_topic_events_total{interface="org.example.board"} 5.0\n' in figures
    assert "does not begin with an interface" in run("sub", "org.nobody.>", status=1)
    assert "subject" in run("pub", "org.example.board.a..b", "1", status=1)


def test_a_terminal_shows_a_table_until_it_is_interrupted(
    started: Daemons, nameserver: str
) -> None:
    """Subjects, how many events each has had, and the last value; what a publisher says is text
    and no markup. Ctrl-C ends it, and the terminal is left as it was."""
    source = BOARD.replace("example.board", "example.table")
    board = publish(started, nameserver, "table", source, "--name", "table")
    board.wait_for(REGISTERED)
    env = environment(PYCOMNET_NAMESERVER=nameserver, TERM="xterm", COLUMNS="100")
    publishing = [*COMMAND, "pub", "org.example.table.eu.created", "1", '"[/x]"']
    subprocess.run(publishing, env=env, check=True, timeout=PATIENCE)
    mine, theirs = os.openpty()
    command = [*COMMAND, "sub", "org.example.table.>", "--last", "10"]
    process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    end = time.monotonic() + PATIENCE
    try:
        while b"eu.created" not in shown and time.monotonic() < end:
            if select.select([mine], [], [], 1.0)[0]:
                shown += os.read(mine, 65536)
        process.send_signal(signal.SIGINT)
        while process.poll() is None and time.monotonic() < end:
            if select.select([mine], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # the other end is closed
                    shown += os.read(mine, 65536)
    finally:
        process.kill()
        process.wait()
        os.close(mine)
    text = shown.decode()
    assert process.returncode in (130, -signal.SIGINT), text
    for part in ("org.example.table", "a second", "eu.created", '"[/x]"'):
        assert part in text, text
    assert "Traceback" not in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is shown again
