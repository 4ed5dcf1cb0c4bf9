"""Values as they come, and how the channel ended."""

from twisted.internet.defer import Deferred
from twisted.internet.task import react

import pycomnet


def parse(channel, words):
    for word in words:
        channel.send(int(word))


async def main(reactor):
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")

        # The callback gets each value, and the endmarker when there are no more.
        values = []
        done = Deferred()

        def collect(value):
            if value is None:
                done.callback(None)
            else:
                values.append(value)

        channel = gateway.remote_exec(parse, words=["1", "2", "3"])
        channel.setcallback(collect, endmarker=None)
        await done
        assert values == [1, 2, 3]

        # The errback gets a Failure when it does not end well: here the far code raises.
        values.clear()
        failed = Deferred()
        channel = gateway.remote_exec(parse, words=["4", "five", "6"])
        channel.setcallback(values.append, errback=failed.callback)
        failure = await failed.addErrback(lambda failure: failure.value)
        assert isinstance(failure, pycomnet.RemoteError)
        assert failure.type == "ValueError"
        assert values == [4]


react(main)
