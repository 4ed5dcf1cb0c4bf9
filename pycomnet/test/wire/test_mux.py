"""What a mux's user may ask of it: opening, sending, ending and closing channels."""

from __future__ import annotations

import ormsgpack
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.wire.muxkit import (
    CLOSE,
    DATA,
    ERROR,
    GOAWAY,
    NORMAL,
    RESULT,
    close,
    credit,
    exchange,
    frame,
    frames,
    greeted,
    hello,
    left_over,
    open_frame,
    opened,
    pair,
    plain,
    sent_types,
)
from pycomnet.wire import mux as wire
from pycomnet.wire.mux import Limits, LocalError, Mux


class OpenTests(SynchronousTestCase):
    """What can't be opened raises, and leaves the mux as it was."""

    def refused(self, mux: Mux, purpose: str = "", first: bytes | None = None) -> str:
        table = mux.table
        before = (table.next_id, table.local_open, dict(mux.streams), mux.has_data())
        error = self.assertRaises(LocalError, mux.open, purpose, first)
        self.assertEqual(
            (mux.table.next_id, mux.table.local_open, mux.streams, mux.has_data()), before
        )
        return str(error)

    def test_open_before_the_hello_is_refused(self) -> None:
        """Nothing is known of the peer's limits before its hello."""
        mux = Mux(True)
        mux.data_to_send()
        self.assertIn("hello", self.refused(mux))

    def test_open_after_the_end_is_refused_with_the_reason(self) -> None:
        """Neither after a GOAWAY of either end nor after the peer broke the protocol."""
        mux = greeted()
        mux.goaway("exit", "tea time")
        self.assertIn("tea time", self.refused(mux))
        mux = greeted()
        mux.receive_data(frame(GOAWAY, 0, ormsgpack.packb({"code": "exit", "message": "tea time"})))
        self.assertIn("tea time", self.refused(mux))
        mux = greeted()
        mux.receive_data(frame(77))
        self.assertIn("unknown frame type 77", self.refused(mux))

    def test_purpose_must_be_255_ascii_characters(self) -> None:
        """A purpose is up to 255 ASCII characters."""
        near, far = pair()
        self.assertIn("ASCII", self.refused(near, "caf\u00e9"))
        self.assertIn("256", self.refused(near, "p" * 256))
        near.open("p" * 255, b"v" * 70000)
        stream = opened(far, near.data_to_send())
        self.assertEqual(stream.purpose, "p" * 255)

    def test_peers_channel_limit_is_kept(self) -> None:
        """The peer says how many channels may be open at a time; one that is over makes room."""
        mux = greeted(True, channels=2)
        stream = mux.open("")
        mux.open("")
        self.assertIn("2 open channels", self.refused(mux))
        mux.close(stream)
        self.assertIn("2 open channels", self.refused(mux))
        mux.data_to_send()
        mux.receive_data(close(1))
        self.assertEqual(mux.open("").id, 5)
        self.assertIn("0 open", self.refused(greeted(True, channels=0)))

    def test_ids_are_not_used_again_when_they_run_out(self) -> None:
        """The last id is 2**32 - 1; ids are not used again."""
        mux = greeted(True)
        mux.table.next_id = 0xFFFFFFFD
        for id in (0xFFFFFFFD, 0xFFFFFFFF):
            stream = mux.open("")
            self.assertEqual(stream.id, id)
            mux.close(stream)
            mux.data_to_send()
            mux.receive_data(close(id))
        self.assertIn("all its channel ids", self.refused(mux))

    def test_limits_out_of_range_are_refused(self) -> None:
        """Limits that a hello could not announce are refused."""
        for limits in (
            {"window": 1023},
            {"window": 1 << 31},
            {"frame": 1023},
            {"frame": 1 << 31},
            {"channels": -1},
            {"channels": 1 << 31},
        ):
            error = self.assertRaises(ValueError, Limits, **limits)
            self.assertIn(f"{next(iter(limits))}: ", str(error))
        self.assertRaises(LocalError, Mux, True, None, {"x": "y" * 66000})


