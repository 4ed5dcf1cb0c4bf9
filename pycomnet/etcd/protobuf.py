"""Protocol buffers' encoding: what etcd's messages need of it, written and read by hand.

A field is a tag (its number and the kind of its value) and a value: a varint, or bytes with their
length before them. https://protobuf.dev/programming-guides/encoding/ has it all.

What is read is a peer's: lengths, varints and nesting are checked. Fields that nobody asks for, and
fields of another kind than expected, are skipped, as the specification wants it.
"""

from __future__ import annotations

from pycomnet.etcd.errors import EtcdProtocolViolation

#: Kinds of values: the three low bits of a tag.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

#: What a varint may have: 64 bits.
_MASK = (1 << 64) - 1
_SIGN = 1 << 63
#: The bytes of a varint: 10 have 70 bits, and 64 are read.
_MOST_BYTES = 10

#: The varints that are encoded often.
_SMALL = [bytes([number]) if number < 128 else b"" for number in range(128)]

#: A decoded field can take sixty times the memory of its encoding. So the number of a message's
#: fields is limited, and the limit is checked whenever ``_LOOK`` more bytes are decoded.
MOST_FIELDS = 1 << 20
_LOOK = 1 << 16

Fields = list[tuple[int, int, int]]


def varint(number: int) -> bytes:
    """Encode a whole number: an int64, or a uint64."""
    if 0 <= number < 128:
        return _SMALL[number]
    if number < 0:
        number += 1 << 64
    if not 0 <= number <= _MASK:
        raise OverflowError("a protobuf number has at most 64 bits")
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def number_field(number: int, value: int) -> bytes:
    """A field with a whole number, for field numbers under 16; nothing if it is 0, the default."""
    return _SMALL[number << 3 | VARINT] + varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """A field with bytes or a message; nothing if they are empty, the default."""
    return _SMALL[number << 3 | BYTES] + varint(len(value)) + value if value else b""


def message_field(number: int, value: bytes) -> bytes:
    """A field with a message, which is there even if it is empty."""
    return _SMALL[number << 3 | BYTES] + varint(len(value)) + value


def fields(data: bytes, at: int, end: int) -> Fields:
    """Read the fields of a message.

    :param at: where the message begins in ``data``, and ``end`` where it ends.
    :returns: of each field its tag (the number shifted by three bits, and the kind) and: the number
        and 0, or where the bytes begin and where they end. Fixed numbers are left out.
    :raises EtcdProtocolViolation: it is not a valid message.
    """
    found: Fields = []
    stop = at
    try:
        while at < end:
            if at >= stop:
                if len(found) > MOST_FIELDS:
                    raise EtcdProtocolViolation(f"a message of over {MOST_FIELDS} protobuf fields")
                stop = at + _LOOK
            tag = data[at]
            at += 1
            if tag > 127:
                tag, at = long_varint(data, at, tag)
            kind = tag & 7
            if kind == VARINT:
                value = data[at]
                at += 1
                if value > 127:
                    value, at = long_varint(data, at, value)
                found.append((tag, value, 0))
            elif kind == BYTES:
                size = data[at]
                at += 1
                if size > 127:
                    size, at = long_varint(data, at, size)
                start = at
                at += size
                found.append((tag, start, at))
            elif kind == FIXED64:
                at += 8
            elif kind == FIXED32:
                at += 4
            else:
                raise EtcdProtocolViolation(f"a protobuf field of kind {kind}, expected 0, 1, 2, 5")
    except IndexError:
        raise EtcdProtocolViolation("a protobuf message ends within a field") from None
    if at != end:
        raise EtcdProtocolViolation("a protobuf field is longer than its message")
    return found


def long_varint(data: bytes, at: int, first: int) -> tuple[int, int]:
    """Read the rest of a varint of several bytes.

    :param at: where its second byte is.
    :param first: its first byte.
    :returns: its value, and where it ends.
    :raises EtcdProtocolViolation: it has more than ten bytes.
    :raises IndexError: the data end within it.
    """
    value, shift = first & 127, 7
    for byte in data[at : at + _MOST_BYTES - 1]:
        at += 1
        if byte < 128:
            return (value | byte << shift) & _MASK, at
        value |= (byte & 127) << shift
        shift += 7
    if shift == 7 * _MOST_BYTES:
        raise EtcdProtocolViolation("a protobuf number of more than 10 bytes")
    raise IndexError("the data end within a number")


def signed(value: int) -> int:
    """A varint that was read, as int64."""
    return value - (1 << 64) if value & _SIGN else value


def text(data: bytes, at: int, end: int) -> str:
    """A string; what is no UTF-8 in it is replaced."""
    return data[at:end].decode("utf-8", "replace")


__all__ = [
    "BYTES",
    "VARINT",
    "bytes_field",
    "fields",
    "long_varint",
    "message_field",
    "number_field",
    "signed",
    "text",
    "varint",
]
