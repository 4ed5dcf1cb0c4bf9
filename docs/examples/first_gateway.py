"""A first gateway, with Deferreds."""

from twisted.internet.task import react

import pycomnet


def add_one(channel):
    channel.send(channel.receive() + 1)


async def main(reactor):
    group = pycomnet.Group(reactor)
    gateway = await group.makegateway("popen")
    channel = gateway.remote_exec(add_one)
    await channel.send(1)
    assert await channel.receive() == 2
    await group.terminate(timeout=5)


react(main)
