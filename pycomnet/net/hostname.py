"""Connects to a host by its name: to the first of its addresses that answers.

It does the same as Twisted's ``HostnameEndpoint``, but it uses only the given reactor. Twisted's
imports the global reactor, which installs one in a program that has another, or only an asyncio
loop. Addresses of one kind (IPv4, IPv6) are tried in random order: so clients are spread over them.
After a failed attempt the next one begins at once (RFC 8305, 5), where Twisted's waits. A
name may have an underscore, as those of Docker Compose's containers, which Twisted's refuses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, cast

from twisted.internet import defer, error
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.net.reactors import EndpointReactor

#: Seconds after which the next address is tried as well (RFC 8305, 5).
ATTEMPT_DELAY = 0.25


@implementer(IStreamClientEndpoint)
class NamedEndpoint:
    """Connects to a name's addresses.

    :param host: the name; one that is not ASCII is encoded with IDNA.
    :param timeout: seconds for each attempt to connect.
    :param bind: this end's host and port, or None.
    :param shuffle: puts a list in random order; for tests.
    """

    def __init__(
        self,
        reactor: EndpointReactor,
        host: str,
        port: int,
        timeout: float,
        bind: tuple[str, int] | None = None,
        shuffle: Callable[[list[Any]], None] = random.shuffle,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._timeout = timeout
        self._bind = bind
        self._shuffle = shuffle

    def connect(self, factory: Any) -> defer.Deferred[Any]:
        """Look the name up, and connect.

        :returns: fires with the protocol. Fails with ``DNSLookupError``, or with the failure of the
            last attempt to connect. Cancelling it stops all attempts.
        """
        try:
            name = self._host if self._host.isascii() else self._host.encode("idna").decode()
            name.encode("idna")  # fails if a label is empty or too long
        except UnicodeError:
            text = f"{self._host!r} can't be the name of a host"
            return defer.fail(error.DNSLookupError(text))
        # Without a canceller: Twisted drops the addresses that come after a cancel.
        addresses: defer.Deferred[list[IAddress]] = defer.Deferred()
        receiver: Any = _Receiver(addresses)
        IReactorPluggableNameResolver(self._reactor).nameResolver.resolveHostName(
            receiver, name, portNumber=self._port
        )
        return addresses.addCallback(self._connect, factory)

    def _connect(self, addresses: list[IAddress], factory: Any) -> defer.Deferred[Any]:
        found = [one for one in addresses if isinstance(one, (IPv4Address, IPv6Address))]
        if not found:
            raise error.DNSLookupError(f"there is no host {self._host!r}")
        endpoints = map(self._endpoint, self._spread(found))
        return _Attempts(self._reactor, endpoints, factory, self._host, self._port).run()

    def _spread(self, found: list[IPv4Address | IPv6Address]) -> list[IPv4Address | IPv6Address]:
        """Shuffle the addresses of each kind, but keep the resolver's order of the two kinds."""
        shuffled: dict[type, list[IPv4Address | IPv6Address]] = {}
        for address in found:
            shuffled.setdefault(type(address), []).append(address)
        for alike in shuffled.values():
            self._shuffle(alike)
        return [shuffled[type(address)].pop() for address in found]

    def _endpoint(self, address: IPv4Address | IPv6Address) -> IStreamClientEndpoint:
        kind = TCP6ClientEndpoint if isinstance(address, IPv6Address) else TCP4ClientEndpoint
        made = kind(self._reactor, address.host, address.port, self._timeout, self._bind)
        return cast(IStreamClientEndpoint, made)


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects a name's addresses."""

    def __init__(self, complete: defer.Deferred[list[IAddress]]) -> None:
        self._complete = complete
        self._addresses: list[IAddress] = []

    def resolutionBegan(self, resolution: IHostResolution) -> None: ...

    def addressResolved(self, address: IAddress) -> None:
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        self._complete.callback(self._addresses)


class _Attempts:
    """Attempts to connect. Each begins when the one before has failed or takes too long."""

    def __init__(
        self,
        reactor: EndpointReactor,
        endpoints: Iterator[IStreamClientEndpoint],
        factory: Any,
        host: str,
        port: int,
    ) -> None:
        self._reactor = reactor
        self._endpoints = endpoints
        self._factory = factory
        self._address = HostnameAddress(host.encode("idna"), port)
        self._attempts: list[defer.Deferred[Any]] = []
        self._timer: Any = None
        self._won: defer.Deferred[Any] = defer.Deferred(self._given_up)

    def run(self) -> defer.Deferred[Any]:
        """Begin."""
        self._next(None)
        return self._won

    def _next(self, failure: Failure | None) -> None:
        """Try the next address.

        :param failure: why the one before can't be used, if that is known.
        """
        endpoint = next(self._endpoints, None)
        if endpoint is None:
            if failure is not None and not self._attempts:
                self._won.errback(failure)
            return
        self._timer = self._reactor.callLater(ATTEMPT_DELAY, self._slow)
        attempt: defer.Deferred[Any] = endpoint.connect(self._factory)
        self._attempts.append(attempt)
        attempt.addCallbacks(
            self._connected, self._failed, callbackArgs=(attempt,), errbackArgs=(attempt,)
        )

    def _slow(self) -> None:
        self._timer = None
        self._next(None)

    def _connected(self, protocol: Any, attempt: defer.Deferred[Any]) -> None:
        self._stop(attempt)
        self._won.callback(protocol)

    def _failed(self, failure: Failure, attempt: defer.Deferred[Any]) -> None:
        if attempt not in self._attempts:
            return  # it was cancelled
        self._attempts.remove(attempt)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._next(failure)

    def _stop(self, but: defer.Deferred[Any] | None = None) -> None:
        """Begin no more attempts, and cancel the others."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        attempts, self._attempts = self._attempts, []
        for attempt in attempts:
            if attempt is not but:
                attempt.cancel()

    def _given_up(self, won: defer.Deferred[Any]) -> None:
        self._stop()
        won.errback(error.ConnectingCancelledError(self._address))
