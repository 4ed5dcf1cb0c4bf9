"""HTTP/2 by hand, against h2's server half and against bytes that are wrong."""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.settings import SettingCodes
from hpack import Decoder
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.etcd import EtcdProtocolViolation, frames
from pycomnet.etcd.headers import HeaderDecoder, Headers, RequestHeaders, literal
from pycomnet.etcd.http2 import CONNECTION_WINDOW, MOST_UNREAD, Http2Connection
from pycomnet.etcd.streams import STREAM_WINDOW, Http2Stream
from pycomnet.test.properties import examples, given, settings


class Kept(Http2Stream):
    """A stream that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self.takes = True

    def headers_received(self, headers: Headers, is_end: bool) -> None:
        self.told.append((dict(headers), is_end))

    def data_received(self, data: bytes) -> bool:
        self.told.append(data)
        return self.takes

    def data_ended(self) -> None:
        self.told.append("end")

    def lost(self, reason: Exception, was_processed: bool) -> None:
        self.told.append(("lost", was_processed))

    def going_away(self) -> None:
        self.told.append("going away")


class Pair:
    """The client's half and h2's server half."""

    def __init__(self, **server: int) -> None:
        self.written = b""
        self.http2 = Http2Connection(self.write, RequestHeaders("host:1", "http"))
        self.server = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.server.initiate_connection()
        if server:
            named = {getattr(SettingCodes, name): value for name, value in server.items()}
            self.server.update_settings(named)
        self.http2.start()
        self.got: list[Any] = []
        self.deliver()

    def write(self, data: bytes) -> None:
        self.written += data

    def deliver(self) -> None:
        """Move bytes until both ends have nothing more to say."""
        while True:
            sent, self.written = self.written, b""
            if sent:
                self.got += self.server.receive_data(sent)
            received = self.server.data_to_send()
            if received:
                self.http2.receive(received)
            if not sent and not received:
                return

    def ask(self, data: bytes = b"", is_end: bool = True, **options: Any) -> Kept:
        """Begin a request."""
        stream = Kept()
        self.http2.request(stream, "/S/M", options.get("leader", False), b"", data, is_end)
        return stream

    def bodies(self) -> dict[int, bytes]:
        """The data that the server got of each stream."""
        found: dict[int, bytes] = {}
        for event in self.got:
            if isinstance(event, DataReceived):
                found[event.stream_id] = found.get(event.stream_id, b"") + event.data
        return found


class Http2Tests(SynchronousTestCase):
    """What both halves say to each other."""

    def test_a_request_and_its_answer(self) -> None:
        """Headers, data, trailers, in both directions."""
        pair = Pair()
        stream = pair.ask(b"question")
        pair.deliver()
        request = next(event for event in pair.got if isinstance(event, RequestReceived))
        self.assertEqual(
            dict(request.headers),
            {
                ":method": "POST",
                ":scheme": "http",
                ":path": "/S/M",
                ":authority": "host:1",
                "te": "trailers",
                "content-type": "application/grpc",
                "user-agent": "pycomnet-etcd",
            },
        )
        self.assertEqual(pair.bodies(), {1: b"question"})
        self.assertTrue(any(isinstance(event, StreamEnded) for event in pair.got))
        pair.server.send_headers(1, [(":status", "200")])
        pair.server.send_data(1, b"answer", pad_length=7)
        pair.server.send_headers(1, [("grpc-status", "0")], end_stream=True)
        pair.deliver()
        status, trailers = {b":status": b"200"}, {b"grpc-status": b"0"}
        self.assertEqual(stream.told, [(status, False), b"answer", (trailers, True)])
        self.assertEqual(pair.http2.streams, {})

    def test_headers_that_were_sent_before_take_few_bytes(self) -> None:
        """They are in the table; so are those of another path, with other places."""
        pair = Pair()
        sizes = []
        for leader in (False, False, True, False, True, False):
            pair.ask(leader=leader)
            sizes.append(len(pair.written) - 18)
            pair.deliver()
        self.assertGreater(sizes[0], 60)
        self.assertEqual([sizes[1], sizes[4], sizes[5]], [7, 8, 7])
        requests: list[Any] = [
            dict(event.headers) for event in pair.got if isinstance(event, RequestReceived)
        ]
        self.assertEqual(
            [request.get("hasleader") for request in requests],
            [None, None, "true", None, "true", None],
        )
        self.assertEqual({request[":path"] for request in requests}, {"/S/M"})

    def test_headers_of_methods_in_turn_are_encoded_once(self) -> None:
        """Another method's headers don't drop those that are kept, once all are in the table."""
        for size in (4096, 0):
            headers = RequestHeaders("h:1", "http")
            headers.limit_table(size)
            paths = "/a", "/b", "/c"
            sent = [headers.block(path, True) for _ in range(2) for path in paths]
            kept = [headers.block(path, True) for path in paths]
            for _ in range(2):
                for path, block in zip(paths, kept, strict=True):
                    self.assertIs(headers.block(path, True), block)
            decoder = Decoder()
            for block, path in zip(sent + kept, paths * 3, strict=True):
                self.assertIn((":path", path), decoder.decode(block))

    @settings(max_examples=examples(800))
    @given(
        st.lists(
            st.one_of(
                st.tuples(
                    st.sampled_from(("/a", "/b", "/c", "/" + "d" * 1500, "/" + "e" * 2500)),
                    st.booleans(),
                    st.sampled_from(("", "first", "second")),
                ),
                st.sampled_from((0, 60, 300, 4095, 4096, 1 << 20)),
            ),
            max_size=40,
        )
    )
    def test_any_methods_with_any_tokens_are_read_as_sent(self, steps: list[Any]) -> None:
        """However the table changes in between: another decoder reads each block as what it is."""
        headers, decoder = RequestHeaders("h:1", "http"), Decoder()
        decoder.max_allowed_table_size = 4096
        for step in steps:
            if isinstance(step, int):
                headers.limit_table(step)
                decoder.max_allowed_table_size = step
                continue
            path, needs_leader, token = step
            block = headers.block(path, needs_leader)
            if token:
                block += literal(b"authorization", token.encode(), secret=True)
            found: list[Any] = list(decoder.decode(block))
            expected = [(":method", "POST"), (":scheme", "http"), (":path", path)]
            self.assertEqual(found[:3], expected)
            self.assertEqual(
                [each for each in found if each[0] in ("hasleader", "authorization")],
                [("hasleader", "true")] * needs_leader + [("authorization", token)] * bool(token),
            )
            self.assertEqual(len(found), 7 + needs_leader + bool(token))

    def test_a_server_without_a_table_gets_headers_too(self) -> None:
        """Or with a small one; h2 would say if it could not read them."""
        for size in (0, 100, 1 << 20):
            pair = Pair(HEADER_TABLE_SIZE=size)
            for leader in (False, True, False, True):
                pair.ask(leader=leader)
                pair.deliver()
            found = [event for event in pair.got if isinstance(event, RequestReceived)]
            self.assertEqual(len(found), 4)

    def test_more_headers_than_the_table_has_room_for(self) -> None:
        """Then all blocks do without it; none names what has fallen out."""
        pair = Pair()
        paths = [f"/S/{number}/{'x' * 500}" for number in range(12)]
        for path in paths * 2:
            pair.http2.request(Kept(), path, False, b"", b"", True)
            pair.deliver()
        found: list[Any] = [event for event in pair.got if isinstance(event, RequestReceived)]
        self.assertEqual([dict(event.headers)[":path"] for event in found], paths * 2)

    def test_a_literal_header_is_read(self) -> None:
        """Of any length, and a secret one is in no table."""
        for size in (0, 1, 126, 127, 128, 300, 20_000):
            block = literal(b"token", b"x" * size, secret=True) + literal(b"a", b"b")
            self.assertEqual(
                HeaderDecoder().decode(block), {b"token": b"x" * size, b"a": b"b"}, size
            )
        self.assertEqual(literal(b"token", b"x", secret=True)[0], 0x10)

    def test_long_headers_go_in_several_frames(self) -> None:
        """HEADERS and CONTINUATION, in both directions."""
        pair = Pair()
        stream = Kept()
        pair.http2.request(stream, "/S/M", False, literal(b"x", b"y" * 40_000), b"d", True)
        pair.deliver()
        request = next(event for event in pair.got if isinstance(event, RequestReceived))
        found: Any = dict(request.headers)
        self.assertEqual(len(found["x"]), 40_000)
        pair.server.send_headers(1, [(":status", "200"), ("x", "~" * 30_000)])
        pair.deliver()
        self.assertEqual(len(stream.told[0][0][b"x"]), 30_000)

    def test_data_wait_for_the_windows(self) -> None:
        """The stream's, the connection's, and both in turn for several streams."""
        pair = Pair()
        bodies = [bytes([number]) * 100_000 for number in range(3)]
        for body in bodies:
            pair.ask(body)
        pair.deliver()
        self.assertEqual(sum(map(len, pair.bodies().values())), 65535)
        for _ in range(100):
            before = pair.bodies()
            for number in range(3):
                ident = 1 + 2 * number
                room = pair.server._inbound_flow_control_window_manager
                if pair.server.streams.get(ident) is not None and ident in before:
                    window = pair.server.remote_flow_control_window(ident)
                    if window < 65535:
                        pair.server.increment_flow_control_window(65535 - window, ident)
            if room.current_window_size < 65535:
                pair.server.increment_flow_control_window(65535 - room.current_window_size)
            pair.deliver()
            if [len(body) for body in pair.bodies().values()] == [100_000] * 3:
                break
        self.assertEqual(list(pair.bodies().values()), bodies)
        self.assertEqual(sum(isinstance(event, StreamEnded) for event in pair.got), 3)

    def test_a_changed_first_window_changes_those_of_open_streams(self) -> None:
        """It may get negative, and then wider again (RFC 9113, 6.9.2)."""
        pair = Pair()
        stream = pair.ask(b"x" * 50_000, is_end=False)
        pair.deliver()
        pair.server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10_000})
        pair.deliver()
        self.assertEqual(stream.send_window, -40_000)
        pair.http2.send(stream, b"y" * 5000, True)
        pair.deliver()
        self.assertEqual(len(pair.bodies()[1]), 50_000)
        pair.server.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 60_000})
        pair.deliver()
        self.assertEqual(len(pair.bodies()[1]), 55_000)

    def test_no_more_streams_than_the_server_allows(self) -> None:
        """The others wait; one that is reset before never goes."""
        pair = Pair(MAX_CONCURRENT_STREAMS=2)
        streams = [pair.ask(b"%d" % number) for number in range(5)]
        pair.deliver()
        self.assertEqual(sorted(pair.bodies()), [1, 3])
        pair.http2.reset(streams[2])
        pair.server.send_headers(1, [(":status", "200")], end_stream=True)
        pair.deliver()
        self.assertEqual(pair.bodies()[5], b"3")
        pair.http2.reset(streams[1])
        pair.deliver()
        self.assertEqual(pair.bodies()[7], b"4")

    def test_more_streams_are_begun_when_the_server_allows_more(self) -> None:
        """Also if none ends, in their order."""
        pair = Pair(MAX_CONCURRENT_STREAMS=0)
        for number in range(5):
            pair.ask(b"%d" % number)
        pair.deliver()
        self.assertEqual(pair.bodies(), {})
        pair.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 3})
        pair.deliver()
        self.assertEqual(pair.bodies(), {1: b"0", 3: b"1", 5: b"2"})
        pair.server.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 100})
        pair.deliver()
        self.assertEqual(sorted(pair.bodies()), [1, 3, 5, 7, 9])

    def test_a_stream_that_its_data_end_gets_no_window(self) -> None:
        """Nothing is written for a stream after it was reset."""
        pair = Pair()
        stream = pair.ask()
        pair.deliver()

        def end(data: bytes) -> bool:
            pair.http2.reset(stream)
            return True

        stream.data_received = end  # type: ignore[method-assign]
        stream.unacknowledged = STREAM_WINDOW // 2
        pair.server.send_headers(1, [(":status", "200")])
        pair.server.send_data(1, b"x")
        pair.http2.receive(pair.server.data_to_send())
        self.assertEqual(pair.written, frames.reset(1, frames.CANCEL))

    def test_what_is_not_taken_is_not_let_in_again(self) -> None:
        """The stream's window is refilled when it is taken; the connection's always."""
        pair = Pair()
        slow, quick = pair.ask(), pair.ask()
        slow.takes = False
        pair.deliver()
        for ident in (1, 3):
            pair.server.send_headers(ident, [(":status", "200")])
        sent = {1: 0, 3: 0}
        for _ in range(3 * STREAM_WINDOW // 16000):
            for ident in (1, 3):
                if pair.server.local_flow_control_window(ident) >= 16000:
                    pair.server.send_data(ident, b"x" * 16000)
                    sent[ident] += 16000
            pair.deliver()
        self.assertLessEqual(sent[1], STREAM_WINDOW)
        self.assertGreater(sent[3], 2 * STREAM_WINDOW)
        pair.http2.taken(slow, sent[1])
        pair.deliver()
        self.assertGreater(pair.server.local_flow_control_window(1), STREAM_WINDOW - 16000)
        self.assertEqual(len(quick.told), 1 + sent[3] // 16000)

    def test_pings_are_answered(self) -> None:
        """With what they have."""
        pair = Pair()
        pair.server.ping(b"12345678")
        pair.http2.receive(pair.server.data_to_send())
        self.assertEqual(pair.written, frames.frame(frames.PING, frames.ACK, 0, b"12345678"))

    def test_one_that_does_not_read_the_answers_to_its_pings_is_left(self) -> None:
        """They would fill the memory."""
        pair = Pair()
        pair.http2.is_congested = True
        ping = frames.frame(frames.PING, 0, 0, b"12345678")
        pair.http2.receive(ping * MOST_UNREAD)
        with self.assertRaises(EtcdProtocolViolation):
            pair.http2.receive(ping)

    def test_a_server_that_goes_away_has_not_seen_the_later_streams(self) -> None:
        """These are lost unprocessed; the others hear of it, and may end."""
        pair = Pair()
        first, second = pair.ask(), pair.ask()
        pair.deliver()
        pair.http2.receive(frames.goaway(1, 0, b"bye"))
        self.assertEqual(first.told, ["going away"])
        self.assertEqual(second.told, [("lost", False)])
        self.assertTrue(pair.http2.is_draining)

    def test_the_last_stream_of_a_connection_drains_it(self) -> None:
        """There are no more ids than 2^31."""
        pair = Pair()
        pair.http2._next_id = (1 << 31) - 1
        told: list[str] = []
        pair.http2.on_draining = lambda: told.append("draining")
        stream = pair.ask()
        self.assertEqual(stream.id, (1 << 31) - 1)
        self.assertTrue(pair.http2.is_draining)
        self.assertEqual(told, ["draining"])

    def test_the_last_stream_may_end_when_it_is_told(self) -> None:
        """It is told that the connection drains when it was begun, not before."""
        pair = Pair()
        pair.http2._next_id = (1 << 31) - 1
        stream = Kept()
        stream.going_away = lambda: pair.http2.reset(stream)  # type: ignore[method-assign]
        pair.http2.request(stream, "/S/M", False, b"", b"q", True)
        kinds = []
        data = pair.written
        while data:
            size = int.from_bytes(data[:3], "big")
            kinds.append(data[3])
            data = data[9 + size :]
        self.assertEqual(kinds, [frames.HEADERS, frames.DATA, frames.RST_STREAM])

    def test_an_answer_before_the_whole_request_stops_it(self) -> None:
        """What is not sent yet is not wanted any more."""
        pair = Pair()
        stream = pair.ask(b"x" * 100_000)
        pair.deliver()
        pair.server.send_headers(1, [(":status", "200")], end_stream=True)
        pair.http2.receive(pair.server.data_to_send())
        self.assertEqual(pair.written, frames.reset(1, frames.CANCEL))
        self.assertEqual(stream.told, [({b":status": b"200"}, True)])
        pair.deliver()
        self.assertEqual(len(pair.bodies()[1]), 65535)

    def test_a_lost_connection_tells_all_streams(self) -> None:
        """One that was never sent was not processed."""
        pair = Pair(MAX_CONCURRENT_STREAMS=1)
        sent, waiting = pair.ask(), pair.ask()
        pair.http2.lose(EtcdProtocolViolation("lost"))
        self.assertEqual((sent.told, waiting.told), ([("lost", True)], [("lost", False)]))


SETTINGS = frames.settings({})


class WrongTests(SynchronousTestCase):
    """What a server must not send."""

    def begun(self) -> Pair:
        """A connection with one open stream."""
        pair = Pair()
        pair.ask()
        pair.deliver()
        return pair

    def test_wrong_frames_end_the_connection(self) -> None:
        """Each with a sentence on what is wrong."""
        number = frames.NUMBER.pack
        for name, wrong in (
            ("data of a stream that was never opened", frames.frame(0, 0, 3, b"x")),
            ("headers of a server's stream", frames.frame(1, 4, 2, b"\x88")),
            ("padding longer than the frame", frames.frame(0, 8, 1, b"\x09abc")),
            ("padding of nothing", frames.frame(0, 8, 1)),
            ("priority that is cut", frames.frame(1, 0x24, 1, b"abc")),
            ("headers that are none", frames.frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff")),
            ("an index of the table that we don't have", frames.frame(1, 4, 1, b"\xbe")),
            ("a continuation of nothing", frames.frame(9, 4, 1, b"")),
            ("a frame in a header block", frames.frame(1, 0, 1, b"\x88") + frames.frame(6, 0, 0)),
            ("data in a header block", frames.frame(1, 0, 1, b"\x88") + frames.frame(0, 0, 1)),
            ("a reset that is cut", frames.frame(3, 0, 1, b"abc")),
            ("settings of a stream", frames.frame(4, 0, 1)),
            ("settings that are cut", frames.frame(4, 0, 0, b"abcde")),
            ("a window too wide", frames.settings({4: 1 << 31})),
            ("a frame size too small", frames.settings({5: 100})),
            ("a push", frames.frame(5, 4, 1, number(2) + b"\x88")),
            ("a ping that is cut", frames.frame(6, 0, 0, b"abc")),
            ("a goaway that is cut", frames.frame(7, 0, 0, b"abc")),
            ("a window that is cut", frames.frame(8, 0, 0, b"abc")),
            ("a window by 0", frames.window_update(1, 0)),
            ("a window over 2 GiB", frames.window_update(1, (1 << 31) - 1)),
            ("the connection's by 0", frames.window_update(0, 0)),
            ("the connection's over 2 GiB", frames.window_update(0, (1 << 31) - 1)),
            ("a frame too long", frames.frame(0, 0, 1, b"x" * 16385)),
            ("a head of a frame too long", frames.frame(0, 0, 1, b"x" * 16385)[:9]),
        ):
            with self.assertRaises(EtcdProtocolViolation, msg=name):
                self.begun().http2.receive(wrong)

    def test_the_first_frame_is_settings(self) -> None:
        """Anything else is no HTTP/2: an answer of HTTP/1.1, say."""
        for wrong in (frames.frame(6, 0, 0, b"12345678"), b"HTTP/1.1 400 Bad Request\r\n\r\n"):
            http2 = Http2Connection(lambda data: None, RequestHeaders("h:1", "http"))
            with self.assertRaises(EtcdProtocolViolation):
                http2.receive(wrong)

    def test_headers_without_end_are_refused(self) -> None:
        """At the latest after 64 KiB."""
        http2 = self.begun().http2
        http2.receive(frames.frame(1, 0, 1, b"\x88"))
        with self.assertRaises(EtcdProtocolViolation):
            for _ in range(5):
                http2.receive(frames.frame(9, 0, 1, b"x" * 16384))

    def test_more_than_the_window_is_refused(self) -> None:
        """Of the stream, when nobody takes it."""
        pair = self.begun()
        next(iter(pair.http2.streams.values())).takes = False  # type: ignore[attr-defined]
        data = frames.frame(0, 0, 1, b"x" * 16384)
        pair.http2.receive(data * (STREAM_WINDOW // 16384))
        with self.assertRaises(EtcdProtocolViolation):
            pair.http2.receive(data)
        self.assertGreater(CONNECTION_WINDOW, STREAM_WINDOW)

    def test_frames_of_a_closed_stream_are_ignored(self) -> None:
        """They were on their way when it was reset."""
        pair = self.begun()
        pair.http2.reset(next(iter(pair.http2.streams.values())))
        pair.http2.receive(
            frames.frame(1, 4, 1, b"\x88")
            + frames.frame(0, 1, 1, b"x")
            + frames.window_update(1, 5)
            + frames.reset(1, 0)
        )

    def test_unknown_frames_and_settings_are_ignored(self) -> None:
        """Extensions."""
        pair = self.begun()
        pair.http2.receive(frames.frame(200, 0xFF, 1, b"x") + frames.settings({99: 1}))

    @settings(max_examples=examples(200))
    @given(st.lists(st.integers(1, 40), max_size=30), st.integers(0, 3))
    def test_bytes_may_come_in_any_pieces(self, sizes: list[int], padding: int) -> None:
        """The same is told."""
        pair = self.begun()
        pair.server.send_headers(1, [(":status", "200"), ("x", "y" * 50)])
        pair.server.send_data(1, b"hello", pad_length=padding)
        pair.server.send_headers(1, [("grpc-status", "0")], end_stream=True)
        stream: Any = next(iter(pair.http2.streams.values()))
        data = pair.server.data_to_send()
        for size in sizes:
            pair.http2.receive(data[:size])
            data = data[size:]
        pair.http2.receive(data)
        self.assertEqual(
            stream.told,
            [
                ({b":status": b"200", b"x": b"y" * 50}, False),
                b"hello",
                ({b"grpc-status": b"0"}, True),
            ],
        )

    @settings(max_examples=examples(600))
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)
            ),
            max_size=8,
        ),
        st.binary(max_size=30),
    )
    def test_nothing_else_is_raised(
        self, sent: list[tuple[int, int, int, bytes]], rest: bytes
    ) -> None:
        """Whatever frames come."""
        pair = self.begun()
        try:
            for one in sent:
                pair.http2.receive(frames.frame(*one))
            pair.http2.receive(rest)
        except EtcdProtocolViolation:
            pass
