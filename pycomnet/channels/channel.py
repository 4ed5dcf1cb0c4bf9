"""Channels as users have them: each operation that waits returns a Deferred."""

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

#: Short values that are written while others of the same turn are still being sent: the other end
#: works on them meanwhile, and memory that a processor still has in its cache is used again.
CROWD = 512

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocol

    from pycomnet.channels.files import ChannelFile


class Channel(Live):
    """One end of a channel to code at the far side.

    It is closed when nobody holds it any more, nobody waits for what comes on it, and it has no
    callback. Code that ``remote_exec`` started runs on then: its ``receive`` raises EOFError, what
    it sends is dropped, and what it raises is logged. A channel that far code got in a value is
    closed here when it is held there no more: one that is sent again and again has to be held there
    meanwhile, or each time another is sent. (Where Python does not count references, all that is
    when its collector finds it.)

    :ivar gateway: what it leads to.
    """

    __slots__ = ("__weakref__", "_finalizer", "core", "gateway")

    def __init__(self, core: ChannelCore, gateway: Any) -> None:
        self.core = core
        self.gateway = gateway
        core.handle = weakref.ref(self)
        # Finalizers are held for ever, so this one holds nothing: the core of a channel has the
        # error that ended it, that the frames it was raised through, and those the channel.
        self._finalizer = weakref.finalize(self, _abandon, weakref.ref(gateway), weakref.ref(core))
        self._finalizer.atexit = False

    @property
    def id(self) -> int:
        """Its number on its connection."""
        return self.core.stream.id

    def __repr__(self) -> str:
        state = "closed" if self.isclosed() else "open"
        return f"<Channel {self.id} of {self.gateway.id}, {state}>"

    def send(self, value: object) -> defer.Deferred[None]:
        """Send a value.

        :param value: None, bool, int, float, complex, str, bytes, list, tuple, dict, set,
            frozenset, channels, and these within each other; on a raw channel, bytes.
        :returns: fires when there is room for the value on its way: whoever waits for it cannot
            send faster than the other end takes. Fails with
            :class:`~pycomnet.wire.values.ValueNotSendable` (a TypeError that says what in the value
            can't be sent, and where), :class:`ChannelClosed`, :class:`RemoteError` or
            :class:`ConnectionLost`. Cancelling it takes the value back if none of it has been sent;
            the rest of one that is on its way still goes.
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
        """Send what only the codec itself can encode, or can say why not."""
        try:
            payload = self.core.connection.encode(value)
        except Exception as problem:
            return defer.fail(problem)
        return self.core.send(payload)

    def receive(self) -> defer.Deferred[Any]:
        """The next value.

        :returns: fires with it; fails with :class:`ChannelClosed` (an EOFError) at the end,
            :class:`RemoteError` when the far code raised, :class:`ConnectionLost`. Cancelling it
            leaves the value for the next ``receive``.
        """
        return self.core.receive(self._cancel_receive)

    def setcallback(
        self,
        callback: Callable[[Any], Any],
        errback: Callable[[Failure], Any] | None = None,
        endmarker: object = NO_ENDMARKER,
    ) -> None:
        """Have each value given to ``callback``, those that have come already first.

        :param callback: called with one value at a time. If it returns a Deferred or a coroutine,
            the next value waits for that, and so does the sender when the window is full. If it
            raises, the channel is closed with the error, and nothing else is touched. Once the
            channel is closed here, it gets no more values.
        :param errback: called once with a Failure when the channel does not end well: it wraps
            :class:`RemoteError` when the far code raised, :class:`ConnectionLost` when the
            connection ended, or what ``callback`` itself raised. Without one, the failure is
            logged.
        :param endmarker: ``callback`` is called with this after the last value, and when
            ``errback`` has done, if it is given.
        :raises PycomnetError: the channel has a callback or a protocol, or a ``receive`` waits.
        """
        self.core.set_callback(callback, errback, endmarker)

    def waitclose(self) -> defer.Deferred[None]:
        """Wait for the other end to close it, or to send no more.

        It comes after the callbacks: when what those return has fired, the errback's and the
        endmarker's as well. Of the channel of ``remote_exec`` it is the code's end: code that has
        closed it, or sends no more, may still raise.

        :returns: fires with None; fails with :class:`RemoteError` when the far code raised, and
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

        What has come can still be received; what comes later is dropped.

        :param error: the far code's ``receive`` raises RemoteError with it.
        """
        if isinstance(error, str):
            error = RemoteError("", error)
        self.core.close(error)

    def send_end(self) -> None:
        """Say that no more will be sent; the other end may go on sending."""
        self.core.end()

    def isclosed(self) -> bool:
        """Whether nothing can be sent on it any more."""
        return not self.core.stream.sending or self.core.connection.lost is not None

    def makefile(self, mode: str = "w", proxyclose: bool = False) -> ChannelFile:
        """A file-like object whose methods return Deferreds; see :mod:`pycomnet.channels.files`."""
        from pycomnet.channels.files import ChannelFile

        return ChannelFile(self, mode, proxyclose)

    def attach(self, protocol: IProtocol) -> None:
        """Make a raw channel the transport of a Twisted protocol.

        :param protocol: its ``connectionLost`` gets ``ConnectionDone`` when either end finished,
            ``ConnectionAborted`` when this one aborted, else what ended it. It gets data from the
            reactor's next turn on, that which has come already too.
        :raises PycomnetError: the channel is not raw, or has a callback, a protocol or a
            ``receive`` that waits.
        """
        from pycomnet.channels.transport import ChannelTransport

        ChannelTransport(self, protocol).start()

    # Deferreds that users wait for keep the channel: through these, which are bound to it.

    def _cancel_receive(self, deferred: defer.Deferred[Any]) -> None:
        self.core.cancel_receive(deferred)

    def _cancel_close(self, deferred: defer.Deferred[None]) -> None:
        self.core.cancel_close(deferred)


def _abandon(gateway: weakref.ref[Any], core: weakref.ref[ChannelCore]) -> None:
    """A channel that nobody holds any more."""
    owner, abandoned = gateway(), core()
    if owner is not None and abandoned is not None:
        owner.abandoned(abandoned)


ChannelCore.handle_types = (Channel,)

__all__ = ["NO_ENDMARKER", "Channel", "ChannelCore"]
