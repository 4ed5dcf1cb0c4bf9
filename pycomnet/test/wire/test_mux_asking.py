"""Questions and answers of one frame each: the short way is the long way, but shorter."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.properties import given, settings
from pycomnet.test.wire.muxkit import (
    CLOSE,
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
    EV_ASKED,
    EV_CLOSED,
    EV_DATA,
    EV_END,
    EV_OPENED,
    Limits,
    LocalError,
    Mux,
)

QUESTION = open_frame(1, FIRST | OPEN_END, b"first", b"ask")


def expecting(**options: Any) -> Mux:
    """An acceptor that expects questions for the purpose ``ask``."""
    mux = greeted(**options)
    mux.expect(("other", "ask"))
    return mux


def received(mux: Mux, data: bytes) -> list[Any]:
    """The events, of whatever kind."""
    return list(mux.receive_data(data))


def seen(mux: Mux, data: bytes) -> list[tuple[Any, ...]]:
    """The events, questions as the three that they stand for, with ids for streams."""
    found: list[tuple[Any, ...]] = []
    for event in received(mux, data):
        if event[0] == EV_ASKED:
            _, stream, payload = event
            found.append((EV_OPENED, stream.id, stream.purpose))
            found.append((EV_DATA, stream.id, payload, len(payload) + 64))
            found.append((EV_END, stream.id))
        elif event[0] in (EV_OPENED, EV_DATA, EV_END, EV_CLOSED):
            stream = event[1]
            extra = (stream.purpose,) if event[0] == EV_OPENED else event[2:]
            found.append((event[0], stream.id, *extra))
        else:
            found.append((event[0], str(event[1:])))
    return found


class AskTests(SynchronousTestCase):
    """Both ends of a question."""

    def test_asked(self) -> None:
        """A whole question is one event; its channel waits for the answer."""
        mux = expecting()
        ((kind, stream, payload),) = received(mux, QUESTION)
        self.assertEqual((kind, payload, stream.purpose), (EV_ASKED, b"first", "ask"))
        self.assertTrue(stream.ended and stream.sending and not stream.receiving)
        mux.answer(stream, b"result")
        self.assertEqual(frames(mux.data_to_send()), [(CLOSE, 1, b"\x02result")])
        self.assertEqual(left_over(mux), [])

    def test_other_purposes(self) -> None:
        """What is not expected, or goes on, is the events that it was."""
        for data in (
            open_frame(1, FIRST | OPEN_END, b"first", b"asked"),
            open_frame(1, FIRST, b"first", b"ask"),
            open_frame(1, FIRST | FIRST_MORE, b"f" * 256, b"ask"),
            open_frame(1, 0, b"", b"ask"),
        ):
            kinds = [event[0] for event in expecting().receive_data(data)]
            self.assertNotIn(EV_ASKED, kinds)
            self.assertEqual(kinds[0], EV_OPENED)

    def test_ask(self) -> None:
        """What is asked the short way is on the wire what the long way has."""
        for first in (b"", b"first", b"x" * 65_531, b"x" * 65_532, b"x" * 100_000):
            short, long = greeted(initiator=True), greeted(initiator=True)
            for _ in range(2):  # the first of a purpose goes the long way
                short.ask("ask", first)
                long.open("ask", first, end=True)
                self.assertEqual(short.data_to_send(), long.data_to_send())
            self.assertEqual(short._local_open, long._local_open)

    def test_result(self) -> None:
        """The result of a question ends its channel at the end that asked."""
        mux = greeted(initiator=True)
        for id in (1, 3):
            stream = mux.ask("ask", b"first")
            mux.data_to_send()
            ((kind, over, how, payload),) = received(mux, close(id, RESULT, b"result"))
            self.assertEqual((kind, over, how, payload), (EV_CLOSED, stream, RESULT, b"result"))
            self.assertEqual(mux.data_to_send(), b"")
            self.assertEqual(left_over(mux), [])

    def test_long_answers(self) -> None:
        """An answer that is too long for a frame, or comes while the transport is full, waits."""
        mux = expecting()
        ((_, stream, _),) = received(mux, QUESTION)
        mux.answer(stream, b"x" * FRAGMENT)
        kinds = [kind for kind, _, _ in frames(mux.data_to_send(1 << 30))]
        self.assertEqual(kinds[-1], CLOSE)
        self.assertEqual(len(kinds), 2)
        mux = expecting()
        ((_, stream, _),) = received(mux, QUESTION)
        mux.congested = True
        mux.answer(stream, b"result")
        self.assertEqual(mux._out, [])
        mux.congested = False
        self.assertEqual([f[0] for f in frames(mux.data_to_send())][-1], CLOSE)
        self.assertEqual(left_over(mux), [])

    def test_limits(self) -> None:
        """The limits are those of the long way."""
        for data, limits, code in (
            (
                QUESTION + open_frame(3, FIRST | OPEN_END, b"", b"ask"),
                Limits(channels=1),
                "channels",
            ),
            (open_frame(2, FIRST | OPEN_END, b"", b"ask"), None, "channel"),
            (QUESTION + QUESTION, None, "channel"),
            (open_frame(1, FIRST | OPEN_END, b"x" * 1000, b"ask"), Limits(window=1024), "window"),
            (open_frame(1, FIRST | OPEN_END, b"x" * 2000, b"ask"), Limits(frame=1024), "frame"),
            (frame(OPEN, 1, b"\x0a\x04ask"), None, "frame"),
        ):
            mux = expecting(limits=limits)
            mux.receive_data(data)
            assert mux.failed is not None, data
            self.assertEqual(mux.failed.code, code)

    def test_too_many(self) -> None:
        """Asking more than the peer allows is refused here."""
        mux = greeted(initiator=True, channels=1)
        mux.ask("ask", b"")
        problem = self.assertRaises(LocalError, mux.ask, "ask", b"")
        self.assertIn("1 open channels", str(problem))


@settings(max_examples=150, deadline=None)
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
)
def check_same(data: list[bytes], answers: bool) -> None:
    """Whatever comes: with and without the short way the same happens."""
    short, long = expecting(), greeted()
    for mux in (short, long):
        for _ in range(2):
            mux.open("ask", b"first", end=True)
        mux.data_to_send()
    for piece in data:
        assert seen(short, piece) == seen(long, piece)
        if answers:
            for id in list(short.streams):
                if short.streams[id].sending and not short.streams[id].local:
                    short.answer(short.streams[id], b"r")
                    long.close(long.streams[id], RESULT, b"r")
        assert short.data_to_send() == long.data_to_send()
        assert set(short.streams) == set(long.streams)
        assert (short._local_open, short._peer_open) == (long._local_open, long._peer_open)
        if short.failed is not None:
            return


class SameTests(SynchronousTestCase):
    """The two ways compared."""

    def test_same(self) -> None:
        """As :func:`check_same` says."""
        check_same()
