"""One connection to a server: its greeting, TLS, reads and writes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.protocol import connectionDone as _done
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.deferred import OneShot
from pycomnet.errors import PeerSilent, PycomnetError
from pycomnet.nats.credentials import credentials
from pycomnet.nats.errors import NatsAuthFailed, NatsClosed, NatsError, NatsProtocolError
from pycomnet.nats.messages import NatsMessage
from pycomnet.nats.parser import MAX_LINE, NatsParser, read_info
from pycomnet.nats.settings import NatsServer, NatsSettings
from pycomnet.net import eager
from pycomnet.net.reactors import EndpointReactor
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.nats.subscription import NatsSubscription

log = Logger()

#: A ping among the waiting pieces. The client finds it by ``is`` and removes it when the connection
#: is lost, as a ping is for one connection only.
PING = bytes(bytearray(b"PING\r\n"))
#: After this many unanswered pings the server is considered dead.
MOST_PINGS = 2
#: How the server's errors about credentials begin, in lower case.
_REFUSED = ("authorization", "authentication", "user authentication", "account authentication")


def tls_creator(settings: NatsSettings, server: NatsServer) -> Any:
    """Returns the creator of a client's TLS connections to a server, which checks the certificate
    and its name."""
    from pycomnet.net import tls

    return tls.client_creator(str(server), settings.tls_options(server))


class NatsGreeting(Protocol):
    """Reads the server's first line, begins TLS if it is used, and passes on everything after that.

    Bytes from before TLS are not used after it, not even those that arrive with the first line.
    """

    def __init__(self, connection: NatsConnection, reactor: EndpointReactor) -> None:
        self._connection = connection
        self._reactor = reactor
        self._first: bytes | None = b""
        self._inner: Any = None

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self._first is None:
            return
        first = self._first = self._first + data
        line, end, rest = first.partition(b"\r\n")
        try:
            if end:
                self._first = None
                self._greeted(read_info(line), rest)
            elif len(first) > MAX_LINE:
                raise NatsProtocolError(f"the server's first line has over {MAX_LINE} bytes")
        except PycomnetError as problem:
            self._first = None
            self._connection.fail(problem)
            self.abort()

    def _greeted(self, info: dict[str, Any], rest: bytes) -> None:
        connection = self._connection
        server = connection.server
        if not (server.tls or info.get("tls_required") is True):
            self._inner = connection
            self._inner.makeConnection(self.transport)
            connection.greeted(info, is_private=server.is_local)
            if rest:
                connection.dataReceived(rest)
            return
        if not (info.get("tls_required") is True or info.get("tls_available") is True):
            raise NatsAuthFailed(f"{server} does not offer TLS, which this address requires")
        if rest:
            raise NatsProtocolError(f"{server} has sent data between INFO and TLS")
        creator = tls_creator(connection.settings, server)
        wrapped = _Only(connection)
        factory = TLSMemoryBIOFactory(creator, True, wrapped, clock=self._reactor)
        factory.noisy = False
        self._inner = factory.buildProtocol(None)
        self._inner.makeConnection(self.transport)
        connection.greeted(info, is_private=True, has_tls=True)

    def connectionLost(self, reason: Failure = _done) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        else:
            self._connection.connectionLost(reason)

    def abort(self) -> None:
        """End the connection at once."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


