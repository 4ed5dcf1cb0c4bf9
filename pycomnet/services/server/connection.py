"""A server's end of a connection, and how its calls are answered."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pycomnet.auth.principal import Principal
from pycomnet.channels.connection import Connection
from pycomnet.errors import (
    ConnectionLost,
    PycomnetError,
    ResultNotSendable,
    ServiceError,
    error_map,
    message_of,
)
from pycomnet.net import endpoints
from pycomnet.net.eager import BULK_SIZE
from pycomnet.services.blocks import OutgoingBlocks, Owner
from pycomnet.services.client.pending import NOTHING
from pycomnet.services.server.accessgate import Caller, LoginCall, head_of
from pycomnet.services.server.batches import ServerBatch
from pycomnet.services.server.limits import PEEK
from pycomnet.services.server.request import PLAIN, KeyedRequest, Request, ServerCall
from pycomnet.wire.frames import NORMAL
from pycomnet.wire.mux import Limits, LocalError, Stream
from pycomnet.wire.values import ValueNotSendable, blame

if TYPE_CHECKING:
    from pycomnet.services.server.server import ServiceServer

#: Seconds that a client has to send its hello after it has connected.
HELLO_TIMEOUT = 20.0
#: While a connection has incomplete requests, all arriving bytes count as theirs. After this many
#: bytes their real size is counted.
COUNT_AFTER = 1 << 20


class ServerConnection(Connection):
    """One client's connection.

    :ivar server: the server.
    :ivar peer: the client's address, as an endpoint string.
    :ivar long: calls whose requests have not arrived completely.
    :ivar requests: how many bytes are held of its calls' requests.
    """

    def __init__(self, server: ServiceServer, limits: Limits, keepalive: float | None) -> None:
        super().__init__(server.reactor, False, limits, server.hello(), keepalive=keepalive)
        self.server = server
        self.account = server.memory
        self.bulk_size = server.limits.read
        self.small_size = min(self.small_size, self.bulk_size)
        self.make_handle = Owner(self)
        self.acceptors = {
            "invoke": self._invoked,
            "stream": self._streamed,
            "batch": self._batched,
            "login": self._logging_in,
        }
        self.mux.expect_calls(("invoke",))
        self.peer = ""
        self.long: dict[ServerCall, None] = {}
        self.requests = 0
        #: bytes of streams' values that wait to be written
        self._unwritten = 0
        #: bytes of incomplete requests that count as held; how many arrived since the last count
        self.partial = self._uncounted = 0
        self._user: str | None = None
        self._user_known = False
        self._hello: Any = None
        #: what access control knows of the client, and its ``heads``; None where all may call all
        self.caller: Caller | None = None
        self.heads: frozenset[bytes] | None = None
        #: the logins that it has; never changed, but replaced
        self.logins: Any = None
        #: the login that is under way
        self.login: LoginCall | None = None

    def connectionMade(self) -> None:
        transport: Any = self.transport
        address = transport.getPeer()
        self.peer = endpoints.describe_address(address)
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
        super().connectionMade()
        self.server.unauthenticated.arrived(transport)
        self.ask_gate()
        self._hello = self.reactor.callLater(HELLO_TIMEOUT, self._no_hello)
        self.when_ready().addCallbacks(self._greeted, self._greeted)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.long:
            size = len(data)
            self._hold_partial(self.partial + size)
            self._uncounted += size
            if self.heads is not None:
                self._judge()
            if self._uncounted >= COUNT_AFTER or self.server.held.is_full():
                self._count()
                if self.server.held.is_full():
                    self.server.make_room()

    def _hold_partial(self, size: int) -> None:
        held = self.server.held
        held.size += size - self.partial
        held.partial += size - self.partial
        self.partial = size

    def _count(self) -> None:
        """Count the bytes of incomplete requests."""
        self._uncounted = 0
        parts = (call.stream.partial for call in self.long)
        self._hold_partial(sum(part.size for part in parts if part is not None))

    def _judge(self) -> None:
        """Refuse the incomplete requests whose beginnings show that they are not allowed, so that
        the rest of them is not received.
        """
        for call in list(self.long):
            part = call.stream.partial
            if call.judged or part is None or part.size < PEEK:
                continue
            call.judged = True
            why = self.server.may_continue(call, part.beginning(PEEK))
            if why is not None:
                self.drop(call, why)

    def drop(self, call: ServerCall, why: Exception) -> None:
        """Refuse a request of which a part has arrived."""
        del self.long[call]
        self.refuse(call, why)
        self._count()

    def drop_newest(self) -> None:
        """Refuse the newest incomplete request: the others are nearer to completion."""
        self.drop(next(reversed(self.long)), self.server.held.no_room())

    def held_bytes(self) -> int:
        """Includes what is held of its calls' requests: arguments, and blocks in memory."""
        return super().held_bytes() + self.requests + self.partial

    def request_ended(self, call: ServerCall, size: int = 0) -> None:
        """Count a request as incomplete no longer: all ``size`` bytes of it have arrived, or no
        more will.
        """
        if call in self.long:
            del self.long[call]
            released = min(size, self.partial) if self.long else self.partial
            self._hold_partial(self.partial - released)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._greeted()
        self.server.unauthenticated.known(self.transport)
        super().connectionLost(reason)
        self.server.disconnected(self)

    def _no_hello(self) -> None:
        self._hello = None
        self.abort(ConnectionLost(f"{self.peer} sent no hello in {HELLO_TIMEOUT:g} seconds"))

    def _greeted(self, _: object = None) -> None:
        gate = self.server.gate
        if gate is None or gate.serves_anybody():  # else it is unauthenticated until it logs in
            self.server.unauthenticated.known(self.transport)
        if self._hello is not None:
            self._hello.cancel()
            self._hello = None

    def ask_gate(self) -> None:
        """Ask the server's access control, if it has one by now, who the client is."""
        gate = self.server.gate
        if gate is not None and self.caller is None and self.transport is not None:
            self.caller = gate.connected(self)

    def set_heads(self, heads: frozenset[bytes] | None, logins: Any) -> None:
        """Set how the requests begin that may run without asking access control; None: all.

        :param logins: the logins that allow them.
        """
        self.heads = heads
        self.logins = logins
        if logins and self.transport is not None:
            self.server.unauthenticated.known(self.transport)

    def may_all(self, interface: str, method: str) -> bool:
        """Whether the client may make all calls of a method, as long as it has these logins."""
        if self.heads is None:
            return True
        return b"\x94" + self.encode([interface, method])[1:] in self.heads

    def user_of(self, logins: Any, interface: str, method: str) -> Principal | None:
        """The user that calls a method, as its rule's checkers know it. Without a rule it is the
        name in the certificate.

        :param logins: the connection's, when the method began.
        """
        gate = self.server.gate
        if gate is not None and logins is not None and gate.has_rule(interface, method):
            return gate.user(logins, interface, method)
        return None if self.user is None else Principal(self.user, how="certificate")

    @property
    def user(self) -> str | None:
        """The name in the client's certificate."""
        if not self._user_known and self.transport is not None:
            self._user_known = True
            self._user = endpoints.peer_name(self.transport)
        return self._user

    @property
    def client(self) -> Any:
        """Identifies the client in the keys of its sessions: by the id in its hello, which is the
        same on all its connections; without one, by the connection.
        """
        peer = self.mux.peer
        said = None if peer is None else peer["info"].get("client")
        return said if isinstance(said, bytes) and 8 <= len(said) <= 64 else id(self)

    @property
    def is_local(self) -> bool:
        """Whether the client is on this machine."""
        transport: Any = self.transport
        return transport is not None and endpoints.is_local_address(transport.getPeer())

    # -- calls -----------------------------------------------------------------------------------

    def call_received(self, id: int, payload: bytes) -> None:
        """A complete unary call has arrived, the usual case.

        If the method replies at once, the call never becomes a :class:`ServerCall`: every short
        call of a plain function takes this fast path. Any other call leaves it as soon as that is
        noticed. The row "null call, 64 in flight" needs it.
        """
        server = self.server
        held = server.held
        if (
            self.long
            or len(payload) > PEEK
            or server.running >= server.limits.running
            or server.ending
            or held.size + len(payload) > held.most
            or (self.heads is not None and head_of(payload) not in self.heads)
        ):
            self._call_of(id, False).arrived(payload, 0)
            return
        try:
            asked = self.decode(payload)
        except Exception:
            self._call_of(id, False).arrived(payload, 0)
            return
        expires: float | None = None
        try:
            about = blocks = None
            if len(asked) == 4:
                interface, name, args, seconds = asked
            else:
                interface, name, args, seconds, blocks, about = asked
            bound = server.methods[interface][name]
            direct = bound.direct and not blocks
            if seconds is not None:
                direct = direct and seconds > 0
                expires = self.reactor.seconds() + seconds
        except Exception:
            direct = False
        if not direct:
            server.start(self._call_of(id), payload, asked)
            return
        try:
            if bound.checked:
                bound.method.check(args)
            if about is None:
                request = Request(self, interface, name, args, expires)
            else:
                request = KeyedRequest(self, interface, name, args, expires, about)
            result = bound.function(request)
        except BaseException as problem:  # also SystemExit: a method must not end the server
            self.refuse(self._call_of(id), problem)
            return
        if type(result) in PLAIN:
            try:
                answer = NOTHING if result is None else self.encode([result])
            except Exception:
                self.answer(self._call_of(id), [result])  # which sends the reason
            else:
                self.mux.reply(id, answer)
                if self.mux.scheduler.congested:
                    self.keeps(len(answer))
            return
        call = self._call_of(id)
        call.size = len(payload)
        call.begun = True
        if expires is not None:
            call.seconds, call.expires = seconds, expires
        server.settle(call, result)

    def _call_of(self, id: int, asked: bool = True) -> ServerCall:
        """Make the call object of a unary call.

        :param asked: whether its request has arrived.
        """
        stream: Any = self.mux.stream_of(id)
        call = ServerCall(self, stream, False)
        call.asked = asked
        return call

    def _invoked(self, stream: Stream) -> ServerCall:
        return ServerCall(self, stream, False)

    def _streamed(self, stream: Stream) -> ServerCall:
        return ServerCall(self, stream, True)

    def _batched(self, stream: Stream) -> ServerCall:
        return ServerBatch(self, stream)

    def _logging_in(self, stream: Stream) -> LoginCall:
        return LoginCall(self, stream)

    # -- answering -------------------------------------------------------------------------------

    def answer(self, call: ServerCall | LoginCall, answer: Any) -> None:
        """Send a call's result."""
        if call.over:
            return
        try:
            if self.server.draining and isinstance(answer, list):  # a login's is a map
                answer = [*answer, *([[]] if len(answer) < 2 else []), {"draining": True}]
            payload = self.encode(answer)
        except ValueNotSendable as problem:
            parts = [("result", "[0]", answer[0], answer[:1])]
            found = blame(self.encode, problem, parts)
            self.refuse(call, ResultNotSendable(str(found)))
            return
        except Exception as problem:
            self.refuse(call, problem)  # the code of the result's own types may have raised it
            return
        call.reply(payload)
        if not self.corked:
            self.flush_soon()
        if self.mux.scheduler.congested:
            self.keeps(len(payload))

    def answer_with_blocks(
        self, call: ServerCall, value: Any, blocks: Sequence[Any]
    ) -> OutgoingBlocks | None:
        """Send a result that comes with blocks. Returns the blocks to send after it."""
        if call.over:
            return None
        outgoing = OutgoingBlocks(self, blocks)
        self.answer(call, [value, outgoing.described])
        return outgoing

    def refuse(
        self, call: ServerCall | LoginCall, problem: BaseException, failure: Failure | None = None
    ) -> None:
        """Send the reason why a call has no result."""
        if call.over:
            return
        call.over = True  # the error's own code may call this
        payload = self._refusal(problem, failure)
        call.fail(payload)
        if not self.corked:
            self.flush_soon()
        if self.mux.scheduler.congested:
            self.keeps(len(payload))

    def _refusal(self, problem: BaseException, failure: Failure | None) -> bytes:
        """Encode an error. This works whatever the error's own code does."""
        formatted = ""
        if self.server.shows_tracebacks(self) and not isinstance(problem, ServiceError):
            try:
                if failure is not None and problem.__traceback__ is None:
                    formatted = failure.getTraceback()
                else:
                    formatted = "".join(traceback.format_exception(problem))
            except BaseException:
                formatted = ""  # the error's own code has raised; the rest is still sent
        try:
            found = error_map(problem, formatted)
            found["message"] += self.server.tasks.hint(problem)
            return self.encode(found)
        except BaseException:
            kind, message = type(problem).__name__, message_of(problem)
            return self.encode({"code": "remote", "type": str(kind), "message": message})

    def end(self, call: ServerCall) -> None:
        """End a stream: it has no more values."""
        if not call.over:
            call.over = True
            self.mux.close(call.stream, NORMAL)
            self.flush_soon()

    def send(self, call: ServerCall, value: Any) -> defer.Deferred[None] | None:
        """Send a stream's next value.

        :returns: None if it is on its way, else a Deferred that fires once it is.
        """
        try:
            payload = self.encode(value)
        except ValueNotSendable as problem:
            raise ResultNotSendable(f"a value of the stream: {problem}") from None
        sent: defer.Deferred[None] = defer.Deferred(lambda _: None)
        try:
            at_once = self.mux.send(call.stream, payload, sent)
        except LocalError as problem:
            raise PycomnetError(str(problem)) from None
        self._unwritten += len(payload)
        if self._unwritten < BULK_SIZE:
            self.flush_soon()
        elif self.flushing:
            self._write_out()  # it is one of those that a flush has told to go on
        else:
            # Other streams may do the same in this turn; the transport pauses them when it is full.
            self._unwritten = 0
            self.flush()
        return None if at_once or sent.called else sent

    def _write_out(self) -> None:
        """Write the frames that wait for nothing, and tell nobody: a sender is running."""
        self._unwritten = 0
        scheduler = self.mux.scheduler
        if scheduler.out and not scheduler.congested:
            self._write(scheduler.take_out())

    def send_encoded(self, call: ServerCall, payload: bytes, token: Any) -> bool:
        """Send a stream's next value, which is encoded already, perhaps for several callers.

        :param token: its ``callback`` is called once the value is on its way, unless its ``called``
            is true: what a Deferred has.
        :returns: True if the value is on its way already; then the token is not used.
        """
        try:
            at_once: bool = self.mux.send(call.stream, payload, token)
        except LocalError as problem:
            raise PycomnetError(str(problem)) from None
        self._unwritten += len(payload)
        if self._unwritten >= BULK_SIZE:
            self._write_out()
        if not self.corked:
            self.flush_soon()
        if self.mux.scheduler.congested:
            self.keeps(len(payload))
        return at_once

    def session(self, interface: str, logins: Any) -> Any:
        """The session of this client, with the logins that it had when a call began."""
        return self.server.session(self, interface, logins)
