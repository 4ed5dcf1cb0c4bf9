"""Flow control and fairness: who may send how much, when, and what is held meanwhile."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.wire.muxkit import (
    CLOSE,
    COST,
    CREDIT,
    DATA,
    ERROR,
    FIRST,
    FIRST_MORE,
    FRAGMENT,
    MORE,
    OPEN_END,
    PIECE,
    RESULT,
    WINDOW,
    close,
    credit,
    exchange,
    frame,
    frames,
    greeted,
    left_over,
    open_frame,
    opened,
    pair,
    sent_types,
)
from pycomnet.wire import mux as wire
from pycomnet.wire.mux import Limits


class FairnessTests(SynchronousTestCase):
    """Channels take turns."""

    def setUp(self) -> None:
        self.mux = greeted(True, window=1 << 30)
        self.streams = [self.mux.open("") for _ in range(4)]
        self.mux.data_to_send()

    def order(self, limit: int) -> list[int]:
        return [channel for _, channel, _ in frames(self.mux.data_to_send(limit))]

    def test_small_value_goes_next_not_behind_a_long_one(self) -> None:
        """A small value goes next, not behind the long one."""
        long, small = self.streams[:2]
        self.mux.send(long, bytes(4 << 20))
        self.assertEqual(self.order(1), [1])
        for _ in range(10):
            self.mux.send(small, b"x")
            self.assertEqual(self.order(1), [3, 1])

    def test_queued_small_value_waits_for_one_fragment_each(self) -> None:
        """Also when it had to wait for room: it is behind one fragment of each channel at most."""
        self.mux.scheduler.congested = True
        for stream in self.streams[:3]:
            self.mux.send(stream, bytes(4 << 20))
        self.mux.send(self.streams[3], b"x")
        self.mux.scheduler.congested = False
        self.assertEqual(self.order(4 * FRAGMENT)[:4], [1, 3, 5, 7])

    def test_two_long_values_alternate(self) -> None:
        """Two long values arrive at the same pace."""
        for stream in self.streams[:2]:
            self.mux.send(stream, bytes(20 * FRAGMENT))
        self.assertEqual(self.order(1 << 30), [1, 3] * 20)

    def test_four_long_values_take_turns_and_end_in_order(self) -> None:
        """Four take turns; each of the others is begun when one is complete, in order."""
        streams = self.streams + [self.mux.open("") for _ in range(4)]
        self.mux.data_to_send()
        for stream in streams:
            self.mux.send(stream, bytes(8 * FRAGMENT))
        order = self.order(1 << 30)
        ends = [len(order) - order[::-1].index(stream.id) for stream in streams]
        self.assertEqual(order[:8], [1, 3, 5, 7, 9, 11, 13, 15])  # each has begun
        self.assertEqual(sorted(order[8 : ends[3]])[:28], sorted([1, 3, 5, 7] * 7))
        self.assertEqual(ends, sorted(ends))
        self.assertLess(ends[0], 8 + 4 * 7)
        self.assertEqual(len(order), 64)
        self.assertFalse(self.mux.has_data())
        self.assertEqual((self.mux.scheduler.turns, len(self.mux.scheduler.waiting)), ({}, 0))

    def test_endless_values_make_room_after_a_megabyte(self) -> None:
        """Values without end make room for each other after a megabyte."""
        streams = self.streams + [self.mux.open("") for _ in range(4)]
        self.mux.data_to_send()
        for stream in streams:
            self.mux.send(stream, bytes(1000 * FRAGMENT))
        order = self.order(8 * 40 * FRAGMENT)
        sent = [order.count(stream.id) for stream in streams]
        self.assertLessEqual(max(sent) - min(sent), 17, sent)

    def test_small_value_waits_only_for_those_taking_turns(self) -> None:
        """A small value is behind one fragment of each of those that take turns, not of all."""
        streams = self.streams + [self.mux.open("") for _ in range(20)]
        self.mux.data_to_send()
        for stream in streams[1:]:
            self.mux.send(stream, bytes(1000 * FRAGMENT))
        self.order(100 * FRAGMENT)
        self.mux.scheduler.congested = True
        self.mux.send(streams[0], b"x")
        self.mux.scheduler.congested = False
        self.assertIn(1, self.order(5 * FRAGMENT)[:5])

    def test_closed_long_values_let_the_others_get_on(self) -> None:
        """Of those that take turns, and of those that wait: the others get on."""
        streams = self.streams + [self.mux.open("") for _ in range(4)]
        self.mux.data_to_send()
        for stream in streams:
            self.mux.send(stream, bytes(20 * FRAGMENT))
        self.order(20 * FRAGMENT)
        for stream in (*streams[:3], streams[5]):
            self.mux.receive_data(frame(6, stream.id, b"\0"))
        order = self.order(1 << 30)
        for stream in (streams[3], streams[4], streams[6], streams[7]):
            self.assertGreater(order.count(stream.id), 10)
        self.assertFalse(self.mux.has_data())
        self.assertEqual((self.mux.scheduler.turns, len(self.mux.scheduler.waiting)), ({}, 0))

    def test_endless_small_values_leave_a_long_one_its_turn(self) -> None:
        """Small values without end do not keep a long one from its turn."""
        long, small = self.streams[:2]
        self.mux.send(long, bytes(10 * FRAGMENT))
        for _ in range(10):
            for _ in range(20):
                self.mux.send(small, bytes(FRAGMENT))
            self.assertEqual(self.order(1), [3] * 20 + [1])
        self.assertFalse(self.mux.has_data())

    def test_ping_and_pong_go_first(self) -> None:
        """Whatever waits for its turn, a ping and an answer go before it."""
        self.mux.send(self.streams[0], bytes(4 << 20))
        self.mux.ping(b"12345678")
        self.mux.receive_data(frame(7, 0, b"12345678"))
        self.assertEqual([ftype for ftype, _, _ in frames(self.mux.data_to_send(1))], [7, 8, MORE])

    def test_portion_is_about_what_was_asked_for(self) -> None:
        """What is handed over at a time is about what was asked for."""
        for stream in self.streams:
            self.mux.send(stream, bytes(4 << 20))
        for limit in (1, FRAGMENT, 10 * FRAGMENT):
            size = len(self.mux.data_to_send(limit))
            self.assertTrue(limit <= size <= limit + FRAGMENT + 9, (limit, size))

    def test_channel_without_credit_is_passed_over(self) -> None:
        """A channel without credit is passed over; the others are not held up."""
        mux = greeted(True, window=1024)
        stuck, other = mux.open(""), mux.open("")
        mux.send(stuck, bytes(5000))
        mux.data_to_send()
        mux.send(other, b"x")
        self.assertEqual(frames(mux.data_to_send()), [(DATA, 3, b"x")])
        self.assertFalse(mux.has_data())

    def test_congestion_keeps_values_in_their_queues(self) -> None:
        """Nothing is moved past the channels' queues while the transport takes no more."""
        mux, stream = self.mux, self.streams[0]
        mux.scheduler.congested = True
        self.assertFalse(mux.send(stream, b"x", "token"))
        mux.end(stream)
        mux.close(self.streams[1])
        self.assertEqual(mux.scheduler.out, [])
        self.assertTrue(mux.has_data())
        mux.scheduler.congested = False
        self.assertEqual(sorted(sent_types(mux)), ["CLOSE", "DATA", "END"])
        self.assertEqual(mux.scheduler.sent, ["token"])