class _Only(Factory):
    """A factory that returns an existing protocol."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:
        return self._protocol


@implementer(IPushProducer)
class NatsConnection(Protocol):
    """A connection to a server.

    :param subscriptions: the subscriptions, by their number as bytes.
    :param told: called with the server's INFO, the server, and whether the INFO came with TLS.
    :param complained: called with the text of an error that does not end the connection.
    :param resumed: called when the transport takes data again.
    :ivar accepted: fires once the server has accepted the client.
    :ivar lost: fires with the reason when the connection is lost.
    :ivar paused: whether the transport is full, so that nothing more should be written.
    """

    def __init__(
        self,
        server: NatsServer,
        settings: NatsSettings,
        reactor: EndpointReactor,
        subscriptions: dict[bytes, NatsSubscription],
        told: Callable[[dict[str, Any], NatsServer, bool], None],
        complained: Callable[[str], None],
        resumed: Callable[[], None],
    ) -> None:
        self.server = server
        self.settings = settings
        self.accepted: OneShot[None] = OneShot()
        self.lost: OneShot[BaseException] = OneShot()
        self.paused = False
        self.max_payload = 1 << 20
        self._reactor = reactor
        self._subscriptions = subscriptions
        self._told = told
        self._complained = complained
        self._resumed = resumed
        self._parser = NatsParser(self, settings.message)
        self._touched: list[NatsSubscription] = []
        #: the Deferreds that wait for the answers to pings, in order; None for the regular pings
        self._pings: deque[defer.Deferred[None] | None] = deque()
        self._silent = 0
        self._timer: Any = None
        self._problem: BaseException | None = None
        #: whether the server has violated the protocol
        self._is_broken = False
        self._has_tls = False
        self.write: Callable[[eager.Pieces], None] = eager.nowhere

    def __repr__(self) -> str:
        return f"<NatsConnection {self.server}>"

    # -- the beginning ---------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.write = eager.writer(transport)
        transport.registerProducer(self, True)
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)

    def greeted(self, info: dict[str, Any], is_private: bool, has_tls: bool = False) -> None:
        """Log in: the server's first line has come, and TLS has begun if it is used.

        :param is_private: whether nobody else can read what is sent.
        :param has_tls: whether TLS has begun. The first line came before that.
        """
        self.info(info)
        self._has_tls = has_tls
        said = {
            "verbose": False,
            "pedantic": False,
            "lang": "python-pycomnet",
            "version": "1",
            "name": self.settings.name,
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            "echo": True,
        }
        said.update(credentials(self.settings, self.server, info.get("nonce"), is_private))
        self.write([b"CONNECT %b\r\n" % json.dumps(said).encode(), PING])
        self._pings.append(self._accept())
        self._timer = self._reactor.callLater(self.settings.ping, self._tick)

    def _accept(self) -> defer.Deferred[None]:
        waiting: defer.Deferred[None] = defer.Deferred()
        waiting.addCallbacks(lambda _: self.accepted.fire(None), lambda _: None)
        return waiting

    def _tick(self) -> None:
        """Send regular pings, to detect a dead server."""
        self._timer = None
        if self._silent >= MOST_PINGS:
            self.fail(PeerSilent(f"{self.server} has answered none of {MOST_PINGS} pings"))
            self.abort()
            return
        self._silent += 1
        self._pings.append(None)
        self.write([PING])
        self._timer = self._reactor.callLater(self.settings.ping, self._tick)

    # -- pings, and the end ----------------------------------------------------------------------

    def answered(self) -> defer.Deferred[None]:
        """Fires when the server has answered the ping that the caller sends next."""
        waiting: defer.Deferred[None] = defer.Deferred(lambda _: None)
        self._pings.append(waiting)
        return waiting

    def fail(self, problem: BaseException) -> None:
        """Note why the connection ends."""
        if self._problem is None:
            self._problem = problem

    def abort(self) -> None:
        """End the connection at once."""
        self._subscriptions = {}
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def close(self) -> None:
        """End it, once what was written is sent."""
        self._subscriptions = {}
        transport: Any = self.transport
        if transport is not None:
            transport.unregisterProducer()
            transport.loseConnection()

    def connectionLost(self, reason: Failure = _done) -> None:
        self.write = eager.nowhere
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        problem = self._problem
        if problem is None:
            problem = reason.value
            if problem is None or reason.check(ConnectionDone):
                problem = NatsClosed(f"{self.server} has closed the connection")
        pings, self._pings = self._pings, deque()
        for waiting in pings:
            if waiting is not None and not waiting.called:
                waiting.errback(Failure(NatsClosed(f"the connection to {self.server} is lost")))
        self.accepted.fail(problem)
        self.lost.fire(problem)

    # -- back pressure ---------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self._resumed()

    def stopProducing(self) -> None:
        self.paused = True

    # -- what comes ------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        self._silent = 0
        if self._is_broken:
            return
        try:
            self._parser.feed(data)
        except NatsError as problem:
            self.fail(problem)
            self._is_broken = True
            self.abort()
        touched = self._touched
        if touched:
            self._touched = []
            for subscription in touched:
                batch, subscription.batch = subscription.batch, []
                try:
                    subscription.deliver(batch)
                except Exception:  # an error in the user's callback; others get their messages
                    log.failure("{subscription} has raised", subscription=subscription)

    def message(
        self, sid: bytes, subject: bytes, reply: bytes, headers: bytes, payload: bytes
    ) -> None:
        """A message has come: it is passed on with the others of this read."""
        subscription = self._subscriptions.get(sid)
        if subscription is not None:
            batch = subscription.batch
            if not batch:
                self._touched.append(subscription)
            batch.append(NatsMessage(subject, reply, headers, payload))

    def ping(self) -> None:
        """The server has sent a ping."""
        self.write([b"PONG\r\n"])

    def pong(self) -> None:
        """A ping is answered."""
        if not self._pings:
            raise NatsProtocolError("the server has answered a ping that was not sent")
        waiting = self._pings.popleft()
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def info(self, info: dict[str, Any]) -> None:
        """The server has sent data about itself."""
        most = info.get("max_payload")
        if type(most) is int and most > 0:
            self.max_payload = most
        self._told(info, self.server, self._has_tls)

    def error(self, text: str) -> None:
        """The server has sent an error; after most errors it closes the connection."""
        lower = text.lower()
        if lower.startswith("permissions violation") or lower.startswith("invalid subject"):
            self._complained(text)
        elif lower.startswith(_REFUSED):
            self.fail(NatsAuthFailed(f"{self.server} refuses these credentials: {text}"))
        else:
            self.fail(NatsError(f"{self.server}: {text}"))
        if self._problem is not None:
            self.accepted.fail(self._problem)
