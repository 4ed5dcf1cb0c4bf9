"""A call as its method sees it, and as the server keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from pycomnet.auth.principal import Principal
from pycomnet.errors import ConnectionLost
from pycomnet.far.live import Live
from pycomnet.wire.frames import ERROR

if TYPE_CHECKING:
    from pycomnet.services.client.context import Context
    from pycomnet.services.server.connection import ServerConnection
    from pycomnet.wire.mux import Stream

#: The limit in characters on each text of a call's metadata, which the caller sets.
LONGEST_SAID = 1_000
#: Types of results that are sent as they are. Other results may be Deferreds, or come with blocks.
PLAIN = frozenset((type(None), bool, int, float, str, bytes, list, dict))


class Request(Live):
    """A call, as its method sees it.

    :ivar args: the structured arguments that the caller passed to ``invoke``.
    :ivar files: the blocks of binary data that came with it, as files that are open for reading.
    :ivar interface: the interface it is called by.
    :ivar method: the method's name.
    :ivar connection: the connection that it came on; it may be lost by now.
    """

    __slots__ = ("_expires", "_logins", "args", "connection", "files", "interface", "method")

    def __init__(
        self,
        connection: ServerConnection,
        interface: str,
        method: str,
        args: Any,
        expires: float | None,
    ) -> None:
        self.connection = connection
        #: who the caller was when the method began
        self._logins = connection.logins
        #: the reactor's time of the deadline
        self._expires = expires
        self.interface = interface
        self.method = method
        self.args = args
        self.files: list[Any] = []

    def __repr__(self) -> str:
        return f"<Request {self.interface} {self.method} from {self.peer}>"

    def close_files(self) -> None:
        """Close the blocks that came with the call; this also happens when the call is over."""
        for file in self.files:
            file.close()

    @property
    def session(self) -> Any:
        """The session of this client, a dict; of stateful interfaces only.

        Its values must be sendable, and its size is limited. The client has it on every connection.
        It is dropped when it is not used for some minutes: :class:`~pycomnet.SessionLimits`.

        :raises SessionTooLarge: it holds too much.
        """
        return self.connection.session(self.interface, self._logins)

    @property
    def user(self) -> Principal | None:
        """Who called when the method began: ``.name``, ``.roles`` and ``.how``, the proof.

        It is the user whom the method's rule let in. A public method of an interface with a rule
        knows the users of that. Where there is no rule, it is the name in the client's TLS
        certificate. Else it is None.
        """
        return self.connection.user_of(self._logins, self.interface, self.method)

    @property
    def key(self) -> str | None:
        """The call's idempotency key, if it has one: a repetition of the call has the same."""
        return self._said("key")

    @property
    def on_behalf_of(self) -> str | None:
        """The user on whose behalf the caller calls, by its own account (a workflow service).

        Anybody who may call the method can claim anything here. It counts as far as :attr:`user`,
        who is the caller itself, is one to be believed.
        """
        return self._said("on_behalf_of")

    @property
    def memory(self) -> str | None:
        """The name of the memory that a repetition is for; see ``method(once=True)``."""
        return self._said("memory")

    def _said(self, name: str) -> str | None:
        """A text of the call's metadata."""
        return None

    @property
    def peer(self) -> str:
        """Where the call came from, as an endpoint string."""
        return self.connection.peer

    @property
    def deadline(self) -> float | None:
        """Seconds that are left until the deadline; None if there is none."""
        expires = self._expires
        if expires is None:
            return None
        return max(0.0, expires - self.connection.reactor.seconds())

    def context(self) -> Context:
        """A context for calls to other services, which have this call's deadline at most.

        Passwords and tokens of the server's context are sent to the addresses that they are for
        (:class:`pycomnet.ext.access.AtAddress`), and to no others: those may be the caller's.
        """
        return self.connection.server.context.for_request(self._expires)


class KeyedRequest(Request):
    """A call that came with metadata from its caller.

    :param about: the map; what is not valid in it does not count.
    """

    __slots__ = ("_about",)

    def __init__(
        self,
        connection: ServerConnection,
        interface: str,
        method: str,
        args: Any,
        expires: float | None,
        about: Any,
    ) -> None:
        super().__init__(connection, interface, method, args, expires)
        self._about = about if isinstance(about, dict) else {}

    def _said(self, name: str) -> str | None:
        value = self._about.get(name)
        return value if isinstance(value, str) and 0 < len(value) <= LONGEST_SAID else None


