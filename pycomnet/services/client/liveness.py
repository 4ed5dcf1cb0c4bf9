"""Finds servers that are connected and silent while calls wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from pycomnet.errors import PeerSilent
from pycomnet.services.client.pending import PendingCall
from pycomnet.services.client.pendingbatch import PendingBatch

if TYPE_CHECKING:
    from pycomnet.services.client.pool import PooledServer

#: Seconds between checks of the servers that calls wait for.
TICK = 0.25
#: The most seconds between pings of a server that answers only them.
LONGEST_PROBE = 2.0
#: Seconds without an answer to a ping after which a server gets no calls, if there are others.
SUSPECT = 2.0


class Liveness:
    """Sends pings to servers while calls wait for them.

    A server that does not answer may be frozen, its reactor may be blocked, or the network may be
    gone: the caller can't know which. Calls go to other instances until it answers again.
    Idempotent calls that wait for it are repeated there, in time for their deadlines. After
    ``silence`` seconds its connection is given up.

    :param silence: seconds without an answer; None sends no pings.
    """

    def __init__(self, reactor: IReactorTime, silence: float | None) -> None:
        self._reactor = reactor
        self._silence = silence
        self._watched: dict[PooledServer, None] = {}
        self._call: Any = None
        self._due = 0.0

    def watch(self, peer: PooledServer) -> None:
        """A call was sent to a server that is not watched."""
        peer.watched = True
        connection = peer.connection
        if self._silence is None or connection is None:
            return
        connection.heard = False
        peer.heard_at = self._reactor.seconds()
        peer.asked_at = None
        peer.probe = TICK
        self._watched[peer] = None
        if self._call is None:
            self._schedule()

    def _schedule(self) -> None:
        self._due = self._reactor.seconds() + TICK
        self._call = self._reactor.callLater(TICK, self._tick)

    def close(self) -> None:
        """Stop watching."""
        self._watched.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _tick(self) -> None:
        self._call = None
        now = self._reactor.seconds()
        late = now - self._due
        for peer in list(self._watched):
            if late > TICK:  # this process was busy: data has arrived that is not read yet
                peer.heard_at += late
                if peer.asked_at is not None:
                    peer.asked_at += late
            if not self._look(peer, now):
                del self._watched[peer]
                peer.watched = False
        if self._watched:
            self._schedule()

    def _look(self, peer: PooledServer, now: float) -> bool:
        """Check for a sign of life; returns whether to go on."""
        connection = peer.connection
        if connection is None:
            return False
        if connection.heard:
            connection.heard = False
            peer.heard_at = now
            if peer.asked_at is not None:
                peer.asked_at = None
                peer.probe = min(2 * peer.probe, LONGEST_PROBE)
                peer.mark_alive()
            return peer.pending > 0
        if peer.asked_at is None:
            if now - peer.heard_at >= peer.probe:
                peer.asked_at = now
                connection.mux.ping(bytes(8))
                connection.flush_soon()
            return True
        waited = now - peer.asked_at
        assert self._silence is not None
        if waited >= self._silence:
            text = f"it has not answered for {now - peer.heard_at:.1f} seconds"
            connection.abort(PeerSilent(text))
            return False
        if waited >= SUSPECT:
            peer.mark_silent()
        for call in list(connection.mux.calls.pending.values()):
            # A call with a short deadline moves once the wait is half of its remaining time.
            if isinstance(call, (PendingCall, PendingBatch)) and (
                waited >= SUSPECT or (call.expires is not None and call.expires - now <= 2 * waited)
            ):
                call.move(now)
        return True
