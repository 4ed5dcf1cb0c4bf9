"""The connections of a context: one for each address, made when it is needed."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from pycomnet import forks
from pycomnet.deferred import Condition, OneShot, deferred
from pycomnet.errors import (
    CertificateRefused,
    ConnectionLost,
    CredentialsNotSent,
    EndpointError,
    PycomnetError,
    ServerLeaving,
    ServiceUnreachable,
    Unauthenticated,
)
from pycomnet.far.live import Live
from pycomnet.net import endpoints
from pycomnet.services.client.callerrors import of_a_call
from pycomnet.services.client.connection import ClientConnection
from pycomnet.services.client.liveness import Liveness
from pycomnet.services.client.login import AddressSource, address_with, choose, log_in, withheld
from pycomnet.services.client.pending import MOST_REPEATS, MOST_TURNS

if TYPE_CHECKING:
    from pycomnet.services.client.context import Context
    from pycomnet.services.client.failover import FailoverAddresses
    from pycomnet.services.client.login import CallerCredentials

#: Seconds for which an address that refuses connections is not tried, if there are others.
SET_ASIDE = 5.0
#: ... and one that does not answer. Once it answers, it is tried at once.
SILENT_ASIDE = 30.0
#: ... and one that has announced that it is about to end.
DRAINING_ASIDE = 30.0
#: Seconds for which credentials that were refused are not given again to the same server. Each
#: further refusal doubles that, up to ``LONGEST_REFUSED``.
FIRST_REFUSED = 1.0
LONGEST_REFUSED = 30.0


class _OneConnection(Factory):
    """A factory for Twisted's endpoints that returns this connection, and logs nothing."""

    noisy = False

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def buildProtocol(self, address: object) -> ClientConnection:
        return self._connection


