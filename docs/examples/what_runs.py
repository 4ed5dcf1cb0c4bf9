"""Source text, a function, its arguments, and what can't be sent."""

from twisted.internet.task import react

import pycomnet

LIMIT = 10


def count(channel, start, stop):
    import itertools  # what a function needs, it imports itself

    for number in itertools.islice(itertools.count(start), stop - start):
        channel.send(number)


def count_to_limit(channel):
    channel.send(LIMIT)


async def main(reactor):
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")

        # Source text finds the channel as a global name.
        channel = gateway.remote_exec("channel.send(6 * 7)")
        assert await channel.receive() == 42

        # A function gets it as its first argument, and what else is given by name.
        channel = gateway.remote_exec(count, start=5, stop=8)
        assert [number async for number in channel] == [5, 6, 7]

        # Only the function's own source is sent: this one needs a global that is not there.
        try:
            gateway.remote_exec(count_to_limit)
        except pycomnet.CodeNotSendable as problem:
            assert "LIMIT" in str(problem)
        else:
            raise AssertionError("it was sent")


react(main)