class FlowControlTests(SynchronousTestCase):
    """Credit."""

    def test_sender_waits_after_a_window(self) -> None:
        """What arrives is at most a window, then the sender waits."""
        for window in (1024, 5000, WINDOW):
            for size in (1, 100, 70000):
                near, far = pair(None, Limits(window))
                stream = near.open("")
                for _ in range(2 * window // (size + COST) + 2):
                    near.send(stream, bytes(size))
                _, at_far = exchange(near, far)
                other = far.streams[1]
                held = sum(len(event[2]) for event in at_far if event[0] == wire.EV_DATA)
                held += 0 if other.partial is None else other.partial.size
                self.assertLessEqual(held, window)
                self.assertGreaterEqual(other.window, 0)
                self.assertLess(stream.credit, min(size, 256) + COST)

    def test_credit_comes_back_in_half_windows(self) -> None:
        """Credit comes back in portions of half a window or more."""
        near, far = pair(None, Limits(10000))
        stream = near.open("")
        exchange(near, far)
        portions = []
        for number in range(1000):
            near.send(stream, bytes(number % 100))
            for event in far.receive_data(near.data_to_send()):
                assert event[0] == wire.EV_DATA
                far.consumed(event[1], event[3])
            data = far.data_to_send()
            portions += [int.from_bytes(payload, "big") for _, _, payload in frames(data)]
            near.receive_data(data)
        self.assertFalse(stream.queue)
        self.assertTrue(all(5000 <= portion <= 10000 for portion in portions), portions)
        total = sum(number % 100 + COST for number in range(1000))
        self.assertEqual(sum(portions) + far.streams[1].unacked, total)

    def test_wanted_fragments_are_credited_as_they_come(self) -> None:
        """The fragments of a value that somebody waits for are given back as they come."""
        mux = greeted(limits=Limits(1024))
        stream = opened(mux, open_frame(1))
        mux.demand_read(stream)
        for _ in range(100):
            self.assertEqual(mux.receive_data(frame(MORE, 1, bytes(448))), [])
            self.assertEqual(frames(mux.data_to_send()), [(CREDIT, 1, (512).to_bytes(4, "big"))])
        [event] = mux.receive_data(frame(DATA, 1, b"."))
        assert event[0] == wire.EV_DATA
        self.assertEqual((len(event[2]), event[3]), (44801, COST + 1))

    def test_unwanted_fragments_are_not_credited(self) -> None:
        """Otherwise they are kept, until somebody waits, or not any more."""
        mux = greeted(limits=Limits(2048))
        stream = opened(mux, open_frame(1, FIRST | FIRST_MORE, bytes(300)))
        mux.receive_data(frame(MORE, 1, bytes(1000)))
        self.assertEqual(mux.data_to_send(), b"")
        mux.demand_read(stream)
        cost = 300 + 1000 + 2 * COST
        self.assertEqual(frames(mux.data_to_send()), [(CREDIT, 1, cost.to_bytes(4, "big"))])
        mux.demand_read(stream)
        self.assertEqual(mux.data_to_send(), b"")
        mux.demand_read(stream, False)
        mux.receive_data(frame(MORE, 1, bytes(1000)))
        self.assertEqual(mux.data_to_send(), b"")
        [event] = mux.receive_data(frame(DATA, 1, bytes(200)))
        assert event[0] == wire.EV_DATA
        self.assertEqual(event[3], 1000 + 200 + 2 * COST)

    def test_late_demand_credits_what_came_before(self) -> None:
        """Who only sets ``wanted`` still gets what came before with the next fragment."""
        mux = greeted(limits=Limits(2048))
        stream = opened(mux, open_frame(1) + frame(MORE, 1, PIECE) * 4)
        stream.read_demand = True
        mux.receive_data(frame(MORE, 1, PIECE))
        cost = 5 * (256 + COST)
        self.assertEqual(frames(mux.data_to_send()), [(CREDIT, 1, cost.to_bytes(4, "big"))])

    def test_value_longer_than_the_window_gets_through(self) -> None:
        """It gets through whatever the window, for values and raw bytes, from OPEN on."""
        for window in [*range(1024, 1100), *range(1100, 70000, 3001)]:
            for raw in (False, True):
                near, far = pair(None, Limits(window))
                near.open("channel", bytes(5 * window + 77), raw)
                for _ in range(30):
                    for event in far.receive_data(near.data_to_send()):
                        if event[0] == wire.EV_OPENED:
                            far.demand_read(event[1])
                        elif event[0] == wire.EV_DATA:
                            far.consumed(event[1], event[3])
                    near.receive_data(far.data_to_send())
                self.assertEqual(len(near.streams[1].queue), 0, window)

    def test_no_fragment_is_under_256_bytes_for_want_of_credit(self) -> None:
        """No fragment is cut to less than 256 bytes for want of credit."""
        mux = greeted(True, window=1024)
        stream = mux.open("")
        mux.data_to_send()
        mux.send(stream, bytes(3000))
        self.assertEqual(len(mux.data_to_send()), 9 + 960)
        for _ in range(319):
            mux.receive_data(credit(1, 1))
            self.assertEqual(mux.data_to_send(), b"")
        mux.receive_data(credit(1, 1))
        self.assertEqual(frames(mux.data_to_send()), [(MORE, 1, bytes(256))])

    def test_ended_direction_gets_no_credit(self) -> None:
        """Nothing is given back for a direction that has ended, whoever ended it."""
        for data in (frame(7, 0, b"12345678"), frame(5, 1), close(1)):
            mux = greeted(limits=Limits(1024))
            stream = opened(mux, open_frame(1) + frame(DATA, 1, bytes(900)) + data)
            mux.data_to_send()
            mux.consumed(stream, 964)
            self.assertEqual(sent_types(mux), ["CREDIT"] if data[4] == 7 else [])
        mux = greeted(limits=Limits(1024))
        stream = opened(mux, open_frame(1) + frame(DATA, 1, bytes(900)))
        mux.close(stream)
        mux.consumed(stream, 964)
        self.assertEqual(sent_types(mux), ["CLOSE"])

    def test_values_dropped_while_close_waits_are_credited(self) -> None:
        """What comes while a CLOSE waits is dropped and given back, what was used before too."""
        mux = greeted(limits=Limits(2048), window=1024)
        stream = opened(mux, open_frame(1) + frame(DATA, 1, bytes(1500)))
        mux.send(stream, bytes(2000))
        mux.close(stream)
        sent = frames(mux.data_to_send())
        self.assertEqual([sent[0], sent[1][0]], [(CREDIT, 1, (1564).to_bytes(4, "big")), MORE])
        mux.consumed(stream, 1564)  # its user took it after all
        for _ in range(10):
            self.assertEqual(mux.receive_data(frame(MORE, 1, bytes(960))), [])
            self.assertEqual(frames(mux.data_to_send()), [(CREDIT, 1, (1024).to_bytes(4, "big"))])
        self.assertLessEqual(stream.window, 2048)
        mux.receive_data(credit(1, 5000))
        self.assertEqual(sent_types(mux), ["DATA", "CLOSE"])

    def test_full_channel_holds_up_no_other(self) -> None:
        """A channel that nobody receives from holds up no other."""
        near, far = pair(None, Limits(1024))
        stuck, other = near.open(""), near.open("")
        near.send(stuck, bytes(3000))
        exchange(near, far)
        for _ in range(20):
            near.send(other, bytes(900))
            _, at_far = exchange(near, far)
            self.assertEqual([event[0] for event in at_far], [wire.EV_DATA])
            far.consumed(far.streams[3], 964)


class MemoryTests(SynchronousTestCase):
    """What is over leaves nothing."""

    def test_ten_thousand_channels_leave_nothing(self) -> None:
        """Opened and closed in each of the ways, they leave nothing at either end."""
        near, far = pair()
        for number in range(10000):
            stream = near.open("call", b"request", end=number % 2 == 0)
            far.receive_data(near.data_to_send())
            other = far.streams[stream.id]
            if number % 3 == 0:
                far.close(other, RESULT, b"\xc0")
            elif number % 3 == 1:
                far.send(other, b"x" * (number % 7))
                far.end(other)
                near.end(stream)
            else:
                near.close(stream)
                far.close(other, ERROR, b"\x80")
            if number % 100 == 99:
                exchange(near, far)
        exchange(near, far)
        self.assertEqual([left_over(near), left_over(far)], [[], []])
        self.assertEqual([len(near.scheduler.ready), len(far.scheduler.ready)], [0, 0])

    def test_channels_over_while_congested_do_not_pile_up(self) -> None:
        """Channels that are over while nothing can be written don't pile up in the queue."""
        mux = greeted()
        mux.scheduler.congested = True
        for id in range(1, 20001, 2):
            stream = opened(mux, open_frame(id))
            mux.send(stream, b"x")
            mux.receive_data(close(id))
        self.assertLess(len(mux.scheduler.ready), 200)
        self.assertEqual(mux.streams, {})

    def test_results_while_congested_count_as_open_channels(self) -> None:
        """A peer that asks and never reads is stopped by the limit on channels.

        A result keeps its channel open until it has been handed over.
        """
        mux = greeted(limits=Limits(channels=50))
        mux.scheduler.congested = True
        for id in range(1, 100, 2):
            stream = opened(mux, open_frame(id, OPEN_END))
            mux.close(stream, RESULT, b"r" * 10000)
        self.assertEqual(mux.scheduler.out, [])
        event = mux.receive_data(open_frame(101))[0]
        assert event[0] == wire.EV_FAILED
        self.assertEqual(event[1].code, "channels")

    def test_results_after_congestion_go_in_portions(self) -> None:
        """They are handed over in portions, once the transport takes more."""
        mux = greeted()
        mux.scheduler.congested = True
        for id in range(1, 100, 2):
            stream = opened(mux, open_frame(id, OPEN_END))
            mux.close(stream, RESULT, b"r" * 10000)
        mux.scheduler.congested = False
        sizes = []
        while mux.has_data():
            data = mux.data_to_send(100000)
            sizes.append(len(data))
            self.assertEqual({ftype for ftype, _, _ in frames(data)}, {CLOSE})
        self.assertEqual(sum(sizes), 50 * 10010)
        self.assertLess(max(sizes), 111000)
        self.assertEqual(left_over(mux), [])
