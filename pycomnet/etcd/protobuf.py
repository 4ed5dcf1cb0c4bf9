"""Encodes and decodes protocol buffers, as far as etcd's messages need it.

A field is a tag (its number and its wire type) and a value: a varint, or bytes with a length
prefix. The specification is https://protobuf.dev/programming-guides/encoding/.

Decoders don't trust the peer: they check lengths, varints and nesting. They skip unknown fields,
and fields of another wire type than expected, as the specification requires.
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


def _long(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


#: The varints that are encoded often: tags, and the lengths of most values. Without them, the row
#: "txn 64" of benchmarks/etcd.py takes a tenth more processor time.
_SMALL = [_long(number) for number in range(2048)]
_MOST_SMALL = len(_SMALL)

#: A decoded field can take sixty times the memory of its encoding. So the number of a message's
#: fields is limited, and the limit is checked whenever ``_LOOK`` more bytes are decoded.
MOST_FIELDS = 1 << 20
_LOOK = 1 << 16

Fields = list[tuple[int, int, int]]


def varint(number: int) -> bytes:
    """Encode an int64 or a uint64 as a varint."""
    if 0 <= number < _MOST_SMALL:
        return _SMALL[number]
    if number < 0:
        number += 1 << 64
    if not 0 <= number <= _MASK:
        raise OverflowError("a protobuf number has at most 64 bits")
    return _long(number)


def number_field(number: int, value: int) -> bytes:
    """Encode a varint field, of a number under 16; empty for the default, 0."""
    return _SMALL[number << 3 | VARINT] + varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """Encode a bytes field, of a number under 16; empty for the default, no bytes."""
    return message_field(number, value) if value else b""


def message_field(number: int, value: bytes) -> bytes:
    """Encode a message field, of a number under 16, also if the message is empty."""
    return _SMALL[number << 3 | BYTES] + varint(len(value)) + value


def fields(data: bytes, at: int, end: int) -> Fields:
    """Decode the fields of a message.

    :param at: where the message begins in ``data``; ``end``: where it ends.
    :returns: a tuple for each field. The first element is the tag: the number shifted by three
        bits, and the wire type. For a varint its value and 0 follow; for bytes their begin and end
        in ``data``. Fields with fixed-size numbers are left out.
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
    """Decode a varint of several bytes, whose first byte was read.

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
    """A decoded varint as an int64."""
    return value - (1 << 64) if value & _SIGN else value


def text(data: bytes, at: int, end: int) -> str:
    """Decode a string; bytes that are not UTF-8 are replaced."""
    return data[at:end].decode("utf-8", "replace")
