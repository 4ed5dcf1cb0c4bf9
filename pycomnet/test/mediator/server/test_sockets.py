"""The server's WebSockets, with wsproto as the client."""

from __future__ import annotations

import gc
import json
import signal
import weakref
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from pycomnet.mediator.chunks import chunk
from pycomnet.mediator.frames import HEADER, frame
from pycomnet.mediator.server import resources, sockets
from pycomnet.mediator.server.model import UserLimits
from pycomnet.mediator.server.session import KILL_TIMEOUT
from pycomnet.mediator.server.site import HTTPRequest
from pycomnet.mediator.server.sockets import (
    CONFIRM_EVERY,
    MAX_MESSAGE,
    MESSAGE_SIZE,
    STDERR,
    STDIN,
    STDOUT,
)
from pycomnet.test.mediator.kit import SiteCase


class Client:
    """A client of a WebSocket."""

    def __init__(self, case: SiteCase, path: str, **query: Any) -> None:
        self.connection = case.connect()
        self.wire = WSConnection(ConnectionType.CLIENT)
        target = path + "".join(
            f"{'&' if number else '?'}{key}={value}"
            for number, (key, value) in enumerate(query.items())
        )
        headers = [(b"authorization", b"Bearer " + case.token.encode())]
        request = Request(host="127.0.0.1:2013", target=target, extra_headers=headers)
        self.connection.send(self.wire.send(request))
        self.said: list[Any] = []
        self.read()

    def read(self) -> list[Any]:
        """What has come: JSON as a dict, bytes as (stream, offset, bytes), and other events."""
        self.wire.receive_data(self.connection.take())
        got: list[Any] = []
        text, data = "", b""
        for event in self.wire.events():
            if isinstance(event, TextMessage):
                text += event.data
                if event.message_finished:
                    got.append(json.loads(text))
                    text = ""
            elif isinstance(event, BytesMessage):
                data += event.data
                if event.message_finished:
                    got.append((*HEADER.unpack_from(data), data[HEADER.size :]))
                    data = b""
            elif not isinstance(event, AcceptConnection):
                got.append(event)
        self.said += got
        return got

    def tell(self, **value: Any) -> None:
        """Send JSON."""
        self.connection.send(self.wire.send(TextMessage(json.dumps(value))))

    def give(self, offset: int, data: bytes, number: int = STDIN) -> None:
        """Send bytes for a stream."""
        self.connection.send(self.wire.send(BytesMessage(HEADER.pack(number, offset) + data)))

    def closed(self) -> Any:
        """The code that it was closed with; None while it isn't."""
        self.read()
        codes = [event.code for event in self.said if isinstance(event, CloseConnection)]
        return codes[0] if codes else None


class SocketCase(SiteCase):
    """A subprocess whose streams go over a WebSocket."""

    def setUp(self) -> None:
        super().setUp()
        self.path, self.child = self.popen()
        self.client = Client(self, f"{self.path}/ws", reader="a")
        self.assertEqual(self.client.said, [{"received": 0}])

    def assert_goes_on(self) -> None:
        """The subprocess runs, and another WebSocket takes over."""
        client = Client(self, f"{self.path}/ws", reader="a")
        self.assertEqual([*client.said[0]], ["received"])


