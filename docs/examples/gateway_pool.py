"""Work for whichever gateway is free, with Deferreds."""

from twisted.internet import defer, task

from pycomnet import GatewayPool, Group, RemoteError


def half(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


async def main(reactor):
    group = Group(reactor)
    await group.makegateways(["popen", "popen"])

    async with GatewayPool(reactor, group) as pool:
        assert [n async for n in pool.map(half, range(0, 100, 2))] == list(range(50))
        try:
            await pool.submit(half, 3)
        except RemoteError as error:
            assert error.type == "ValueError"

    await group.terminate()


task.react(lambda reactor: defer.Deferred.fromCoroutine(main(reactor)))
