"""Every frame's exact bytes, as docs/protocol.rst says them, in both directions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.wire import muxkit
from pycomnet.test.wire.muxkit import greeted, hello, open_frame, opened, pair, plain
from pycomnet.wire import frames
from pycomnet.wire import mux as wire
from pycomnet.wire.mux import Limits, Mux

HELLO = (
    b"\x00\x00\x00\x34\x00\x00\x00\x00\x00"
    b"PYCOMNET\x00\x01"
    b"\x84"
    b"\xa6window\xce\x00\x10\x00\x00"
    b"\xa5frame\xce\x00\x01\x00\x00"
    b"\xa8channels\xcd\x40\x00"
    b"\xa4info\x80"
)


class HelloTests(SynchronousTestCase):
    """The first frame."""

    def test_both_ends_send_the_same_hello(self) -> None:
        """Both ends say the same by default, without waiting for the other."""
        self.assertEqual(Mux(True).data_to_send(), HELLO)
        self.assertEqual(Mux(False).data_to_send(), HELLO)

    def test_hello_has_limits_info_and_credential(self) -> None:
        """The limits, the info and a credential, which is bytes, are in it."""
        mux = Mux(False, Limits(1024, 2048, 3), {"pid": 7}, b"key")
        self.assertEqual(
            mux.data_to_send()[9:],
            b"PYCOMNET\x00\x01\x85\xa6window\xcd\x04\x00\xa5frame\xcd\x08\x00\xa8channels\x03"
            b"\xa4info\x81\xa3pid\x07\xaacredential\xc4\x03key",
        )

    def test_received_hello_is_in_the_event_and_kept(self) -> None:
        """What it says is in the event and kept."""
        mux = Mux(True)
        data = hello(
            window=1024, frame=2048, channels=3, info={"pid": 7}, credential=b"key", other=[1]
        )
        said = {
            "window": 1024,
            "frame": 2048,
            "channels": 3,
            "info": {"pid": 7},
            "credential": b"key",
        }
        self.assertEqual(plain(mux.receive_data(data)), [(wire.EV_HELLO, said)])
        self.assertEqual(mux.peer, said)

    def test_hellos_missing_keys_are_defaults(self) -> None:
        """What it doesn't say is the default."""
        mux = greeted()
        self.assertEqual(
            mux.peer,
            {"window": 1048576, "frame": 65536, "channels": 16384, "info": {}, "credential": None},
        )


