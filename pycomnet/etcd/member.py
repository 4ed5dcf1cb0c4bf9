"""A member of the cluster: its endpoint, its connection, and the leader that it reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from pycomnet.deferred import deferred
from pycomnet.errors import EndpointError
from pycomnet.etcd.connection import ConnectionFactory, MemberConnection
from pycomnet.etcd.errors import EtcdError, EtcdUnavailable
from pycomnet.etcd.streams import Http2Stream
from pycomnet.net.backoff import Backoff
from pycomnet.net.endpoints import client_endpoint, explain, is_tls, parse, seconds
from pycomnet.net.reactors import EndpointReactor

#: The first and the longest delay between two attempts to connect, in seconds.
FIRST_DELAY, LONGEST_DELAY = 0.1, 2.0
#: Seconds for making a connection, and for TLS and the first HTTP/2 settings, unless the endpoint
#: string has ``timeout=``.
CONNECT_TIMEOUT = 5.0


class Member:
    """One endpoint. From :meth:`start` to :meth:`stop` it stays connected, or reconnects.

    :param endpoint: an endpoint string.
    :param changed: called when it is connected or disconnected.
    :ivar id: the member's id; 0 until the member has sent it. The same holds for ``leader``, the id
        of the leader that it reports, and ``term``.
    :ivar lost_id: the member's id, if it was the leader and its connection was just lost; else 0.
    :ivar problem: why it is not connected; None if it is.
    :ivar suspect_until: a request to it has timed out; until this time other members are
        preferred.
    """

    def __init__(
        self, endpoint: str, reactor: EndpointReactor, changed: Callable[[Member], object]
    ) -> None:
        self.endpoint = endpoint
        self._reactor = reactor
        self._changed = changed
        parsed = parse(endpoint)
        parts = parsed.named("host", "port")
        host, port = parts.get("host", "localhost"), parts.get("port", "")
        if ":" in host:
            host = f"[{host}]"
        self._authority = "localhost" if parsed.kind == "unix" else f"{host}:{port}"
        self._is_tls = is_tls(endpoint)
        self._timeout = seconds(endpoint, parts, CONNECT_TIMEOUT)
        client_endpoint(reactor, endpoint)  # raises if it is none
        self._backoff = Backoff(reactor, FIRST_DELAY, LONGEST_DELAY)
        self._connection: MemberConnection | None = None
        #: all open ones: the draining ones, too, until they have their replies
        self._connections: set[MemberConnection] = set()
        #: what the loop waits for: a connection, the end of one, or the next attempt
        self._pending: Deferred[Any] | None = None
        self._leaving: Deferred[None] | None = None
        self._is_stopped = True
        self.id = self.leader = self.term = self.lost_id = 0
        self.problem: EtcdError | None = EtcdUnavailable("not connected yet")
        self.suspect_until = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether requests can be sent to it."""
        return self._connection is not None

    @property
    def is_leader(self) -> bool:
        """Whether it reports itself as the leader."""
        return self.id != 0 and self.id == self.leader

    def start(self) -> None:
        """Start connecting."""
        self._is_stopped = False
        self._stay_connected().addErrback(lambda failure: failure.trap(CancelledError))

    @deferred
    async def _stay_connected(self) -> None:
        while not self._is_stopped:
            try:
                await self._wait_for(self._connect())
            except (EtcdError, EndpointError) as problem:
                self.problem = EtcdUnavailable(f"{self.endpoint}: {problem}")
                self.lost_id = 0
                self._changed(self)
            else:
                since = self._reactor.seconds()
                if self._leaving is not None:
                    await self._wait_for(self._leaving)
                if self._reactor.seconds() - since > LONGEST_DELAY:
                    self._backoff.reset()
            await self._wait_for(self._backoff.wait())

    def _wait_for(self, pending: Deferred[Any]) -> Deferred[Any]:
        self._pending = pending
        return pending

    @deferred
    async def _connect(self) -> None:
        """Connect, and wait for the member's settings."""
        ready: Deferred[None] = Deferred()

        def is_ready(connection: MemberConnection) -> None:
            if not ready.called:
                ready.callback(None)

        def ended(connection: MemberConnection, reason: EtcdError) -> None:
            self._connections.discard(connection)
            if not ready.called:
                ready.errback(reason)
            elif self._connection is connection:
                self._left(reason)

        def build() -> MemberConnection:
            return MemberConnection(
                self._authority, self._is_tls, self._reactor, is_ready, self._drains, ended
            )

        # Made for each attempt, as that reads the certificates' files: they may have been replaced.
        endpoint = client_endpoint(self._reactor, self.endpoint)
        connecting: Deferred[Any] = endpoint.connect(ConnectionFactory(build))
        connecting.addTimeout(self._timeout, self._reactor)
        try:
            connection: MemberConnection = await connecting
        except CancelledError:
            raise
        except Exception as problem:
            raise EtcdUnavailable(explain(problem)) from problem
        self._connections.add(connection)
        ready.addTimeout(self._timeout, self._reactor)
        try:
            await ready
        except EtcdError:
            raise
        except BaseException as problem:
            connection.end(EtcdUnavailable("the connection was given up"))
            if isinstance(problem, CancelledError):
                raise
            raise EtcdUnavailable("it does not answer with HTTP/2 (timed out)") from problem
        self._connection = connection
        self._leaving = Deferred()
        self.problem = None
        self._changed(self)

    def _drains(self, connection: MemberConnection) -> None:
        if self._connection is connection:
            self._left(EtcdUnavailable("the member goes away"))

    def _left(self, reason: EtcdError) -> None:
        self._connection = None
        self.problem = EtcdUnavailable(f"{self.endpoint}: {reason}")
        self.lost_id = self.id if self.is_leader else 0
        self.id = self.leader = 0
        # The connections' streams are told after this; so they find another member.
        leaving, self._leaving = self._leaving, None
        self._changed(self)
        if leaving is not None:
            leaving.callback(None)

    def stop(self, reason: EtcdError) -> None:
        """Close its connections."""
        self._is_stopped = True
        self._connection = None
        self.problem = reason
        if self._pending is not None:
            self._pending.cancel()
        for connection in list(self._connections):
            connection.end(reason)

    # -- its streams -------------------------------------------------------------------------------

    def request(
        self,
        stream: Http2Stream,
        path: str,
        needs_leader: bool,
        extra: bytes,
        data: bytes,
        is_end: bool,
    ) -> None:
        """Send a request; see :meth:`~pycomnet.etcd.http2.Http2Connection.request`."""
        assert self._connection is not None, "check is_ready first"
        self._connection.http2.request(stream, path, needs_leader, extra, data, is_end)

    def send(self, stream: Http2Stream, data: bytes) -> None:
        """Send more data of a request."""
        for connection in self._connections:
            connection.http2.send(stream, data)

    def taken(self, stream: Http2Stream, size: int) -> None:
        """Received data were processed: reopen the stream's HTTP/2 window."""
        for connection in self._connections:
            connection.http2.taken(stream, size)

    def reset(self, stream: Http2Stream) -> None:
        """Reset a stream."""
        for connection in self._connections:
            connection.http2.reset(stream)
