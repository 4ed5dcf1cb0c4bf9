"""Long frames, which are put together from the pieces that came."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.wire.assembly import Assembly
from pycomnet.wire.frames import RAW_FRAGMENT
from pycomnet.wire.mux import EV_DATA, Limits, Mux
from pycomnet.wire.values import PureCodec


class LongFrameTests(SynchronousTestCase):
    """Frames that are put together from pieces."""

    def test_long_frames_arrive_whole_however_cut(self) -> None:
        """They come whole, on raw channels and within values, however they are cut."""
        for size in (1, 9, 700, 16393, 16394, 65545, 100_000):
            near, far = Mux(True), Mux(False, Limits(frame=RAW_FRAGMENT))
            far.receive_data(near.data_to_send())
            near.receive_data(far.data_to_send())
            raw, plain = near.open("channel", raw=True), near.open("channel")
            sent = os.urandom(200_000)
            value = PureCodec().encode(sent[:150_000])
            near.send(raw, sent)
            near.send(plain, value)
            near.send(raw, b"last")
            data = b""
            while more := near.data_to_send():
                data += more
            got = b""
            values: list[object] = []
            for at in range(0, len(data), size):
                for event in far.receive_data(data[at : at + size]):
                    if event[0] == EV_DATA and event[1].raw:
                        got += event[2]
                    elif event[0] == EV_DATA:
                        assert isinstance(event[2], memoryview)
                        values.append(event[2].obj)
            self.assertTrue(got == sent + b"last", size)
            self.assertEqual(values, [sent[:150_000]])
            self.assertEqual(far.lacking(), 0)

    def test_lacking_says_what_the_begun_frame_lacks(self) -> None:
        """It is known what the frame lacks that has begun."""
        near, far = Mux(True), Mux(False)
        far.receive_data(near.data_to_send())
        near.receive_data(far.data_to_send())
        near.send(near.open("channel", raw=True), bytes(20_000))
        data = near.data_to_send()
        frame = len(data) - 20_009
        for have, lacks in ((0, 0), (3, 6), (9, 20_000), (5_009, 15_000), (20_009, 0)):
            mux = Mux(False)
            mux.receive_data(Mux(True).data_to_send())
            mux.receive_data(data[: frame + have])
            self.assertEqual(mux.lacking(), lacks)


class BeginningTests(SynchronousTestCase):
    """The beginning of a value of which a part has arrived."""

    def test_beginning_is_what_came_first(self) -> None:
        """Whatever the pieces are, and however many have come."""
        data = bytes(range(256)) * 2000
        for size in (1, 100, 60_000, 200_000):
            found = Assembly()
            for at in range(0, len(data), size):
                if at > 5000 * size:
                    break
                found.append(memoryview(data)[at : at + size])
                arrived = data[: at + size]
                if at < 20 * size:
                    self.assertEqual(found.beginning(300), arrived[:300])
        self.assertEqual(Assembly().beginning(10), b"")