class SendTests(SynchronousTestCase):
    """Sending, and taking back what waits."""

    def setUp(self) -> None:
        self.mux = greeted(True, window=1024)
        self.stream = self.mux.open("")
        self.mux.data_to_send()

    def test_token_shows_when_the_last_part_is_handed_over(self) -> None:
        """The token of a value that had to wait shows once the last of it has been handed over."""
        self.assertFalse(self.mux.send(self.stream, b"a" * 1500, "first"))
        self.assertFalse(self.mux.send(self.stream, b"b", "second"))
        self.mux.data_to_send()
        self.assertEqual(self.mux.scheduler.sent, [])
        self.mux.receive_data(credit(1, 1024))
        self.assertEqual(
            [(ftype, payload[:1]) for ftype, _, payload in frames(self.mux.data_to_send())],
            [(DATA, b"a"), (DATA, b"b")],
        )
        self.assertEqual(self.mux.scheduler.sent, ["first", "second"])

    def test_value_sent_at_once_leaves_no_token(self) -> None:
        """A value that goes at once needs none, one without leaves none."""
        self.assertTrue(self.mux.send(self.stream, b"a", "token"))
        self.assertFalse(self.mux.send(self.stream, b"a" * 1024))
        self.mux.receive_data(credit(1, 1024))
        self.mux.data_to_send()
        self.assertEqual(self.mux.scheduler.sent, [])

    def test_send_after_end_or_close_is_refused(self) -> None:
        """Not after end, close, or the peer's close."""
        mux = greeted(True)
        ended, closed, refused = mux.open(""), mux.open(""), mux.open("")
        mux.end(ended)
        mux.close(closed)
        mux.receive_data(close(refused.id))
        mux.data_to_send()
        for stream in (ended, closed, refused):
            self.assertRaises(LocalError, mux.send, stream, b"x")
            self.assertEqual(mux.immediate(stream, b"x"), None)

    def test_value_over_4_gigabytes_is_refused(self) -> None:
        """A value is at most 2**32 - 1 bytes long, with its prefix; raw bytes may be more."""

        class Long(bytes):
            def __len__(self) -> int:
                return 0xFFFFFFFF

        self.assertFalse(self.mux.send(self.stream, Long()))
        error = self.assertRaises(LocalError, self.mux.send, self.stream, Long(), None, b"x")
        self.assertIn("the limit is 4294967295", str(error))
        self.assertFalse(self.mux.send(self.mux.open("", raw=True), Long(), None, b"x"))

    def test_value_is_taken_back_unless_begun(self) -> None:
        """A value of which nothing has gone can be taken back; a part of one can't."""
        self.mux.send(self.stream, b"a" * 1500, "first")
        self.mux.send(self.stream, b"b" * 1500, "second")
        self.mux.send(self.stream, b"a" * 1500, "third")
        self.mux.data_to_send()
        self.assertFalse(self.mux.unsend(self.stream, "first"))
        self.assertTrue(self.mux.unsend(self.stream, "third"))
        self.assertFalse(self.mux.unsend(self.stream, "third"))
        self.mux.receive_data(credit(1, 9999))
        self.mux.data_to_send()
        self.assertEqual(self.mux.scheduler.sent, ["first", "second"])
        self.assertFalse(self.mux.unsend(self.stream, "second"))

    def test_unsend_takes_back_the_one_with_the_token(self) -> None:
        """Of values that are the same only the one with the token is taken back."""
        self.mux.send(self.stream, b"x" * 960)
        tokens = [object() for _ in range(3)]
        for token in tokens:
            self.mux.send(self.stream, b"same", token)
        self.assertTrue(self.mux.unsend(self.stream, tokens[1]))
        self.mux.receive_data(credit(1, 9999))
        self.mux.data_to_send()
        self.assertEqual(self.mux.scheduler.sent, [tokens[0], tokens[2]])

    def test_unsend_lets_what_is_behind_go(self) -> None:
        """What was behind it is sent if the credit is enough for that, and the END after it."""
        self.mux.send(self.stream, b"x" * 700)
        self.mux.send(self.stream, b"long" * 100, "long")
        self.mux.send(self.stream, b"short", "short")
        self.mux.end(self.stream)
        self.assertEqual(sent_types(self.mux), ["DATA"])
        self.mux.unsend(self.stream, "long")
        self.assertEqual(sent_types(self.mux), ["DATA", "END"])

    def test_unsend_of_the_last_lets_end_or_close_go(self) -> None:
        """The END or CLOSE that waited for it goes."""
        for stop, sent in ((self.mux.end, "END"), (self.mux.close, "CLOSE")):
            stream = self.mux.open("", b"x" * 900)
            self.mux.send(stream, b"y" * 900, "token")
            stop(stream)
            self.assertEqual(sent_types(self.mux), ["OPEN"])
            self.mux.unsend(stream, "token")
            self.assertEqual(sent_types(self.mux), [sent])

    def test_prefix_is_part_of_the_value_however_cut(self) -> None:
        """A prefix is part of the value wherever the value is cut."""
        for window in range(1024, 1100, 7):
            near, far = pair(None, Limits(window))
            stream = near.open("")
            near.send(stream, b"v" * 3000, "token", b"prefix")
            near.send(stream, b"w", None, b"pre")
            got = b""
            for _ in range(20):
                at_far = far.receive_data(near.data_to_send())
                for event in at_far:
                    if event[0] == wire.EV_DATA:
                        got += event[2]
                        far.consumed(event[1], event[3])
                far.demand_read(far.streams[1])
                near.receive_data(far.data_to_send())
            self.assertEqual(got, b"prefix" + b"v" * 3000 + b"prew")
        self.mux.send(self.stream, b"x" * 1024, "first")
        self.mux.send(self.stream, b"x", "second", b"pre")
        self.assertTrue(self.mux.unsend(self.stream, "second"))

    def test_immediate_gives_a_frame_only_with_nothing_before_it(self) -> None:
        """It gives the frame only when nothing is to be written before it."""
        mux, stream = self.mux, self.stream
        self.assertEqual(mux.immediate(stream, b"x"), frame(DATA, 1, b"x"))
        mux.ping(b"12345678")
        self.assertEqual(mux.immediate(stream, b"x"), None)
        mux.data_to_send()
        self.assertEqual(mux.immediate(stream, b"x" * 1024), None)
        mux.scheduler.congested = True
        self.assertEqual(mux.immediate(stream, b"x"), None)
        mux.scheduler.congested = False
        # Another value waits for more credit than there is, while this one would fit.
        mux.send(stream, b"y" * 800)
        mux.send(stream, b"z" * 1000)
        mux.data_to_send()
        self.assertGreater(stream.credit, 65)
        self.assertEqual(mux.immediate(stream, b"x"), None)

    def test_value_over_a_frame_is_not_immediate(self) -> None:
        """A value that has to be cut is not immediate."""
        mux = greeted(True, frame=1024)
        stream = mux.open("")
        mux.data_to_send()
        self.assertIsNotNone(mux.immediate(stream, b"x" * 1024))
        self.assertIsNone(mux.immediate(stream, b"x" * 1025))

    def test_no_frame_exceeds_the_peers_limit(self) -> None:
        """No frame is longer than the peer accepts: not of a value, a result, an error, GOAWAY."""
        mux = greeted(True, frame=1024)
        error = {"code": "remote", "type": "X", "message": "m" * 3000, "formatted": "\u20ac" * 9999}
        mux.close(mux.open(""), RESULT, b"r" * 1024)
        mux.close(mux.open(""), RESULT, b"r" * 1023)
        mux.close(mux.open(""), ERROR, ormsgpack.packb(error))
        mux.close(mux.open(""), ERROR, b"\xc1" * 2000)
        mux.open("p" * 200, b"v" * 5000)
        sent = frames(mux.data_to_send())
        mux.goaway("exit", "\U0001f600" * 5000)
        sent += frames(mux.data_to_send())
        self.assertEqual(max(len(payload) for _, _, payload in sent), 1024)
        self.assertEqual([p for t, id, p in sent if id == 1], [b"\0\0", b"r" * 1024, b"\0"])
        self.assertEqual([p for t, id, p in sent if id == 3], [b"\0\0", b"\2" + b"r" * 1023])
        [cut, fallback] = [p for t, id, p in sent if id > 3 and t == CLOSE]
        said = ormsgpack.unpackb(cut[1:])
        self.assertEqual((said["code"], said["type"]), ("remote", "X"))
        self.assertRegex(said["message"], r"^m+\.\.\.m+$")
        self.assertIn("2000 bytes", ormsgpack.unpackb(fallback[1:])["message"])


