"""What can be sent arrives as what it was."""

import datetime
import enum

from twisted.internet.task import react

import pycomnet


class State(enum.Enum):
    NEW = 1


def echo(channel):
    for value in channel:
        channel.send(value)


async def main(reactor):
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")
        channel = gateway.remote_exec(echo)
        value = {
            "point": (1, 2.5),
            "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
            "seen": {b"bytes", "text", None},
            (0, 1): [2**200, 3 + 4j, frozenset()],
        }
        await channel.send(value)
        assert await channel.receive() == value

        # Anything else is refused here, before it is sent.
        try:
            await channel.send({"jobs": [{"state": State.NEW}]})
        except pycomnet.ValueNotSendable as problem:
            assert problem.type_name.endswith("State")
            assert problem.path == 'value["jobs"][0]["state"]'
        else:
            raise AssertionError("it was sent")


react(main)