class SentTests(SynchronousTestCase):
    """What each call sends."""

    def setUp(self) -> None:
        self.mux = greeted(True)

    def test_open_has_its_flags_and_odd_ids(self) -> None:
        """Each of the flags, and ids that are odd for the initiator."""
        for call, sent in (
            ({}, b"\x00\x00\x00\x06\x04\x00\x00\x00\x01\x00\x04exec"),
            ({"raw": True}, b"\x00\x00\x00\x06\x04\x00\x00\x00\x03\x01\x04exec"),
            ({"first": b"ab"}, b"\x00\x00\x00\x08\x04\x00\x00\x00\x05\x02\x04execab"),
            ({"first": b"", "raw": True}, b"\x00\x00\x00\x06\x04\x00\x00\x00\x07\x03\x04exec"),
            ({"end": True}, b"\x00\x00\x00\x06\x04\x00\x00\x00\x09\x08\x04exec"),
            (
                {"first": b"ab", "end": True, "raw": True},
                b"\x00\x00\x00\x08\x04\x00\x00\x00\x0b\x0b\x04execab",
            ),
        ):
            self.mux.open("exec", **call)
            self.assertEqual(self.mux.data_to_send(), sent, call)

    def test_acceptors_ids_are_even_from_2(self) -> None:
        mux = greeted(False)
        mux.open("", b"")
        mux.open("")
        self.assertEqual(
            mux.data_to_send(),
            b"\x00\x00\x00\x02\x04\x00\x00\x00\x02\x02\x00"
            b"\x00\x00\x00\x02\x04\x00\x00\x00\x04\x00\x00",
        )

    def test_long_first_value_goes_on_in_more_and_data(self) -> None:
        """A first value that does not fit goes on in MORE and DATA; END follows as a frame."""
        value = bytes(range(256)) * 520
        self.mux.open("exec", value, end=True)
        first = 65536 - 6
        self.assertEqual(
            self.mux.data_to_send(),
            b"\x00\x01\x00\x00\x04\x00\x00\x00\x01\x06\x04exec"
            + value[:first]
            + b"\x00\x01\x00\x00\x02\x00\x00\x00\x01"
            + value[first : first + 65536]
            + b"\x00\x00\x08\x06\x01\x00\x00\x00\x01"
            + value[first + 65536 :]
            + b"\x00\x00\x00\x00\x05\x00\x00\x00\x01",
        )

    def test_first_value_that_just_fits_is_whole(self) -> None:
        """A first value that just fits in a frame, or in the window, is whole."""
        for window, size in ((1 << 20, 65536 - 6), (2000, 2000 - 64)):
            for more, sent in ((0, [b"\x02"]), (1, [b"\x06", b"v"])):
                mux = greeted(True, window=window)
                mux.open("exec", b"v" * (size + more))
                mux.receive_data(b"\x00\x00\x00\x04\x03\x00\x00\x00\x01\x00\x00\x10\x00")
                starts = [payload[:1] for _, _, payload in muxkit.frames(mux.data_to_send())]
                self.assertEqual(starts, sent)

    def test_long_raw_first_bytes_go_on_in_data(self) -> None:
        """On a raw channel every fragment is DATA, and OPEN has no MORE."""
        data = b"r" * 65537
        self.mux.open("exec", data, raw=True)
        self.assertEqual(
            self.mux.data_to_send(),
            b"\x00\x01\x00\x00\x04\x00\x00\x00\x01\x03\x04exec"
            + data[:65530]
            + b"\x00\x00\x00\x07\x01\x00\x00\x00\x01"
            + data[65530:],
        )

    def test_short_value_is_one_data_with_its_prefix(self) -> None:
        """A short value is one DATA, with or without what goes in front of it."""
        stream = self.mux.open("")
        self.mux.data_to_send()
        self.assertTrue(self.mux.send(stream, b"abc"))
        self.assertEqual(self.mux.data_to_send(), b"\x00\x00\x00\x03\x01\x00\x00\x00\x01abc")
        self.assertFalse(self.mux.send(stream, b"abc", prefix=b"\x93"))
        self.assertEqual(self.mux.data_to_send(), b"\x00\x00\x00\x04\x01\x00\x00\x00\x01\x93abc")
        self.assertEqual(
            self.mux.immediate(stream, b"abc"), b"\x00\x00\x00\x03\x01\x00\x00\x00\x01abc"
        )

    def test_long_value_is_more_frames_then_data(self) -> None:
        """A long value is MORE, ..., DATA; the last may be as long as any."""
        for size in (65536, 65537, 131072, 131073):
            with self.subTest(size):
                mux = greeted(True)
                stream = mux.open("")
                mux.data_to_send()
                mux.send(stream, b"x" * size)
                sent = b""
                for start in range(0, size, 65536):
                    length = min(65536, size - start)
                    sent += length.to_bytes(4, "big")
                    sent += b"\x01" if start + length == size else b"\x02"
                    sent += b"\x00\x00\x00\x01" + b"x" * length
                self.assertEqual(mux.data_to_send(), sent)

    def test_credit_is_given_at_half_a_window(self) -> None:
        """What was taken, once it is half a window."""
        mux = greeted(limits=Limits(window=2048))
        stream = opened(mux, open_frame(0x10203))
        mux.consumed(stream, 1023)
        self.assertEqual(mux.data_to_send(), b"")
        mux.consumed(stream, 1)
        self.assertEqual(
            mux.data_to_send(), b"\x00\x00\x00\x04\x03\x00\x01\x02\x03\x00\x00\x04\x00"
        )

    def test_end_is_empty(self) -> None:
        stream = self.mux.open("")
        self.mux.data_to_send()
        self.mux.end(stream)
        self.assertEqual(self.mux.data_to_send(), b"\x00\x00\x00\x00\x05\x00\x00\x00\x01")

    def test_close_has_its_kind_and_payload(self) -> None:
        """The three kinds."""
        for kind, payload, sent in (
            (frames.NORMAL, b"", b"\x00\x00\x00\x01\x06\x00\x00\x00\x01\x00"),
            (frames.ERROR, b"\x80", b"\x00\x00\x00\x02\x06\x00\x00\x00\x01\x01\x80"),
            (frames.RESULT, b"\xc0", b"\x00\x00\x00\x02\x06\x00\x00\x00\x01\x02\xc0"),
        ):
            mux = greeted(True)
            stream = mux.open("")
            mux.data_to_send()
            mux.close(stream, kind, payload)
            self.assertEqual(mux.data_to_send(), sent)

    def test_pongs_bytes_are_the_pings(self) -> None:
        """A ping's bytes are its user's; the answer's are the ping's."""
        self.mux.ping(b"01234567")
        self.assertEqual(self.mux.data_to_send(), b"\x00\x00\x00\x08\x07\x00\x00\x00\x0001234567")
        self.mux.receive_data(b"\x00\x00\x00\x08\x07\x00\x00\x00\x00abcdefgh")
        self.assertEqual(self.mux.data_to_send(), b"\x00\x00\x00\x08\x08\x00\x00\x00\x00abcdefgh")

    def test_goaway_has_code_message_and_last_channel(self) -> None:
        """A map of a code, a message and the last of the peer's channels that was seen."""
        self.mux.goaway("exit", "bye")
        self.assertEqual(
            self.mux.data_to_send(),
            b"\x00\x00\x00\x1d\x09\x00\x00\x00\x00"
            b"\x83\xa4code\xa4exit\xa7message\xa3bye\xa4last\x00",
        )


