"""Raw clients of every daemon that speaks the wire: each rule is broken once."""

from __future__ import annotations

import random
from typing import Any

import pytest
import pytest_twisted

from pycomnet.nameserver.records import encode
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.adversary.kit import (
    CALC,
    INVOKE,
    MB,
    ON_THE_WIRE,
    Peer,
    Victim,
    call,
    closing,
    frame,
    hello_of,
    in_thread,
    withstands,
)
from pycomnet.wire.frames import (
    CLOSE,
    CREDIT,
    DATA,
    END,
    FIRST,
    GOAWAY,
    HEADER,
    HELLO,
    MAGIC,
    MORE,
    OPEN,
    OPEN_END,
    PING,
    RAW,
    WIDE_WINDOW,
)

CHANNEL = b"\x07channel"
#: Frames of 60 kB that are more than any daemon's window: a gateway's is the widest.
OVER = 5 * WIDE_WINDOW // 4 // 60_000


def opened(flags: int = 0, first: bytes = b"") -> bytes:
    """OPEN of channel 1, a plain channel."""
    return frame(OPEN, 1, bytes((flags,)) + CHANNEL + first)


def fill(frame_type: int, size: int, count: int) -> bytes:
    return b"".join(frame(frame_type, 1, bytes(size)) for _ in range(count))


#: What is sent instead of a hello, and the code of the GOAWAY that answers it.
FIRST_FRAMES = {
    "http": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "hello"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "hello"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", "hello"),
    "nothing but zeros": (bytes(65536), "hello"),
    "a hello of 4 GB": (HEADER.pack(0xFFFFFFFF, HELLO, 0) + MAGIC, "hello"),
    "a hello that is too long": (HEADER.pack(65537, HELLO, 0) + MAGIC, "hello"),
    "data": (frame(DATA, 1, b"\x00"), "hello"),
    "a ping": (frame(PING, 0, bytes(8)), "hello"),
    "another version": (frame(HELLO, 0, MAGIC + b"\x00\x02" + encode({})), "version"),
    "no map": (frame(HELLO, 0, MAGIC + b"\x00\x01" + encode([1])), "hello"),
    "no value": (frame(HELLO, 0, MAGIC + b"\x00\x01\xc1"), "hello"),
    "no window": (frame(HELLO, 0, MAGIC + b"\x00\x01" + encode({"window": 0})), "hello"),
    "a window of NaN": (
        frame(HELLO, 0, MAGIC + b"\x00\x01" + encode({"window": float("nan")})),
        "hello",
    ),
    "a window of 2**63": (
        frame(HELLO, 0, MAGIC + b"\x00\x01" + encode({"window": 1 << 63})),
        "hello",
    ),
    "nested too deep": (
        frame(HELLO, 0, MAGIC + b"\x00\x01" + b"\x81\xa4info" + b"\x91" * 60_000),
        "hello",
    ),
    "a credential that is text": (
        frame(HELLO, 0, MAGIC + b"\x00\x01" + encode({"credential": "x"})),
        "hello",
    ),
}

