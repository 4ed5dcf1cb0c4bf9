"""What one stalled subscriber costs a hundred others, for ``benchmarks/pubsub.py --stalled``.

One publisher and one process of subscribers do all rounds. Each round publishes the same events
twice, without the stalled subscriber and with it, one round in this order and the next in the
other. So both halves of a round have the same processes, connections and memory, and follow each
other within a second or two.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from typing import Any

from pubsub_alone import memory
from pubsub_common import NAME, cpu, run, serve, until_subscribed

#: Other subscribers; events of half a round, and bytes of each.
OTHERS, EVENTS, LONG = 100, 5000, 1024
#: The default bound of a subscription, in bytes.
BOUND = 1 << 20


def publisher_main(pipe: Any) -> None:
    from twisted.internet.task import deferLater
    from twisted.internet.threads import deferToThread

    from pycomnet.ext.pubsub import publisher

    @publisher(NAME, block=True)
    class Events:
        """Publishes as many events as it is told."""

    async def main(reactor: Any) -> None:
        service: Any = Events()
        await serve(reactor, pipe, service)
        publish, payload = service.topic.publish, bytes(LONG)
        while True:
            count, subscribers = await deferToThread(pipe.recv)
            await until_subscribed(reactor, service, subscribers)
            begun, used = time.perf_counter(), cpu()
            for number in range(1, count + 1):
                waiting = publish(payload)
                if not waiting.called:
                    await waiting
                if not number % 500:
                    await deferLater(reactor, 0)
            last = list(service.topic.sinks.values())[-1]
            pipe.send((begun, cpu() - used, memory(), last.intake.size))

    run(main)


def subscribers_main(pipe: Any, address: str) -> None:
    from twisted.internet import defer
    from twisted.internet.threads import deferToThread

    from pycomnet.ext.pubsub import subscriber
    from pycomnet.services.client.context import Context

    async def take(client: Any, count: int) -> None:
        left = count
        async for _ in client:
            left -= 1
            if not left:
                return

    async def main(reactor: Any) -> None:
        clients = [
            subscriber(
                NAME, context=Context(reactor), address=address, policy="block", bound=1 << 22
            )
            for _ in range(OTHERS)
        ]
        for one in clients:
            await one.when_subscribed()
        pipe.send(None)
        while True:
            count, with_one = await deferToThread(pipe.recv)
            context = Context(reactor)
            if with_one:
                service = await context.connect(address)
                stalled = service.stream("subscribe", {"bound": BOUND, "policy": "drop_oldest"})
                await stalled.receive()  # and nothing after the welcome
            used = cpu()
            await defer.gatherResults(
                [defer.Deferred.fromCoroutine(take(one, count)) for one in clients]
            )
            pipe.send((time.perf_counter(), cpu() - used))
            await context.close()

    run(main)


def stalled(rounds: int, scale: float = 1.0) -> float:
    """The share of their rate that the others have beside a stalled subscriber: the median of the
    rounds."""
    count = max(1, int(EVENTS * scale))
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    near, far = spawn.Pipe()
    publishing = spawn.Process(target=publisher_main, args=(theirs,), daemon=True)
    publishing.start()
    assert mine.poll(60), "no publisher"
    subscribing = spawn.Process(target=subscribers_main, args=(far, mine.recv()), daemon=True)
    subscribing.start()
    try:
        assert near.poll(120), "no subscribers"
        near.recv()

        def half(with_one: bool) -> tuple[float, float, int, int]:
            near.send((count, with_one))
            mine.send((count, OTHERS + with_one))
            assert mine.poll(300), "nothing was published"
            begun, first, resident, waits = mine.recv()
            assert near.poll(300), "not all has come"
            ended, second = near.recv()
            return ended - begun, first + second, resident, waits

        half(False)  # the first events fill caches, and grow the memory of both
        half(True)
        times, used, grown, queued = [], [], [], []
        for number in range(rounds):
            order = (False, True) if number % 2 else (True, False)
            found = {with_one: half(with_one) for with_one in order}
            times.append(found[False][0] / found[True][0])
            used.append(found[False][1] / found[True][1])
            grown.append(found[True][2] - found[False][2])
            queued.append(found[True][3])
    finally:
        for process in (publishing, subscribing):
            process.kill()
            process.join()
    for what, shares in (("time", times), ("processor time", used)):
        print(
            f"one of 101 stalled: the others at {statistics.median(shares):.2f} of their rate by "
            f"{what} ({min(shares):.2f} to {max(shares):.2f})"
        )
    print(
        f"the publisher's memory with it: {statistics.median(grown) / 1024:+,.0f} KiB; "
        f"{max(queued) / 1024:,.0f} KiB wait for it, of {BOUND // 1024:,} KiB"
    )
    return statistics.median(times)
