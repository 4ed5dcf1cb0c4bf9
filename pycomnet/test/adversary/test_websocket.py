"""Frames of WebSockets that break RFC 6455, or the bounds: one connection ends, and no more."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterator

import pytest
import pytest_twisted

from pycomnet.mediator.frames import HEADER, mask
from pycomnet.test.adversary.kit import (
    MB,
    Http,
    Victim,
    in_thread,
    ready,
    start,
    withstands,
)
from pycomnet.test.processes import children, resident
from pycomnet.test.system.daemons import Daemons, daemons
from pycomnet.test.waiting import until

UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9
FIN = 0x80
CAT = json.dumps({"python": "sh -c 'exec cat'", "linger": 60})


@pytest.fixture(scope="module")
def mediator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One for all tests here: it has to live through them."""
    with daemons(tmp_path_factory.mktemp("w")) as running:
        yield ready(start(running, "http-exec", "--processes", "200", "--total", "200"))


def ws(opcode: int, payload: bytes = b"", masked: bool = True, length: int | None = None) -> bytes:
    """A frame.

    :param opcode: the first byte without FIN, which is set unless it has it to be not.
    :param length: what it says that its length is.
    """
    size = len(payload) if length is None else length
    bit = 0x80 if masked else 0
    if size < 126:
        begin = bytes((opcode, bit | size))
    elif size < 1 << 16:
        begin = bytes((opcode, bit | 126)) + struct.pack(">H", size)
    else:
        begin = bytes((opcode, bit | 127)) + struct.pack(">Q", size)
    if not masked:
        return begin + payload
    key = os.urandom(4)
    return begin + key + bytes(mask(payload, key))


def opened(victim: Victim, path: str = "") -> Http:
    """A connection that is a WebSocket: of a new subprocess, or of a path."""
    http = Http(victim.connect())
    if not path:
        assert http.request(victim, "POST", "/popen", body=CAT) == 201, http.head
        path = f"/exec/{json.loads(http.body())['pid']}/ws?offset=0&stderr_offset=0&reader=k"
    assert http.request(victim, "GET", path, *UPGRADE) == 101, http.head
    return http


def input_at(offset: int, data: bytes = b"", stream: int = 0) -> bytes:
    return HEADER.pack(stream, offset) + data


#: What breaks a rule, and the code that it is closed with; 0 for any.
WRONG = {
    "an opcode that there is not": (ws(FIN | 3), 1002),
    "a control opcode that there is not": (ws(FIN | 11), 1002),
    "a reserved bit": (ws(FIN | 0x40 | BINARY, input_at(0)), 1002),
    "all reserved bits": (ws(FIN | 0x70 | TEXT, b"{}"), 1002),
    "no mask": (ws(FIN | BINARY, input_at(0, b"x"), masked=False), 1002),
    "no mask on text": (ws(FIN | TEXT, b"{}", masked=False), 1002),
    "no mask on a ping": (ws(FIN | PING, masked=False), 1002),
    "a ping of 126 bytes": (ws(FIN | PING, bytes(126)), 1002),
    "a ping in fragments": (ws(PING, b"x"), 1002),
    "a close of one byte": (ws(FIN | CLOSE, b"x"), 1002),
    "a close with a code that is none": (ws(FIN | CLOSE, struct.pack(">H", 1005)), 1002),
    "a close whose reason is no text": (ws(FIN | CLOSE, struct.pack(">H", 1000) + b"\xff"), 1007),
    "a continuation of nothing": (ws(FIN | CONTINUATION, b"x"), 1002),
    "a message within a message": (ws(TEXT, b"{") + ws(FIN | TEXT, b"}"), 1002),
    "bytes within a text": (ws(TEXT, b"{") + ws(FIN | BINARY, input_at(0)), 1002),
    "text that is none": (ws(FIN | TEXT, b"\xff\xfe"), 1007),
    "JSON that is none": (ws(FIN | TEXT, b"{"), 1003),
    "JSON that is no object": (ws(FIN | TEXT, b"[1]"), 1003),
    "JSON that is deep": (ws(FIN | TEXT, b"[" * 100_000), 1003),
    "a number of 100,000 digits": (ws(FIN | TEXT, b'{"received": ' + b"9" * 100_000 + b"}"), 0),
    "what was received is NaN": (ws(FIN | TEXT, b'{"received": NaN}'), 1008),
    "what was received is true": (ws(FIN | TEXT, b'{"received": true}'), 1008),
    "what was received is below 0": (ws(FIN | TEXT, b'{"received": -1}'), 1008),
    "more was received than was sent": (ws(FIN | TEXT, b'{"received": 1e3}'), 1008),
    "a message without a head": (ws(FIN | BINARY, b"\x00"), 1003),
    "an empty message": (ws(FIN | BINARY), 1003),
    "bytes for standard output": (ws(FIN | BINARY, input_at(0, b"x", stream=1)), 1003),
    "bytes for stream 255": (ws(FIN | BINARY, input_at(0, b"x", stream=255)), 1003),
    "a gap": (ws(FIN | BINARY, input_at(10**15, b"x")), 1008),
    "the last offset": (ws(FIN | BINARY, input_at((1 << 64) - 1, b"xx")), 1008),
    "a message of two megabytes": (ws(FIN | BINARY, length=2 * MB), 1009),
    "a message of 2**63 bytes": (ws(FIN | BINARY, length=1 << 63), 0),
    "a text of 2**62 bytes": (ws(FIN | TEXT, bytes(2 * MB), length=1 << 62), 1009),
    "a length in more bytes than it needs": (
        bytes((FIN | BINARY, 0x80 | 127)) + struct.pack(">Q", 9) + bytes(4) + bytes(9),
        1002,
    ),
}


