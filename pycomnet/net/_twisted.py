"""What is used of Twisted that Twisted does not promise to keep: all of it is here.

Each use is a function, and each has a public way to go on without: slower, or without a nicety,
but right. So a Twisted that has changed costs time and no data. The tests of this module fail on
it, and ``pyproject.toml`` has an upper bound until they have been seen to pass. What is of
``twisted.web`` is imported when it is used, as most programs speak no HTTP.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IUNIXTransport

C = TypeVar("C", bound=type[Any])

#: A descriptor on no reactor, to look at.
_SAMPLE = FileDescriptor(object())  # type: ignore[arg-type]
#: Whether a descriptor's write buffer is where it was: one piece of bytes that is being written,
#: and a list of those to come.
HAS_BUFFER = {"_tempDataBuffer", "_tempDataLen"} <= set(vars(_SAMPLE)) and all(
    hasattr(_SAMPLE, name) for name in ("dataBuffer", "offset")
)
#: Whether a descriptor has a method that is called when all is written before a half-close.
HAS_HALF_CLOSE = hasattr(FileDescriptor, "_closeWriteConnection")
#: Seconds between looks whether all is written, where nobody tells.
LOOK_AGAIN = 0.05


# -- the write buffer of a descriptor ------------------------------------------------------------


def _buffer_has_some(transport: Any) -> bool:
    return bool(transport.dataBuffer or transport._tempDataBuffer)


def _waits_to_write(transport: Any) -> bool:
    """The public way: the reactor watches what has something to write."""
    return transport in transport.reactor.getWriters()


def _has_part(transport: Any) -> bool:
    return bool(transport.dataBuffer)


#: Whether a FileDescriptor has bytes in its write buffer.
has_unwritten: Callable[[Any], bool] = _buffer_has_some if HAS_BUFFER else _waits_to_write
#: Whether it has some that it has tried to write, and the system did not take.
is_congested: Callable[[Any], bool] = _has_part if HAS_BUFFER else _waits_to_write


def unwritten_pieces(transport: Any) -> Sequence[bytes | bytearray | memoryview]:
    """What a descriptor is to write, if that is still in the pieces in which it was given.

    None of them where one is being written. The public way: none.
    """
    if not HAS_BUFFER or transport.dataBuffer:
        return ()
    pieces: Sequence[bytes] = transport._tempDataBuffer
    return pieces


def replace_unwritten(transport: Any, pieces: list[Any]) -> None:
    """Have a descriptor that has :func:`unwritten_pieces` write these instead."""
    transport._tempDataBuffer = pieces
    transport._tempDataLen = sum(map(len, pieces))


def drop_unwritten(transport: Any) -> None:
    """Empty a descriptor's write buffer. The public way: it keeps the memory."""
    if HAS_BUFFER:
        transport.dataBuffer, transport.offset = b"", 0
        transport._tempDataBuffer, transport._tempDataLen = [], 0


def queued_descriptors(transport: Any) -> Sequence[int] | None:
    """The descriptors that go with the next bytes which a UNIX transport writes by itself.

    :returns: a list that changes as they are sent; None where that can't be known. The public way
        is to leave all writing to the transport, and to wait until it has nothing left.
    """
    found: Sequence[int] | None = getattr(transport, "_sendmsgQueue", None)
    if found is None and not IUNIXTransport.providedBy(transport):
        return ()
    return found


# -- half-closing --------------------------------------------------------------------------------


def stop_taking(transport: Any) -> None:
    """Have a descriptor drop what is written to it from now on."""
    if hasattr(transport, "_writeDisconnected"):
        transport._writeDisconnected = True
    else:
        transport.write = transport.writeSequence = lambda data: None
    transport.stopWriting()


def closes_write_end(cls: C) -> C:
    """Have ``close_write_end`` be called when all is written after ``loseWriteConnection``.

    A decorator for a subclass of FileDescriptor. The public way is to look now and then whether all
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
    """Have the reactor call this in place of a transport's ``doRead``; whether that can be done."""
    return _replace(transport, "doRead", read)


