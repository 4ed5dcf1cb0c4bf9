"""A client of NATS: its servers, its subscriptions, and the messages that wait to be sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet import defer
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from pycomnet.deferred import Condition, OneShot, deferred
from pycomnet.errors import CredentialsNotSent, EndpointError, InvalidArguments, PycomnetError
from pycomnet.nats.connection import PING, NatsConnection, NatsGreeting
from pycomnet.nats.errors import (
    NatsAddressError,
    NatsAuthFailed,
    NatsBufferFull,
    NatsClosed,
    NatsError,
    NatsPermissionDenied,
    NatsUnreachable,
)
from pycomnet.nats.messages import NatsMessage, check_subject, encode_headers
from pycomnet.nats.pool import ServerPool
from pycomnet.nats.requests import NatsRequests, to_timeout
from pycomnet.nats.settings import NatsServer, NatsSettings
from pycomnet.nats.subscription import BYTES, MESSAGES, NatsSubscription
from pycomnet.net.backoff import Backoff
from pycomnet.net.endpoints import client_endpoint, explain
from pycomnet.net.reactors import EndpointReactor
from pycomnet.text.logs import Logger

log = Logger()

#: When this many bytes wait, they are written within the turn.
SOON = 1 << 16
#: After so many refusals of its credentials in a row the client gives up.
MOST_REFUSALS = 3
#: Errors that another attempt at this server, or another server of the user's list, would not
#: resolve.
_FINAL = (CredentialsNotSent, NatsAddressError, EndpointError)


class NatsClient:
    """A client of NATS. :func:`connect` makes one that is connected.

    It stays connected: when it loses its server, it connects to the next of its servers, given or
    announced by other servers. Then it subscribes again, and sends the messages that were published
    meanwhile. Messages in transit on a lost connection are lost, as NATS delivers at most once.

    :ivar settings: the settings that it was given.
    :ivar connection: the current one; None while there is none.
    :ivar connected: functions that are called after each (re)connection, before waiting messages
        are sent.
    :ivar refused: functions that are called with a :class:`~pycomnet.nats.NatsPermissionDenied` for
        each subject that the server refuses. The server does so before it answers the next ping
        (:meth:`flush`).
    :ivar max_payload: the longest message in bytes that the last server allowed.
    :ivar reconnects: how many times it was connected again.
    """

    def __init__(self, settings: NatsSettings, reactor: EndpointReactor) -> None:
        self.settings = settings
        self.reactor = reactor
        self.connection: NatsConnection | None = None
        self.connected: list[Callable[[], object]] = []
        self.refused: list[Callable[[NatsPermissionDenied], object]] = []
        self.reconnects = 0
        self.max_payload = 1 << 20
        self._servers = ServerPool(settings)
        self._subscriptions: dict[bytes, NatsSubscription] = {}
        self._last_sid = 0
        #: the pieces to write, in their order, and their size
        self._out: list[bytes] = []
        self._size = 0
        self._turn: Any = None
        self._room = Condition()
        self._running: defer.Deferred[None] | None = None
        self._ready: OneShot[None] = OneShot()
        self._ended: OneShot[None] = OneShot()
        self._over: Exception | None = None
        #: answers to requests: one subscription for all of them
        self._requests = NatsRequests(self)

    def __repr__(self) -> str:
        where = "closed" if self._over else "not connected" if self.connection is None else ""
        return f"<NatsClient {where or self.connection.server}>"  # type: ignore[union-attr]

    # -- connecting ------------------------------------------------------------------------------

    def start(self) -> defer.Deferred[None]:
        """Connect.

        :returns: fires when it is connected. Fails with :class:`~pycomnet.nats.NatsUnreachable` if
            no server can be reached, :class:`~pycomnet.nats.NatsAuthFailed`, or another error whose
            message says what to do; then the client is closed. Cancelling it does not change the
            client.
        """
        if self._running is None:
            self._running = defer.Deferred.fromCoroutine(self._run())
            self._running.addErrback(self._failed)
        return self._ready.when_fired()

    def when_ended(self) -> defer.Deferred[None]:
        """Fires when the client is closed; fails with the error if it has given up."""
        return self._ended.when_fired()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self.connection is not None

    @property
    def is_over(self) -> bool:
        """Whether it was closed, or has given up."""
        return self._over is not None

    async def _run(self) -> None:
        settings = self.settings
        backoff = Backoff(self.reactor, settings.first_retry, settings.longest_retry)
        refusals = tried = 0
        problems: list[str] = []
        while True:
            server = self._servers.take()
            tried += 1
            try:
                connection = await self._open(server)
            except _FINAL as problem:
                if not server.learned:
                    raise
                log.info("{server} is not used: {why}", server=str(server), why=str(problem))
                self._servers.remove(server)
                continue
            except NatsAuthFailed:
                refusals += 1
                if not self._ready.fired or refusals >= MOST_REFUSALS:
                    raise
            except Exception as problem:
                why = str(problem) if isinstance(problem, NatsError) else explain(problem)
                if not self._ready.fired:
                    problems.append(why if why.startswith(str(server)) else f"{server}: {why}")
                    if tried >= len(self._servers):
                        raise NatsUnreachable("; ".join(problems)) from None
                    continue
                log.info("{server}: not connected: {why}", server=str(server), why=why)
            else:
                tried = 0
                self._begin(connection)
                begun = self.reactor.seconds()
                reason = await connection.lost.when_fired()
                self._lost(connection)
                if self._over is not None:
                    return
                refusals = refusals + 1 if isinstance(reason, NatsAuthFailed) else 0
                log.info("{server} is lost: {why}", server=str(server), why=explain(reason))
                if refusals >= MOST_REFUSALS:
                    raise reason
                if self.reactor.seconds() - begun > settings.longest_retry:
                    backoff.reset()
            if tried == 0 or tried >= len(self._servers):
                tried = 0
                await backoff.wait()

    async def _open(self, server: NatsServer) -> NatsConnection:
        """Connect to a server, and wait until it accepts this client."""
        connection = NatsConnection(
            server,
            self.settings,
            self.reactor,
            self._subscriptions,
            self._servers.learn,
            self._complained,
            self._flush,
        )
        greeting = NatsGreeting(connection, self.reactor)
        timeout = self.settings.connect_timeout
        factory = Factory.forProtocol(lambda: greeting)
        factory.noisy = False
        connecting = client_endpoint(self.reactor, server.endpoint).connect(factory)
        connecting.addTimeout(timeout, self.reactor)
        await connecting
        accepting = connection.accepted.when_fired()
        accepting.addTimeout(timeout, self.reactor)
        try:
            await accepting
        except BaseException:
            connection.abort()
            greeting.abort()
            raise
        return connection

    def _begin(self, connection: NatsConnection) -> None:
        self.connection = connection
        self.max_payload = connection.max_payload
        first = [one.command for one in self._subscriptions.values()]
        if first:
            connection.write([b"".join(first)])
        if self._ready.fired:
            self.reconnects += 1
        waiting, self._out, self._size = self._out, [], 0
        for told in list(self.connected):
            told()
        self._out += waiting
        self._size = sum(map(len, self._out))
        self._flush()
        self._ready.fire(None)

    def _lost(self, connection: NatsConnection) -> None:
        self.connection = None
        if any(piece is PING for piece in self._out):
            self._out = [piece for piece in self._out if piece is not PING]
            self._size = sum(map(len, self._out))

    def _failed(self, failure: Failure) -> None:
        problem = failure.value
        if failure.check(defer.CancelledError) is not None:
            problem = NatsClosed("the client was closed")
        assert isinstance(problem, Exception)
        self._finish(problem)

    def _finish(self, problem: Exception) -> None:
        if self._over is not None:
            return
        self._over = problem
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._out.clear()
        self._size = 0
        if not isinstance(problem, NatsClosed) and self._ready.fired:
            log.error("the client of NATS has given up: {why}", why=explain(problem))
        self._ready.fail(problem)
        for subscription in list(self._subscriptions.values()):
            subscription.end(problem)
        self._subscriptions.clear()
        self._requests.fail(problem)
        self._room.notify_all()
        if isinstance(problem, NatsClosed):
            self._ended.fire(None)
        else:
            self._ended.fail(problem)

    def _complained(self, text: str) -> None:
        """Report that the server refuses a subject, and end its subscriptions."""
        log.warn("NATS: {text}", text=text)
        what, _, rest = text.partition('"')
        subject = rest.partition('"')[0]
        publishing = "publish" in what.lower()
        problem = NatsPermissionDenied(f"NATS: {text}", subject, publishing)
        if subject and not publishing:
            for subscription in list(self._subscriptions.values()):
                if subscription.subject == subject.encode():
                    self._subscriptions.pop(subscription.sid, None)
                    subscription.end(problem)
        for told in list(self.refused):
            told(problem)

    # -- sending ---------------------------------------------------------------------------------

    def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Publish a message. It is sent in this turn or the next or, while there is no connection,
        later.

        :raises NatsBufferFull: the buffer is full: wait for :meth:`when_writable`.
        :raises NatsClosed: the client was closed.
        :raises InvalidArguments: the subject is not valid, or the message is longer than the server
            allows.
        """
        extra = encode_headers(headers) if headers else b""
        to = check_subject(subject) + (b" " + check_subject(reply) if reply else b"")
        self.publish_raw(to, payload, extra)

    def publish_raw(self, to: bytes, payload: bytes, headers: bytes = b"") -> None:
        """As :meth:`publish`, with arguments that were checked.

        :param to: the subject and, after a blank, the subject for replies.
        :param headers: as they are sent; empty for none.
        """
        if type(payload) is not bytes:
            # It is written later: text has to be refused here, and what can change is copied.
            payload = bytes(memoryview(payload))
        length = len(payload) + len(headers)
        if length > self.max_payload:
            raise InvalidArguments(
                f"a message has {length} bytes, the NATS server allows {self.max_payload}"
            )
        if headers:
            head = b"HPUB %b %d %d\r\n%b" % (to, len(headers), length, headers)
        else:
            head = b"PUB %b %d\r\n" % (to, length)
        size = len(head) + len(payload) + 2
        if self._size + size > self.settings.buffer and self._out:
            raise NatsBufferFull(f"{self._size} bytes wait to be sent to NATS")
        if self._over is not None:
            raise NatsClosed("the client of NATS is closed") from self._over
        self._out += (head, payload, b"\r\n")
        self._size += size
        if self._turn is None:
            self._cork()
            self._flush()
        elif self._size >= SOON:
            self._flush()

    @deferred
    async def when_writable(self) -> None:
        """Fires when less than half of the buffer is in use; usually at once.

        Fails with :class:`~pycomnet.nats.NatsClosed` when the client is closed.
        """
        while 2 * self._size > self.settings.buffer and self._over is None:
            await self._room.wait()
        if self._over is not None:
            raise NatsClosed("the client of NATS is closed") from self._over

    @property
    def is_congested(self) -> bool:
        """Whether publishers should wait for :meth:`when_writable`."""
        return 2 * self._size > self.settings.buffer

    def _cork(self) -> None:
        self._turn = self.reactor.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        if self._out and self.connection is not None and not self.connection.paused:
            self._cork()
            self._flush()

    def _flush(self) -> None:
        """Write the waiting pieces, at once and together, unless the transport is full."""
        connection = self.connection
        if connection is None or connection.paused or not self._out:
            return
        out, self._out, self._size = self._out, [], 0
        connection.write(out)
        if self._room.waiting:
            self._room.notify_all()

    @deferred
    async def flush(self, timeout: float = 10.0) -> None:
        """Wait until the server has received all published messages, and all subscriptions.

        :returns: fires when the server has answered a ping. Fails with
            :class:`~pycomnet.nats.NatsTimeout`, or ``NatsClosed`` if the connection is lost.
        """
        connection = self.connection
        if connection is None:
            raise NatsClosed("there is no connection to NATS")
        waiting = connection.answered()
        self._out.append(PING)
        self._size += len(PING)
        self._flush()
        waiting.addTimeout(timeout, self.reactor, to_timeout(f"to a ping, {timeout:g} s"))
        await waiting

    # -- subscriptions ---------------------------------------------------------------------------

    def subscribe(
        self,
        subject: str,
        callback: Callable[[list[NatsMessage]], object] | None = None,
        group: str = "",
        messages: int = MESSAGES,
        bound: int = BYTES,
    ) -> NatsSubscription:
        """Subscribe. The subscription is in effect once :meth:`flush` has fired.

        :param subject: may have ``*`` for one part, and ``>`` for one or more at the end.
        :param callback: called with a list of the messages of each read. Without it messages wait
            in the subscription's queue.
        :param group: the queue group: each message goes to one of its members.
        :param messages: how many messages may wait in the queue, and
        :param bound: how many bytes.
        """
        name = check_subject(subject, pattern=True)
        if self._over is not None:
            raise NatsClosed("the client of NATS is closed") from self._over
        queue = check_subject(group) if group else b""
        self._last_sid += 1
        sid = b"%d" % self._last_sid
        made = NatsSubscription(self, sid, name, queue, callback, messages, bound)
        self._subscriptions[sid] = made
        if self.connection is not None:
            self._flush()  # what was published before
            self.connection.write([made.command])
        return made

    def unsubscribe(self, subscription: NatsSubscription) -> None:
        """End a subscription."""
        known = self._subscriptions.pop(subscription.sid, None) is not None
        if known and self.connection is not None:
            self.connection.write([b"UNSUB %b\r\n" % subscription.sid])

    @deferred
    async def drain_subscription(self, subscription: NatsSubscription) -> None:
        """End a subscription, once all messages that the server has sent have been received."""
        connection = self.connection
        if connection is not None and subscription.sid in self._subscriptions:
            connection.write([b"UNSUB %b\r\n" % subscription.sid])
            try:
                await self.flush()
            finally:
                self._subscriptions.pop(subscription.sid, None)
                subscription.end(NatsClosed("the subscription was drained"))
        else:
            subscription.close()

    # -- requests --------------------------------------------------------------------------------

    def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> defer.Deferred[NatsMessage]:
        """Send a request.

        :returns: fires with the first reply. Fails with :class:`~pycomnet.nats.NatsTimeout`,
            :class:`~pycomnet.nats.NoResponders` if nobody subscribes to the subject, or as
            :meth:`publish`. After cancelling it, the reply is ignored.
        """
        token, waiting = self._requests.expect()
        try:
            self.publish(subject, payload, self._requests.reply(token), headers)
        except Exception:
            self._requests.forget(token)
            return defer.fail()
        what = f"from {subject}, {timeout:g} s"
        return waiting.addTimeout(timeout, self.reactor, to_timeout(what))

    def new_token(self) -> str:
        """Make a part of a subject that is unique to this client."""
        return self._requests.new_token()

    # -- the end ---------------------------------------------------------------------------------

    @deferred
    async def drain(self) -> None:
        """Receive the messages that were sent to the subscriptions, send the waiting ones, and
        close."""
        for subscription in list(self._subscriptions.values()):
            if self.connection is not None and self._over is None:
                try:
                    await self.drain_subscription(subscription)
                except PycomnetError:
                    break
        await self.close()

    @deferred
    async def close(self) -> None:
        """Send the waiting messages, if there is a connection, and close. Cancelling it changes
        nothing."""
        connection, self.connection = self.connection, None
        if connection is not None:
            if self._out:
                connection.write(self._out)
                self._out = []
            connection.close()
        self._finish(NatsClosed("the client of NATS was closed"))
        if self._running is not None and connection is None:
            self._running.cancel()
        if connection is not None:
            closing = connection.lost.when_fired()
            closing.addTimeout(5.0, self.reactor, lambda _, __: connection.abort())
            await closing
            if self._running is not None:
                self._running.cancel()