class CloseTests(SynchronousTestCase):
    """Ending and closing."""

    def test_end_and_close_wait_for_what_is_queued(self) -> None:
        """END and CLOSE wait for what is queued; CLOSE ERROR does not."""
        for kind, sent in (
            (NORMAL, ["OPEN", "DATA", "CLOSE"]),
            (RESULT, ["OPEN", "DATA", "CLOSE"]),
            (ERROR, ["OPEN", "CLOSE"]),
        ):
            mux = greeted(True)
            stream = mux.open("")
            mux.scheduler.congested = True
            mux.send(stream, b"x")
            mux.close(stream, kind, b"\xc0" if kind else b"")
            mux.scheduler.congested = False
            self.assertEqual(sent_types(mux), sent)

    def test_second_close_counts_only_as_error_while_waiting(self) -> None:
        """A second close changes nothing, unless it is an error and the first still waits."""
        for second, kinds in ((NORMAL, [RESULT]), (RESULT, [RESULT]), (ERROR, [ERROR])):
            mux = greeted(True, window=1024)
            stream = mux.open("")
            mux.send(stream, b"x" * 1000)
            mux.close(stream, RESULT, b"\xc0")
            mux.close(stream, second, b"\x80" if second else b"")
            mux.receive_data(credit(1, 9999))
            sent = [p[0] for t, _, p in frames(mux.data_to_send()) if t == CLOSE]
            self.assertEqual(sent, kinds)
            mux.close(stream, ERROR, b"\x80")
            self.assertEqual(mux.data_to_send(), b"")

    def test_result_after_end_is_refused(self) -> None:
        """Who has said that no more comes can't send a result."""
        mux = greeted(True)
        stream = mux.open("", end=True)
        self.assertRaises(LocalError, mux.close, stream, RESULT, b"\xc0")
        mux.close(stream)
        mux.close(stream, RESULT, b"\xc0")
        self.assertEqual(sent_types(mux), ["OPEN", "CLOSE"])

    def test_end_is_sent_once(self) -> None:
        """END is sent once, and not after OPEN has said so."""
        mux = greeted(True)
        for stream in (mux.open("", end=True), mux.open("")):
            mux.end(stream)
            mux.end(stream)
        self.assertEqual(sent_types(mux), ["OPEN", "OPEN", "END"])

    def test_calls_for_a_channel_that_is_over_do_nothing(self) -> None:
        """Calls for a channel that is over do nothing: its user may not know yet."""
        mux = greeted()
        stream = opened(mux, open_frame(1) + close(1))
        mux.data_to_send()
        mux.end(stream)
        mux.close(stream, ERROR, b"\x80")
        mux.demand_read(stream)
        mux.consumed(stream, 1 << 20)
        self.assertFalse(mux.unsend(stream, None))
        self.assertEqual(mux.data_to_send(), b"")

    def test_peers_close_drops_values_that_wait(self) -> None:
        """What waits is dropped, its token never shows, and the channel is over."""
        near, far = pair(None, Limits(1024))
        stream = near.open("")
        near.send(stream, b"x" * 3000, "token")
        near.end(stream)
        exchange(near, far)
        far.close(far.streams[1], ERROR, b"\x80")
        at_near, _ = exchange(near, far)
        self.assertEqual(plain(at_near), [(wire.EV_CLOSED, 1, ERROR, b"\x80")])
        self.assertEqual(near.scheduler.sent, [])
        self.assertEqual([left_over(near), left_over(far)], [[], []])

    def test_close_gets_through_when_both_ends_are_full(self) -> None:
        """Two ends that both send all before they receive: a close with values queued gets through.

        What the peer sends meanwhile is dropped, and its credit given back, until the CLOSE can go.
        """
        near, far = pair(Limits(1024), Limits(1024))
        stream = near.open("channel")
        near.send(stream, b"n" * 5000)
        exchange(near, far)
        other = far.streams[1]
        for _ in range(10):
            far.send(other, b"f" * 900)
        exchange(near, far)
        near.close(stream)
        _, at_far = exchange(near, far)
        self.assertEqual(len(other.queue), 0, "the far user can't send, so it never receives")
        for _ in range(10):
            far.demand_read(other)
            _, more = exchange(near, far)
            at_far += more
        self.assertEqual(
            plain(at_far)[-2:],
            [(wire.EV_DATA, 1, b"n" * 5000, plain(at_far)[-2][3]), (wire.EV_CLOSED, 1, 0, b"")],
        )
        self.assertEqual([left_over(near), left_over(far)], [[], []])