def closed_with(http: Http) -> int:
    """The code that the other end closes with; 0 when it drops the connection without one."""
    data = http.rest()
    http.close()
    at = 0
    while len(data) - at >= 2:
        opcode, size, head = data[at] & 0x0F, data[at + 1] & 0x7F, 2
        if size == 126:
            size, head = struct.unpack_from(">H", data, at + 2)[0], 4
        elif size == 127:
            size, head = struct.unpack_from(">Q", data, at + 2)[0], 10
        if opcode == CLOSE:
            code: int = struct.unpack_from(">H", data, at + head)[0] if size >= 2 else 1005
            return code
        at += head + size
    return 0


@pytest.mark.parametrize("pieces", [0, 1], ids=["at once", "in single bytes"])
@pytest_twisted.ensureDeferred
async def test_wrong_frame_is_answered_by_its_close_code(mediator: Victim, pieces: int) -> None:
    """Each is answered by its close code, whether it comes at once or a byte at a time, and its
    subprocess has had nothing of it."""

    def attack(data: bytes) -> int:
        http = opened(mediator)
        if pieces:
            for number in range(min(len(data), 40)):
                if not http.send(data[number : number + 1]):
                    break
                time.sleep(0)
            data = data[40:]
        http.send(data)
        return closed_with(http)

    async with withstands(mediator, processor=15):
        for what, (data, code) in WRONG.items():
            found = await in_thread(attack, data)
            assert found == code or not code, (what, found)


@pytest_twisted.ensureDeferred
async def test_endless_fragments_are_bounded(mediator: Victim) -> None:
    """A message in twenty thousand fragments without content, and one that never ends: neither
    is kept beyond the size of a message, nor does anybody else wait."""

    def empty() -> int:
        http = opened(mediator)
        http.send(ws(TEXT, b"{"))
        piece = ws(CONTINUATION) * 1000
        for _ in range(20):
            if not http.send(piece):
                break
        http.send(ws(FIN | CONTINUATION, b"}") + ws(FIN | TEXT, b'{"ask": true}'))
        http.send(ws(FIN | CLOSE, struct.pack(">H", 1000)))
        return closed_with(http)

    def endless() -> int:
        http = opened(mediator)
        http.send(ws(TEXT, b"{"))
        piece = ws(CONTINUATION, b"x" * 60_000)
        for _ in range(1000):
            if not http.send(piece):
                break
        return closed_with(http)

    async with withstands(mediator, processor=15):
        assert await in_thread(empty) in (0, 1000, 1008, 1009)
    async with withstands(mediator):
        assert await in_thread(endless) in (0, 1009)


