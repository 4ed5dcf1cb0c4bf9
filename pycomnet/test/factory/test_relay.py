"""The relay: what no program has taken comes to the next, once, in order; and nothing else does."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.channels.channel import Channel
from pycomnet.errors import ChannelClosed, RemoteError
from pycomnet.far.lingering.channelstates import FAR_SENDS
from pycomnet.far.lingering.framing import RelayedFrameReader, frame
from pycomnet.test.factory.kit import HandedJoined, Joined, Program
from pycomnet.test.properties import examples, given, settings
from pycomnet.wire.frames import CREDIT, DATA, END, HELLO, OPEN, WINDOW
from pycomnet.wire.mux import Limits, Mux, ProtocolError


def take(channel: Channel) -> list[Any]:
    """The values that are there; the error or end behind them as the last, if it is."""
    values: list[Any] = []
    while True:
        deferred = channel.receive()
        if not deferred.called:
            deferred.addErrback(lambda _: None)
            deferred.cancel()
            return values
        ends: list[Failure] = []
        deferred.addCallbacks(values.append, ends.append)
        if ends:
            return [*values, ends[0].value]


class RelayCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.joined = Joined()
        self.joined.pump()
        self.program = self.joined.start()

    def channel(self, **options: Any) -> tuple[Channel, Channel]:
        """Both ends of a channel that the program opened."""
        near = self.program.open(**options)
        self.joined.pump()
        return near, self.joined.accepted.pop()

    def resume(self) -> Program:
        """The program is killed, and another goes on."""
        self.joined.kill()
        self.program = self.joined.start()
        return self.program


class KeepsNothing(RelayCase):
    """For one that no other program can go on with: its program says nothing of what it took."""

    def setUp(self) -> None:
        self.joined = Joined(keeps=False)
        self.joined.pump()
        self.early = self.joined.far_open(first="early")
        self.early.send(b"x" * 100_000)
        self.joined.pump()
        self.program = self.joined.start()

    def test_values_sent_before_the_program_came_reach_it(self) -> None:
        """What the far side said before its program came is the program's, from the beginning."""
        [channel] = self.program.accepted
        self.assertEqual(take(channel), ["early", b"x" * 100_000])
        channel.send("answer")
        self.joined.pump()
        self.assertEqual(take(self.early), ["answer"])

    def test_values_go_both_ways_and_none_is_kept(self) -> None:
        """Values and ends go both ways, and nothing is kept of them, taken or not."""
        near, far = self.channel()
        for value in (1, "text", b"x" * 3_000_000):
            waiting = [near.receive(), far.receive()]
            near.send(value)
            far.send(value)
            self.joined.pump()
            for received in waiting:
                self.assertTrue(self.successResultOf(received) == value)
        far.send("left")
        self.joined.pump()
        relay = self.joined.relay
        self.assertEqual(sum(len(record.kept) for record in relay.records.values()), 0)
        self.assertEqual(relay.long_kept, 0)

    def test_channel_over_at_both_ends_has_no_record(self) -> None:
        """A channel that is over at both ends is not there any more, however it ended."""
        relay = self.joined.relay
        there = set(relay.records)
        for end in (
            lambda near, far: far.close(),
            lambda near, far: near.close(),
            lambda near, far: (far.send_end(), near.send_end()),
            lambda near, far: (near.send_end(), far.close(ChannelClosed("why"))),
        ):
            near, far = self.channel()
            far.send("last")
            self.joined.pump()
            end(near, far)
            self.joined.pump()
            self.assertEqual(set(relay.records), there)
        near, far = self.channel(end=True)
        far.close()
        self.joined.pump()
        self.assertEqual(set(relay.records), there)


