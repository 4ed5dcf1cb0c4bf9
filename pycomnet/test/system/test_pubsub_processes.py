"""Each policy, return and restart of publish and subscribe, with publishers as processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.task import deferLater

import pycomnet
from pycomnet.errors import ChannelClosed, RemoteError
from pycomnet.ext.pubsub import Gap, Restarted, SlowSubscriber, subscriber
from pycomnet.test.ext.pubsub.histories import Entry, entry_of, faults_of
from pycomnet.test.system.cutting import CutProxy
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons, daemons, environment

#: Publishes to those who are there, as fast as they let it: numbers, with two keys in turn.
FLOOD = """
import pycomnet
from pycomnet.ext.pubsub import publisher

@publisher("org.example.flood", block=True)
class Flood:
    @pycomnet.method()
    async def flood(self, request):
        for number in range(request.args):
            await self.topic.publish([number, bytes(20_000)], key="ab"[number % 2])
"""
#: So many events of 20 kB: more than any window and bound have room for.
EVENTS = 400
#: Yields the number of this run, and ends as it is told to.
FAILING = """
from pycomnet.ext.pubsub import publisher

runs = 0

@publisher("org.example.failing", restart={restart!r}, lazy=True)
def failing():
    global runs
    runs += 1
    yield runs
    if {raises}:
        raise ValueError("it broke")
"""
#: Counts, and remembers some of it.
COUNTING = """
import itertools, time
from pycomnet.ext.pubsub import publisher

@publisher("org.example.counting", history={history})
def counting():
    for number in itertools.count():
        yield "one life", number + 1
        time.sleep(0.001)
"""


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons of a test, in a directory of its own."""
    with daemons(Path(tmp_path_factory.mktemp("d"))) as found:
        yield found


@pytest_twisted.async_yield_fixture
async def context() -> Any:
    """A context without a nameserver."""
    from twisted.internet import reactor

    made = pycomnet.Context(reactor, timeout=PATIENCE)
    yield made
    await made.close()


async def publishing(started: Daemons, source: str) -> tuple[Daemon, int]:
    """Run the publisher of a source without a nameserver; the port at which it is."""
    nameserver = started.nameserver()
    (started.directory / "published.py").write_text(source)
    args = ("--nameserver", nameserver, "--listen", "tcp:0:interface=127.0.0.1", "published")
    daemon = started.start("pycomnet-service", *args)
    found = await daemon.seen(r"registered '[^']*' at tcp:127\.0\.0\.1:(\d+)")
    return daemon, int(found[1])


def within(waiting: defer.Deferred[Any]) -> defer.Deferred[Any]:
    """Wait, and not for ever."""
    from twisted.internet import reactor

    return waiting.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]


