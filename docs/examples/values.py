"""What can be sent arrives as what it was."""

import datetime

from twisted.internet.task import react

import pycomnet


def echo(channel):
    for value in channel:
        channel.send(value)


async def main(reactor):
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")
        channel = gateway.remote_exec(echo)
        value = {
            "point": (1, 2.5),
            "seen": {b"bytes", "text", None},
            (0, 1): [2**200, 3 + 4j, frozenset()],
        }
        await channel.send(value)
        assert await channel.receive() == value

        # Anything else is refused here, before it is sent.
        try:
            await channel.send({"jobs": [{"when": datetime.datetime(2026, 1, 1)}]})
        except pycomnet.ValueNotSendable as problem:
            assert problem.type_name == "datetime.datetime"
            assert problem.path == 'value["jobs"][0]["when"]'
        else:
            raise AssertionError("it was sent")


react(main)
