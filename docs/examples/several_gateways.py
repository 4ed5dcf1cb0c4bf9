"""The same code at several gateways."""

from twisted.internet.defer import gatherResults
from twisted.internet.task import react

import pycomnet


def work(channel):
    for job in channel:
        channel.send(sum(range(job)))


def who(channel):
    channel.send(channel.gateway.id)


async def main(reactor):
    async with pycomnet.Group(reactor) as group:
        # They start at the same time.
        await gatherResults([group.makegateway(f"popen//id=worker{n}") for n in range(3)])
        assert {gateway.id for gateway in group} == {"worker0", "worker1", "worker2"}
        assert group["worker1"].isalive()

        # A MultiChannel is a sequence of channels, in the gateways' order.
        channels = group.remote_exec(who)
        assert await channels.receive_each() == [gateway.id for gateway in group]

        # A queue of what comes from any of them: whoever is done gets the next job.
        channels = group.remote_exec(work)
        queue = channels.make_receive_queue(endmarker=None)
        jobs = list(range(100, 200))
        results = []
        for channel in channels:
            await channel.send(jobs.pop())
        working = len(channels)
        while working:
            channel, result = await queue.get()
            if result is None:
                working -= 1
                continue
            results.append(result)
            if jobs:
                await channel.send(jobs.pop())
            else:
                channel.send_end()
        assert sorted(results) == [sum(range(job)) for job in range(100, 200)]


react(main)
