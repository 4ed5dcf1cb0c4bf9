"""Identifies the client of a request, whose registrations are limited; and recognises operators."""

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


@attrs.define(eq=False)  # only its records refer to it: it is freed with the last of them
class Registrant:
    """Counts a client's registrations.

    :ivar registered: how many registrations it has.
    :ivar asked: how many more the store is about to commit or refuse.
    """

    registered: int = 0
    asked: int = 0


class Clients:
    """Finds the client that makes a request.

    A client is identified by the user who has logged in, if the nameserver's rules require a login;
    otherwise by the name in its certificate; otherwise by the address that the connection comes
    from. For connections from this machine, which have the same address, each one is a client.
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
        if user is not None:  # with another kind of credentials, the same name is another user
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
    """Whether the caller is an operator, who may remove registrations of others.

    If the nameserver has an access rule for the method, operators are the users that it admits.
    Otherwise they are the nameserver's own user and root, over a unix socket, and the users with
    certain certificates.

    :param operators: the names in these certificates.
    """
    connection = request.connection
    gate = connection.server.gate
    if gate is not None and gate.has_rule(request.interface, request.method):
        return request.user is not None  # the gate has admitted the caller
    if connection.user is not None and connection.user in operators:
        return True
    peer = peer_credentials(connection.transport)
    return peer is not None and peer.uid in (os.geteuid(), 0)
