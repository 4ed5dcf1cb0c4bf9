"""The seam of access control: what a server asks it, and the login that a connection has."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.auth.principal import Principal
from pycomnet.errors import ConnectionLost, Unauthenticated
from pycomnet.wire.frames import ERROR

if TYPE_CHECKING:
    from pycomnet.services.interface import Service
    from pycomnet.services.server.connection import ServerConnection
    from pycomnet.services.server.server import ServiceServer
    from pycomnet.wire.mux import Stream

#: The attribute of a function or a class that has an access rule.
RULE = "__pycomnet_rule__"
#: The most bytes of a message with credentials.
MAX_LOGIN = 16_384


class Caller(Protocol):
    """What access control knows of a connection's caller.

    It sets its connection's ``heads`` and ``logins``, with
    :meth:`~pycomnet.services.server.connection.ServerConnection.set_heads`.
    """

    def refusal(
        self, interface: str, method: str, size: int, again: bool = False
    ) -> Exception | None:
        """Why a call is not allowed, or None. Its arguments were not decoded yet.

        :param size: bytes of the request.
        :param again: whether it is asked again for the same call: its beginning has come, or it was
            allowed when it came and is about to run now.
        """

    def outlived(self, before: Any, interface: str, method: str) -> Exception | None:
        """Why a call that earlier logins of the connection allowed is not allowed any more; None if
        it is.

        :param before: those logins. They do not count if the connection has others by now.
        """

    def sees(self, interface: str, method: str) -> bool:
        """Whether the caller may know of a method."""


class AccessGate(Protocol):
    """Decides who may call what on a server."""

    def attach(self, server: ServiceServer) -> None:
        """Attach it to a server."""

    def add(self, service: Service) -> None:
        """A service is added, with the rules that it has.

        :raises AccessConfigError: a rule can't be used.
        """

    def unruled(self) -> list[str]:
        """The interfaces with a method that has no rule."""

    def kinds(self) -> list[str]:
        """The kinds of credentials that it takes."""

    def check_names(self) -> None:
        """Check that each rule is for an existing method, before the server listens.

        :raises AccessConfigError: one is not.
        """

    def sees(self, interface: str, method: str) -> bool:
        """Whether a client that has not logged in may know of a method."""

    def serves_anybody(self) -> bool:
        """Whether there is a method that needs no login."""

    def user(self, logins: Any, interface: str, method: str) -> Principal | None:
        """The user that calls a method, by the logins of a connection."""

    def has_rule(self, interface: str, method: str) -> bool:
        """Whether a method has a rule."""

    def identity(self, logins: Any) -> Hashable:
        """Who a caller is by its logins, as a part of a session's key."""

    def connected(self, connection: ServerConnection) -> Caller:
        """A client has connected."""

    def disconnected(self, connection: ServerConnection) -> None:
        """A client's connection is over."""

    def log_in(self, connection: ServerConnection, message: bytes) -> defer.Deferred[Any]:
        """Check credentials; fires with the reply, fails with :class:`Unauthenticated`.

        Cancelling it gives up.
        """

    def close(self) -> None:
        """The server has ended."""


class GateMaker(Protocol):
    """A rule, which can make the gate that enforces rules of its kind."""

    def make_gate(self, server: ServiceServer) -> AccessGate:
        """Make the gate of a server that has none."""


def find_rule(service: Service) -> GateMaker | None:
    """Any rule of a service, or None if it has none."""
    found: GateMaker | None = getattr(type(service), RULE, None)
    for declared in service.interfaces.values():
        for method in declared.methods.values():
            found = found or getattr(getattr(service, method.attribute), RULE, None)
    return found


def head_of(payload: bytes) -> bytes:
    """How a request begins: the array's first byte, the interface and the method, encoded.

    Names have the shortest possible encoding (docs/protocol.rst, "Values"). For names of more than
    255 bytes, and for an invalid request, the result is some bytes that :func:`make_heads` never
    makes.
    """
    try:
        size = payload[1]
        at = size - 0x9E if size < 0xC0 else payload[2] + 3
        size = payload[at]
        at += size - 0x9F if size < 0xC0 else payload[at + 1] + 2
    except IndexError:
        return b""
    return payload[:at]


def make_heads(
    encode: Callable[[object], bytes], methods: Iterable[tuple[str, str]]
) -> frozenset[bytes]:
    """How the requests for methods begin.

    :param methods: interfaces and names. Those with names of more than 255 bytes are left out:
        access control is asked for each of their requests.
    """
    found: set[bytes] = set()
    for interface, name in methods:
        if max(len(interface.encode()), len(name.encode())) > 255:
            continue
        names = encode([interface, name])[1:]
        found.update((b"\x94" + names, b"\x95" + names))  # without and with blocks
    return frozenset(found)


class LoginCall:
    """A login, as the server's connection keeps it until it is answered."""

    def __init__(self, connection: ServerConnection, stream: Stream) -> None:
        self.connection = connection
        self.stream: Any = stream
        stream.app = self
        #: whether it has ended, so that nothing more is sent
        self.over = False
        self._asked = False
        self._checking: defer.Deferred[Any] | None = None
        if stream.receiving:
            self._violated("channel", "a login is one complete call")

    def _violated(self, code: str, message: str) -> None:
        self.over = True
        self.connection.violated(code, message)

    def arrived(self, payload: bytes | memoryview, cost: int) -> None:
        """The credentials have arrived."""
        if self.over:
            return
        if self._asked or type(payload) is not bytes or len(payload) > MAX_LOGIN:
            self._violated("channel", f"a login is one value of at most {MAX_LOGIN} bytes")
            return
        self._asked = True
        gate = self.connection.server.gate
        if gate is None:
            text = "this server takes no credentials: nothing on it needs them"
            self.connection.refuse(self, Unauthenticated(text, "kind"))
        elif self.connection.login is not None:
            text = "another login of this connection is under way"
            self.connection.refuse(self, Unauthenticated(text, "busy"))
        else:
            self.connection.login = self
            self._checking = gate.log_in(self.connection, payload)
            self._checking.addCallbacks(self._accepted, self._refused)

    def reply(self, payload: bytes) -> None:
        """Send the encoded reply."""
        self.over = True
        stream, self.stream = self.stream, None
        self.connection.mux.reply_on(stream, payload)

    def fail(self, payload: bytes) -> None:
        """Send the encoded error."""
        self.over = True
        self.connection.mux.close(self.stream, ERROR, payload)

    def _accepted(self, reply: Any) -> None:
        self._ended()
        if not self.over:
            self.connection.answer(self, reply)

    def _refused(self, failure: Failure) -> None:
        self._ended()
        problem = failure.value
        assert problem is not None
        if not self.over and self.connection.lost is None and not self.connection.broken:
            self.connection.refuse(self, problem)

    def _ended(self) -> None:
        self._checking = None
        self.connection.login = None

    def run_arrived(self, payloads: list[bytes], cost: int) -> None:
        """Several values: a login is one."""
        self._violated("channel", "a login is one value")

    def ended(self) -> None:
        """The client sends no more: nothing to do."""

    def closed(self, kind: int, payload: bytes) -> None:
        """The client has given up."""
        self.over = True
        if self._checking is not None:
            self._checking.cancel()

    def connection_lost(self, lost: ConnectionLost) -> None:
        self.closed(0, b"")