class GoawayTests(SynchronousTestCase):
    """The end of a connection."""

    def test_nothing_follows_goaway(self) -> None:
        """Nothing follows a GOAWAY, whatever the user still does."""
        mux = greeted(True)
        stream = mux.open("", b"x")
        other = mux.open("")
        mux.send(other, b"y" * 200000)
        mux.goaway("exit", "")
        mux.goaway("exit", "again")
        self.assertFalse(mux.send(stream, b"z"))
        self.assertIsNone(mux.immediate(stream, b"z"))
        mux.consumed(stream, 1 << 20)
        mux.ping(b"12345678")
        mux.end(stream)
        mux.close(other)
        self.assertEqual(sent_types(mux), ["OPEN", "OPEN", "GOAWAY"])
        self.assertFalse(mux.has_data())

    def test_goaway_is_answered_once(self) -> None:
        """An end that was told goodbye can say so too, once, and sends nothing else."""
        near, far = pair()
        stream = near.open("")
        exchange(near, far)
        near.goaway("exit", "bye")
        self.assertEqual(
            plain(far.receive_data(near.data_to_send())), [(wire.EV_GOAWAY, "exit", "bye")]
        )
        far.send(far.streams[stream.id], b"x")
        far.goaway("exit", "bye")
        far.goaway("exit", "bye")
        self.assertEqual(sent_types(far), ["GOAWAY"])

    def test_hello_precedes_goaway_for_garbage(self) -> None:
        """The hello still comes first when the peer's first bytes are wrong."""
        mux = Mux(True)
        mux.receive_data(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        self.assertEqual(sent_types(mux), ["HELLO", "GOAWAY"])
        mux = Mux(True)
        mux.ping(b"12345678")
        mux.receive_data(hello(version=2))
        self.assertEqual(sent_types(mux), ["HELLO", "GOAWAY"])

    def test_goaways_message_is_cut_to_fit(self) -> None:
        """A message of any length fits."""
        mux = greeted()
        mux.goaway("frame", "\u20ac" * 100000)
        [(ftype, _, payload)] = frames(mux.data_to_send())
        self.assertEqual(ftype, GOAWAY)
        self.assertEqual(ormsgpack.unpackb(payload)["message"], "\u20ac" * 4096)


class PingTests(SynchronousTestCase):
    """Pings."""

    def test_ping_of_another_size_is_refused(self) -> None:
        """A ping that would not be one is refused here."""
        self.assertRaises(LocalError, greeted().ping, b"1234567")

    def test_ping_goes_behind_the_hello(self) -> None:
        """A ping goes behind this end's hello."""
        mux = Mux(True)
        mux.ping(b"12345678")
        self.assertEqual(sent_types(mux), ["HELLO", "PING"])
