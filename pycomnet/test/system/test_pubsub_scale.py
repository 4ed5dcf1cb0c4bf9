"""A publisher as a process at its limits: subscriptions, subjects, long values and names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

import pycomnet
from pycomnet.errors import InvalidArguments, Overloaded
from pycomnet.ext.pubsub import Gap, InvalidSubject, subscriber
from pycomnet.ext.pubsub.events import Event
from pycomnet.ext.pubsub.limits import TopicLimits
from pycomnet.ext.pubsub.subjects import MAX_ALL_PARTS, MAX_LENGTH, MAX_PARTS, MAX_PATTERNS
from pycomnet.test.processes import resident
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons, daemons

NAME = "org.example.scale"
#: Publishes what a client says, and many events at once; says how long the longest value may be.
SOURCE = f"""
import pycomnet
from pycomnet.ext.pubsub import TopicLimits, publisher

@publisher({NAME!r}, block=True, may_publish=True, retain=True,
           limits=TopicLimits(per_connection={{per_connection}}))
class Scale:
    @pycomnet.method()
    async def each(self, request):
        "An event for each of so many subjects."
        begin, end = request.args
        for number in range(begin, end):
            await self.topic.publish(number, subject=f"s.{{{{number}}}}")

    @pycomnet.method()
    async def long(self, request):
        "A value of so many bytes."
        await self.topic.publish(bytes(request.args))
"""
MANY = 5000
#: Bytes that a subscription may take at its publisher, with the memory of its connection's channel.
EACH = 8192


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons of a test, in a directory of its own."""
    with daemons(Path(tmp_path_factory.mktemp("d"))) as found:
        yield found


async def publishing(started: Daemons, per_connection: int = 1000) -> tuple[Daemon, str]:
    """Run the publisher; its process, and its address."""
    (started.directory / "scaled.py").write_text(SOURCE.format(per_connection=per_connection))
    address = f"unix:{started.directory / 'scale'}"
    names = started.nameserver()
    daemon = started.start("pycomnet-service", "--nameserver", names, "--listen", address, "scaled")
    await daemon.seen("registered '")
    return daemon, address


def within(waiting: defer.Deferred[Any]) -> defer.Deferred[Any]:
    """Wait, and not for ever."""
    from twisted.internet import reactor

    return waiting.addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]


def values(batch: list[Any]) -> list[Any]:
    """The values of a batch."""
    return [item[4] for item in batch[1:]]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("connections", [1, 50])
async def test_five_thousand_subscriptions(started: Daemons, connections: int) -> None:
    """Each gets its events and no others, and the publisher is as before once they are gone."""
    daemon, address = await publishing(started, MANY)
    from twisted.internet import reactor

    control = pycomnet.Context(reactor, timeout=PATIENCE)
    service = await control.connect(address)
    before = resident(daemon.pid)
    contexts = [pycomnet.Context(reactor, timeout=PATIENCE) for _ in range(connections)]
    streams = []
    for number in range(MANY):
        one = await contexts[number % connections].connect(address)
        # Each gets the event of its own subject, and a hundredth gets all.
        subjects = [">"] if not number % 100 else [f"s.{number}"]
        streams.append(one.stream("subscribe", {"subjects": subjects, "retained": False}))
    for stream in streams:
        await within(stream.receive())
    assert (resident(daemon.pid) - before) / MANY < EACH
    await within(service.invoke("each", [0, MANY]))
    for number, stream in enumerate(streams):
        expected = [*range(MANY)] if not number % 100 else [number]
        found: list[int] = []
        while len(found) < len(expected):
            found += values(await within(stream.receive()))
        assert found == expected
    # No other event is on its way to any: this one comes next to those that want all.
    await within(service.invoke("publish", {"value": "last", "subject": "last"}))
    for number, stream in enumerate(streams):
        if not number % 100:
            assert values(await within(stream.receive())) == ["last"]
        stream.close()
    for context in contexts:
        await context.close()

    async def count() -> int:
        said = await within(service.invoke("topic"))
        return int(said["subscriptions"])

    left = MANY
    while left:  # its figures are a second old at most
        left = await count()
    assert (await within(service.invoke("topic")))["queued"] == 0
    await control.close()


@pytest_twisted.ensureDeferred
async def test_a_connection_with_too_many_is_told_and_keeps_what_it_has(started: Daemons) -> None:
    """By default a thousand; other connections have their own."""
    _, address = await publishing(started)
    from twisted.internet import reactor

    context, other = (pycomnet.Context(reactor, timeout=PATIENCE) for _ in range(2))
    service = await context.connect(address)
    most = TopicLimits().per_connection
    streams = [service.stream("subscribe", {"subjects": ["a"]}) for _ in range(most + 5)]
    for stream in streams[:most]:
        await within(stream.receive())
    for stream in streams[most:]:
        with pytest.raises(Overloaded, match=f"{most} subscriptions"):
            await within(stream.receive())
    one = subscriber(NAME, "a", context=other, address=address)
    await within(one.when_subscribed())
    await within(service.invoke("publish", {"value": 1, "subject": "a"}))
    for stream in streams[:most]:
        assert values(await within(stream.receive())) == [1]
    assert await within(one.receive()) == 1
    streams[0].close()

    async def again() -> Any:
        stream = service.stream("subscribe", {"subjects": ["a"], "retained": False})
        return await within(stream.receive())

    assert (await again())["resumed"] is False
    for each in (context, other):
        await each.close()