@pytest_twisted.ensureDeferred
async def test_unread_pongs_are_bounded(mediator: Victim) -> None:
    """Pings whose answers nobody reads: not kept without a bound."""

    def attack() -> int:
        http = opened(mediator)
        http.socket.settimeout(2)
        data = ws(FIN | PING, bytes(125)) * 500
        sent = 0
        while sent < 32 * MB and http.send(data):
            sent += len(data)
        http.close()
        return sent

    before = resident(mediator.pid)
    attack_over = in_thread(attack)
    most = 0
    while not attack_over.called:
        await mediator.serves()
        most = max(most, resident(mediator.pid) - before)
    sent = await attack_over
    assert most < 12 * MB, f"{most / MB:.0f} MB were kept of {sent / MB:.0f}"


@pytest_twisted.ensureDeferred
async def test_unread_output_is_bounded(mediator: Victim) -> None:
    """A subprocess that writes without end to a WebSocket that is not read waits, in a bound."""
    endless = json.dumps({"python": "sh -c 'exec cat /dev/zero'", "linger": 60})

    def attack() -> list[Http]:
        found = []
        for _ in range(3):
            http = Http(mediator.connect())
            assert http.request(mediator, "POST", "/popen", body=endless) == 201
            pid = json.loads(http.body())["pid"]
            path = f"/exec/{pid}/ws?offset=0&stderr_offset=0"
            assert http.request(mediator, "GET", path, *UPGRADE) == 101
            found.append(http)
        return found

    async with withstands(mediator, memory=64 * MB, processor=10):
        https = await in_thread(attack)
        for _ in range(5):
            await mediator.serves()
        for http in https:
            http.close()


@pytest_twisted.ensureDeferred
async def test_wrong_handshake_is_an_answer_and_no_websocket(mediator: Victim) -> None:
    """A handshake that is not right is an answer, and no WebSocket."""

    def attack(*headers: str) -> int:
        http = Http(mediator.connect())
        status = http.request(mediator, "GET", "/ws", *headers)
        http.close()
        return status

    async with withstands(mediator):
        for headers, status in (
            (UPGRADE[1:], 426),
            ((UPGRADE[0], *UPGRADE[2:]), 400),
            (UPGRADE[:3], 400),
            ((*UPGRADE[:2], "Sec-WebSocket-Version: 12", UPGRADE[3]), 400),
            ((*UPGRADE[:2], "Sec-WebSocket-Version: NaN", UPGRADE[3]), 400),
            ((*UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate; x=\xff"), None),
            ((*UPGRADE, "Sec-WebSocket-Protocol: " + ",".join(["a"] * 3000)), None),
        ):
            found = await in_thread(attack, *headers)
            assert found == status or (status is None and found), (headers, found)


@pytest_twisted.ensureDeferred
async def test_vanished_status_sockets_leave_nothing(mediator: Victim) -> None:
    """Status sockets that come and vanish without a word leave nothing."""

    def attack() -> None:
        for _ in range(5):
            https = [opened(mediator, "/ws") for _ in range(40)]
            for http in https:
                http.send(ws(BINARY, length=1000)[:5])
                http.close()

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{mediator.pid}/fd"))

    async with withstands(mediator, processor=10):
        before = descriptors()
        await in_thread(attack)
    await until(lambda: descriptors() <= before, f"no more than {before} descriptors are open")
    assert len(children(mediator.pid)) < 200


def test_disabled_websockets_are_404(running: Daemons) -> None:
    """A server that offers none does not speak it."""
    victim = ready(start(running, "http-exec", "--no-websocket"))
    http = Http(victim.connect())
    assert http.request(victim, "GET", "/ws", *UPGRADE) == 404
    http.close()
