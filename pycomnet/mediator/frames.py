"""WebSocket frames that carry bytes of a stream, parsed as they arrive; no I/O.

wsproto, below Twisted's WebSocket, is made for messages: it joins each message before it looks at
it, which copies it six times. Here a binary message is a header in front of some bytes of a stream
(docs/protocol.rst, "The WebSocket"), and the bytes are passed on as they arrive. wsproto gets all
else, in order: text, fragmented messages, pings, closing, and whatever breaks :rfc:`6455`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import Struct

#: The header of a binary message: the stream's number, and the offset of its first byte.
HEADER = Struct(">BQ")
#: The first byte of a frame that is a whole binary message.
WHOLE_BINARY = 0x82
#: Bits of the first two bytes: the last frame of a message; the payload is masked.
FIN = MASKED = 0x80
#: Values of the length in the second byte: the length follows, in two bytes or in eight.
LENGTH_16, LENGTH_64 = 126, 127
#: The lowest opcode of control frames, which may come between the frames of a message.
CONTROL = 8
#: Up to this many bytes, masking as one large number is faster.
NUMBER_UP_TO = 512
#: Bytes of random keys to get from the system at a time. A system call for each message would cost
#: more than masking a small message.
KEYS_SIZE = 4096

_U16, _U64 = Struct(">H"), Struct(">Q")
_XOR = [bytes(a ^ b for a in range(256)) for b in range(256)]


def mask(data: bytes | bytearray | memoryview, key: bytes, at: int = 0) -> bytes | bytearray:
    """Mask or unmask bytes: both are the same operation (section 5.3).

    :param key: the frame's four bytes.
    :param at: how many bytes of the payload precede these.
    """
    if at & 3:
        key = key[at & 3 :] + key[: at & 3]
    size = len(data)
    if size <= NUMBER_UP_TO:
        keys = int.from_bytes((key * (size // 4 + 1))[:size], "little")
        return (int.from_bytes(data, "little") ^ keys).to_bytes(size, "little")
    masked = bytearray(data)
    for place in range(4):
        masked[place::4] = masked[place::4].translate(_XOR[key[place]])
    return masked


class _Keys:
    """Masking keys: each is used once, and can't be predicted (section 5.3)."""

    def __init__(self) -> None:
        self._keys = b""
        self._at = 0

    def next(self) -> bytes:
        at = self._at
        if at == len(self._keys):
            self._keys = os.urandom(KEYS_SIZE)
            at = 0
        self._at = at + 4
        return self._keys[at : at + 4]


_keys = _Keys()


def frame(
    number: int, offset: int, data: bytes | memoryview, masked: bool
) -> tuple[bytes | bytearray | memoryview, ...]:
    """The frame of a binary message, in pieces.

    :param number: the number of the bytes' stream.
    :param offset: the offset of the first byte.
    :param masked: whether it is masked, as a client's frames have to be.
    """
    size = HEADER.size + len(data)
    bit = MASKED if masked else 0
    if size < LENGTH_16:
        begin = bytes((WHOLE_BINARY, bit | size))
    elif size < 1 << 16:
        begin = bytes((WHOLE_BINARY, bit | LENGTH_16)) + _U16.pack(size)
    else:
        begin = bytes((WHOLE_BINARY, bit | LENGTH_64)) + _U64.pack(size)
    lead = HEADER.pack(number, offset)
    if masked:
        key = _keys.next()
        return begin + key, mask(lead + data, key)
    return begin + lead, data


class TooLong(Exception):
    """A received message is longer than the limit."""


