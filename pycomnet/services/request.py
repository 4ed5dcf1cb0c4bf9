"""A call as its method sees it, and as the server keeps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from pycomnet.errors import ConnectionLost
from pycomnet.far.live import Live

if TYPE_CHECKING:
    from pycomnet.services.context import Context
    from pycomnet.services.serverside import ServerConnection
    from pycomnet.wire.mux import Stream


class Request(Live):
    """A call, as its method sees it.

    :ivar args: the structured arguments that the caller passed to ``invoke``.
    :ivar files: the blocks of binary data that came with it, as files that are open for reading.
    :ivar interface: the interface it is called by.
    :ivar method: the method's name.
    :ivar connection: the connection that it came on; it may be lost by now.
    """

    __slots__ = ("_expires", "args", "connection", "files", "interface", "method")

    def __init__(
        self,
        connection: ServerConnection,
        interface: str,
        method: str,
        args: Any,
        expires: float | None,
    ) -> None:
        self.connection = connection
        #: the reactor's time at which it is too late
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
        return self.connection.session(self.interface)

    @property
    def user(self) -> str | None:
        """The caller's name in its TLS certificate; None if there is none."""
        return self.connection.user

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
        """A context for calls to other services, which have this call's deadline at most."""
        return self.connection.server.context.until(self._expires)


class ServerCall:
    """What a server's connection keeps of a call."""

    __slots__ = (
        "asked",
        "blocks",
        "bucket",
        "connection",
        "expires",
        "held",
        "interrupt",
        "over",
        "release",
        "running",
        "seconds",
        "size",
        "stream",
        "streaming",
    )

    def __init__(self, connection: ServerConnection, stream: Stream, streaming: bool) -> None:
        self.connection = connection
        #: None once it has been answered
        self.stream: Any = stream
        stream.app = self
        # A request that is longer than a window comes as a whole; its length has a limit.
        if stream.receiving:
            connection.mux.demand_read(stream)
            connection.long[self] = None
        #: bytes of the request; and those for which room is taken, while it waits or runs
        self.size = 0
        self.held = 0
        #: bytes of its blocks that are in memory
        self.blocks = 0
        self.streaming = streaming
        #: whether the request has come
        self.asked = False
        #: how long its deadline was, and the reactor's time at which it is too late
        self.seconds = 0.0
        self.expires: float | None = None
        self.bucket: dict[Any, None] | None = None
        #: what is waited for: cancelled when the caller does not want it any more
        self.running: defer.Deferred[Any] | None = None
        #: called once the call is over, if there is something to put away
        self.release: Callable[[], None] | None = None
        #: why the method is being cancelled
        self.interrupt: Exception | None = None
        #: whether nothing is sent any more
        self.over = False

    # -- what the connection says ----------------------------------------------------------------

    def arrived(self, payload: bytes | memoryview, cost: int) -> None:
        if self.asked or type(payload) is not bytes:
            self.connection.violated("channel", "a call is one value, an array")
            return
        self.asked = True
        if self.connection.long:
            self.connection.is_whole(self, len(payload))
        self.connection.server.begin(self, payload)

    def run_arrived(self, payloads: list[bytes], cost: int) -> None:
        """Several values at once: a request is one."""
        self.connection.violated("channel", "a call is one value, an array")

    def ended(self) -> None:
        """The caller sends no more, as is right."""

    def closed(self, kind: int, payload: bytes) -> None:
        """The caller has cancelled the call."""
        self.cancel(None)

    def connection_lost(self, lost: ConnectionLost) -> None:
        self.cancel(None)

    def expired(self) -> None:
        self.bucket = None
        self.connection.server.too_late(self)

    # -- its end ---------------------------------------------------------------------------------

    def cancel(self, why: Exception | None) -> None:
        """Stop what runs; ``why`` is the error for the caller, or None if it gets nothing."""
        if not self.asked:
            self.connection.is_whole(self)
        if why is None:
            self.over = True
        self.interrupt = why
        running = self.running
        if running is not None:
            running.cancel()
        else:
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


__all__ = ["ServerCall", "Request"]