class ReceivedTests(SynchronousTestCase):
    """The event that each frame becomes."""

    def test_each_frame_becomes_its_event(self) -> None:
        """One of each, in turn, on channels of the initiator's."""
        mux = greeted()
        more = b"m" * 256
        for data, events in (
            (
                b"\x00\x00\x00\x06\x04\x00\x00\x00\x01\x00\x04exec",
                [(wire.EV_OPENED, 1)],
            ),
            (
                b"\x00\x00\x00\x08\x04\x00\x00\x00\x03\x0b\x04execab",
                [(wire.EV_OPENED, 3), (wire.EV_DATA, 3, b"ab", 66), (wire.EV_END, 3)],
            ),
            (b"\x00\x00\x00\x03\x01\x00\x00\x00\x01abc", [(wire.EV_DATA, 1, b"abc", 67)]),
            (b"\x00\x00\x01\x00\x02\x00\x00\x00\x01" + more, []),
            (b"\x00\x00\x01\x00\x02\x00\x00\x00\x01" + more, []),
            (
                b"\x00\x00\x00\x01\x01\x00\x00\x00\x01.",
                [(wire.EV_DATA, 1, more + more + b".", 320 + 320 + 65)],
            ),
            (b"\x00\x00\x00\x04\x03\x00\x00\x00\x01\x00\x00\x00\x07", []),
            (b"\x00\x00\x00\x00\x05\x00\x00\x00\x01", [(wire.EV_END, 1)]),
            (b"\x00\x00\x00\x02\x06\x00\x00\x00\x01\x01\x80", [(wire.EV_CLOSED, 1, 1, b"\x80")]),
            (b"\x00\x00\x00\x01\x06\x00\x00\x00\x03\x00", [(wire.EV_CLOSED, 3, 0, b"")]),
            (
                b"\x00\x00\x01\x02\x04\x00\x00\x00\x05\x06\x00" + more,
                [(wire.EV_OPENED, 5)],
            ),
            (
                b"\x00\x00\x00\x01\x01\x00\x00\x00\x05.",
                [(wire.EV_DATA, 5, more + b".", 320 + 65)],
            ),
            (
                b"\x00\x00\x00\x02\x06\x00\x00\x00\x05\x02\xc0",
                [(wire.EV_CLOSED, 5, 2, b"\xc0")],
            ),
            (b"\x00\x00\x00\x08\x07\x00\x00\x00\x0012345678", []),
            (b"\x00\x00\x00\x08\x08\x00\x00\x00\x0012345678", [(wire.EV_PONG, b"12345678")]),
            (
                b"\x00\x00\x00\x17\x09\x00\x00\x00\x00\x82\xa4code\xa4exit\xa7message\xa3bye",
                [(wire.EV_GOAWAY, "exit", "bye")],
            ),
        ):
            self.assertEqual(plain(mux.receive_data(data)), events, data)

    def test_peers_stream_knows_what_open_says(self) -> None:
        """The stream of a channel that the peer opens knows what the frame says."""
        mux = greeted()
        stream = opened(mux, b"\x00\x00\x00\x06\x04\x00\x00\x00\x01\x01\x04exec")
        self.assertEqual((stream.id, stream.purpose, stream.raw), (1, "exec", True))
        self.assertFalse(stream.local)
        self.assertIs(mux.streams[1], stream)

    def test_credit_raises_what_may_be_sent(self) -> None:
        """CREDIT raises what this end may send."""
        near, _ = pair()
        stream = near.open("")
        near.receive_data(b"\x00\x00\x00\x04\x03\x00\x00\x00\x01\x00\x00\x00\x07")
        self.assertEqual(stream.credit, 1048576 + 7)

    def test_long_bytes_arrive_as_a_memoryview(self) -> None:
        """A value in fragments that is bytes arrives as a memoryview of just those bytes."""
        near, far = pair(None, Limits(1 << 24))
        stream = near.open("")
        for size in (70000, 200000, 1 << 20, (1 << 20) + 1, 5 << 20):
            value = bytes(range(250)) * (size // 250)
            near.send(stream, value, prefix=frames.bin32(len(value)))
            arrived = far.receive_data(near.data_to_send(1 << 24))[-1]
            assert arrived[0] == wire.EV_DATA
            assert isinstance(arrived[2], memoryview)
            self.assertEqual(arrived[2].obj, value)

    def test_long_values_arrive_as_their_encoding(self) -> None:
        """Any other value in fragments arrives as its encoding, however long."""
        near, far = pair(None, Limits(1 << 24))
        stream = near.open("")
        for size in (70000, 200000, 1 << 20, (1 << 20) + 1, 5 << 20):
            value = b"\xdd" + bytes(range(250)) * (size // 250)
            near.send(stream, value)
            arrived = far.receive_data(near.data_to_send(1 << 24))[-1]
            assert arrived[0] == wire.EV_DATA
            self.assertEqual(arrived[2], value)

    def test_bytes_with_a_wrong_length_arrive_as_they_came(self) -> None:
        """When there are more or fewer bytes than their header says they arrive as they came."""
        near, far = pair(None, Limits(1 << 26))
        stream = near.open("")
        for size in (200000, 2000000):
            for said in (0, 70000, size - 1, size + 1, 0xFFFFFFFF):
                near.send(stream, b"v" * size, prefix=frames.bin32(said))
                arrived = far.receive_data(near.data_to_send(1 << 26))[-1]
                assert arrived[0] == wire.EV_DATA
                self.assertEqual(arrived[2], frames.bin32(said) + b"v" * size)


class NameTests(SynchronousTestCase):
    """What messages call a frame."""

    def test_frame_types_have_names_or_numbers(self) -> None:
        """The types of the specification by name, others by number."""
        self.assertEqual([frames.frame_name(n) for n in (0, 9, 10)], ["HELLO", "GOAWAY", "type 10"])
