"""HTTP/2's frames (RFC 9113, sections 4 and 6): their numbers and their encoding."""

from __future__ import annotations

import struct

from pycomnet.etcd.errors import EtcdProtocolViolation

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

#: Error codes.
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR = 0x0, 0x1, 0x3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 0x5, 0x6, 0x7, 0x8
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 0x9, 0xB

#: Settings.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 0x1, 0x2, 0x3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 0x4, 0x5, 0x6

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: The window that streams and a connection begin with.
FIRST_WINDOW = 65535
#: What no window may exceed.
MAX_WINDOW = (1 << 31) - 1
#: The default limit on the bytes in a frame.
FRAME_SIZE = 16384
#: A frame's head: its length and kind, its flags, its stream.
HEAD = struct.Struct(">IBI")
NUMBER = struct.Struct(">I")
SETTING = struct.Struct(">HI")
TWO_NUMBERS = struct.Struct(">II")

_pack = HEAD.pack


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Encode a frame."""
    return _pack(len(payload) << 8 | kind, flags, stream) + payload


def headers(stream: int, block: bytes, size: int = FRAME_SIZE) -> bytes:
    """Encode a HEADERS frame, and as many CONTINUATION frames as the block needs."""
    if len(block) <= size:
        return _pack(len(block) << 8 | HEADERS, END_HEADERS, stream) + block
    parts = [block[at : at + size] for at in range(0, len(block), size)]
    kinds = [HEADERS] + [CONTINUATION] * (len(parts) - 1)
    flags = [0] * (len(parts) - 1) + [END_HEADERS]
    return b"".join(map(frame, kinds, flags, [stream] * len(parts), parts))


def settings(values: dict[int, int]) -> bytes:
    """Encode a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*item) for item in values.items()))


def window_update(stream: int, size: int) -> bytes:
    """Encode a WINDOW_UPDATE frame; stream 0 means the connection."""
    return frame(WINDOW_UPDATE, 0, stream, NUMBER.pack(size))


def reset(stream: int, code: int) -> bytes:
    """Encode a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, NUMBER.pack(code))


def goaway(last: int, code: int, text: bytes = b"") -> bytes:
    """Encode a GOAWAY frame."""
    return frame(GOAWAY, 0, 0, TWO_NUMBERS.pack(last, code) + text)


def unpadded(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the payload of a padded frame begins and ends."""
    if start == end or data[start] >= end - start:
        raise EtcdProtocolViolation("a frame's padding is longer than the frame")
    return start + 1, end - data[start]