def replaced_read(transport: Any) -> Any:
    """What the reactor calls in place of a transport's ``doRead``; None if that is its own."""
    return getattr(transport, "__dict__", {}).get("doRead")


def restore_read(transport: Any) -> None:
    """Have the reactor call a transport's own ``doRead`` again."""
    getattr(transport, "__dict__", {}).pop("doRead", None)


def replace_write(transport: Any, write: Callable[[bytes], Any]) -> bool:
    """Have a descriptor write by this in place of ``writeSomeData``; whether that can be done."""
    return hasattr(transport, "writeSomeData") and _replace(transport, "writeSomeData", write)


def _replace(target: object, name: str, value: object) -> bool:
    try:
        setattr(target, name, value)
    except AttributeError:
        return False
    return bool(getattr(target, name) == value)


# -- reactors ------------------------------------------------------------------------------------


def epoll_of(reactor: Any) -> select.epoll | None:
    """The epoll that a reactor sleeps in, or None. The public way: poll one socket."""
    if not hasattr(select, "epoll"):
        return None
    poller = getattr(reactor, "_poller", None)
    return poller if isinstance(poller, select.epoll) else None


def set_clock(reactor: Any, seconds: Callable[[], float]) -> bool:
    """Have a reactor go by a clock; whether it does. The public way: the wall clock."""
    return _replace(reactor, "seconds", seconds)


def silence_waker(reactor: Any) -> None:
    """In a forked child: have no call from a thread wake the parent's reactor."""
    if hasattr(reactor, "waker"):
        reactor.waker = None


def runs_on(reactor: Any, loop: object) -> bool:
    """Whether an asyncio reactor runs on a loop. The public way: it is taken for one of another."""
    return getattr(reactor, "_asyncioEventloop", None) is loop


# -- HTTP ----------------------------------------------------------------------------------------


def chunk_decoder() -> Any:
    """Twisted's decoder of bodies in chunks, to derive from; ``object`` if it has none such."""
    from twisted.web import http

    return getattr(http, "_ChunkedTransferDecoder", object)


def decode_body(channel: Any, decoder: Any, received: Callable[[bytes], object]) -> None:
    """Have a server's channel take apart the body in chunks that is coming.

    :param decoder: made from :func:`chunk_decoder`. The public way: Twisted's own takes it apart.
    :param received: called with each piece.
    """
    finish = getattr(channel, "_finishRequestBody", None)
    if finish is not None and hasattr(channel, "_transferDecoder") and _is_decoder(decoder):
        channel._transferDecoder = decoder(received, finish)


def decode_answers(protocol: Any, decoder: Any) -> None:
    """Have a client's protocol take apart answers in chunks; as :func:`decode_body`."""
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
    """Whether a decoder is made from Twisted's, rather than from ``object``."""
    base = chunk_decoder()
    return base is not object and issubclass(decoder, base)


def answers_bad_requests(cls: C) -> C:
    """Have ``bad_request`` be called for a request that can't be read.

    A decorator for a subclass of HTTPChannel. The public way: Twisted answers 400 itself.
    """
    cls._respondToBadRequestAndDisconnect = cls.bad_request
    return cls


# -- WebSockets ----------------------------------------------------------------------------------


def bound_messages(wire: Any, for_bytes: object, for_text: object) -> bool:
    """Have a WebSocket collect the pieces of messages in these; whether it does.

    The public way is to count what comes between two messages.
    """
    if not (hasattr(wire, "_bytesBuffer") and hasattr(wire, "_textBuffer")):
        return False
    wire._bytesBuffer, wire._textBuffer = for_bytes, for_text
    return True


def websocket_state(wire: Any) -> Any:
    """The ``wsproto.connection.ConnectionState`` of a WebSocket; OPEN where that isn't known."""
    from wsproto.connection import ConnectionState

    connection = getattr(wire, "_wsconn", None)
    return getattr(connection, "state", ConnectionState.OPEN)
