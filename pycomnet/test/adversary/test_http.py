"""Requests that are none: the mediator answers 400, once, and nothing else comes of them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycomnet.test.system.daemons import PATIENCE, daemons
from pycomnet.test.system.mediators import Mediator


@pytest.fixture
def mediator(tmp_path: Path) -> Iterator[Mediator]:
    """A server."""
    with daemons(tmp_path) as started:
        yield Mediator(started)


def talk(mediator: Mediator, data: bytes) -> bytes:
    """Send bytes, and all that is answered until the connection ends or nothing follows."""
    with socket.create_connection(("127.0.0.1", mediator.port), PATIENCE) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while piece := connection.recv(1 << 16):
            found += piece
        return found


def statuses(answer: bytes) -> list[int]:
    """The statuses of all answers in what came."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def head(mediator: Mediator, first: bytes, *lines: bytes, host: bytes = b"localhost") -> bytes:
    """A request's head, with the right token."""
    token = b"Authorization: Bearer " + mediator.token.encode()
    return b"\r\n".join([first, b"Host: " + host, token, *lines, b"", b""])


def assert_unharmed(mediator: Mediator) -> None:
    """It still answers, logged no traceback, and never answered 500."""
    metrics = mediator.curl("/metrics").body.decode()
    assert 'status="500"' not in metrics
    assert "Traceback" not in mediator.daemon.said, mediator.daemon.said


def test_malformed_request_is_one_400_and_nothing_more(mediator: Mediator) -> None:
    """Whatever is wrong with a request, the answer is one 400, and what follows it is not read."""
    popen = head(mediator, b"POST /popen HTTP/1.1", b"Content-Length: 2") + b"{}"
    pid = mediator.curl("/popen", "-d", "{}").json["pid"].encode()
    post = b"POST /exec/" + pid + b"?offset=0 HTTP/1.1"
    chunked = b"Transfer-Encoding: chunked"

    def get(*lines: bytes, **options: bytes) -> bytes:
        return head(mediator, b"GET / HTTP/1.1", *lines, **options)

    attacks = {
        "bytes in Host": get(host=b"\xa0localhost"),
        "NUL in Host": get(host=b"local\x00host"),
        "no Host": b"GET / HTTP/1.1\r\n\r\n",
        "two Hosts": get(b"Host: localhost"),
        "user in Host": get(host=b"a@localhost"),
        "request line": b"GET /\r\n\r\n",
        "four words": b"GET / HTTP/1.1 x\r\nHost: localhost\r\n\r\n",
        "version": head(mediator, b"GET / HTTP/3.0"),
        "method": head(mediator, b"G\x01T / HTTP/1.1"),
        "no slash": head(mediator, b"GET xpopen HTTP/1.1"),
        "absolute": head(mediator, b"GET http://localhost/ HTTP/1.1"),
        "authority": head(mediator, b"CONNECT localhost:1 HTTP/1.1"),
        "star": head(mediator, b"GET * HTTP/1.1"),
        "header": get(b"no colon"),
        "early header": get(b"no colon", b"X: y"),
        "header's name": get(b"a b: c"),
        "blank before colon": get(b"Content-Length : 1"),
        "two lengths": head(mediator, post, b"Content-Length: 1", b"Content-Length: 1") + b"x",
        "length and chunks": head(mediator, post, b"Content-Length: 3", chunked) + b"0\r\n\r\n",
        "chunks and length": head(mediator, post, chunked, b"Content-Length: 3") + b"0\r\n\r\n",
        "twice chunks": head(mediator, post, chunked, chunked) + b"0\r\n\r\n",
        "length": head(mediator, post, b"Content-Length: -1"),
        "length in hex": head(mediator, post, b"Content-Length: 0x1") + b"x",
        "long length": head(mediator, post, b"Content-Length: " + b"9" * 5000),
        "encoding": head(mediator, post, b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        "chunk": head(mediator, post, chunked) + b"zz\r\nxx\r\n0\r\n\r\n",
        "chunk's sign": head(mediator, post, chunked) + b"+1\r\nx\r\n0\r\n\r\n",
        "chunk's end": head(mediator, post, chunked) + b"1\r\nxyz0\r\n\r\n",
        "chunk of JSON": head(mediator, b"POST /popen HTTP/1.1", chunked) + b"zz\r\n{}\r\n",
        "chunk without end": head(mediator, post, chunked) + b"1" * 2000,
        "many headers": get(*(b"X-%d: y" % number for number in range(1000))),
        "long headers": get(*(b"X: " + b"y" * 1000 for _ in range(20))),
        "long line": b"GET /" + b"x" * 20_000,
    }
    for name, attack in attacks.items():
        for data in (attack, attack + popen):  # what follows may be meant to be read as a request
            answer = talk(mediator, data)
            assert statuses(answer) == [400], (name, answer)
    assert_unharmed(mediator)
    assert len(mediator.curl("/").json["processes"]) == 1, "a hidden request was carried out"


def test_host_and_token_are_checked_before_all_else(mediator: Mediator) -> None:
    """Host and token count before anything else, whatever is asked and however."""
    for target in (
        b"*",
        b"/",
        b"/popen",
        b"/exec/x",
        b"/metrics",
        b"/nothing",
        b"//exec/x",
        b"/ws",
    ):
        method = b"OPTIONS" if target == b"*" else b"POST" if b"exec" in target else b"GET"
        for host, status in ((b"evil.example", 403), (b"localhost", 401)):
            request = b"%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n"
            answer = talk(mediator, request % (method, target, host))
            assert statuses(answer) == [status], answer
    answer = talk(mediator, head(mediator, b"OPTIONS * HTTP/1.1"))
    assert statuses(answer) == [404], answer
    assert_unharmed(mediator)


def test_header_that_is_no_text_is_no_server_error(mediator: Mediator) -> None:
    odd = b"\xff\xa0\xc3("
    for name in (
        b"Origin",
        b"Sec-Fetch-Site",
        b"Accept",
        b"Cookie",
        b"Idempotency-Key",
        b"Upgrade",
    ):
        for path in (b"/", b"/ws", b"/status.js"):
            answer = talk(
                mediator, head(mediator, b"GET " + path + b" HTTP/1.1", name + b": " + odd)
            )
            assert len(statuses(answer)) == 1 and statuses(answer)[0] < 500, answer
    for value in (odd, b"Bearer " + odd, b"Basic eA=="):
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\n\r\n" % value
        assert statuses(talk(mediator, request)) == [401]
    assert_unharmed(mediator)


def test_path_that_decodes_to_a_subprocess_is_none(mediator: Mediator) -> None:
    """A path that means a subprocess once it is decoded is nobody's, or that one's."""
    pid = mediator.curl("/popen", "-d", "{}").json["pid"].encode()
    for path in (b"/%65xec/" + pid, b"//exec/" + pid, b"/exec/" + pid + b"/", b"/exec%2f" + pid):
        request = head(mediator, b"POST " + path + b" HTTP/1.1", b"Content-Length: 1") + b"x"
        assert statuses(talk(mediator, request)) == [404], path
    assert_unharmed(mediator)
