"""Connections to NATS that the publishers and subscribers of one place share."""

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
    """A client, as long as somebody uses it.

    :ivar client: the client; it may not be connected yet.
    """

    def __init__(self, settings: NatsSettings, reactor: EndpointReactor) -> None:
        self.client = NatsClient(settings, reactor)
        self._settings = settings
        self._users = 0
        self._place: Any = None

    @classmethod
    def of(cls, place: Any, settings: NatsSettings) -> SharedClient:
        """The client of a place, for one more user: a context, or a server.

        :param place: it has a ``reactor``.
        """
        here = _clients.setdefault(place, {})
        found = here.get(settings)
        if found is None or found.client.is_over:
            found = here[settings] = cls(settings, place.reactor)
            found._place = weakref.ref(place)
        found._users += 1
        return found

    def start(self) -> defer.Deferred[None]:
        """Connect, if it is not."""
        return self.client.start()

    @deferred
    async def release(self, flush: bool = False) -> None:
        """A user needs it no more: the last one closes it.

        :param flush: wait until the server has what was sent.
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


__all__ = ["SharedClient"]
