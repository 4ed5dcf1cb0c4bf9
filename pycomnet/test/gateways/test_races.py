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