class Pool(Live):
    """The addresses that a context, and those made from it, have called.

    :ivar closed: whether the context is closed.
    :ivar changes: how often an address was set aside, or reached again.
    :ivar shared: what the users of these connections share beside them, under keys of their own.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.shared: dict[Any, Any] = {}
        #: weak: callers and connections hold the peers, so that unused addresses are forgotten
        self.peers: weakref.WeakValueDictionary[tuple[str, AddressSource], PooledServer] = (
            weakref.WeakValueDictionary()
        )
        #: routes to several addresses, as long as anybody uses them
        self.several: weakref.WeakValueDictionary[tuple[str, AddressSource], FailoverAddresses] = (
            weakref.WeakValueDictionary()
        )
        self.closed = False
        self.changes = 0
        self.liveness = Liveness(context.reactor, context.silence)
        #: whether this is a copy in a forked process: then the connections are the parent's
        self._is_copy = False

    def forked(self) -> None:
        """In a child that the program forked: the parent keeps the connections."""
        if forks.runs(self._context.reactor):
            self._is_copy = True
            for peer in self.peers.values():
                peer.connection = None

    def peer(self, address: str, source: AddressSource) -> PooledServer:
        """The peer of an address. It is made if there is none.

        :param source: who has named it, which decides on its credentials: with these, each source
            has a peer of its own.
        """
        self.check()
        address = endpoints.clean(address)
        key = address, source if self._context.has_credentials else AddressSource.PROGRAM
        peer = self.peers.get(key)
        if peer is None:
            peer = self.peers[key] = PooledServer(address, self._context, key[1])
        return peer

    def check(self) -> None:
        """Raise an error if the context is closed, or is a copy in a forked process."""
        if self._is_copy:
            raise forks.used("the context")
        if self.closed:
            raise PycomnetError("the context is closed")

    def close(self) -> defer.Deferred[Any]:
        """End all connections; fires when they are over."""
        self.closed = True
        if self._is_copy:
            return defer.succeed(None)
        self.liveness.close()
        peers = list(self.peers.values())
        return defer.gatherResults([peer.close() for peer in peers], consumeErrors=True)


class PooledServer:
    """An address that calls go to.

    :ivar connection: to it, once it is ready; None when there is none.
    :ivar pending: how many calls wait for a reply.
    :ivar aside_until: the reactor's time until which it is not tried, if there are others.
    :ivar lacking: what callers wait for until there is a connection, for the error of a time-out.
    """

    def __init__(
        self, address: str, context: Context, source: AddressSource = AddressSource.PROGRAM
    ) -> None:
        self.address = address
        self.lacking = f"no connection to {address}"
        self.connection: ClientConnection | None = None
        self.pending = 0
        self.aside_until = 0.0
        #: the reactor's time until which it is aside whatever else shows that it lives: it drains
        self._draining_until = 0.0
        #: For :class:`Liveness`: whether this peer is watched; the time of its last sign of life;
        #: the time of the ping that it has not answered, or None; the seconds until the next ping.
        self.watched = False
        self.heard_at = 0.0
        self.asked_at: float | None = None
        self.probe = 0.0
        #: interface -> its methods that may be called again, from the last hello
        self.services: dict[str, dict[str, Any]] = {}
        #: who has named the address
        self._source = source
        #: the kinds of credentials that it takes, from the last hello
        self._kinds: object = None
        #: the last connection on which credentials were accepted
        self._logged_in: ClientConnection | None = None
        #: the last refusal of credentials, for how many seconds they are not given again, and the
        #: time at which that ends
        self._refusal: Unauthenticated | None = None
        self._refused_for = self._refused_until = 0.0
        #: why it was given none, although there are some of these kinds
        self._withheld = ""
        #: the longest request that it takes, in bytes
        self.longest = 1 << 32
        #: the most calls of a batch; 0 if it takes no batches
        self.batch = 0
        #: the most bytes of a run in a batch; 0 if it takes no runs
        self.run = 0
        #: the name of what it keeps for repetitions, from the last hello
        self.memory: str | None = None
        #: whether there has ever been a connection
        self.known = False
        self._context = context
        self._attempt: defer.Deferred[ClientConnection] | None = None
        self._connected: OneShot[ClientConnection] = OneShot()
        #: connections that are being closed
        self._ending: set[ClientConnection] = set()
        self._all_ended = Condition()

    def connect(self) -> defer.Deferred[ClientConnection]:
        """The connection. Callers that need it while it is being made share one attempt.

        :returns: fires with it; fails with :class:`ServiceUnreachable`, or
            :class:`CertificateRefused`. Cancelling it gives up if no other caller waits.
        """
        if self.connection is not None:
            return defer.succeed(self.connection)
        try:
            self._context.pool.check()
        except PycomnetError as problem:
            return defer.fail(problem)
        if self._attempt is not None:
            return self._connected.when_fired()
        return self._attempt_by(self._connect())

    def _attempt_by(
        self, attempt: defer.Deferred[ClientConnection]
    ) -> defer.Deferred[ClientConnection]:
        """Share an attempt with all callers that need the connection; it may be over already."""
        connected = self._connected = OneShot(self._give_up)
        waiting = connected.when_fired()
        self._attempt = attempt
        attempt.addBoth(self._attempted)
        connected.follow(attempt)
        return waiting

    def _give_up(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()

    def _attempted(self, result: ClientConnection | Failure) -> ClientConnection | Failure:
        self._attempt = None
        return result

    @deferred
    async def _connect(self) -> ClientConnection:
        context = self._context
        self._check_refused()
        self.lacking = f"no connection to {self.address}"
        connection = ClientConnection(self, context)
        try:
            address = context.with_trust(
                address_with(self._credentials(), self.address, self._given)
            )
            endpoint = endpoints.client_endpoint(context.reactor, address)
            await endpoint.connect(_OneConnection(connection))
        except defer.CancelledError:
            raise
        except EndpointError:
            self.set_aside()
            raise
        except Exception as problem:
            self.set_aside()
            why = endpoints.explain(problem)
            raise ServiceUnreachable(f"can't connect to {self.address}: {why}") from None
        ready = connection.when_ready()
        options = endpoints.parse(self.address).options
        ready.addTimeout(endpoints.seconds(self.address, options), context.reactor)
        try:
            hello = await ready
        except defer.CancelledError:
            connection.abort(ConnectionLost("nobody waits for it any more"))
            raise
        except defer.TimeoutError:
            connection.abort(ConnectionLost("it sent no hello"))
            self.set_aside()
            raise ServiceUnreachable(f"{self.address}: it sent no hello") from None
        except CertificateRefused:
            self.set_aside()
            raise
        except ConnectionLost as lost:
            self.set_aside()
            why = lost.reason
            if type(lost) is ConnectionLost:
                why = endpoints.explain_silence(self.address, why)
            raise ServiceUnreachable(f"can't connect to {self.address}: {why}") from None
        info = hello["info"]
        services = info.get("services")
        self.services = services if isinstance(services, dict) else {}
        self._kinds = info.get("login")
        try:
            await self._log_in(connection)
        except BaseException as problem:
            connection.abort(ConnectionLost("the login failed"))
            if not isinstance(problem, defer.CancelledError):
                self.set_aside()
            raise
        longest = info.get("request")
        self.longest = longest if isinstance(longest, int) else 1 << 32
        batch = info.get("batch")
        self.batch = batch if isinstance(batch, int) and batch > 0 else 0
        run = info.get("run")
        self.run = run if isinstance(run, int) and run > 0 else 0
        memory = info.get("once")
        self.memory = memory if isinstance(memory, str) else None
        self._draining_until = 0.0  # it may be another process
        self.mark_alive()
        self.known = True
        self.connection = connection
        return connection

    async def _log_in(self, connection: ClientConnection) -> None:
        """Send the credentials that the server takes, if there are any."""
        mine = self._credentials()
        found = choose(mine, self._kinds, connection.transport, self.address, self._given)
        self._withheld = "" if found else withheld(mine, self._kinds, self.address)
        if found is not None:
            self._check_refused()
            self.lacking = f"no login at {self.address}"
            try:
                reply = await log_in(connection, found, self.address)
            except Unauthenticated as problem:
                if problem.reason != "refused":
                    raise
                if found.optional:
                    return
                if not found.asks:
                    self._refused_again(problem)
                raise
            self.services = reply["services"]
            self._logged_in = connection
            self._refusal, self._refused_for = None, 0.0

    def _refused_again(self, problem: Unauthenticated) -> None:
        """Do not send refused credentials for a while, as they stay the same. Otherwise each call
        would be a wrong try, which delays the logins of other programs on this machine.
        """
        self._refusal = problem
        self._refused_for = min(LONGEST_REFUSED, max(FIRST_REFUSED, 2 * self._refused_for))
        self._refused_until = self._context.reactor.seconds() + self._refused_for

    def _check_refused(self) -> None:
        if self._refusal is not None and self._context.reactor.seconds() < self._refused_until:
            raise of_a_call(Unauthenticated(str(self._refusal), self._refusal.reason))

    @property
    def has_credentials(self) -> bool:
        """Whether there are any that may be for it."""
        return bool(self._credentials())

    @property
    def _given(self) -> bool:
        return self._source is not AddressSource.OTHERS

    def _credentials(self) -> tuple[CallerCredentials, ...]:
        """The credentials that may be for this server; there may be others for the nameserver."""
        context = self._context
        if self._source is not AddressSource.NAMESERVER:
            return context.credentials
        return context.nameserver_credentials

    def explained(self, problem: Exception) -> Exception:
        """The error with which a call fails that the server has refused with another one."""
        if (
            isinstance(problem, Unauthenticated)
            and problem.reason == "missing"
            and self._withheld
            and not problem.nested
        ):
            return CredentialsNotSent(self._withheld)
        return problem

    def most_repeats(self, connection: ClientConnection, problem: Exception) -> int:
        """How often a call that the server has refused with this error may be repeated, since it
        did not run; 0 if it may not.

        If the server leaves, this connection gets no more calls. If a login is needed, it begins.

        :param connection: the connection on which the call was refused.
        """
        if not isinstance(problem, PycomnetError) or problem.nested:
            return 0
        if isinstance(problem, ServerLeaving):
            self.drop(connection)
            return MOST_TURNS
        if isinstance(problem, Unauthenticated) and self._may_log_in(connection, problem):
            return MOST_REPEATS
        return 0

    def _may_log_in(self, connection: ClientConnection, problem: Unauthenticated) -> bool:
        """Whether the refused call may be allowed after a login; then one is under way, or was made
        meanwhile.

        A login is needed if the server no longer accepts this client's last one, or if it has got
        rules since its hello.
        """
        if not self.has_credentials:
            return False
        if problem.reason == "missing":
            kinds = getattr(problem, "login", None)
            if self.connection is not connection or self._logged_in is connection:
                return True  # this call was sent before the login
            if not isinstance(kinds, list) or kinds == self._kinds:
                return False
            self._kinds = kinds
        elif problem.reason != "expired":
            return False
        self._log_in_again(connection)
        return True

    def _log_in_again(self, connection: ClientConnection) -> None:
        """Send credentials again. Calls wait meanwhile."""
        if self.connection is not connection:
            return
        self.connection = None
        self._attempt_by(self._again(connection)).addErrback(lambda _: None)

    @deferred
    async def _again(self, connection: ClientConnection) -> ClientConnection:
        try:
            await self._log_in(connection)
        finally:
            # Also if they are refused: calls that run go on, and others may need no login.
            if connection.lost is None:
                self.connection = connection
        return connection

    def set_aside(self, seconds: float = SET_ASIDE) -> None:
        """Give other instances the calls for some seconds."""
        self.aside_until = self._context.reactor.seconds() + seconds
        self._context.pool.changes += 1

    def note_state(self, about: object) -> None:
        """Take the server's state, which came with a reply: whether it is draining."""
        if isinstance(about, dict) and about.get("draining") is True:
            left = self.aside_until - self._context.reactor.seconds()
            if left < DRAINING_ASIDE / 2:  # not for each of a thousand answers
                self.set_aside(DRAINING_ASIDE)
                self._draining_until = self.aside_until

    def mark_silent(self) -> None:
        """Give other instances the calls until this server answers again."""
        self.set_aside(SILENT_ASIDE)

    def mark_alive(self) -> None:
        """Give the server calls again, unless it is draining: it has answered."""
        if self.aside_until > self._draining_until:
            self.aside_until = self._draining_until
            self._context.pool.changes += 1

    def may_repeat(self, interface: str, method: str) -> bool:
        """Whether a method is idempotent."""
        declared = self.services.get(interface)
        again = declared.get("idempotent") if isinstance(declared, dict) else None
        return method == "introspect" or (isinstance(again, list) and method in again)

    def answers_once(self, interface: str, method: str) -> bool:
        """Whether it answers repetitions of a method from what it keeps."""
        declared = self.services.get(interface)
        once = declared.get("once") if isinstance(declared, dict) else None
        return self.memory is not None and isinstance(once, list) and method in once

    def drop(self, connection: ClientConnection) -> None:
        """Make no more calls on a connection: its server is leaving."""
        if self.connection is connection:
            self.connection = None
            self._ending.add(connection)

    def left(self, connection: ClientConnection) -> None:
        """A connection is over."""
        self._ending.discard(connection)
        if not self._ending:
            self._all_ended.notify_all()

    def close(self) -> defer.Deferred[None]:
        """End its connections; fires when they are over."""
        if self._attempt is not None:
            self._attempt.cancel()
        if self.connection is not None:
            self._ending.add(self.connection)
            self.connection = None
        if not self._ending:
            return defer.succeed(None)
        ended = self._all_ended.wait()
        for connection in list(self._ending):
            connection.goodbye()
        return ended