class Through(RelayCase):
    """While one program is there it is as if there were no relay."""

    def test_short_and_long_values_go_both_ways(self) -> None:
        """Short and long values go both ways."""
        near, far = self.channel()
        for value in (1, "text", b"x" * 300_000, list(range(50_000))):
            near.send(value)
            self.joined.pump(10_000)
            self.assertEqual(self.successResultOf(far.receive()), value)
            far.send(value)
            self.joined.pump(10_000)
            self.assertEqual(self.successResultOf(near.receive()), value)
        self.joined.pump()
        self.assertEqual(self.joined.relay.records[near.id].cost, 0)

    def test_value_counts_as_taken_after_the_turn(self) -> None:
        """A program that is killed in the turn in which it got a value has done nothing with it: it
        is for the next one."""
        near, far = self.channel()
        far.send("value")
        self.joined.pump()
        self.assertEqual(self.successResultOf(near.receive()), "value")
        self.assertEqual(self.joined.relay.records[near.id].taken, 0)
        self.joined.pump()
        self.assertEqual(self.joined.relay.records[near.id].taken, 1)

    def test_far_sides_sends_wait_for_the_window(self) -> None:
        """The far side's send waits until something is taken here, as without a relay."""
        near, far = self.channel()
        sends = [far.send(b"x" * 65_000) for _ in range(40)]
        self.joined.pump()
        self.assertEqual(sum(send.called for send in sends), 16)
        got = len(take(near))
        self.assertEqual(got, 16)
        while got < 40:
            self.joined.pump()
            more = len(take(near))
            self.assertGreater(more, 0)
            got += more

    def test_channel_whose_end_was_taken_has_no_record(self) -> None:
        """A channel whose end was seen is not kept."""
        near, far = self.channel()
        far.send(1)
        far.close()
        self.joined.pump()
        self.assertEqual(len(self.joined.relay.records), 1)
        self.assertEqual(len(take(near)), 2)
        self.joined.clock.advance(1)
        self.assertEqual(self.joined.relay.records, {})

    def test_channel_closed_by_the_program_has_no_record(self) -> None:
        """A channel that the program closes is not kept, and what still comes is dropped."""
        near, far = self.channel()
        far.send(b"x" * 1000)
        near.close()
        self.joined.pump()
        self.assertEqual(self.joined.relay.records, {})
        self.assertTrue(far.isclosed())

    def test_ended_channel_without_references_has_no_record(self) -> None:
        """A channel that ended and that nobody holds is not kept."""
        near, far = self.channel()
        far.send(1)
        far.close()
        self.joined.pump()
        del near
        self.joined.clock.advance(1)
        self.joined.clock.advance(1)
        self.assertEqual(self.joined.relay.records, {})

    def test_values_without_references_are_kept_if_it_lingers(self) -> None:
        """What nobody held when the program ended is there for the next, if it lingers."""
        self.joined = Joined(lingers=True)
        self.joined.pump()
        self.program = self.joined.start()
        near, far = self.channel()
        id = near.id
        far.send(1)
        far.close()
        self.joined.pump()
        del near
        self.joined.clock.advance(1)
        self.joined.kill()
        self.program = self.joined.start()
        self.assertEqual(take(self.program.restored[id])[0], 1)

    def test_channel_half_closed_at_both_ends_has_no_record(self) -> None:
        """A channel that both ends ended, one after the other, is not kept."""
        near, far = self.channel()
        far.send_end()
        self.joined.pump()
        self.assertIsInstance(take(near)[0], ChannelClosed)
        near.send(1)
        near.send_end()
        self.joined.pump()
        self.assertEqual(take(far)[0], 1)
        self.joined.clock.advance(1)
        self.assertEqual(self.joined.relay.records, {})

    def test_program_gets_the_far_sides_hello_and_must_have_its_window(self) -> None:
        """The program has the far side's hello, and another window than the relay's is refused."""
        self.assertEqual(self.program.connection.mux.peer["info"], {"python": "3"})  # type: ignore[index]
        self.joined.kill()
        self.joined.relay.attach()
        hello = Mux(True, Limits(window=2048)).data_to_send()
        with self.assertRaisesRegex(ProtocolError, "window: a factory needs 1048576, not 2048"):
            self.joined.relay.from_program(hello)