class ServerCall:
    """A call as the server's connection keeps it."""

    __slots__ = (
        "asked",
        "begun",
        "blocks",
        "bucket",
        "called",
        "connection",
        "expires",
        "fed",
        "held",
        "interrupt",
        "judged",
        "logins",
        "over",
        "release",
        "running",
        "seconds",
        "size",
        "stream",
        "streaming",
    )

    def __init__(
        self, connection: ServerConnection, stream: Stream | None, streaming: bool
    ) -> None:
        self.connection = connection
        #: None once the call has been answered, and of a call in a batch
        self.stream: Any = stream
        if stream is not None:
            stream.app = self
            # A request longer than a window is received as a whole; its length has a limit.
            if stream.receiving:
                connection.mux.demand_read(stream)
                connection.long[self] = None
        #: bytes of the request; and how many of them are counted as held while it waits or runs
        self.size = 0
        self.held = 0
        #: bytes of its blocks in memory
        self.blocks = 0
        self.streaming = streaming
        #: the interface and the method, and the logins that let it in, once it is accepted; not of
        #: a call that runs at once
        self.called: tuple[str, str] | None = None
        self.logins: Any = None
        #: whether the method has begun
        self.begun = False
        #: whether it is known that its caller may send the rest of a long request
        self.judged = False
        #: whether the request has arrived
        self.asked = False
        #: the length of its deadline in seconds, and the reactor's time of the deadline
        self.seconds = 0.0
        self.expires: float | None = None
        self.bucket: dict[Any, None] | None = None
        #: what the call waits for; cancelled if the caller cancels the call
        self.running: defer.Deferred[Any] | None = None
        #: cleans up once the call is over, or None
        self.release: Callable[[], None] | None = None
        #: whether a service sends the stream's values itself
        self.fed = False
        #: why the method is being cancelled
        self.interrupt: Exception | None = None
        #: whether the call has ended, so that nothing more is sent
        self.over = False

    # -- called by the connection ----------------------------------------------------------------

    def arrived(self, payload: bytes | memoryview, cost: int) -> None:
        if self.asked or type(payload) is not bytes:
            self.connection.violated("channel", "a call is one value, an array")
            return
        self.asked = True
        if self.connection.long:
            self.connection.request_ended(self, len(payload))
        self.begin(payload)

    def refusal(
        self, interface: str, name: str, size: int, again: bool = False
    ) -> Exception | None:
        """Why it is not wanted, by the texts with which its request begins, and its size.

        :param again: whether this is asked a second time, or will be.
        """
        return self.connection.server.refusal(self, interface, name, size, again)

    def begin(self, payload: bytes) -> None:
        """The whole request has arrived."""
        self.connection.server.begin(self, payload)

    def run_arrived(self, payloads: list[bytes], cost: int) -> None:
        """Several values arrived at once. That is an error, since a request is one value."""
        self.connection.violated("channel", "a call is one value, an array")

    def ended(self) -> None:
        """The caller sends no more: nothing to do."""

    def closed(self, kind: int, payload: bytes) -> None:
        """The caller has cancelled the call."""
        self.cancel(None)

    def connection_lost(self, lost: ConnectionLost) -> None:
        self.cancel(None)

    def expired(self) -> None:
        self.bucket = None
        self.connection.server.too_late(self)

    # -- its end ---------------------------------------------------------------------------------

    def reply(self, payload: bytes) -> None:
        """Send the encoded result: the call is over."""
        self.over = True
        stream, self.stream = self.stream, None  # the stream keeps the call: see PendingCall.closed
        self.connection.mux.reply_on(stream, payload)

    def fail(self, payload: bytes) -> None:
        """Send the encoded error: the call is over."""
        self.over = True
        self.connection.mux.close(self.stream, ERROR, payload)

    def cancel(self, why: Exception | None) -> None:
        """Cancel the call; ``why`` is the error for the caller, or None to send nothing."""
        if not self.asked:
            self.connection.request_ended(self)
        if why is None:
            self.over = True
        self.interrupt = why
        running = self.running
        if running is not None:
            running.cancel()
            return
        if self.fed and why is not None:
            self.connection.refuse(self, why)
        self.connection.server.forget(self)

    def put_away(self) -> None:
        """The call is over: release what it holds."""
        self.over = True
        bucket = self.bucket
        if bucket is not None:
            bucket.pop(self, None)
            self.bucket = None
        release = self.release
        if release is not None:
            self.release = None
            release()
