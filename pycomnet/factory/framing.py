"""Frames as wholes: cut out of a stream, without a look at what they carry; no I/O."""

from __future__ import annotations

from typing import Any

from pycomnet.wire.frames import (
    GOAWAY,
    HEADER,
    HEADER_SIZE,
    HELLO,
    MAX_HELLO,
    U32,
    name,
)
from pycomnet.wire.mux import EV_FAILED, EV_HELLO, Mux, ProtocolError


def frame(kind: int, id: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return HEADER.pack(len(payload), kind, id) + payload


class RelayedFrameReader:
    """Cuts a stream into frames.

    :param limit: bytes of the longest payload, but for the first frame's, which is a hello.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """The frames that are complete: type, channel, and the whole frame.

        :raises ProtocolError: one is too long, or of an unknown type.
        """
        if self._rest:
            data = self._rest + data
        frames = []
        position, end = 0, len(data)
        while end - position >= HEADER_SIZE:
            length, kind, id = HEADER.unpack_from(data, position)
            if not self._begun and (kind != HELLO or length > MAX_HELLO):
                raise ProtocolError("hello", "expected a hello, got something else")
            if self._begun and (kind > GOAWAY or kind == HELLO or length > self._limit):
                raise ProtocolError("frame", f"{name(kind)} of {length} bytes")
            stop = position + HEADER_SIZE + length
            if stop > end:
                break
            self._begun = True
            frames.append((kind, id, bytes(data[position:stop])))
            position = stop
        self._rest = data[position:]
        return frames


def read_hello(whole: bytes) -> dict[str, Any]:
    """What a hello says, checked as a multiplexer does.

    :param whole: the frame.
    :raises ProtocolError: it is not valid.
    """
    reader = Mux(False)
    for event in reader.receive_data(whole):
        if event[0] == EV_HELLO:
            return event[1]
        if event[0] == EV_FAILED:
            raise event[1]
    raise ProtocolError("hello", "expected a hello")


def read_credit(whole: bytes) -> int:
    if len(whole) != HEADER_SIZE + U32.size:
        raise ProtocolError("frame", f"CREDIT of {len(whole) - HEADER_SIZE} bytes, not 4")
    credit: int = U32.unpack_from(whole, HEADER_SIZE)[0]
    return credit
