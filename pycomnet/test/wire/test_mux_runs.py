"""Runs: short values of one channel that come together are one event."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.properties import given
from pycomnet.test.wire.muxkit import DATA, frame, hello, open_frame
from pycomnet.wire.frames import FRAME_COST, HEADER
from pycomnet.wire.mux import EV_DATA, EV_FAILED, EV_RUN, Limits, Mux

#: The header of a frame with sixteen bytes on channel 1.
HEAD = HEADER.pack(16, DATA, 1)


def accepted(window: int = 1 << 20) -> Mux:
    """A mux whose peer has opened channel 1."""
    mux = Mux(False, Limits(window=window))
    mux.receive_data(hello() + open_frame(1))
    return mux


def payloads(mux: Mux, data: bytes) -> list[bytes]:
    """What arrives; the costs are right."""
    found: list[bytes] = []
    events: list[Any] = list(mux.receive_data(data))
    for event in events:
        new = event[2] if event[0] == EV_RUN else [event[2]]
        assert event[0] in (EV_DATA, EV_RUN), event
        assert event[3] == sum(map(len, new)) + len(new) * FRAME_COST
        found += new
    return found


class SameSize(SynchronousTestCase):
    """Values of the same size, whatever they consist of."""

    def test_value_that_looks_as_a_header_stays_a_value(self) -> None:
        """A value that looks as the header that is between them."""
        for odd in (HEAD + b"1234567", b"1234567" + HEAD, b"123" + HEAD + b"4567"):
            for place in range(6):
                values = [b"%016d" % number for number in range(5)]
                values.insert(place, odd)
                data = b"".join(frame(DATA, 1, value) for value in values)
                self.assertEqual(payloads(accepted(), data), values)
                for cut in range(len(data)):
                    mux = accepted()
                    self.assertEqual(payloads(mux, data[:cut]) + payloads(mux, data[cut:]), values)

    @given(
        st.lists(
            st.one_of(
                st.sampled_from([b"", b"x" * 16, HEAD, HEAD + b"1234567", bytes(16), HEAD * 3]),
                st.binary(max_size=40),
            ),
            max_size=30,
        ),
        st.integers(0, 400),
    )
    def test_runs_arrive_as_sent_however_cut(self, values: list[bytes], cut: int) -> None:
        """Cut anywhere, each arrives as it was sent."""
        data = b"".join(frame(DATA, 1, value) for value in values)
        mux = accepted()
        self.assertEqual(payloads(mux, data[:cut]) + payloads(mux, data[cut:]), values)
        used = sum(len(value) + FRAME_COST for value in values)
        self.assertEqual(mux.streams[1].window, mux.limits.window - used)

    def test_run_over_the_window_gives_what_credit_covers(self) -> None:
        """Those for which there was credit arrive, and the next is the peer's mistake."""
        cost = 16 + FRAME_COST
        for room in (1, 2, 5):
            mux = accepted(max(5 * cost, 1024))
            mux.streams[1].window = room * cost
            events: list[Any] = list(mux.receive_data(frame(DATA, 1, bytes(16)) * (room + 3)))
            self.assertEqual(events[-1][0], EV_FAILED)
            self.assertEqual(events[-1][1].code, "window")
            came = [n for event in events[:-1] for n in (event[2] if event[0] == EV_RUN else [0])]
            self.assertEqual(len(came), room)

    def test_other_channels_values_are_not_in_the_run(self) -> None:
        """A value of another channel that is as long is none of the run's."""
        mux = accepted()
        mux.receive_data(open_frame(3))
        one, other = frame(DATA, 1, b"1" * 16), frame(DATA, 3, b"3" * 16)
        events: list[Any] = list(mux.receive_data(one * 3 + other * 2 + one))
        self.assertEqual(
            [(event[0], event[1].id) for event in events],
            [(EV_RUN, 1), (EV_RUN, 3), (EV_DATA, 1)],
        )
