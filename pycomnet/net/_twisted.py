"""All uses of Twisted's private attributes.

Each use is a function with a public fallback ("the public way"): slower, or without some comfort,
but correct. So if Twisted changes, programs get slower and lose no data. This module's tests fail
on such a Twisted, and ``pyproject.toml`` has an upper bound until they have passed with a new
version. Parts of ``twisted.web`` are imported when they are used, as most programs use no HTTP.
"""

from __future__ import annotations

import select
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from twisted.internet.abstract import FileDescriptor

if TYPE_CHECKING:
    from twisted.internet import _IReactorCommon

    #: The declared type of ``twisted.internet.reactor``. The public way: the interfaces.
    CommonReactor: TypeAlias = _IReactorCommon

C = TypeVar("C", bound=type[Any])

#: A descriptor without a reactor, to inspect.
_SAMPLE = FileDescriptor(object())  # type: ignore[arg-type]
#: Whether a descriptor's write buffer has the known form: one piece of bytes that is being written,
#: and a list of further pieces.
HAS_BUFFER = {"_tempDataBuffer", "_tempDataLen"} <= set(vars(_SAMPLE)) and all(
    hasattr(_SAMPLE, name) for name in ("dataBuffer", "offset")
)
#: Whether a descriptor has a method that is called when all is written before a half-close.
HAS_HALF_CLOSE = hasattr(FileDescriptor, "_closeWriteConnection")
#: Seconds between checks whether all is written, if no method is called then.
LOOK_AGAIN = 0.05


# -- the write buffer of a descriptor ------------------------------------------------------------


def _buffer_has_some(transport: Any) -> bool:
    return bool(transport.dataBuffer or transport._tempDataBuffer)


def _waits_to_write(transport: Any) -> bool:
    """The public way: the reactor watches descriptors that have something to write."""
    return transport in transport.reactor.getWriters()


def _has_part(transport: Any) -> bool:
    return bool(transport.dataBuffer)


#: Whether a FileDescriptor has bytes in its write buffer.
has_unwritten: Callable[[Any], bool] = _buffer_has_some if HAS_BUFFER else _waits_to_write
#: Whether it has bytes that it has tried to write, and the system did not take.
is_congested: Callable[[Any], bool] = _has_part if HAS_BUFFER else _waits_to_write


def drop_unwritten(transport: Any) -> None:
    """Empty a descriptor's write buffer. The public way: it keeps the memory."""
    if HAS_BUFFER:
        transport.dataBuffer, transport.offset = b"", 0
        transport._tempDataBuffer, transport._tempDataLen = [], 0


def queued_descriptors(transport: Any) -> Sequence[int] | None:
    """The descriptors that a UNIX transport will send with the next bytes that it writes.

    :returns: a list that changes as they are sent; None if that can't be known. The public way is
        to wait until the transport has nothing left to write.
    """
    found: Sequence[int] | None = getattr(transport, "_sendmsgQueue", None)
    return found


# -- half-closing --------------------------------------------------------------------------------


def stop_taking(transport: Any) -> None:
    """Let a descriptor drop all bytes that are written to it from now on."""
    if hasattr(transport, "_writeDisconnected"):
        transport._writeDisconnected = True
    else:
        transport.write = transport.writeSequence = lambda data: None
    transport.stopWriting()


def closes_write_end(cls: C) -> C:
    """Let ``close_write_end`` be called when all is written after ``loseWriteConnection``.

    A decorator for a subclass of FileDescriptor. The public way: it checks repeatedly whether all
    is written.
    """
    if HAS_HALF_CLOSE:
        cls._closeWriteConnection = cls.close_write_end
        return cls

    def lose_write_connection(self: Any) -> None:
        if not self.connected or self.disconnected:
            return
        if has_unwritten(self):
            self.reactor.callLater(LOOK_AGAIN, lose_write_connection, self)
            return
        stop_taking(self)
        self.close_write_end()

    cls.loseWriteConnection = lose_write_connection
    return cls


# -- methods of a transport that are replaced ----------------------------------------------------


def replace_read(transport: Any, read: Callable[[], Any]) -> bool:
    """Let the reactor call ``read`` instead of a transport's ``doRead``; False if impossible."""
    return _replace(transport, "doRead", read)


def replaced_read(transport: Any) -> Any:
    """The function that replaces a transport's ``doRead`` in the reactor; None if there is none."""
    return getattr(transport, "__dict__", {}).get("doRead")


def restore_read(transport: Any) -> None:
    """Let the reactor call a transport's own ``doRead`` again."""
    getattr(transport, "__dict__", {}).pop("doRead", None)


def replace_write(transport: Any, write: Callable[[bytes], Any]) -> bool:
    """Let a descriptor call ``write`` instead of ``writeSomeData``; False if impossible."""
    return hasattr(transport, "writeSomeData") and _replace(transport, "writeSomeData", write)


def _replace(target: object, name: str, value: object) -> bool:
    try:
        setattr(target, name, value)
    except AttributeError:
        return False
    return bool(getattr(target, name) == value)


