"""The parser of NATS's protocol: whole, cut and hostile input."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.nats import NatsMessage, NatsProtocolError
from pycomnet.nats.messages import check_subject, encode_headers
from pycomnet.nats.parser import MAX_LINE, NatsParser, read_info


class Recorder:
    """Notes what a parser says."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def message(
        self, sid: bytes, subject: bytes, reply: bytes, headers: bytes, payload: bytes
    ) -> None:
        self.seen.append((sid, subject, reply, headers, payload))

    def ping(self) -> None:
        self.seen.append("ping")

    def pong(self) -> None:
        self.seen.append("pong")

    def info(self, info: dict[str, Any]) -> None:
        self.seen.append(info)

    def error(self, text: str) -> None:
        self.seen.append(text)


SAID = (
    b'INFO {"a": 1}\r\n+OK\r\nPING\r\nMSG a.b 9 5\r\nhello\r\nMSG a 12 r.1 0\r\n\r\npong\r\n'
    b"HMSG a.b 9 12 17\r\nNATS/1.0\r\n\r\nhello\r\nHMSG a 9 r 12 12\r\nNATS/1.0\r\n\r\n\r\n"
    b"-ERR 'Unknown Protocol Operation'\r\nMSG a 1 4\r\n\r\n\r\n\r\n"
)
SEEN = [
    {"a": 1},
    "ping",
    (b"9", b"a.b", b"", b"", b"hello"),
    (b"12", b"a", b"r.1", b"", b""),
    "pong",
    (b"9", b"a.b", b"", b"NATS/1.0\r\n\r\n", b"hello"),
    (b"9", b"a", b"r", b"NATS/1.0\r\n\r\n", b""),
    "Unknown Protocol Operation",
    (b"1", b"a", b"", b"", b"\r\n\r\n"),
]


class ParserTests(SynchronousTestCase):
    """What is sent, and what is not to be."""

    def test_all_that_a_server_sends_is_read(self) -> None:
        """In one piece."""
        recorder = Recorder()
        NatsParser(recorder).feed(SAID)
        self.assertEqual(recorder.seen, SEEN)

    @given(st.lists(st.integers(0, len(SAID)), max_size=20))
    def test_it_may_be_cut_anywhere(self, cuts: list[int]) -> None:
        """In any pieces it is the same."""
        recorder = Recorder()
        parser = NatsParser(recorder)
        places = [0, *sorted(cuts), len(SAID)]
        for begin, end in itertools.pairwise(places):
            if begin != end:
                parser.feed(SAID[begin:end])
        self.assertEqual(recorder.seen, SEEN)

    def test_single_bytes(self) -> None:
        """Even byte by byte."""
        recorder = Recorder()
        parser = NatsParser(recorder)
        for place in range(len(SAID)):
            parser.feed(SAID[place : place + 1])
        self.assertEqual(recorder.seen, SEEN)

    def test_what_is_no_message_is_refused(self) -> None:
        """Lengths that are none or too long, lines of another protocol, or without an end."""
        for data in (
            b"MSG a 1 -1\r\n",
            b"MSG a 1 1_0\r\n",
            b"MSG a 1 99999999999\r\n",
            b"MSG a 1 2000\r\n",
            b"MSG a 1 2\r\nabcd",
            b"MSG 5\r\nhello\r\n",
            b"MSG a b c d 5\r\nhello\r\n",
            b"MSG a b c d 50\r\nhello\r\n",
            b"MOON 5\r\nhello\r\n",
            b"HMSG a 1 5 4\r\nabcd\r\n",
            b"HMSG a 1 x 4\r\nabcd\r\n",
            b"HMSG a 4\r\nabcd\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\r\n",
            b"INFO [1]\r\n",
            b"INFO {\r\n",
            b"INFO " + b"[" * 20_000 + b"\r\n",
            b"x" * MAX_LINE,
            b"MSG " + b"x" * MAX_LINE,
        ):
            with self.subTest(data=data[:40]):
                parser = NatsParser(Recorder(), 1000)
                self.assertRaises(NatsProtocolError, parser.feed, data)

    @given(st.binary(max_size=200))
    def test_hostile_bytes_raise_one_error(self, data: bytes) -> None:
        """Whatever comes is read or refused."""
        parser = NatsParser(Recorder(), 1000)
        try:
            parser.feed(data)
        except NatsProtocolError:
            return

    @given(st.lists(st.sampled_from([b"MSG", b"HMSG", b"a", b"1", b"4", b"\r\n", b" "])))
    def test_words_in_any_order_raise_one_error(self, words: list[bytes]) -> None:
        """The same, of what looks like messages."""
        parser = NatsParser(Recorder(), 1000)
        try:
            parser.feed(b" ".join(words))
        except NatsProtocolError:
            return

    def test_a_first_line_that_is_no_servers(self) -> None:
        """It says what has come."""
        problem = self.assertRaises(NatsProtocolError, read_info, b"SSH-2.0-OpenSSH")
        self.assertIn("SSH-2.0", str(problem))


class MessageTests(SynchronousTestCase):
    """Headers and subjects."""

    def test_headers_are_what_was_given(self) -> None:
        """Encoded and read."""
        raw = encode_headers({"Nats-Msg-Id": "a:1", "X": ""})
        self.assertEqual(NatsMessage(b"a", b"", raw, b"").headers, {"Nats-Msg-Id": "a:1", "X": ""})
        self.assertIsNone(NatsMessage(b"a", b"", raw, b"").status)

    def test_a_status(self) -> None:
        """The server's answers have a number and a text."""
        message = NatsMessage(b"a", b"", b"NATS/1.0 409 Consumer Deleted\r\n\r\n", b"")
        self.assertEqual((message.status, message.description), (409, "Consumer Deleted"))

    def test_headers_can_not_hold_others(self) -> None:
        """No line ends, no colons in names."""
        for name, value in (("a", "b\r\nc: d"), ("a:b", "c"), ("", "c"), ("a\n", "c")):
            self.assertRaises(ValueError, encode_headers, {name: value})

    def test_subjects(self) -> None:
        """What may be one, and may be a pattern."""
        self.assertEqual(check_subject("a.ü"), "a.ü".encode())
        self.assertEqual(check_subject("*.a.>", pattern=True), b"*.a.>")
        for wrong in ("", ".", "a.", "a b", "a\r\nPUB b 0", "a.*", ">", "a" * 3000):
            self.assertRaises(ValueError, check_subject, wrong)
        self.assertRaises(ValueError, check_subject, "a.>.b", pattern=True)