class Frames:
    """Parses a stream of frames.

    :param masked: whether the other end must mask its frames, as a client must.
    :param most: the most bytes of a binary message's payload.
    """

    def __init__(self, masked: bool, most: int) -> None:
        self._masked = masked
        self._most = most
        #: the beginning of a frame whose header is not complete; how much of it wsproto has got
        self._held = b""
        self._shown = 0
        #: bytes that are still to come: of a frame for wsproto, and of a binary message
        self._other = 0
        self._left = 0
        #: of a binary message: how much of its payload has arrived, its stream, the next offset
        self._at = 0
        self._number = 0
        self._offset = 0
        self._key = b""
        #: whether a fragmented message has begun and its last fragment has not arrived
        self._within = False

    def whole(self, data: bytes) -> tuple[int, int, bytes] | None:
        """The short binary message that is everything that has arrived, the usual case; else None.

        If it is None, pass the data to :meth:`feed`.
        """
        body = 6 if self._masked else 2
        size = len(data) - body
        if (
            not HEADER.size <= size < LENGTH_16
            or data[0] != WHOLE_BINARY
            or data[1] != (MASKED | size if self._masked else size)
            or size > self._most
            or self._held
            or self._left
            or self._other
            or self._within
        ):
            return None
        message = data[body:]
        if self._masked:
            keys = int.from_bytes((data[2:6] * 32)[:size], "little")
            message = (int.from_bytes(message, "little") ^ keys).to_bytes(size, "little")
        number, offset = HEADER.unpack_from(message)
        return number, offset, message[HEADER.size :]

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes | bytearray | memoryview]]:
        """Take bytes that have arrived.

        :returns: tuples of the stream's number, the offset of the first byte, and the bytes. With
            the number -1 they are bytes for wsproto.
        :raises TooLong: a message is too long.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        at, end = 0, len(data)
        view = memoryview(data)
        while at < end:
            if self._left or self._other:
                size = min(self._left or self._other, end - at)
                piece = view[at : at + size] if size < end else data
                at += size
                if self._other:
                    self._other -= size
                    yield -1, 0, piece
                else:
                    offset = self._offset
                    self._offset += size
                    self._left -= size
                    if self._key:
                        yield self._number, offset, mask(piece, self._key, self._at)
                        self._at += size
                    else:
                        yield self._number, offset, piece
                continue
            begun = self._begin(view[at:])
            if begun is None:
                self._held = bytes(view[at:])
                if self._is_other(self._held):
                    # wsproto may reject the arrived bytes: then do not wait for the rest.
                    new, self._shown = self._held[self._shown :], len(self._held)
                    yield -1, 0, new
                return
            if self._shown:
                at += self._shown
                self._other -= self._shown
                self._shown = 0
            at += begun

    def _is_other(self, head: bytes | memoryview) -> bool:
        """Whether a frame with these first two bytes is for wsproto, however long it is."""
        return len(head) >= 2 and (
            head[0] != WHOLE_BINARY or self._within or (head[1] & MASKED != 0) != self._masked
        )

    def _begin(self, data: memoryview) -> int | None:
        """Parse the beginning of a frame.

        :returns: how many bytes were used; None if more bytes are needed.
        """
        have = len(data)
        if have < 2:
            return None
        first, second = data[0], data[1]
        # The payload's size, where it begins, and the least size that is encoded like this.
        size, body, least = second & 0x7F, 2, 0
        if size == LENGTH_16:
            if have < 4:
                return None
            (size,), body, least = _U16.unpack_from(data, 2), 4, LENGTH_16
        elif size == LENGTH_64:
            if have < 10:
                return None
            (size,), body, least = _U64.unpack_from(data, 2), 10, 1 << 16
        masked = second & MASKED != 0
        if masked:
            body += 4
        if self._is_other(data[:2]) or size < max(least, HEADER.size) or size >> 63:
            # If it is invalid, wsproto reports why.
            if first & 0x0F < CONTROL:
                self._within = not first & FIN
            self._other = body + size
            return 0
        if size > self._most:
            raise TooLong
        if have < body + HEADER.size:
            return None
        lead: bytes | bytearray = bytes(data[body : body + HEADER.size])
        self._key = bytes(data[body - 4 : body]) if masked else b""
        if masked:
            lead = mask(lead, self._key)
        self._number, self._offset = HEADER.unpack(lead)
        self._at = HEADER.size
        self._left = size - HEADER.size
        return body + HEADER.size