async def numbers(one: Any, count: int = EVENTS) -> list[Any]:
    """The numbers and gaps that a subscriber gets, until all events are accounted for."""
    found: list[Any] = []
    told = 0
    while told < count:
        value = await within(one.receive())
        told += (value.count or 0) if isinstance(value, Gap) else 1
        found.append(value if isinstance(value, Gap) else value[0])
    assert told == count
    return found


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest", "disconnect", "block"])
async def test_a_subscriber_that_takes_nothing(started: Daemons, context: Any, policy: str) -> None:
    """By its policy it loses the oldest, the newest, all but each key's last, its subscription,
    or nothing, as the publisher waits for it. Another one gets every event."""
    _, port = await publishing(started, FLOOD)
    address = f"tcp:127.0.0.1:{port}"
    service = await context.connect(address, "org.example.flood")
    other_context = pycomnet.Context(context.reactor)
    name = "org.example.flood"
    stalled = subscriber(name, context=context, address=address, policy=policy, bound=1 << 18)
    other = subscriber(name, context=other_context, address=address, policy="block")
    await within(stalled.when_subscribed())
    await within(other.when_subscribed())
    flooding = service.invoke("flood", EVENTS)
    getting = defer.Deferred.fromCoroutine(numbers(other))
    if policy == "block":
        while (await service.invoke("topic"))["queued"] < 1 << 18:
            await deferLater(context.reactor, 0.05)
        assert not flooding.called
        found = await numbers(stalled)
        await within(flooding)
    else:
        await within(flooding)
        if policy != "disconnect":
            found = await numbers(stalled)
    assert await within(getting) == list(range(EVENTS))
    gaps = [] if policy == "disconnect" else [one for one in found if isinstance(one, Gap)]
    if policy == "disconnect":
        got = []
        with pytest.raises(SlowSubscriber, match="wait for this subscriber"):
            while True:
                got.append((await within(stalled.receive()))[0])
        assert got == list(range(len(got)))
        assert len(got) < EVENTS
    elif policy == "block":
        assert found == list(range(EVENTS))
    elif policy == "latest":
        assert found[-1] == EVENTS - 1
        assert {EVENTS - 2, EVENTS - 1} <= {one for one in found if not isinstance(one, Gap)}
        assert {one.key for one in gaps} == {"a", "b"}
    else:
        (gap,) = gaps
        place = found.index(gap)
        assert found[:place] == list(range(place))
        rest = found[place + 1 :]
        assert rest == list(range(EVENTS - len(rest), EVENTS))
        assert (gap.why, (gap.count or 0) > EVENTS // 2) == ("bound", True)
        # What is kept of what waited is the newest, or the oldest.
        assert bool(rest) is (policy == "drop_oldest")
    for one in (stalled, other):
        await one.close()
    await other_context.close()


ENDED, BROKE = Restarted("it had ended"), Restarted("ValueError: it broke")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("restart", "raises", "expected"),
    [
        ("never", False, [1, ChannelClosed]),
        ("never", True, [1, RemoteError]),
        ("failed", False, [1, ChannelClosed]),
        ("failed", True, [1, BROKE, 2, BROKE, 3]),
        ("always", False, [1, ENDED, 2, ENDED, 3]),
        ("always", True, [1, BROKE, 2, BROKE, 3]),
    ],
)
async def test_a_generator_that_ends_or_breaks(
    started: Daemons, context: Any, restart: str, raises: bool, expected: list[Any]
) -> None:
    """By its policy subscribers are told of its end, of its error, or that it runs again."""
    source = FAILING.format(restart=restart, raises=raises)
    daemon, port = await publishing(started, source)
    address = f"tcp:127.0.0.1:{port}"
    one = subscriber("org.example.failing", context=context, address=address)
    for value in expected:
        if value is ChannelClosed:
            with pytest.raises(ChannelClosed):
                await within(one.receive())
        elif value is RemoteError:
            with pytest.raises(RemoteError, match="it broke") as raised:
                await within(one.receive())
            assert raised.value.type == "ValueError"
        else:
            assert await within(one.receive()) == value
    await one.close()
    # What it has logged may come later than what it has sent: it is complete at the end.
    daemon.signal()
    await within(daemon.ended())
    assert ("has raised" in daemon.said) is raises


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("history", [1_000_000, 3])
async def test_a_subscriber_whose_connections_are_cut(
    started: Daemons, context: Any, history: int
) -> None:
    """It goes on where it was if the history has that; else it is told exactly what is missing."""
    _, port = await publishing(started, COUNTING.format(history=history))
    proxy = CutProxy(port, size=30_000, most=8, seed=history)
    listening = await proxy.listen(context.reactor)
    address = f"tcp:127.0.0.1:{listening.getHost().port}"
    one = subscriber("org.example.counting", context=context, address=address)
    history_seen: list[Entry] = []
    behind = 0
    while behind < 300:
        history_seen.append(entry_of(await within(one.receive_event())))
        behind += proxy.cuts >= proxy.most
    await one.close()
    listening.stopListening()
    assert list(faults_of(history_seen)) == []
    whys = {entry.why for entry in history_seen if isinstance(entry, Gap)}
    assert whys == (set() if history > 3 else {"history"})


SCRIPT = Path(__file__).parents[3] / "benchmarks" / "pubsub_faults.py"


def test_recorded_histories_under_kills_and_cuts_have_no_faults() -> None:
    """For a short time; the script says what it did and found."""
    if not SCRIPT.is_file():
        pytest.skip("this is not a checkout: there are no benchmarks")
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--seconds", "10", "--kills", "5", "--seed", "17"],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * PATIENCE,
    )
    assert ran.returncode == 0, ran.stdout
    assert "seed 17: " in ran.stdout
    assert ran.stdout.rstrip().endswith(": 0 problems"), ran.stdout
