"""The program's connection to the factory service."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory
from twisted.trial.unittest import TestCase

import pycomnet
from pycomnet.channels.connection import Connection
from pycomnet.deferred import OneShot


class Connecting(TestCase):
    """Who answers at the factory's address."""

    timeout = 60

    async def test_connection_to_another_service_is_closed(self) -> None:
        """A service without the factory's requests is an error, and the connection doesn't stay."""
        from twisted.internet import reactor

        running: Any = reactor
        closed: OneShot[None] = OneShot()

        def accept() -> Connection:
            connection = Connection(running, initiator=False)
            connection.when_closed.append(lambda _: closed.fire(None))
            return connection

        factory: Any = Factory.forProtocol(accept)  # type: ignore[arg-type]
        port = running.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        group = pycomnet.Group(running)
        self.addCleanup(group.close)
        group.setlocalfactory(port=port.getHost().port)
        with self.assertRaisesRegex(pycomnet.FactoryUnreachable, "unknown purpose"):
            await group.resumable()
        await closed.when_fired()
