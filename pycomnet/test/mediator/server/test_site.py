"""Requests that mean no good, and bodies that take their time."""

from __future__ import annotations

from pycomnet.test.mediator.kit import Connection, SiteCase


class BodyTests(SiteCase):
    """The body of a request to a subprocess."""

    def test_body_is_given_on_byte_by_byte(self) -> None:
        """A body that comes byte by byte is given on byte by byte: nobody keeps it."""
        path, child = self.popen()
        connection = self.connect()
        connection.send(self.head("POST", f"{path}?offset=0", "Content-Length: 500"))
        for number in range(1, 400):
            connection.send(b"x")
            self.assertEqual(len(child.pipes.written), number)
        connection.channel.connectionLost(None)
        # What has come of it has arrived, and the next request says so.
        after = self.connect()
        after.send(self.head("POST", path, "Content-Length: 0"))
        self.assertEqual(after.answer(), (200, {"received": 399}))

    def test_body_for_an_ended_subprocess_is_dropped(self) -> None:
        """The subprocess is ended while a body streams in: the rest is for nobody."""
        path, child = self.popen()
        connection = self.connect()
        connection.send(self.head("POST", f"{path}?offset=0", "Transfer-Encoding: chunked"))
        connection.send(b"3\r\none\r\n")
        other = self.connect()
        other.send(self.head("DELETE", path))
        self.assertEqual(other.answer()[0], 202)
        connection.send(b"3\r\ntwo\r\n0\r\n\r\n")
        status, about = connection.answer()
        self.assertEqual((status, about["error"]), (409, "input_ended"))
        self.assertEqual(child.pipes.written, b"one")

    def test_body_over_the_limit_is_refused(self) -> None:
        """A body over the limit that does not say so is refused once it is; its connection ends."""
        path, child = self.popen()
        connection = self.connect()
        connection.send(self.head("POST", f"{path}?offset=0", "Transfer-Encoding: chunked"))
        connection.send(b"3e8\r\n" + bytes(1000) + b"\r\n")
        connection.send(b"100000\r\n" + bytes(1000))
        self.clock.advance(0)
        status, about = connection.answer()
        self.assertEqual((status, about["error"]), (413, "request"))
        self.assertEqual(len(child.pipes.written), 1000)
        connection.send(bytes(1000) + self.head("GET", "/"))
        self.assertEqual(connection.take(), b"")


class OtherProtocolTests(SiteCase):
    """A connection of a client that speaks no HTTP."""

    def test_what_begins_as_no_request_is_refused_at_once(self) -> None:
        """The beginning of a TLS handshake, and of our own hello: neither has the end of a line."""
        for first in (b"\x16\x03\x01\x02\x00\x01", b"\x00\x00\x00\x40\x01", b"\x80", b" "):
            connection = self.connect()
            connection.send(first)
            self.assertTrue(connection.transport.disconnecting)
            self.assertEqual(connection.answer()[0], 400)
            connection.send(self.head("GET", "/"))
            self.assertEqual(connection.take(), b"")

    def test_request_may_follow_an_empty_line(self) -> None:
        """As :rfc:`9112` has it; and bytes of an upload may be any."""
        connection = self.connect()
        connection.send(b"\r\n" + self.head("GET", "/"))
        self.assertEqual(connection.answer()[0], 200)
        path, child = self.popen()
        connection.send(self.head("POST", f"{path}?offset=0", "Content-Length: 2"))
        connection.send(b"\x16\x00")
        self.assertEqual((connection.answer()[0], child.pipes.written), (200, b"\x16\x00"))


