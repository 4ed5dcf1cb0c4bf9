"""Groups through JetStream, with Debian's nats-server: work that takes long, members that hang."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.task import deferLater

from pycomnet.ext.pubsub import subscriber
from pycomnet.nats import NatsSettings
from pycomnet.test.needs import needs
from pycomnet.test.system.natsserver import PROGRAM, NatsServerProcess
from pycomnet.test.system.test_nats import Publishing, within

pytestmark = needs(PROGRAM)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("first", ["worker", "other"])
async def test_what_a_member_works_on_goes_to_nobody_else(
    nats: NatsServerProcess, context: Any, first: str
) -> None:
    """Its work takes several times as long as the group waits for an acknowledgement: it says that
    it works, as often as the group needs, also if another member has said how often that is."""
    name = f"org.example.works.{first}"
    quick = NatsSettings(servers=nats.address, ack_wait=1.0)
    slow = NatsSettings(servers=nats.address, ack_wait=60.0)
    options: dict[str, Any] = {
        "context": context,
        "name": "workers",
        "acknowledged": True,
        "since": "1h",
    }
    async with Publishing(name, quick, history=1000) as topic:
        # Whoever comes first makes the group, and so says after which time an event is lost.
        maker = subscriber(name, via=quick, **options)
        await within(maker.when_subscribed())
        await maker.close()
        for number in range(3):
            await topic.publish(number)
        make = {
            "worker": lambda: subscriber(name, via=slow, prefetch=2, **options),
            "other": lambda: subscriber(name, via=quick, prefetch=1, **options),
        }
        got: list[tuple[str, int, int]] = []
        ones = {first: make[first]()}
        held = [await within(ones[first].receive_event())]
        second = next(iter(set(make) - {first}))
        ones[second] = make[second]()
        await within(ones[second].when_subscribed())

        async def take(who: str) -> None:
            while True:
                event = await ones[who].receive_event()
                got.append((who, event.value, event.deliveries))
                await event.acknowledge()

        taking = defer.Deferred.fromCoroutine(take(second))
        await deferLater(context.reactor, 4.0)  # four times as long as the group waits
        assert held[0].deliveries == 1
        assert (second, held[0].value) not in [(who, value) for who, value, _ in got]
        assert all(deliveries == 1 for *_, deliveries in got), got
        await within(held[0].acknowledge())
        taking.cancel()
        taking.addErrback(lambda failure: failure.trap(defer.CancelledError) and None)
        for one in ones.values():
            await one.close()
