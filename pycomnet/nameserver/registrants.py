"""Who registers, and is counted as one client; and who may remove what others registered."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from pycomnet.auth.admission import peer_credentials
from pycomnet.net import endpoints

if TYPE_CHECKING:
    from pycomnet.services.server.request import Request


@attrs.define(eq=False)  # held by its records alone, so it goes with the last of them
class Registrant:
    """A client that registers services.

    :ivar registered: its registrations.
    :ivar asked: those that the store is about to commit or refuse.
    """

    registered: int = 0
    asked: int = 0


class Clients:
    """Finds the client that makes a request.

    A client is the user who has logged in, where the nameserver's rules ask for that; else the name
    in its certificate. Without both it is the machine that the connection comes from. On this
    machine, where all connections come from the same address, it is the connection.
    """

    def __init__(self) -> None:
        self._named: WeakValueDictionary[tuple[str, str], Registrant] = WeakValueDictionary()
        self._connections: WeakKeyDictionary[Any, Registrant] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._named) + len(self._connections)

    def of(self, request: Request) -> Registrant:
        """The client that makes a request."""
        connection: Any = request.connection
        user = request.user
        if user is not None:  # of another kind of credentials, the name is another user's
            return self._with_name(f"user, {user.how}", user.name)
        if connection.user is not None:
            return self._with_name("user, certificate", connection.user)
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


def is_operator(request: Request, operators: Collection[str]) -> bool:
    """Whether a request is an operator's, who may remove what others have registered.

    If there is a rule for it, these are the users whom that lets in; else the nameserver's own user
    and root over a unix socket, and

    :param operators: names in certificates.
    """
    connection = request.connection
    gate = connection.server.gate
    if gate is not None and gate.has_rule(request.interface, request.method):
        return request.user is not None  # it has let the caller in
    if connection.user is not None and connection.user in operators:
        return True
    peer = peer_credentials(connection.transport)
    return peer is not None and peer.uid in (os.geteuid(), 0)
