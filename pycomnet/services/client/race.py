"""Connects to one of several instances, of which some may accept connections and be silent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.errors import (
    CertificateRefused,
    CredentialsNotSent,
    EndpointError,
    ServiceUnreachable,
    Unauthenticated,
)

if TYPE_CHECKING:
    from pycomnet.services.client.connection import ClientConnection
    from pycomnet.services.client.pool import PooledServer

#: Seconds that an instance has before the next one is tried at the same time.
PATIENCE = 1.0
#: ... but at most this fraction (1/SHARE) of the call's time.
SHARE = 4

#: Errors that say nothing about the other instances. Anybody may have registered this one.
OTHERS_MAY = (
    ServiceUnreachable,
    CertificateRefused,
    CredentialsNotSent,
    EndpointError,
    Unauthenticated,
)

Reached = tuple["PooledServer", "ClientConnection"]


class Race:
    """Attempts to connect, each begun when the one before has failed or taken too long.

    An attempt that takes long continues, and its instance gets no calls until it succeeds. So only
    the first call waits for a frozen instance.

    :param peers: the instances, in the order in which they are tried.
    :param left: seconds for all attempts.
    """

    def __init__(
        self, reactor: IReactorTime, peers: Iterator[PooledServer], left: float | None
    ) -> None:
        self._reactor = reactor
        self._peers = peers
        self._patience = PATIENCE if left is None else min(PATIENCE, left / SHARE)
        self._attempts: dict[PooledServer, defer.Deferred[ClientConnection]] = {}
        self._latest: PooledServer | None = None
        #: whether each was asked
        self._exhausted = False
        self._timer: Any = None
        self._problem: Failure | None = None
        self._won: defer.Deferred[Reached] = defer.Deferred(self._given_up)

    def run(self) -> defer.Deferred[Reached]:
        """Begin.

        :returns: fires with the first instance that is ready, and the connection to it. Fails with
            :class:`ServiceUnreachable` when none is, or with what is wrong with one if nothing may
            pass. Cancelling it gives up.
        """
        self._next()
        return self._won

    def _next(self) -> None:
        for peer in self._peers:
            attempt = self._attempts[peer] = peer.connect()
            attempt.addCallbacks(
                self._ready, self._failed, callbackArgs=(peer,), errbackArgs=(peer,)
            )
            if self._won.called:
                return
            if peer in self._attempts:
                self._latest = peer
                self._timer = self._reactor.callLater(self._patience, self._silent, peer)
                return
        self._exhausted = True
        if not self._attempts:
            self._over(self._problem or Failure(ServiceUnreachable("there is no instance")))

    def _silent(self, peer: PooledServer) -> None:
        self._timer = None
        peer.mark_silent()
        self._next()

    def _ready(self, connection: ClientConnection, peer: PooledServer) -> None:
        self._attempts.pop(peer, None)
        if not self._won.called:
            self._over((peer, connection))

    def _failed(self, failure: Failure, peer: PooledServer) -> None:
        self._attempts.pop(peer, None)
        if self._won.called:
            return
        if not failure.check(*OTHERS_MAY):
            self._over(failure)
            return
        # An error that may pass is more useful than one that an instance has for ever.
        if self._problem is None or failure.check(ServiceUnreachable):
            self._problem = failure
        if self._timer is not None and peer is self._latest:
            self._stop()
            self._next()
        elif self._exhausted and not self._attempts:
            self._over(self._problem)

    def _over(self, result: Any) -> None:
        self._stop()
        self._won.callback(result)

    def _stop(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _given_up(self, _: object) -> None:
        self._stop()
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts.values():
            attempt.addErrback(lambda _: None)
            attempt.cancel()
