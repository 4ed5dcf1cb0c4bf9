"""Connecting to a host that has an underscore in its name.

No host on the Internet has one (RFC 952), and Twisted's endpoint refuses such names. But resolvers
know them: Docker Compose names containers so, and ``/etc/hosts`` may have any.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from pycomnet.deferred import deferred


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects the addresses of a host."""

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.all: Deferred[list[Any]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        self.found.append(address)

    def resolutionComplete(self) -> None:
        if not self.all.called:
            self.all.callback(self.found)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class UnderscoreEndpoint:
    """Connects to the first of a host's addresses that answers.

    :param reactor: ``IReactorPluggableNameResolver`` and ``IReactorTCP``.
    :param host: a name.
    :param timeout: seconds for each address.
    """

    reactor: Any
    host: str
    port: int
    timeout: float

    @deferred
    async def connect(self, factory: IProtocolFactory) -> IProtocol:
        """Connect.

        :returns: fires with the protocol; fails with ``DNSLookupError``, or as the last address's
            endpoint does. Cancelling it ends the attempt.
        """
        addresses = _Addresses()
        self.reactor.nameResolver.resolveHostName(addresses, self.host, self.port)
        problem: Exception = DNSLookupError(f"no results for hostname lookup: {self.host}")
        for address in await addresses.all:
            kind = TCP6ClientEndpoint if isinstance(address, IPv6Address) else TCP4ClientEndpoint
            endpoint = kind(self.reactor, address.host, self.port, self.timeout)
            try:
                return await endpoint.connect(factory)
            except ConnectError as refused:
                problem = refused
        raise problem


__all__ = ["UnderscoreEndpoint"]
