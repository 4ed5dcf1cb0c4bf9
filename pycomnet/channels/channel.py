"""The users' channels: each operation that waits returns a Deferred."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.channels.core import NO_ENDMARKER, ChannelCore
from pycomnet.deferred import done
from pycomnet.errors import ChannelClosed, RemoteError
from pycomnet.far.live import Live
from pycomnet.wire.frames import FRAGMENT, bin32
from pycomnet.wire.values import MAX_VALUE

#: The short values in a turn that are written together, while others are still being sent: so the
#: other end already works on them, and memory that is still in the processor's cache is reused.
CROWD = 512

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

    from pycomnet.channels.files import ChannelFile


class Channel(Live):
    """One end of a channel to code at the far side.

    It is closed when nothing refers to it, nothing waits for its values, and it has no callback.
    Code that ``remote_exec`` started then runs on: its ``receive`` raises EOFError, its values are
    dropped, and its error is logged. If far code got the channel in a value, it is closed here when
    the far code drops its last reference. So far code has to keep a reference to a channel that is
    sent repeatedly; otherwise each sending makes another channel. (If Python does not count
    references, the garbage collector decides when that happens.)

    :ivar gateway: the gateway that it leads to.
    """

    __slots__ = ("__weakref__", "_finalizer", "core", "gateway")

    def __init__(self, core: ChannelCore, gateway: Any) -> None:
        self.core = core
        self.gateway = gateway
        core.handle = weakref.ref(self)
        # Finalizers live for ever, so this one has only weak references: a core refers to the error
        # that ended it, the error to its frames, and those to the channel.
        self._finalizer = weakref.finalize(self, _abandon, weakref.ref(gateway), weakref.ref(core))
        self._finalizer.atexit = False

    @property
    def id(self) -> int:
        """The channel's number on its connection."""
        return self.core.stream.id

    def __repr__(self) -> str:
        state = "closed" if self.isclosed() else "open"
        return f"<Channel {self.id} of {self.gateway.id}, {state}>"

    def send(self, value: object) -> defer.Deferred[None]:
        """Send a value.

        :param value: None, bool, int, float, complex, str, bytes, list, tuple, dict, set,
            frozenset, channels, and these within each other; on a raw channel, bytes.
        :returns: fires when there is room for the value: a sender that waits for it cannot send
            faster than the other end receives. Fails with
            :class:`~pycomnet.wire.values.ValueNotSendable` (a TypeError that says what in the value
            can't be sent, and where), :class:`ChannelClosed`, :class:`RemoteError` or
            :class:`ConnectionLost`. Cancelling it takes the value back if none of it has been sent;
            otherwise the rest of it is still sent.
        """
        core = self.core
        stream = core.stream
        if stream.raw:
            if not isinstance(value, bytes | bytearray | memoryview):
                kind = type(value).__name__
                return defer.fail(TypeError(f"a raw channel carries bytes, not {kind}"))
            return core.send(bytes(value))
        if type(value) is bytes and len(value) > FRAGMENT:
            return core.send(value, bin32(len(value)))
        connection = core.connection
        try:
            payload = connection.pack(value, connection.hook, connection.options)
        except Exception:
            return self._send_otherwise(value)
        on_its_way = connection.mux.send_now(stream, payload)
        if on_its_way:
            if not connection.corked:
                connection.flush_soon()
            elif on_its_way >= CROWD:
                connection.flush()
            return done()
        return self._send_otherwise(value) if len(payload) > MAX_VALUE else core.send(payload)

    def _send_otherwise(self, value: object) -> defer.Deferred[None]:
        """Send a value that only the codec itself can encode, or fail with the codec's error."""
        try:
            payload = self.core.connection.encode(value)
        except Exception as problem:
            return defer.fail(problem)
        return self.core.send(payload)

    def receive(self) -> defer.Deferred[Any]:
        """Receive the next value.

        :returns: fires with it; fails with :class:`ChannelClosed` (an EOFError) at the end,
            :class:`RemoteError` if the far code raised, :class:`ConnectionLost`. Cancelling it
            leaves the value for the next ``receive``.
        """
        return self.core.receive(self._cancel_receive)

    def setcallback(
        self,
        callback: Callable[[Any], Any],
        errback: Callable[[Failure], Any] | None = None,
        endmarker: object = NO_ENDMARKER,
    ) -> None:
        """Call ``callback`` with each value, first with those that have come already.

        :param callback: called with one value at a time. If it returns a Deferred or a coroutine,
            the next value waits for that, and so does the sender when the window is full. If it
            raises, the channel is closed with the error, and nothing else is affected. Once the
            channel is closed here, it gets no more values.
        :param errback: called once with a Failure if the channel ends with an error: it wraps
            :class:`RemoteError` if the far code raised, :class:`ConnectionLost` if the connection
            ended, or what ``callback`` itself raised. Without an errback, the failure is logged.
        :param endmarker: if given, ``callback`` is called with this after the last value, and when
            ``errback`` has finished.
        :raises PycomnetError: the channel has a callback or a protocol, or a ``receive`` waits.
        """
        self.core.set_callback(callback, errback, endmarker)

    def waitclose(self) -> defer.Deferred[None]:
        """Wait until the other end has closed the channel, or has ended sending.

        It fires after the callbacks: when what they return has fired, including the errback's and
        the endmarker's. For the channel of ``remote_exec`` it waits for the code's end, as code
        that has closed the channel, or has ended sending, may still raise.

        :returns: fires with None; fails with :class:`RemoteError` if the far code raised, and
            with :class:`ConnectionLost`. Cancelling it changes nothing.
        """
        return self.core.wait_close(self._cancel_close)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.core.receive()
        except ChannelClosed:
            raise StopAsyncIteration from None

    def close(self, error: str | Exception | None = None) -> None:
        """Close both directions; what was sent still arrives, unless ``error`` is given.

        Values that have come can still be received; those that come later are dropped.

        :param error: the far code's ``receive`` raises RemoteError with it.
        """
        if isinstance(error, str):
            error = RemoteError("", error)
        self.core.close(error)

    def send_end(self) -> None:
        """End sending; the other end may go on sending."""
        self.core.end()

    def isclosed(self) -> bool:
        """Whether nothing more can be sent on it."""
        return not self.core.stream.sending or self.core.connection.lost is not None

    def makefile(self, mode: str = "w", proxyclose: bool = False) -> ChannelFile:
        """A file-like object whose methods return Deferreds; see :mod:`pycomnet.channels.files`."""
        from pycomnet.channels.files import ChannelFile

        return ChannelFile(self, mode, proxyclose)

    def attach(self, protocol: IProtocol) -> None:
        """Make a raw channel the transport of a Twisted protocol.

        :param protocol: its ``connectionLost`` gets ``ConnectionDone`` if either end finished,
            ``ConnectionAborted`` if this one aborted, else what ended it. It gets data from the
            reactor's next turn on, including data that has come already.
        :raises PycomnetError: the channel is not raw, or has a callback, a protocol or a
            ``receive`` that waits.
        """
        from pycomnet.channels.transport import ChannelTransport

        ChannelTransport(self, protocol).start()

    # Deferreds that users wait for keep the channel alive through these bound methods.

    def _cancel_receive(self, deferred: defer.Deferred[Any]) -> None:
        self.core.cancel_receive(deferred)

    def _cancel_close(self, deferred: defer.Deferred[None]) -> None:
        self.core.cancel_close(deferred)


class ChannelOwner:
    """The ``gateway`` of channels that belong to no gateway, and that their users close.

    :ivar id: its name in the channels' reprs and addresses.
    """

    def __init__(self, id: str) -> None:
        self.id = id

    def abandoned(self, core: ChannelCore) -> None:
        """No reference to a channel is left: no action needed."""


def _abandon(gateway: weakref.ref[Any], core: weakref.ref[ChannelCore]) -> None:
    """Abandon a channel to which no reference is left."""
    owner, abandoned = gateway(), core()
    if owner is not None and abandoned is not None:
        owner.abandoned(abandoned)


ChannelCore.handle_types = (Channel,)

__all__ = ["NO_ENDMARKER", "Channel", "ChannelCore", "ChannelOwner"]