class Resumed(RelayCase):
    """A program is killed, and another goes on."""

    def test_untaken_values_come_again_and_taken_ones_do_not(self) -> None:
        """What had come and was not taken comes again; what was taken does not."""
        near, far = self.channel()
        for n in range(10):
            far.send(n)
        self.joined.pump()
        for n in range(4):
            self.assertEqual(self.successResultOf(near.receive()), n)
        self.joined.pump()
        program = self.resume()
        for n in range(10, 13):
            far.send(n)
        self.joined.pump()
        self.assertEqual(take(program.restored[near.id]), list(range(4, 13)))

    def test_values_sent_without_a_program_wait_up_to_a_window(self) -> None:
        """What the far side sends when nobody is there waits, up to a window."""
        near, far = self.channel()
        self.joined.kill()
        sends = [far.send(b"%d" % n + b"x" * 65_000) for n in range(40)]
        self.joined.pump()
        self.assertEqual(sum(send.called for send in sends), 16)
        program = self.joined.start()
        got = []
        for _ in range(10):
            got += take(program.restored[near.id])
            self.joined.pump()
        self.assertEqual([int(value.rstrip(b"x")) for value in got], list(range(40)))
        self.assertTrue(all(send.called for send in sends))

    def test_window_is_the_same_after_many_programs(self) -> None:
        """However often programs come and go, the window stays what it was."""
        near, far = self.channel()
        id = near.id
        for turn in range(12):
            for _ in range(30):
                far.send(b"x" * 10_000)
            self.joined.pump()
            channel = near if not turn else self.program.restored[id]
            self.assertEqual(len(take(channel)), 30)
            self.joined.pump()
            del channel
            self.resume()
        record = self.joined.relay.records[id]
        self.assertEqual(record.far_credit, WINDOW)

    def test_ends_and_errors_come_after_the_values(self) -> None:
        """Values, and behind them how the channel ended."""
        one, far_one = self.channel()
        two, far_two = self.channel()
        far_one.send(1)
        far_one.close(RemoteError("ValueError", "no"))
        self.joined.kill()
        far_two.send(2)
        far_two.send_end()
        self.joined.pump()
        program = self.program = self.joined.start()
        value, error = take(program.restored[one.id])
        self.assertEqual((value, error.type, error.message), (1, "ValueError", "no"))
        value, end = take(program.restored[two.id])
        self.assertEqual((value, type(end)), (2, ChannelClosed))
        program.restored[two.id].send(3)
        self.joined.pump()
        self.assertEqual(take(far_two), [3])

    def test_result_of_a_call_reaches_the_next_program(self) -> None:
        """The result of a call that ran meanwhile."""
        near = self.program.open("call", 1, end=True)
        self.joined.pump()
        far = self.joined.accepted.pop()
        self.joined.kill()
        from pycomnet.wire.frames import RESULT

        far.core.connection.mux.close(far.core.stream, RESULT, far.core.connection.encode("result"))
        far.core.connection.flush_soon()
        self.joined.pump()
        program = self.program = self.joined.start()
        result = take(program.restored[near.id])
        self.assertEqual(result[0], "result")
        self.joined.clock.advance(1)
        self.assertEqual(self.joined.relay.records, {})

    def test_programs_values_arrive_once_and_the_next_sends_on(self) -> None:
        """What the program had sent arrives once; the next one sends on the same channel."""
        near, far = self.channel()
        near.send(1)
        self.joined.pump()
        program = self.resume()
        program.restored[near.id].send(2)
        self.joined.pump()
        self.assertEqual(take(far), [1, 2])

    def test_next_program_has_the_credit_that_was_left(self) -> None:
        """The next program has the credit that the one before it left."""
        near, far = self.channel()
        for _ in range(16):
            near.send(b"x" * 65_000)
        self.joined.pump()
        program = self.resume()
        again = program.restored[near.id]
        send = again.send(b"y" * 65_000)
        self.joined.pump()
        self.assertFalse(send.called)
        self.assertEqual(len(take(far)), 16)
        self.joined.pump()
        self.assertEqual(take(far), [b"y" * 65_000])

    def test_short_value_cut_by_a_kill_is_not_delivered(self) -> None:
        """A value of which not all came is not sent at all, if it is shorter than half a window."""
        near, far = self.channel()
        near.send(b"x" * 400_000).addErrback(lambda _: None)
        for _ in range(6):
            self.joined.step(40_000)
        program = self.resume()
        program.restored[near.id].send("next")
        self.joined.pump()
        self.assertEqual(take(far), ["next"])

    def test_long_value_cut_by_a_kill_ends_its_channel_with_an_error(self) -> None:
        """A longer one has begun to arrive: its channel ends, at both ends, with an error."""
        near, far = self.channel()
        far.send("before")
        self.joined.pump()
        near.send(b"x" * 3_000_000).addErrback(lambda _: None)
        receiving = far.receive()
        for _ in range(20):
            self.joined.step(40_000)
        program = self.resume()
        self.failureResultOf(receiving, RemoteError)
        value, error = take(program.restored[near.id])
        self.assertEqual((value, error.code), ("before", "interrupted"))
        self.joined.pump()
        self.joined.clock.advance(1)
        self.assertEqual(self.joined.relay.records, {})
        near, far = self.channel()
        near.send(1)
        self.joined.pump()
        self.assertEqual(take(far), [1])

    def test_far_side_may_end_and_close_a_channel_that_is_being_cut(self) -> None:
        """Its end and its close are on the way when the relay closes the channel: both are right,
        and the far side is as usable as before. So they are if its end had arrived before."""
        for early in (False, True):
            near, far = self.channel()
            near.send(b"x" * 3_000_000).addErrback(lambda _: None)
            for _ in range(20):
                self.joined.step(40_000)
            far.send_end()
            if early:
                self.joined.step(40_000)
            far.close()
            self.joined.clock.advance(0)
            program = self.resume()
            [error] = take(program.restored[near.id])
            self.assertEqual(error.code, "interrupted")
            self.joined.pump()
            self.joined.clock.advance(1)
            self.assertEqual(self.joined.relay.records, {})
        near, far = self.channel()
        near.send(1)
        self.joined.pump()
        self.assertEqual(take(far), [1])

    def test_value_of_the_far_side_cut_by_kills_arrives_whole(self) -> None:
        """A value that was on its way comes as a whole to the next."""
        near, far = self.channel()
        waiting = near.receive()
        waiting.addErrback(lambda _: None)
        value = bytes(range(256)) * 12_000
        far.send(value)
        for _ in range(20):
            self.joined.step(100_000)
        for _ in range(3):
            self.resume()
            again = self.program.restored[near.id].receive()
            for _ in range(20):
                self.joined.step(100_000)
            if again.called:
                break
            again.addErrback(lambda _: None)
        else:
            again = self.program.restored[near.id].receive()
        self.joined.pump()
        self.assertEqual(self.successResultOf(again), value)
        record = self.joined.relay.records[near.id]
        self.assertLessEqual(record.far_credit, WINDOW)
        self.assertEqual(self.joined.relay.long_kept, 0)

    def test_value_over_the_bound_is_passed_on_and_lost_by_a_kill(self) -> None:
        """What is longer than the bound goes through; a kill before it is taken is an error."""
        self.joined = Joined(max_kept=500_000)
        self.joined.pump()
        self.program = self.joined.start()
        near, far = self.channel()
        value = b"v" * 4_000_000
        waiting = near.receive()
        far.send(value)
        self.joined.pump()
        self.assertEqual(self.successResultOf(waiting), value)
        waiting = near.receive()
        waiting.addErrback(lambda _: None)
        far.send("before")
        for sent in (value, "behind"):
            far.send(sent).addErrback(lambda _: None)
        self.joined.pump()
        again = near.receive()
        again.addErrback(lambda _: None)
        for _ in range(15):
            self.joined.step(100_000)
        self.assertLess(self.joined.relay.long_kept, 500_001)
        program = self.resume()
        [error] = take(program.restored[near.id])[-1:]
        self.assertEqual(error.code, "interrupted")

    def test_channels_opened_by_the_far_side_are_restored(self) -> None:
        """Channels that the far side opened, alone and in values, are there again."""
        opened = self.joined.far_open("channel", "first")
        near, far = self.channel()
        far.send(["see", opened])
        self.joined.pump()
        program = self.resume()
        opened.send("second")
        self.joined.pump()
        [[_, channel]] = take(program.restored[near.id])
        self.assertIs(channel, program.restored[opened.id])
        self.assertEqual(take(channel), ["first", "second"])
        channel.send("back")
        self.joined.pump()
        self.assertEqual(take(opened), ["back"])

    def test_channel_ids_are_not_used_again(self) -> None:
        """Ids are not used again."""
        near, _ = self.channel()
        self.resume()
        again, _ = self.channel()
        self.assertEqual(again.id, near.id + 2)
        opened = self.joined.far_open()
        self.joined.pump()
        self.assertEqual(self.program.accepted[-1].id, opened.id)

    def test_channel_being_closed_is_not_restored(self) -> None:
        """A channel that was being closed is not there for the next one."""
        near, far = self.channel()
        near.close()
        self.joined.step()
        self.joined.step()
        program = self.resume()
        self.assertEqual(program.restored, {})
        self.assertTrue(far.isclosed())
        self.assertEqual(self.joined.relay.records, {})

    def test_untaken_bytes_of_a_raw_channel_come_again(self) -> None:
        """Bytes of raw channels too."""
        near, far = self.channel(raw=True)
        for n in range(10):
            far.send(b"%d" % n * 1000)
        self.joined.pump()
        self.successResultOf(near.receive())
        self.joined.pump()
        program = self.resume()
        self.assertEqual(
            b"".join(take(program.restored[near.id])),
            b"".join(b"%d" % n * 1000 for n in range(1, 10)),
        )


