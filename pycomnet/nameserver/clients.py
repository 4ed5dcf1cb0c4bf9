"""Who registers: the clients whose registrations are counted."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from pycomnet.net import endpoints


@attrs.define(eq=False)  # held by its records alone, so it goes with the last of them
class Registrant:
    """A client that registers services.

    :ivar registered: its registrations.
    :ivar asked: those that the store is about to commit or refuse.
    """

    registered: int = 0
    asked: int = 0


class Clients:
    """Finds the client of a connection.

    A client is the name in its certificate. Without a certificate it is the machine that the
    connection comes from. On this machine, where all connections come from the same address, it is
    the connection.
    """

    def __init__(self) -> None:
        self._named: WeakValueDictionary[tuple[str, str], Registrant] = WeakValueDictionary()
        self._connections: WeakKeyDictionary[Any, Registrant] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._named) + len(self._connections)

    def of(self, connection: Any) -> Registrant:
        """The client of a connection.

        :param connection: a :class:`~pycomnet.services.server.connection.ServerConnection`.
        """
        if connection.user is not None:
            return self._with_name("user", connection.user)
        address = connection.transport.getPeer()
        if hasattr(address, "host") and not endpoints.is_local_address(address):
            return self._with_name("host", address.host)
        client = self._connections.get(connection)
        if client is None:
            client = self._connections[connection] = Registrant()
        return client

    def _with_name(self, kind: str, name: str) -> Registrant:
        client = self._named.get((kind, name))
        if client is None:
            client = self._named[kind, name] = Registrant()
        return client
