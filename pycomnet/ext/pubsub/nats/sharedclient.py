"""NATS clients that the publishers and subscribers of one context or server share."""

from __future__ import annotations

import weakref
from typing import Any

from twisted.internet import defer

from pycomnet.deferred import deferred
from pycomnet.nats import NatsClient, NatsSettings
from pycomnet.net.reactors import EndpointReactor

#: A context or a server -> settings -> its client.
_clients: weakref.WeakKeyDictionary[Any, dict[NatsSettings, SharedClient]] = (
    weakref.WeakKeyDictionary()
)


class SharedClient:
    """Counts the users of a NATS client, and closes it when there is none any more.

    :ivar client: the client; it may not be connected yet.
    """

    def __init__(self, settings: NatsSettings, reactor: EndpointReactor) -> None:
        self.client = NatsClient(settings, reactor)
        self._settings = settings
        self._users = 0
        self._place: Any = None

    @classmethod
    def of(cls, place: Any, settings: NatsSettings) -> SharedClient:
        """Find or make the client of a context or a server, and count one more user.

        :param place: the context or server; it has a ``reactor``.
        """
        here = _clients.setdefault(place, {})
        found = here.get(settings)
        if found is None or found.client.is_over:
            found = here[settings] = cls(settings, place.reactor)
            found._place = weakref.ref(place)
        found._users += 1
        return found

    def start(self) -> defer.Deferred[None]:
        """Connect, if the client is not connected."""
        return self.client.start()

    @deferred
    async def release(self, flush: bool = False) -> None:
        """Count one user less; the last one closes the client.

        :param flush: wait until the server has received everything.
        """
        self._users -= 1
        last = self._users <= 0
        if last:
            place = self._place()
            here = {} if place is None else _clients.get(place, {})
            if here.get(self._settings) is self:
                del here[self._settings]
        client = self.client
        if flush and client.is_connected:
            flushing = client.flush(2.0)
            flushing.addErrback(lambda _: None)
            await flushing
        if last:
            await client.close()
