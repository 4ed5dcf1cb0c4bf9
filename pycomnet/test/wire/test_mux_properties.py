"""What holds for two muxes whatever their users do and however the bytes between them are cut."""

from __future__ import annotations

from hypothesis import HealthCheck
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.properties import examples, given, settings
from pycomnet.test.wire.muxkit import hello, plain
from pycomnet.test.wire.muxmodel import REST, TRAFFIC, Link
from pycomnet.wire import mux as wire
from pycomnet.wire.mux import Limits, Mux

bounded = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=examples(200),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

#: What may happen: by whom, to which of its channels, and a size. Traffic is more likely than what
#: ends a channel, or there would be little of it.
OPERATIONS = st.tuples(
    st.one_of(st.sampled_from(TRAFFIC), st.sampled_from(REST)),
    st.integers(0, 1),
    st.integers(0, 3),
    st.one_of(st.integers(0, 30), st.integers(0, 3000)),
)

LIMITS = st.builds(
    Limits,
    window=st.sampled_from([1024, 1500, 4096]),
    frame=st.sampled_from([1024, 65536]),
    channels=st.sampled_from([1, 3, 100]),
)


class TwoEndsTests(SynchronousTestCase):
    """Two honest ends."""

    @bounded
    @given(LIMITS, LIMITS, st.lists(OPERATIONS, max_size=80), st.integers(0, 2), st.booleans())
    def test_model_holds_for_any_operations(
        self,
        near: Limits,
        far: Limits,
        operations: list[tuple[str, int, int, int]],
        closer: int,
        greet: bool,
    ) -> None:
        """The model holds at each step; once all is closed, from either end, nothing is left."""
        link = Link(near, far)
        if greet:
            link.settle()
        for operation in operations:
            link.operate(*operation)
        link.settle()
        link.finish(closer)

    @bounded
    @given(st.lists(OPERATIONS, min_size=1, max_size=25), st.integers(0, 2))
    def test_model_holds_on_one_channel(
        self, operations: list[tuple[str, int, int, int]], closer: int
    ) -> None:
        """The same on one channel, where more of what happens meets."""
        link = Link(Limits(1024), Limits(1024))
        link.settle()
        link.open(link.ends[0], None, False, False)
        link.settle()
        for name, who, _, size in operations:
            if not name.startswith("open"):
                link.operate(name, who, 0, size)
        link.settle()
        link.finish(closer)


def recorded(operations: list[tuple[str, int, int, int]]) -> bytes:
    """What the initiator writes in the course of these operations."""
    link = Link(Limits(4096), Limits(4096))
    link.settle()
    for operation in operations:
        link.operate(*operation)
    link.settle()
    return b"".join(link.ends[0].said)


class SplitTests(SynchronousTestCase):
    """What bytes mean does not depend on where they are cut."""

    @bounded
    @given(
        st.lists(OPERATIONS, max_size=40),
        st.lists(st.integers(1, 3000), min_size=1),
        st.one_of(st.none(), st.tuples(st.integers(0, 1 << 20), st.integers(1, 255))),
    )
    def test_events_do_not_depend_on_random_cuts(
        self,
        operations: list[tuple[str, int, int, int]],
        cuts: list[int],
        flip: tuple[int, int] | None,
    ) -> None:
        """One lump, byte by byte, and cut anywhere: the same events, also when a byte is wrong."""
        data = recorded(operations)
        if flip is not None:
            at = flip[0] % len(data)
            data = data[:at] + bytes([data[at] ^ flip[1]]) + data[at + 1 :]
        pieces = []
        start = 0
        for cut in cuts * (len(data) // sum(cuts) + 1):
            pieces.append(data[start : start + cut])
            start += cut
        found = []
        for how in ([data], pieces, [bytes([byte]) for byte in data]):
            mux = Mux(False, Limits(1 << 30))
            mux.data_to_send()
            events = []
            for piece in how:
                events += plain(mux.receive_data(piece))
            if events and events[-1][0] == wire.EV_FAILED and mux.peer is None:
                # What is shown of what is not a hello is what had come of it.
                events[-1] = (wire.EV_FAILED, events[-1][1][0])
            found.append((events, mux.data_to_send() if mux.peer else None))
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])

    def test_events_are_the_same_at_every_cut(self) -> None:
        """Cut in two at each place, a stream with one of each frame."""
        near = Mux(True)
        near.receive_data(hello())
        stream = near.open("exec", bytes(700))
        near.send(stream, b"", prefix=b"x")
        near.send(stream, bytes(range(256)) * 3)
        near.ping(b"12345678")
        raw = near.open("raw", b"abc", raw=True, end=True)
        near.end(stream)
        near.close(raw)
        data = near.data_to_send()
        near.goaway("exit", "bye")
        data += near.data_to_send()
        expected = plain(Mux(False).receive_data(data))
        self.assertEqual(expected[-1], (wire.EV_GOAWAY, "exit", "bye"))
        self.assertEqual(len(expected), 11)
        for cut in range(len(data)):
            far = Mux(False)
            events = plain(far.receive_data(data[:cut]))
            self.assertEqual(events + plain(far.receive_data(data[cut:])), expected, cut)
