"""Many wait for one thing, and the first that is told cancels the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet import defer

import pycomnet
from pycomnet.test.gateways.case import GatewayCase


class Races(GatewayCase):
    """What gateways of one group share when they are started."""

    async def first_cancels_rest(
        self, start: Callable[[], defer.Deferred[Any]], may_be_done: bool = False
    ) -> Any:
        """What the first is told: a result, or a Failure.

        :param may_be_done: whether another may have its result before the first is told.
        """
        first, *rest = [start() for _ in range(3)]

        def cancel_rest(result: Any) -> Any:
            for one in rest:
                one.cancel()
            return defer.succeed([result])

        told = await first.addBoth(cancel_rest)
        for one in rest:
            outcome = await one.addErrback(lambda failure: failure.trap(defer.CancelledError))
            self.assertTrue(outcome is defer.CancelledError or may_be_done, outcome)
        return told[0]

    async def first_of_its_waiters_cancels_the_rest(
        self, start: Callable[[], defer.Deferred[Any]], happen: Callable[[], object]
    ) -> Any:
        """As :meth:`first_cancels_rest`, for what ``happen`` lets happen; a Failure is raised."""
        racing = defer.ensureDeferred(self.first_cancels_rest(start))
        happen()
        return await racing

    async def test_waiters_of_a_channel(self) -> None:
        """They wait for a value, for room for one, for the end, and for the error at the end."""
        gw = await self.group.makegateway("popen//fork=no")
        race = self.first_of_its_waiters_cancels_the_rest
        channel = gw.remote_exec("for value in channel: channel.send(value)")
        self.assertEqual(await race(channel.receive, lambda: channel.send(1)), 1)
        self.assertIsNone(await race(channel.waitclose, channel.send_end))
        queue = pycomnet.MultiChannel([gw.remote_exec("channel.send(2)")]).make_receive_queue()
        self.assertEqual((await race(queue.get, lambda: None))[1], 2)
        for method in ("receive", "waitclose"):
            failing = gw.remote_exec("channel.receive(); raise ValueError")
            with self.assertRaises(pycomnet.RemoteError):
                await race(getattr(failing, method), lambda: failing.send(None))  # noqa: B023
        slow = gw.remote_exec("channel.receive(); [channel.receive() for _ in range(9)]")
        big = b"x" * (8 << 20)
        full = [slow.send(big) for _ in range(2)]
        self.assertFalse(full[1].called)
        told = await race(lambda: slow.send(big), slow.close)
        self.assertIsNone(told)
        await defer.gatherResults(full)

    async def test_waiters_of_a_gateway(self) -> None:
        """They wait for answers, and for its end in each way to wait for that."""
        gw = await self.group.makegateway("popen//fork=no")
        race = self.first_of_its_waiters_cancels_the_rest
        for start in (gw.ping, gw.remote_status, lambda: gw.call("operator:add", 1, 2)):
            await self.first_cancels_rest(start, may_be_done=True)
        channels = pycomnet.MultiChannel([gw.remote_exec("channel.receive()")])

        def end() -> None:
            gw.remote_exec("import os; os._exit(3)")

        calls = defer.ensureDeferred(
            self.first_cancels_rest(lambda: gw.call("time:sleep", 100), may_be_done=True)
        )
        receives = defer.ensureDeferred(self.first_cancels_rest(channels.receive_each))
        closes = defer.ensureDeferred(self.first_cancels_rest(channels.waitclose))
        self.assertEqual(await race(gw.join, end), 3)
        for racing in (calls, receives, closes):
            with self.assertRaises(pycomnet.GatewayDied):
                await racing
        other = await self.group.makegateway("popen//fork=no")
        self.assertIsNone(await self.first_cancels_rest(other.exit))
        await other.join()
        self.assertIsNone(await self.first_cancels_rest(self.group.terminate, may_be_done=True))

    async def test_waiters_of_a_pool(self) -> None:
        """They wait for calls, and for the end of the pool."""
        gw = await self.group.makegateway("popen//fork=no")
        pool = pycomnet.GatewayPool(self.reactor, [gw])
        race = self.first_of_its_waiters_cancels_the_rest
        told = await race(lambda: pool.submit("operator:add", 1, 2), lambda: None)
        self.assertEqual(told, 3)
        self.assertIsNone(await race(pool.when_over, pool.shutdown))
        self.assertIsNone(await self.first_cancels_rest(pool.shutdown, may_be_done=True))

    async def test_first_gateway_of_a_fork_server_cancels_the_rest(self) -> None:
        """They wait for the fork server that they are forked by."""
        gw = await self.first_cancels_rest(
            lambda: self.group.makegateway("popen//fork=yes"), may_be_done=True
        )
        self.assertNotEqual(await gw.call("os:getpid"), os.getpid())

    async def test_fork_servers_failure_cancels_the_rest(self) -> None:
        """They wait for one that does not start."""
        spec = "popen//fork=yes//python=/bin/false"
        told = await self.first_cancels_rest(lambda: self.group.makegateway(spec))
        told.trap(pycomnet.GatewayNotStarted)

    async def test_unreachable_factory_cancels_the_rest(self) -> None:
        """They wait for the connection to a factory, which is not there."""
        group = pycomnet.Group(self.reactor)
        group.setlocalfactory(endpoint="unix:/nowhere/factory")
        told = await self.first_cancels_rest(group.resumable)
        told.trap(pycomnet.FactoryUnreachable)