@pytest_twisted.ensureDeferred
async def test_the_longest_value(started: Daemons, context: Any) -> None:
    """Just under the limit it comes, also to one with the least bound and through the method
    ``publish``; just over it is refused, and what follows comes."""
    _, address = await publishing(started)
    service = await context.connect(address)
    ones = [
        subscriber(NAME, context=context, address=address, bound=bound, policy=policy)
        for bound, policy in ((1024, "drop_oldest"), (64 << 20, "block"))
    ]
    for one in ones:
        await within(one.when_subscribed())
    limit = TopicLimits().event
    # An array of a number, an empty subject, no key and a time comes before the bytes.
    beside = 1 + 1 + 1 + 1 + 9 + 5
    longest = limit - beside
    await within(service.invoke("long", longest))
    for one in ones:
        assert len(await within(one.receive())) == longest
    for _ in range(2):
        with pytest.raises(InvalidArguments, match=f"{limit + 1} bytes; the limit is {limit}"):
            await within(service.invoke("publish", {"value": bytes(longest + 1)}))
    await within(service.invoke("publish", {"value": bytes(longest)}))
    await within(service.invoke("publish", {"value": "after"}))
    for one in ones:
        assert len(await within(one.receive())) == longest
        assert await within(one.receive()) == "after"
        await one.close()


@pytest_twisted.ensureDeferred
async def test_the_longest_subjects_and_most_patterns(started: Daemons, context: Any) -> None:
    """They are published, matched, retained, and changed to; what is longer is refused."""
    _, address = await publishing(started)
    service = await context.connect(address)
    parts = ["p" * 7] * (MAX_PARTS - 1)
    deep = ".".join([*parts, "x" * (MAX_LENGTH - len(".".join(parts)) - 1)])
    flat = "ä" * MAX_LENGTH
    assert (len(deep), deep.count(".") + 1) == (MAX_LENGTH, MAX_PARTS)
    wild = [".".join("*" for _ in range(MAX_PARTS))]
    each = MAX_ALL_PARTS // MAX_PATTERNS
    most = [".".join([f"n{number}", *["*"] * (each - 1)]) for number in range(MAX_PATTERNS)]
    longest = [flat, deep, *wild]
    one = subscriber(NAME, longest, context=context, address=address)
    many = subscriber(NAME, most, context=context, address=address)
    for each_of in (one, many):
        await within(each_of.when_subscribed())
    matching = [".".join([f"n{number}", *["y"] * (each - 1)]) for number in range(MAX_PATTERNS)]
    for number, subject in enumerate([flat, deep, *matching]):
        await within(service.invoke("publish", {"value": number, "subject": subject}))
    for expected in (flat, deep):
        event: Event = await within(one.receive_event())
        assert event.subject == expected
    for expected in matching:
        assert (await within(many.receive_event())).subject == expected
    for refused in (deep + "x", flat + "x", "p." * MAX_PARTS + "p"):
        with pytest.raises(InvalidSubject):
            await within(service.invoke("publish", {"value": 1, "subject": refused}))
        with pytest.raises(InvalidSubject):
            await within(service.stream("subscribe", {"subjects": [refused]}).receive())
    for refused_set in ([*most, "more"], [f"{pattern}.*" for pattern in most]):
        with pytest.raises(InvalidSubject):
            await within(service.stream("subscribe", {"subjects": refused_set}).receive())
    late = subscriber(NAME, longest, context=context, address=address)
    assert [await within(late.receive()) for _ in range(2)] == [0, 1]
    await within(late.change(most))
    await within(service.invoke("publish", {"value": "changed", "subject": matching[-1]}))
    assert await within(late.receive()) == "changed"
    for each_of in (one, many, late):
        await each_of.close()


@pytest_twisted.ensureDeferred
async def test_a_publisher_of_ten_thousand_subjects(started: Daemons, context: Any) -> None:
    """And half as many again: all come in their order; the last ten thousand are retained."""
    daemon, address = await publishing(started)
    service = await context.connect(address)
    kept = TopicLimits().keys
    count = kept + kept // 2
    ones = [
        subscriber(NAME, subjects, context=context, address=address, policy="block", bound=4 << 20)
        for subjects in (">", "s.*", [f"s.{number}" for number in range(0, count, count // 50)])
    ]
    for one in ones:
        await within(one.when_subscribed())
    before = 0
    for _ in range(4):
        await within(service.invoke("each", [0, count]))
        for one, expected in zip(ones, (count, count, 50), strict=True):
            step = count // expected
            found: list[Any] = []
            while len(found) < expected:
                found += await within(one.receive_many())
            assert found == [*range(0, count, step)]
        before = before or resident(daemon.pid)
    assert resident(daemon.pid) - before < 16 << 20
    late = subscriber(NAME, context=context, address=address)
    found = []
    while len(found) < kept:
        found += await within(late.receive_many())
    assert found == [*range(count - kept, count)]
    assert not any(isinstance(each, Gap) for each in found)
    for one in (*ones, late):
        await one.close()
    said: dict[str, Any] = await within(service.invoke("topic"))
    assert said["retained"] == kept