#: What is sent after the hellos.
FRAMES = {
    "an unknown type": (frame(77, 1), "frame"),
    "a frame of 4 GB": (HEADER.pack(0xFFFFFFFF, DATA, 1), "frame"),
    "one byte over the limit": (opened() + HEADER.pack(262145, MORE, 1), "frame"),
    "a second hello": (frame(HELLO, 0, MAGIC + b"\x00\x01\x80"), "hello"),
    "a channel of the other end's": (frame(OPEN, 2, b"\x00" + CHANNEL), "channel"),
    "a channel again": (opened() + opened(), "channel"),
    "channel 0": (frame(OPEN, 0, b"\x00" + CHANNEL), "channel"),
    "data for no channel": (frame(DATA, 99, b"\x00"), "channel"),
    "more for no channel": (frame(MORE, 99, bytes(300)), "channel"),
    "credit for no channel": (frame(CREDIT, 99, bytes(4)), "channel"),
    "close for no channel": (frame(CLOSE, 99, b"\x00"), "channel"),
    "flags that there are not": (opened(0xF0), "frame"),
    "a fragment of a raw channel": (opened(RAW) + frame(MORE, 1, bytes(300)), "frame"),
    "a purpose that is cut": (frame(OPEN, 1, b"\x00\xff" + CHANNEL), "frame"),
    "an OPEN without anything": (frame(OPEN, 1), "frame"),
    "a purpose that is not ASCII": (frame(OPEN, 1, b"\x00\x02\xff\xfe"), "frame"),
    "crumbs": (opened() + frame(MORE, 1, b"x"), "frame"),
    "an end within a value": (opened() + frame(MORE, 1, bytes(300)) + frame(END, 1), "frame"),
    "a second end": (opened() + frame(END, 1) * 2, "channel"),
    "data after the end": (opened() + frame(END, 1) + frame(DATA, 1, b"\x00"), "channel"),
    "a close of no kind": (opened() + frame(CLOSE, 1, b"\x09"), "frame"),
    "a close without a kind": (opened() + frame(CLOSE, 1), "frame"),
    "a result within a value": (
        opened() + frame(MORE, 1, bytes(300)) + frame(CLOSE, 1, b"\x02\xc0"),
        "frame",
    ),
    "too little credit": (opened() + frame(CREDIT, 1, b"\x00"), "frame"),
    "credit over the maximum": (opened() + frame(CREDIT, 1, b"\x7f\xff\xff\xff") * 2, "window"),
    "all credit at once": (opened() + frame(CREDIT, 1, b"\xff\xff\xff\xff"), "window"),
    "more than the window": (opened() + fill(DATA, 60_000, OVER), "window"),
    "fragments over the window": (opened() + fill(MORE, 60_000, OVER), "window"),
    "a short ping": (frame(PING, 0, b"x"), "frame"),
    "a ping on a channel": (frame(PING, 1, bytes(8)), "frame"),
    "a goodbye that is no map": (frame(GOAWAY, 0, encode("bye")), "frame"),
    "a goodbye without a code": (frame(GOAWAY, 0, encode({"message": 1})), "frame"),
    "a goodbye that is no value": (frame(GOAWAY, 0, b"\xc1"), "frame"),
}


def answered(victim: Victim, data: bytes) -> tuple[str, str]:
    peer = Peer(victim.connect())
    peer.send(data)
    return peer.goodbye()


def refused(victim: Victim, data: bytes) -> tuple[str, str]:
    peer = Peer.of(victim)
    peer.send(data)
    return peer.goodbye()


@pytest.mark.parametrize("kind", ON_THE_WIRE)
@pytest_twisted.ensureDeferred
async def test_anything_but_a_hello_is_told_so(victims: dict[str, Victim], kind: str) -> None:
    """What begins with anything else than a hello is told so, and costs nothing."""
    victim = victims[kind]
    async with withstands(victim):
        for what, (data, code) in FIRST_FRAMES.items():
            assert (await in_thread(answered, victim, data))[0] == code, what


@pytest.mark.parametrize("kind", ON_THE_WIRE)
@pytest_twisted.ensureDeferred
async def test_each_broken_rule_is_an_error_by_name(victims: dict[str, Victim], kind: str) -> None:
    """Each rule of the wire, broken by a client that was let in: an error by its name."""
    victim = victims[kind]
    async with withstands(victim, processor=6):
        for what, (data, code) in FRAMES.items():
            found = await in_thread(refused, victim, data)
            # Who takes short values alone finds that first.
            assert found[0] == code or (found[0], code) == ("value", "window"), (what, found)


@pytest.mark.parametrize("kind", ["nameserver", "service", "factory"])
@pytest_twisted.ensureDeferred
async def test_unread_pongs_end_the_connection(victims: dict[str, Victim], kind: str) -> None:
    """Whoever pings and never reads the answers is cut off at a megabyte of them."""
    victim = victims[kind]

    def attack() -> int:
        peer = Peer.of(victim)
        sent = 0
        data = frame(PING, 0, bytes(8)) * 4096
        while peer.send(data) and sent < 256 * MB:
            sent += len(data)
        peer.close()
        return sent

    async with withstands(victim, processor=10):
        assert await in_thread(attack) < 128 * MB