class TimeTests(SiteCase):
    """How long a client may take."""

    def drip(self, connection: Connection, data: bytes, pause: float = 10.0) -> int:
        """Send bytes one by one, with pauses; how many until the server closes the connection."""
        for number in range(len(data)):
            if connection.transport.disconnecting:
                return number
            connection.send(data[number : number + 1])
            self.clock.pump([pause / 10] * 10)
        return len(data)

    def test_slow_head_has_the_time_of_an_idle_connection(self) -> None:
        """A head in single bytes, or lines, has the time of an idle connection, and no more."""
        head = self.head("GET", "/", "X-Long: " + "x" * 500)
        self.assertLess(self.drip(self.connect(), head), 10)
        connection = self.connect()
        sent = 0
        for line in head.splitlines(True) + [b"X: y\r\n"] * 50:
            if connection.transport.disconnecting:
                break
            connection.send(line)
            sent += 1
            self.clock.pump([1.0] * 20)
        self.assertLess(sent, 5)

    def test_slow_json_has_the_time_of_an_idle_connection(self) -> None:
        """So has a body that is JSON."""
        connection = self.connect()
        connection.send(self.head("POST", "/popen", "Content-Length: 5000"))
        self.assertLess(self.drip(connection, b" " * 5000), 10)
        self.assertEqual(self.mediator.running(), [])

    def test_each_request_has_its_own_time(self) -> None:
        """Each request of a connection has that time, after a pause too."""
        connection = self.connect()
        for _ in range(5):
            self.clock.pump([1.0] * 50)
            head = self.head("GET", "/")
            connection.send(head[:40])
            self.clock.pump([1.0] * 50)
            self.assertFalse(connection.transport.disconnecting)
            connection.send(head[40:])
            self.assertEqual(connection.answer()[0], 200)

    def test_upload_lasts_while_something_comes(self) -> None:
        """An upload goes on for as long as something comes."""
        path, child = self.popen()
        connection = self.connect()
        connection.send(self.head("POST", f"{path}?offset=0", "Content-Length: 100"))
        self.assertEqual(self.drip(connection, b"x" * 100, 50.0), 100)
        self.assertEqual(len(child.pipes.written), 100)
        self.assertEqual(connection.answer()[0], 200)


class StreamingResponseTests(SiteCase):
    """A response that is sent while the subprocess writes."""

    def test_response_ends_if_its_bytes_are_confirmed_unsent(self) -> None:
        """It can't go on behind them, as it has no offsets. The subprocess is not affected."""
        path, child = self.popen()
        reader, other = self.connect(), self.connect()
        reader.send(self.head("GET", f"{path}?offset=0&reader=a"))
        reader.transport.producer.pauseProducing()
        child.say(b"x" * 100)
        other.send(self.head("POST", f"{path}?received=60", "Content-Length: 0"))
        self.assertEqual(other.answer()[0], 200)
        reader.transport.producer.resumeProducing()
        self.assertTrue(reader.take().endswith(b"\r\n\r\n0\r\n\r\n"))
        reader.send(self.head("GET", f"{path}?offset=60&reader=a"))
        child.say(b"more")
        self.assertIn(b"\r\nmore\r\n", reader.take())


class SmugglingTests(SiteCase):
    """What may be read as one request here and as two elsewhere."""

    def assert_refused(self, *lines: str, body: bytes = b"") -> None:
        path, child = self.popen()
        connection = self.connect()
        hidden = self.head("DELETE", f"{path}?signal=KILL")
        connection.send(self.head("POST", f"{path}?offset=0", *lines) + body + hidden)
        self.assertTrue(connection.take().startswith(b"HTTP/1.1 400"), lines)
        self.assertTrue(connection.transport.disconnecting)
        self.assertEqual((child.pipes.written, child.signals), (b"", []))
        child.exit()

    def test_ambiguous_length_is_refused(self) -> None:
        """A length and chunks, two lengths, a length that is no number, unknown encodings."""
        for lines in (
            ("Content-Length: 5", "Transfer-Encoding: chunked"),
            ("Transfer-Encoding: chunked", "Content-Length: 5"),
            ("Content-Length: 0", "Content-Length: 5"),
            ("Content-Length: +5",),
            ("Transfer-Encoding: xchunked",),
        ):
            self.limits_reset()
            self.assert_refused(*lines, body=b"0\r\n\r\n")

    def test_broken_chunks_are_refused(self) -> None:
        """Chunks that are none."""
        for body in (b"zz\r\n", b"-1\r\n", b"0x3\r\none\r\n", b"1" * 2000):
            self.limits_reset()
            self.assert_refused("Transfer-Encoding: chunked", body=body)

    def test_endless_head_closes_the_connection(self) -> None:
        """A head without end is not kept: the connection is closed."""
        for first, piece in (
            (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:2013\r\n", b"X: " + b"x" * 1000 + b"\r\n"),
            (b"GET /", b"x" * 1000),
        ):
            connection = self.connect()
            connection.send(first)
            pieces = 0
            while not connection.transport.disconnecting:
                connection.send(piece)
                pieces += 1
                self.assertTrue(pieces < 40)

    def limits_reset(self) -> None:
        """Forget the subprocesses that there were."""
        for session in list(self.mediator.sessions.values()):
            if session.end is not None:
                session.forget()