class Refused(RelayCase):
    """What breaks the protocol is found out here where it would spoil the relay's own state."""

    def test_frames_that_a_program_may_not_send_are_refused(self) -> None:
        """What a program may not send."""
        for data in (
            frame(DATA, 99, b"x"),
            frame(OPEN, 2, b"\0\4test"),
            frame(OPEN, 1, b"\0\x09test"),
            frame(CREDIT, 1, b"x"),
            frame(OPEN, 1, b"\0\4test") + 2 * frame(END, 1),
            frame(200, 0),
            frame(DATA, 1, bytes(70_000)),
        ):
            with self.assertRaises(ProtocolError):
                self.joined.relay.from_program(data)
            self.resume()

    def test_frames_that_a_far_side_may_not_send_are_refused(self) -> None:
        """What a far side may not send."""
        for data in (frame(DATA, 99, b"x"), frame(OPEN, 3, b"\0\4test"), frame(HELLO, 0)):
            with self.assertRaises(ProtocolError):
                self.joined.relay.from_far(data)

    def test_first_frame_must_be_a_hello(self) -> None:
        """The first frame is a hello, however it comes."""
        reader = RelayedFrameReader(65536)
        self.assertEqual(reader.feed(b"GET / HTTP/1.1\r\n"), [])
        assert reader.problem is not None
        self.assertEqual(reader.problem.code, "hello")
        with self.assertRaises(ProtocolError):
            self.joined.relay.from_far(b"GET / HTTP/1.1\r\n")