class StreamTests(SocketCase):
    """The streams."""

    def test_open_websocket_keeps_no_request(self) -> None:
        """The request that opened it, with its headers, is freed while it is open."""
        opened: list[weakref.ref[HTTPRequest]] = []
        real = sockets.upgrade

        def upgrade(request: HTTPRequest, protocol: sockets.Socket) -> None:
            opened.append(weakref.ref(request))
            real(request, protocol)

        self.patch(resources, "upgrade", upgrade)
        client = Client(self, f"{self.path}/ws", reader="a")
        gc.collect()
        self.assertEqual([each() for each in opened], [None])
        self.child.say(b"goes on")
        self.assertEqual(client.read(), [(STDOUT, 0, b"goes on")])

    def test_streams_go_both_ways_with_offsets(self) -> None:
        """What goes to the subprocess and comes from it, with offsets; confirmed, it is gone."""
        self.client.give(0, b"to it")
        self.client.give(3, b"it, again")
        self.assertEqual(self.child.pipes.written, b"to it, again")
        self.child.say(b"from it")
        self.child.stderr("oops")
        self.assertEqual(self.client.read(), [(STDOUT, 0, b"from it"), (STDERR, 0, b"oops")])
        self.client.tell(received=7, stderr_received=4, ask=True)
        self.assertEqual(self.client.read(), [{"received": 12}])
        (session,) = self.mediator.sessions.values()
        self.assertTrue(all(queue.base == queue.end for queue in session.streams.values()))

    def test_large_data_goes_in_several_messages(self) -> None:
        """What is large goes in several messages, and comes in any number of pieces."""
        data = bytes(range(256)) * 200
        sent = self.client.wire.send(BytesMessage(HEADER.pack(STDIN, 0) + data))
        for at in range(0, len(sent), 7001):
            self.client.connection.send(sent[at : at + 7001])
        self.assertEqual(self.child.pipes.written, data)
        said = bytes(range(256)) * (2 * MESSAGE_SIZE // 256 + 1)
        self.child.say(said)
        got = self.client.read()
        self.assertEqual(
            [(one[0], one[1]) for one in got], [(STDOUT, MESSAGE_SIZE * n) for n in range(3)]
        )
        self.assertEqual(b"".join(one[2] for one in got), said)

    def test_message_may_come_in_fragments(self) -> None:
        """A message may be in fragments, with control frames between them."""
        wire = self.client.wire
        first = BytesMessage(HEADER.pack(STDIN, 0) + b"one", message_finished=False)
        for event in (first, Ping(b"?"), BytesMessage(b", two")):
            self.client.connection.send(wire.send(event))
        self.assertEqual(self.child.pipes.written, b"one, two")
        (pong,) = self.client.read()
        self.assertIsInstance(pong, Pong)
        self.assertEqual(bytes(pong.payload), b"?")

    def test_closes_once_client_has_output_and_end(self) -> None:
        """All that it said, then how it ended; closed once the client has that."""
        self.child.say(b"last")
        self.child.exit(3)
        last, ended = self.client.read()
        self.assertEqual((last[2], ended["ended"]["exit_status"]), (b"last", 3))
        self.assertIsNone(self.client.closed())
        self.client.tell(received=4)
        self.assertEqual(self.client.closed(), sockets.NORMAL)


class LargeRequestTests(SocketCase):
    """Much goes in a POST, beside the WebSocket."""

    limits = UserLimits(queue=1 << 16, request=1 << 20, idle_timeout=0)

    def test_post_is_confirmed_while_it_goes_on(self) -> None:
        """It is confirmed here, while it goes on: its sender need not keep it until the answer."""
        upload = self.connect()
        upload.send(self.head("POST", f"{self.path}?offset=0", "Transfer-Encoding: chunked"))
        upload.send(b"".join(chunk(bytes(CONFIRM_EVERY - 1))))
        self.assertEqual(self.client.read(), [])
        upload.send(b"".join(chunk(b"x")))
        self.assertEqual(self.client.read(), [{"received": CONFIRM_EVERY}])


class RefusedTests(SocketCase):
    """What a client may not."""

    def test_gap_is_refused(self) -> None:
        """Bytes before these are missing."""
        self.client.give(5, b"x")
        self.assertEqual(self.client.read()[0]["error"], "offset")
        self.assertEqual(self.client.closed(), sockets.POLICY)
        self.assertEqual(self.child.pipes.written, b"")

    def test_nothing_after_that(self) -> None:
        """What comes after what was wrong is not looked at, be it in the same piece."""
        wire = self.client.wire
        bad = wire.send(BytesMessage(HEADER.pack(STDIN, 5) + b"x"))
        good = wire.send(BytesMessage(HEADER.pack(STDIN, 0) + b"y"))
        self.client.connection.send(bad + good)
        self.client.connection.send(good)
        self.assertEqual(self.child.pipes.written, b"")

    def test_writing_to_stdout_is_refused(self) -> None:
        """Nobody writes to standard output."""
        self.client.give(0, b"x", STDOUT)
        self.assertEqual(self.client.closed(), sockets.UNSUPPORTED)

    def test_too_long_message_is_refused_by_its_head(self) -> None:
        """A message over the bound is refused by its head, in one frame or in several."""
        head = b"".join(frame(STDIN, 0, bytes(MAX_MESSAGE), masked=True))[:30]
        self.client.connection.send(head)
        self.assertEqual(self.client.closed(), sockets.TOO_BIG)
        other = Client(self, f"{self.path}/ws", reader="a")
        part = BytesMessage(bytes(MAX_MESSAGE // 2), message_finished=False)
        for _ in range(3):
            if other.closed() is None:
                other.connection.send(other.wire.send(part))
        self.assertEqual(other.closed(), sockets.TOO_BIG)

    def test_breaks_the_standard(self) -> None:
        """No mask, an unknown opcode, a control frame that is too long: closed, and no more."""
        masked = b"".join(frame(STDIN, 0, b"x", masked=True))
        for wrong in (
            b"".join(frame(STDIN, 0, b"x", masked=False)),
            b"\x83" + masked[1:],
            b"\xc2" + masked[1:],
            b"\x89\xfe\x01\x00" + bytes(4 + 256),
            b"\x80" + masked[1:],
            b"\x82\xfe\x00\x0a" + bytes(14),
            b"\x82\xff" + bytes([0x80]) + bytes(21),
        ):
            client = Client(self, f"{self.path}/ws", reader="a")
            client.connection.send(wrong + masked)
            client.connection.send(masked)
            self.assertEqual(client.closed(), 1002, wrong[:4])
            self.assertTrue(client.connection.transport.disconnecting)
        self.assertEqual(self.child.pipes.written, b"")
        self.assert_goes_on()

    def test_text_that_is_no_object_is_refused(self) -> None:
        """A text that isn't an object."""
        self.client.connection.send(self.client.wire.send(TextMessage("[1")))
        self.assertEqual(self.client.closed(), sockets.UNSUPPORTED)

    def test_second_client_is_refused_and_the_same_takes_over(self) -> None:
        """Another client is told that somebody reads; the same one takes over."""
        other = Client(self, f"{self.path}/ws", reader="b")
        self.assertEqual((other.said[0]["error"], other.said[0]["status"]), ("reader", 409))
        again = Client(self, f"{self.path}/ws", reader="a")
        self.assertEqual(self.client.closed(), sockets.GOING_AWAY)
        self.child.say(b"hello")
        self.assertEqual(again.read(), [(STDOUT, 0, b"hello")])


class AliveTests(SocketCase):
    """Whether the other end is there."""

    def test_client_without_pong_is_dropped(self) -> None:
        """Who does not answer a ping is dropped; the subprocess waits for the next connection."""
        self.clock.advance(sockets.PING_INTERVAL)
        (ping,) = self.client.read()
        self.assertIsInstance(ping, Ping)
        self.clock.advance(sockets.PING_INTERVAL)
        self.assertTrue(self.client.connection.transport.disconnected)

    def test_client_that_answers_is_kept(self) -> None:
        """Who answers, with a pong or with anything else, is not."""
        for answer in (self.client.wire.send(Pong()), b"".join(frame(STDIN, 0, b"", True))):
            self.clock.advance(sockets.PING_INTERVAL)
            self.client.connection.send(answer)
        self.clock.advance(sockets.PING_INTERVAL)
        self.assertFalse(self.client.connection.transport.disconnected)

    def test_closing_client_that_reads_nothing_is_dropped(self) -> None:
        """Who has closed it, or broken its rules, and does not read the answer is dropped: a
        WebSocket that is being closed can't be asked anything any more."""
        closing = self.client.wire.send(CloseConnection(sockets.NORMAL))
        for last in (closing, b"\xff\xff", b"".join(frame(STDOUT, 0, b"", True))):
            with self.subTest(last):
                client = Client(self, f"{self.path}/ws", reader="a")
                client.connection.send(last)
                self.clock.advance(sockets.PING_INTERVAL)
                self.assertFalse(client.connection.transport.disconnected)
                self.clock.advance(sockets.PING_INTERVAL)
                self.assertTrue(client.connection.transport.disconnected)

    def test_nothing_is_written_to_client_that_does_not_read(self) -> None:
        """Nothing is written to who does not read; all of it is once it does."""
        transport = self.client.connection.transport
        transport.producer.pauseProducing()
        self.child.say(b"x" * 100)
        self.assertEqual(self.client.read(), [])
        transport.producer.resumeProducing()
        self.assertEqual(self.client.read(), [(STDOUT, 0, b"x" * 100)])

    def test_bytes_that_the_client_has_otherwise_are_skipped(self) -> None:
        """It confirms them while they wait for it to read: the next message begins after them."""
        transport = self.client.connection.transport
        transport.producer.pauseProducing()
        self.child.say(b"x" * 100)
        self.client.tell(received=60)
        transport.producer.resumeProducing()
        self.assertEqual(self.client.read(), [(STDOUT, 60, b"x" * 40)])
        self.child.say(b"more")
        self.assertEqual(self.client.read(), [(STDOUT, 100, b"more")])


class WithdrawnTests(SocketCase):
    """What ends with a token."""

    def test_subprocess_ends_and_list_is_closed(self) -> None:
        """Those of the user whose token was withdrawn, and of no other."""
        status = Client(self, "/ws")
        (listed,) = status.said
        self.assertEqual(f"/exec/{listed['processes'][0]['pid']}", self.path)
        self.mediator.withdraw({"somebody"})
        self.clock.advance(1)
        self.assertEqual((status.closed(), self.child.signals), (None, []))
        self.mediator.withdraw({listed["user"]})
        self.assertEqual(status.closed(), sockets.POLICY)
        self.assertEqual(self.child.signals, [signal.SIGTERM])
        self.clock.advance(KILL_TIMEOUT)
        self.assertEqual(self.child.signals[-1], signal.SIGKILL)
        status.connection.channel.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.mediator.watchers, set())
