"""Ways to make a valid stream of frames one that hardly is."""

from __future__ import annotations

import random
import struct

from pycomnet.test.wire.muxkit import frame

#: The longest mutated stream.
LONGEST = 1 << 20
#: Where implementations slip.
NUMBERS = (
    *(0, 1, 2, 3, 8, 0x7F, 0x80, 255, 256, 1023, 1024, 65535, 65536, 65537),
    *(0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF),
)


def starts(data: bytes) -> list[int]:
    """Where the frames begin, as far as the headers say so."""
    found = []
    at = 0
    while at + 9 <= len(data):
        found.append(at)
        at += 9 + int.from_bytes(data[at : at + 4], "big")
    return found


def flip(rng: random.Random, data: bytes) -> bytes:
    """Other bits in some places."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= rng.choice((1, 0x80, 0xFF, rng.randrange(1, 256)))
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    """A piece less."""
    a, b = place(rng, data), place(rng, data)
    return data[: min(a, b)] + data[max(a, b) :]


def times(rng: random.Random, piece: bytes) -> bytes:
    """A piece so often, unless that is too long."""
    most = LONGEST // (len(piece) + 1) + 1
    return piece * min(rng.choice((1, 1, 2, 50, 3000)), most)


def repeat(rng: random.Random, data: bytes) -> bytes:
    """A piece more than once: perhaps so often that it is a flood."""
    a, b = sorted((place(rng, data), place(rng, data)))
    return data[:b] + times(rng, data[a:b]) + data[b:]


def repeat_frame(rng: random.Random, data: bytes) -> bytes:
    """One frame many times."""
    at = rng.choice(starts(data) or [0])
    end = at + 9 + int.from_bytes(data[at : at + 4], "big")
    return data[:end] + times(rng, data[at:end]) + data[end:]


def insert(rng: random.Random, data: bytes) -> bytes:
    """Garbage in between."""
    at = place(rng, data)
    return data[:at] + rng.randbytes(rng.choice((1, 3, 9, 100, 3000))) + data[at:]


def insert_frame(rng: random.Random, data: bytes) -> bytes:
    """A frame of any type in between, perhaps with a payload of the right form."""
    at = rng.choice([*starts(data)[1:], len(data)])
    payload = rng.choice((b"", b"\x00", rng.randbytes(rng.choice((4, 8, 300, 5000)))))
    channel = rng.choice((*range(9), rng.choice(NUMBERS)))
    return data[:at] + frame(rng.randrange(11), channel, payload) + data[at:]


def field_changed(rng: random.Random, data: bytes) -> bytes:
    """Another length, type, channel, or beginning of a payload."""
    at = rng.choice(starts(data) or [0])
    offset, form = rng.choice(((0, ">I"), (4, "B"), (5, ">I"), (5, ">I"), (9, ">I"), (9, "B")))
    number = rng.choice((rng.choice(NUMBERS), rng.randrange(12)))
    packed = struct.pack(form, number & (0xFF if form == "B" else 0xFFFFFFFF))
    return (data[: at + offset] + packed + data[at + offset + len(packed) :])[: max(len(data), 9)]


def swap(rng: random.Random, data: bytes) -> bytes:
    """Two neighbouring pieces, perhaps frames, the other way round."""
    a, b, c = sorted(place(rng, data) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def place(rng: random.Random, data: bytes) -> int:
    """A place in the data, often one where a frame begins."""
    if rng.random() < 0.6:
        return rng.choice([*starts(data), len(data)])
    return rng.randrange(len(data) + 1)


MUTATIONS = (flip, cut, repeat, repeat_frame, insert, insert_frame, field_changed, swap)


def mutated(rng: random.Random, data: bytes, count: int) -> bytes:
    """The data after so many mutations."""
    for _ in range(count):
        if data:
            data = rng.choice(MUTATIONS)(rng, data)[:LONGEST]
    return data
