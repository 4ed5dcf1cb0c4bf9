"""Unary calls and replies of one frame each: the short way is the long way, but shorter."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.properties import examples, given, settings
from pycomnet.test.wire.muxkit import (
    CLOSE,
    DATA,
    ERROR,
    FIRST,
    FIRST_MORE,
    FRAGMENT,
    NORMAL,
    OPEN,
    OPEN_END,
    RESULT,
    close,
    frame,
    frames,
    greeted,
    left_over,
    open_frame,
)
from pycomnet.wire.mux import (
    EV_CALL,
    EV_CLOSED,
    EV_DATA,
    EV_END,
    EV_OPENED,
    EV_REPLY,
    Limits,
    LocalError,
    Mux,
)

CALL = open_frame(1, FIRST | OPEN_END, b"first", b"ask")


def expecting(**options: Any) -> Mux:
    """An acceptor that expects calls for the purpose ``ask``."""
    mux = greeted(**options)
    mux.expect_calls(("other", "ask"))
    return mux


def received(mux: Mux, data: bytes) -> list[Any]:
    """The events, of whatever kind."""
    return list(mux.receive_data(data))


def seen(mux: Mux, data: bytes) -> list[tuple[Any, ...]]:
    """The events, calls as the three that they stand for, with ids for streams."""
    found: list[tuple[Any, ...]] = []
    for event in received(mux, data):
        if event[0] == EV_CALL:
            _, id, payload = event
            purpose = mux.calls.received.get(id)
            if purpose is None:
                stream = mux.stream_of(id)
                assert stream is not None
                purpose = stream.purpose
            found.append((EV_OPENED, id, purpose))
            found.append((EV_DATA, id, payload, len(payload) + 64))
            found.append((EV_END, id))
        elif event[0] == EV_REPLY:
            found.append((EV_CLOSED, event[1], RESULT, event[2]))
        elif event[0] in (EV_OPENED, EV_DATA, EV_END, EV_CLOSED):
            stream = event[1]
            extra = (stream.purpose,) if event[0] == EV_OPENED else event[2:]
            found.append((event[0], stream.id, *extra))
        else:
            found.append((event[0], str(event[1:])))
    return found


class AskTests(SynchronousTestCase):
    """Both ends of a unary call."""

    def test_whole_call_is_one_event(self) -> None:
        """A whole call is one event; its channel waits for the reply."""
        mux = expecting()
        self.assertEqual(received(mux, CALL), [(EV_CALL, 1, b"first")])
        mux.reply(1, b"result")
        self.assertEqual(frames(mux.data_to_send()), [(CLOSE, 1, b"\x02result")])
        self.assertEqual(left_over(mux), [])

    def test_call_gets_a_stream_when_wanted(self) -> None:
        """It gets a stream when one is wanted, and can get its reply by that, too."""
        mux = expecting()
        received(mux, CALL)
        stream: Any = mux.stream_of(1)
        self.assertIs(mux.stream_of(1), stream)
        self.assertEqual((stream.id, stream.purpose), (1, "ask"))
        self.assertTrue(stream.ended and stream.sending and not stream.receiving)
        mux.reply_on(stream, b"result")
        self.assertEqual(frames(mux.data_to_send()), [(CLOSE, 1, b"\x02result")])
        self.assertEqual(left_over(mux), [])
        self.assertIsNone(mux.stream_of(1))
        mux.reply(1, b"again")
        self.assertEqual(mux.data_to_send(), b"")

    def test_call_closed_in_the_same_bytes_is_never_replied(self) -> None:
        """A call that is closed in the same bytes has a stream that says so."""
        mux = expecting()
        came, closed = received(mux, CALL + close(1, NORMAL, b""))
        self.assertEqual((came[:2], closed[0]), ((EV_CALL, 1), EV_CLOSED))
        self.assertIs(mux.stream_of(1), closed[1])
        sent = mux.data_to_send()
        mux.reply(1, b"result")
        self.assertEqual(mux.data_to_send(), b"")
        self.assertEqual([kind for kind, _, _ in frames(sent)], [CLOSE])
        self.assertEqual(left_over(mux), [])
        received(mux, b"")
        self.assertIsNone(mux.stream_of(1))

    def test_calls_of_one_size_are_parsed_together(self) -> None:
        """Calls of one size are taken apart together, up to the first that is something else;
        so are results.
        """
        same = [open_frame(id, FIRST | OPEN_END, b"%05d" % id, b"ask") for id in range(1, 41, 2)]
        others = [
            open_frame(41, FIRST | OPEN_END, b"longer", b"ask"),
            open_frame(43, FIRST, b"12345", b"ask"),
            open_frame(45, FIRST | OPEN_END, b"other", b"any"),
            open_frame(47, FIRST | OPEN_END, b"asked", b"ask"),
            open_frame(49, FIRST | OPEN_END, b"asked", b"ask"),
            frame(DATA, 43, b"x" * 10),
            open_frame(51, FIRST | OPEN_END, b"asked", b"ask"),
            open_frame(51, FIRST | OPEN_END, b"asked", b"ask"),
        ]
        data = b"".join(same + others)
        for cut in range(0, len(data), 7):
            mux = expecting()
            events = received(mux, data[:cut]) + received(mux, data[cut:])
            came = [event[1:] for event in events if event[0] == EV_CALL]
            expected = [(id, b"%05d" % id) for id in range(1, 41, 2)]
            rest = [(47, b"asked"), (49, b"asked"), (51, b"asked")]
            self.assertEqual(came, [*expected, (41, b"longer"), *rest])
            assert mux.failed is not None
            self.assertEqual(mux.failed.code, "channel")

    def test_results_together_reach_their_callers_however_cut(self) -> None:
        """Each result goes to its caller, wherever the bytes are cut."""
        results = [b"\x91\xc0"] * 12 + [b"longer"] + [b"\x91\xc0"] * 3
        for cut in range(0, 12 * 16, 5):
            mux = greeted(initiator=True)
            ids = [mux.call("ask", b"first", number) for number in range(len(results) + 1)]
            stream: Any = mux.stream_of(ids[6])
            mux.data_to_send()
            data = b"".join(
                close(id, RESULT, payload) for id, payload in zip(ids, results, strict=False)
            )
            events = received(mux, data[:cut]) + received(mux, data[cut:])
            found = [
                (event[1], event[2]) if event[0] == EV_REPLY else (event[1].app, event[3])
                for event in events
            ]
            self.assertEqual(found, list(enumerate(results)))
            self.assertFalse(stream.sending or stream.receiving)
            self.assertEqual((list(mux.calls.pending), mux.table.local_open), ([ids[-1]], 1))
            received(mux, close(ids[0], RESULT, b""))
            self.assertIsNone(mux.failed)

    def test_cancelled_call_is_closed_and_its_result_dropped(self) -> None:
        """A call that is cancelled is closed; its result, on its way, is dropped."""
        mux = greeted(initiator=True)
        ids = [mux.call("ask", b"first", number) for number in range(3)]
        mux.data_to_send()
        mux.cancel_call(ids[1])
        self.assertEqual(frames(mux.data_to_send()), [(CLOSE, ids[1], b"\x00")])
        events = received(mux, b"".join(close(id, RESULT, b"r") for id in ids))
        replied = [event[1:] for event in events if event[0] == EV_REPLY]
        self.assertIn((2, b"r"), replied)
        self.assertNotIn(1, [app for app, _ in replied])
        self.assertEqual(left_over(mux), [])
        mux.cancel_call(ids[1])
        self.assertEqual(mux.data_to_send(), b"")

    def test_nothing_is_sent_for_calls_after_the_end(self) -> None:
        """Nothing is sent for calls once the connection is over."""
        mux = expecting()
        received(mux, CALL)
        mux.goaway("exit", "")
        mux.data_to_send()
        mux.reply(1, b"result")
        stream: Any = mux.stream_of(1)
        mux.close(stream, RESULT, b"x" * FRAGMENT)
        self.assertEqual(mux.data_to_send(), b"")

    def test_unexpected_calls_are_ordinary_events(self) -> None:
        """What is not expected, or goes on, is the events that it was."""
        for data in (
            open_frame(1, FIRST | OPEN_END, b"first", b"asked"),
            open_frame(1, FIRST, b"first", b"ask"),
            open_frame(1, FIRST | FIRST_MORE, b"f" * 256, b"ask"),
            open_frame(1, 0, b"", b"ask"),
        ):
            kinds = [event[0] for event in expecting().receive_data(data)]
            self.assertNotIn(EV_CALL, kinds)
            self.assertEqual(kinds[0], EV_OPENED)

    def test_short_call_is_the_same_on_the_wire(self) -> None:
        """A call sent the short way is on the wire what the long way has."""
        for first in (b"", b"first", b"x" * 65_531, b"x" * 65_532, b"x" * 100_000):
            short, long = greeted(initiator=True), greeted(initiator=True)
            for _ in range(2):  # the first of a purpose goes the long way
                short.call("ask", first)
                long.open("ask", first, end=True)
                self.assertEqual(short.data_to_send(), long.data_to_send())
            self.assertEqual(short.table.local_open, long.table.local_open)

    def test_reply_ends_the_calls_channel(self) -> None:
        """The reply to a call ends its channel at the caller."""
        mux = greeted(initiator=True)
        for id in (1, 3):
            self.assertEqual(mux.call("ask", b"first", "user"), id)
            mux.data_to_send()
            (event,) = received(mux, close(id, RESULT, b"result"))
            if id == 1:  # the first of a purpose goes the long way
                self.assertEqual(
                    (event[0], event[1].app, *event[2:]), (EV_CLOSED, "user", RESULT, b"result")
                )
            else:
                self.assertEqual(event, (EV_REPLY, "user", b"result"))
            self.assertEqual(mux.data_to_send(), b"")
            self.assertEqual(left_over(mux), [])

    def test_reply_too_long_or_congested_waits(self) -> None:
        """A reply that is too long for a frame, or comes while the transport is full, waits."""
        mux = expecting()
        received(mux, CALL)
        mux.reply(1, b"x" * FRAGMENT)
        kinds = [kind for kind, _, _ in frames(mux.data_to_send(1 << 30))]
        self.assertEqual(kinds[-1], CLOSE)
        self.assertEqual(len(kinds), 2)
        mux = expecting()
        received(mux, CALL)
        mux.scheduler.congested = True
        mux.reply(1, b"result")
        self.assertEqual(mux.scheduler.out, [])
        mux.scheduler.congested = False
        self.assertEqual([f[0] for f in frames(mux.data_to_send())][-1], CLOSE)
        self.assertEqual(left_over(mux), [])

    def test_calls_have_the_limits_of_channels(self) -> None:
        """The limits are those of the long way."""
        for data, limits, code in (
            (
                CALL + open_frame(3, FIRST | OPEN_END, b"", b"ask"),
                Limits(channels=1),
                "channels",
            ),
            (open_frame(2, FIRST | OPEN_END, b"", b"ask"), None, "channel"),
            (CALL + CALL, None, "channel"),
            (open_frame(1, FIRST | OPEN_END, b"x" * 1000, b"ask"), Limits(window=1024), "window"),
            (open_frame(1, FIRST | OPEN_END, b"x" * 2000, b"ask"), Limits(frame=1024), "frame"),
            (frame(OPEN, 1, b"\x0a\x04ask"), None, "frame"),
        ):
            mux = expecting(limits=limits)
            mux.receive_data(data)
            assert mux.failed is not None, data
            self.assertEqual(mux.failed.code, code)

    def test_call_over_the_peers_limit_is_refused(self) -> None:
        """Asking more than the peer allows is refused here."""
        mux = greeted(initiator=True, channels=1)
        mux.call("ask", b"")
        problem = self.assertRaises(LocalError, mux.call, "ask", b"")
        self.assertIn("1 open channels", str(problem))


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(
                lambda id, flags, first, name: open_frame(id, flags, first, name),
                st.integers(0, 9),
                st.sampled_from([FIRST | OPEN_END, FIRST, OPEN_END, 0, 31]),
                st.binary(max_size=20),
                st.sampled_from([b"ask", b"other", b"a", b"asks"]),
            ),
            st.builds(
                close,
                st.integers(0, 9),
                st.sampled_from([NORMAL, ERROR, RESULT]),
                st.binary(max_size=3),
            ),
        ),
        max_size=8,
    ),
    st.booleans(),
    st.booleans(),
)
def check_same(data: list[bytes], replies: bool, together: bool) -> None:
    """Whatever comes: with and without the short way the same happens."""
    short, long = expecting(), greeted()
    for _ in range(3):
        id = short.call("ask", b"first")
        if id in short.calls.pending:
            short.calls.pending[id] = id  # what :func:`seen` knows it by
        long.open("ask", b"first", end=True)
    for mux in (short, long):
        mux.data_to_send()
    for piece in [b"".join(data)] if together else data:
        assert seen(short, piece) == seen(long, piece)
        if replies:
            for id in list(long.streams):
                if long.streams[id].sending and not long.streams[id].local:
                    short.reply(id, b"r")
                    long.close(long.streams[id], RESULT, b"r")
        assert short.data_to_send() == long.data_to_send()
        known = {*short.streams, *short.calls.pending, *short.calls.received}
        assert known == set(long.streams)
        assert (short.table.local_open, short.table.peer_open) == (
            long.table.local_open,
            long.table.peer_open,
        )
        if short.failed is not None:
            return


class SameTests(SynchronousTestCase):
    """The two ways compared."""

    def test_short_and_long_calls_agree(self) -> None:
        """As :func:`check_same` says."""
        check_same()