# -- reactors ------------------------------------------------------------------------------------


def epoll_of(reactor: object) -> select.epoll | None:
    """The epoll on which a reactor waits, or None. The public way: poll one socket."""
    if not hasattr(select, "epoll"):
        return None
    poller = getattr(reactor, "_poller", None)
    return poller if isinstance(poller, select.epoll) else None


def set_clock(reactor: object, seconds: Callable[[], float]) -> bool:
    """Let a reactor use a clock; return whether it does. The public way: the wall clock."""
    return _replace(reactor, "seconds", seconds)


def silence_waker(reactor: object) -> None:
    """In a forked child: keep calls from threads from waking the parent's reactor."""
    if hasattr(reactor, "waker"):
        reactor.waker = None


def runs_on(reactor: object, loop: object) -> bool:
    """Whether an asyncio reactor runs on a loop. The public way: False."""
    return getattr(reactor, "_asyncioEventloop", None) is loop


# -- TLS -----------------------------------------------------------------------------------------


class _Later(ModuleType):
    """In place of a module of Twisted's, while the reactor's modules are loaded."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # Python's import system asks for some
        self.leave()
        return getattr(import_module(self.__name__), name)

    def leave(self) -> None:
        """From now on the module itself is imported."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


def _make_tls_factory(*args: Any, **kwargs: Any) -> Any:
    return import_module(_TLS).TLSMemoryBIOFactory(*args, **kwargs)


_TLS, _SSL = "twisted.protocols.tls", "twisted.internet.ssl"


def load_reactor_without_tls() -> None:
    """Load the default reactor's modules now, and the TLS libraries when they are first used.

    Loading those takes twice as long as all the rest, and gateways on this machine have no TLS.
    Twisted's modules take two names from those with TLS. Meanwhile they find modules here that
    have these names, and load the real ones when the names are used: so ``startTLS``,
    ``connectSSL`` and endpoints work as always. The public way: they are loaded at once. So it is
    done where there are other threads, too: those may import the same modules meanwhile.
    """
    alone = threading.active_count() == 1
    if alone and not {_TLS, _SSL, "twisted.internet.tcp"} & set(sys.modules):
        later = _Later(_TLS), _Later(_SSL)
        later[0].__dict__["TLSMemoryBIOFactory"] = _make_tls_factory
        sys.modules.update({module.__name__: module for module in later})
        try:
            import_module("twisted.internet.default")
        finally:
            for module in later:
                module.leave()
    import_module("twisted.internet.default")


# -- HTTP ----------------------------------------------------------------------------------------


def chunk_decoder() -> Any:
    """Twisted's decoder of chunked bodies, to derive from; ``object`` if it has changed."""
    from twisted.web import http

    return getattr(http, "_ChunkedTransferDecoder", object)


def decode_body(channel: Any, decoder: Any, received: Callable[[bytes], object]) -> None:
    """Let a server's channel decode the chunked body that is coming.

    :param decoder: made from :func:`chunk_decoder`. The public way: Twisted's own decoder.
    :param received: called with each piece.
    """
    finish = getattr(channel, "_finishRequestBody", None)
    if finish is not None and hasattr(channel, "_transferDecoder") and _is_decoder(decoder):
        channel._transferDecoder = decoder(received, finish)


def decode_answers(protocol: Any, decoder: Any) -> None:
    """Let a client's protocol decode chunked responses; as :func:`decode_body`."""
    if not _is_decoder(decoder):
        return
    request = protocol.request

    def ask(asked: Any) -> Any:
        answer = request(asked)
        parser = getattr(protocol, "_parser", None)
        if hasattr(parser, "_transferDecoders"):
            parser._transferDecoders = {b"chunked": decoder}  # type: ignore[union-attr]
        return answer

    protocol.request = ask


def _is_decoder(decoder: Any) -> bool:
    """Whether a decoder is derived from Twisted's, and not from ``object``."""
    base = chunk_decoder()
    return base is not object and issubclass(decoder, base)


def answers_bad_requests(cls: C) -> C:
    """Let ``bad_request`` be called for a request that can't be parsed.

    A decorator for a subclass of HTTPChannel. The public way: Twisted answers 400 itself.
    """
    cls._respondToBadRequestAndDisconnect = cls.bad_request
    return cls


# -- WebSockets ----------------------------------------------------------------------------------


def bound_messages(wire: Any, for_bytes: object, for_text: object) -> bool:
    """Let a WebSocket collect the pieces of messages in these; return whether it does.

    The public way: count the bytes between two messages.
    """
    if not (hasattr(wire, "_bytesBuffer") and hasattr(wire, "_textBuffer")):
        return False
    wire._bytesBuffer, wire._textBuffer = for_bytes, for_text
    return True


def websocket_state(wire: Any) -> Any:
    """The ``wsproto.connection.ConnectionState`` of a WebSocket; OPEN if that isn't known."""
    from wsproto.connection import ConnectionState

    connection = getattr(wire, "_wsconn", None)
    return getattr(connection, "state", ConnectionState.OPEN)