@pytest.mark.parametrize("kind", ON_THE_WIRE)
@pytest_twisted.ensureDeferred
async def test_damaged_frames_are_a_named_error_or_none(
    victims: dict[str, Victim], kind: str
) -> None:
    """Valid frames that were damaged, a thousand of them: a named error or none, and no more."""
    victim = victims[kind]
    noise = random.Random(kind)
    good = hello_of(victim) + opened(FIRST, encode([1])) + frame(DATA, 1, b"\x01") + frame(END, 1)

    def attack() -> None:
        for _ in range(100):
            data = bytearray(good * 2)
            for _ in range(noise.randrange(1, 8)):
                data[noise.randrange(len(data))] = noise.randrange(256)
            peer = Peer(victim.connect())
            peer.send(bytes(data))
            peer.socket.shutdown(1)
            peer.goodbye()

    async with withstands(victim, processor=20):
        await in_thread(attack)


def colliding(count: int) -> dict[Any, int]:
    """A map whose keys are all different and have one hash: ints that differ by the modulus."""
    return {(number * ((1 << 61) - 1)): number for number in range(1, count + 1)}


@pytest.mark.parametrize(("kind", "interface"), [("nameserver", NAMESERVER), ("service", CALC)])
@pytest_twisted.ensureDeferred
async def test_colliding_keys_delay_nobody_beyond_a_call(
    victims: dict[str, Victim], kind: str, interface: str
) -> None:
    """Keys that all have the same hash: with as many as a request may have others still wait no
    longer than a call may take, as the time grows with the square."""
    victim = victims[kind]
    # Ints collide by design; strings and bytes are hashed with a secret of the process.
    payload = call(interface, "stat" if kind == "nameserver" else "add", colliding(3000))

    def attack() -> None:
        peer = Peer.of(victim)
        for number in range(5):
            peer.send(frame(OPEN, 2 * number + 1, payload))
        peer.until(lambda kind, channel: kind == CLOSE, 5)
        peer.close()

    async with withstands(victim, processor=6):
        await in_thread(attack)


@pytest.mark.parametrize(("kind", "interface"), [("nameserver", NAMESERVER), ("service", CALC)])
@pytest_twisted.ensureDeferred
async def test_malformed_requests_end_at_most_their_connection(
    victims: dict[str, Victim], kind: str, interface: str
) -> None:
    """Requests that are none: each is refused by itself, or ends its own connection alone."""
    victim = victims[kind]
    requests = [
        encode(None),
        encode([]),
        encode([interface]),
        encode([1, 2, 3, 4]),
        encode([interface, "stat", {}, "soon"]),
        encode([interface, "stat", {}, float("nan")]),
        encode([interface, "stat", {}, float("inf")]),
        encode([interface, "stat", {}, -1]),
        encode([interface, "stat", {}, 1e308]),
        encode([interface, "__class__", {}, None]),
        encode([interface, ["a"], {}, None]),
        encode([{"a": 1}, "stat", {}, None]),
        encode([interface, "stat", [1] * 5000, None]),
        encode([interface, "stat", {}, None, [{"size": -1}]]),
        encode([interface, "stat", {}, None, "blocks"]),
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 2000,
        b"\xd4\x63\x00",
    ]

    def attack() -> None:
        for data in requests:
            peer = Peer.of(victim)
            peer.send(frame(OPEN, 1, bytes((FIRST | OPEN_END,)) + INVOKE[1:] + data))
            peer.until(lambda kind, channel: kind in (CLOSE, GOAWAY))
            peer.close()

    async with withstands(victim):
        await in_thread(attack)


@pytest_twisted.ensureDeferred
async def test_violation_ends_that_connection_alone(victims: dict[str, Victim]) -> None:
    """Whoever breaks the wire loses that connection; those beside it notice nothing."""
    from twisted.internet import reactor

    import pycomnet

    victim = victims["service"]
    async with pycomnet.Context(reactor, timeout=120) as context:
        calc = await context.connect(victim.where, CALC)
        peers = [await in_thread(Peer.of, victim) for _ in range(20)]
        with closing(peers):
            for number, (data, _) in zip(range(20), FRAMES.values(), strict=False):
                peers[number].send(data)
                assert await calc.invoke("add", {"a": number, "b": 1}) == number + 1
        assert calc is not None
