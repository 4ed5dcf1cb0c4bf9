"""Each direction of a channel holds a bounded number of bytes; then its sender waits."""

from twisted.internet import defer
from twisted.internet.task import react

import pycomnet

PIECE = b"x" * 10_000


def add_up(channel):
    total = 0
    for piece in channel:
        total += len(piece)
    channel.send(total)


def take_nothing(channel):
    import time

    time.sleep(600)


def produce(channel, size):
    while True:
        channel.send(b"x" * size)  # blocks while the near side does not receive


async def main(reactor):
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway("popen")

        # Near to far: the Deferred of send() fires when there is room for the value.
        channel = gateway.remote_exec(add_up)
        for _ in range(200):
            await channel.send(PIECE)
        channel.send_end()
        assert await channel.receive() == 200 * len(PIECE)

        # While nobody receives, it does not fire: about a megabyte is under way, then no more.
        channel = gateway.remote_exec(take_nothing)
        sent = 0
        while (sending := channel.send(PIECE)).called:
            sent += 1
        assert 90 <= sent <= 110

        # Whoever waits for it can give up.
        sending.addTimeout(0.1, reactor)
        try:
            await sending
        except defer.TimeoutError:
            pass
        else:
            raise AssertionError("there was room for it")

        # Far to near: an endless producer is no faster than this loop.
        channel = gateway.remote_exec(produce, size=len(PIECE))
        for _ in range(50):
            assert await channel.receive() == PIECE
        channel.close()  # the far send() raises EOFError


react(main)