class Anything(SynchronousTestCase):
    """Whatever is done and whenever a program is killed: every value comes once, in order."""

    @settings(max_examples=examples(100), deadline=None)
    @given(
        st.booleans(),
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["far", "near", "take", "far_take", "step", "step", "kill", "end", "close"]
                ),
                st.integers(0, 2),
                st.sampled_from([1, 50, 1000, 70_000, 300_000, 1_500_000]),
            ),
            max_size=60,
        ),
    )
    def test_each_value_comes_once_and_in_order(
        self, handed: bool, actions: list[tuple[str, int, int]]
    ) -> None:
        joined = HandedJoined() if handed else Joined()
        joined.pump()
        program = joined.start()
        nears = [program.open() for _ in range(3)]
        ids = [near.id for near in nears]
        joined.pump()
        fars = joined.accepted
        sent: list[list[tuple[int, bytes]]] = [[], [], []]
        got: list[list[Any]] = [[], [], []]
        ended = [False] * 3
        there: list[list[tuple[int, bytes]]] = [[], [], []]
        back: list[list[Any]] = [[], [], []]
        for what, index, size in actions:
            if what == "far" and not ended[index]:
                value = (len(sent[index]), b"x" * size)
                sent[index].append(value)
                fars[index].send(value).addErrback(lambda _: None)
            elif what == "near" and size < 500_000:
                value = (len(there[index]), b"y" * size)
                there[index].append(value)
                nears[index].send(value).addErrback(lambda _: None)
            elif what == "take":
                got[index] += take(nears[index])
                joined.step()
            elif what == "far_take":
                back[index] += take(fars[index])
            elif what == "step":
                joined.step(size)
            elif what == "end" and not ended[index] and size < 1000:
                ended[index] = True
                fars[index].send_end()
            elif what == "close" and size < 1000:
                ended[index] = True
                fars[index].close()
            elif what == "kill":
                joined.clock.advance(0)
                joined.kill()
                program = joined.start()
                nears = [
                    program.restored.get(id) or near for id, near in zip(ids, nears, strict=True)
                ]
        for _ in range(60):
            joined.pump()
            for index in range(3):
                got[index] += take(nears[index])
                back[index] += take(fars[index])
        for index in range(3):
            values = [value for value in got[index] if not isinstance(value, Exception)]
            self.assertEqual(values, sent[index])
            # Of what a program sent only what it had not written is lost with it.
            numbers = [value[0] for value in back[index] if not isinstance(value, Exception)]
            self.assertEqual(numbers, sorted(set(numbers)))
            record = joined.relay.records.get(ids[index])
            if record is not None and record.state in FAR_SENDS:
                self.assertLessEqual(record.far_credit, WINDOW)
        if isinstance(joined, HandedJoined):
            joined.kill()  # what was taken is known then
        self.assertEqual(joined.relay.long_kept, 0)
