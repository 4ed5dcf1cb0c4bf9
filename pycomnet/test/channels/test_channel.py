"""Channels: sending with back pressure, receiving in order, and every way to end one."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

from hypothesis import strategies as st
from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.channels import channel as channel_module
from pycomnet.channels import connection
from pycomnet.channels.channel import Channel
from pycomnet.errors import ChannelClosed, ConnectionLost, PycomnetError, RemoteError
from pycomnet.test.garbage import collects
from pycomnet.test.kit import HUGE, Pair, PairCase, frames
from pycomnet.test.properties import examples, given, settings
from pycomnet.wire import rust, scheduler
from pycomnet.wire import values as wire_values
from pycomnet.wire.codec import make_codec
from pycomnet.wire.frames import FRAME_COST, WINDOW
from pycomnet.wire.mux import Limits
from pycomnet.wire.values import ValueNotSendable

#: A value that takes a sixteenth of a window, with its frame and the three bytes of its header.
SIXTEENTH = bytes(WINDOW // 16 - FRAME_COST - 3)


class ChannelCase(PairCase):
    """A test on both ends of a channel."""

    def setUp(self) -> None:
        super().setUp()
        self.near, self.far = self.pair.channel()

    def fill(self) -> None:
        """Use up the near end's credit."""
        for _ in range(16):
            self.successResultOf(self.near.send(SIXTEENTH))
        self.pair.pump()

    def drain(self) -> None:
        """Have the far end receive what :meth:`fill` sent."""
        for _ in range(16):
            self.assertEqual(self.receive_now(self.far), SIXTEENTH)
        self.pair.pump()


class Sending(ChannelCase):
    """``send`` and its Deferred."""

    def test_send_fires_at_once_while_there_is_room(self) -> None:
        """While there is room, it fires at once; the value arrives as it was."""
        value = {"a": [1, 2.5, None, (True, {3}), "ä", b"\x00"]}
        self.assertIsNone(self.successResultOf(self.near.send(value)))
        self.pair.pump()
        self.assertEqual(self.receive_now(self.far), value)

    def test_value_is_sent_as_it_was_at_that_time(self) -> None:
        value = [1]
        self.near.send(value)
        value.append(2)
        self.pair.pump()
        self.assertEqual(self.receive_now(self.far), [1])

    def test_send_waits_for_a_full_window(self) -> None:
        """When the window is full it waits; the other end's receiving lets it go on."""
        sends = [self.near.send(n.to_bytes(2, "big") + bytes(50_000)) for n in range(60)]
        self.pair.pump()
        fired = [send.called for send in sends]
        self.assertEqual(sorted(fired, reverse=True), fired)
        self.assertEqual(sum(fired), WINDOW // (50_000 + FRAME_COST))
        for n in range(60):
            received = self.receive_now(self.far)
            self.assertEqual(received[:2], n.to_bytes(2, "big"))
            self.pair.pump()
        for send in sends:
            self.successResultOf(send)

    def test_long_bytes_go_through_while_awaited(self) -> None:
        """A value of many windows goes through while somebody waits for it, and not otherwise."""
        value = HUGE * 3
        sending = self.near.send(value)
        self.pair.pump()
        self.assertNoResult(sending)
        received = self.far.receive()
        self.pair.pump()
        self.assertTrue(self.successResultOf(received) == value)
        self.successResultOf(sending)

    def test_long_other_values_go_through_while_awaited(self) -> None:
        """So does a long value that is not bytes."""
        value = [HUGE.hex(), HUGE.hex()]
        sending = self.near.send(value)
        received = self.far.receive()
        self.pair.pump(100_000)
        self.assertTrue(self.successResultOf(received) == value)
        self.successResultOf(sending)

    def test_peer_with_short_frames_gets_the_same_values(self) -> None:
        """A peer that takes only short frames gets the same values."""
        pair = Pair(far_limits=Limits(frame=1024, window=1024))
        near, far = pair.channel()
        values = [b"x" * size for size in (900, 1024, 5000, 100_000)]
        sends = [near.send(value) for value in values]
        for value in values:
            received = far.receive()
            pair.pump()
            self.assertEqual(self.successResultOf(received), value)
        for send in sends:
            self.successResultOf(send)
        near.close()
        pair.pump()

    def test_cancelled_send_is_taken_back_and_others_go_on(self) -> None:
        """Cancelling takes back a value of which nothing was sent; the others go on."""
        self.fill()
        first, second, third = (self.near.send(n) for n in range(3))
        second.cancel()
        self.failureResultOf(second, defer.CancelledError)
        self.assertNoResult(first)
        self.drain()
        self.assertEqual(self.receive_all(self.far), [0, 2])
        self.successResultOf(first)
        self.successResultOf(third)

    def test_short_value_behind_a_cancelled_one_goes_at_once(self) -> None:
        """What waits behind a value that is taken back goes at once, if there is room for it."""
        for _ in range(15):
            self.near.send(SIXTEENTH)
        self.near.send(SIXTEENTH[:-164])
        long, short = self.near.send(HUGE), self.near.send("short")
        self.pair.turn()
        # A crumb of credit is left, too little to begin the long value with.
        self.assertNoResult(long)
        self.assertNoResult(short)
        long.cancel()
        self.failureResultOf(long, defer.CancelledError)
        self.pair.turn()
        self.successResultOf(short)

    def test_cancelled_value_that_has_begun_follows(self) -> None:
        """A value of which a part was sent follows all the same."""
        sending = self.near.send(HUGE)
        sending.cancel()
        self.failureResultOf(sending, defer.CancelledError)
        received = self.far.receive()
        self.pair.pump()
        self.assertTrue(self.successResultOf(received) == HUGE)

    def test_close_behind_a_cancelled_value_goes(self) -> None:
        """Taking back the value that a close waited behind lets the close go."""
        self.fill()
        sending = self.near.send("never mind")
        self.near.close()
        self.pair.pump()
        self.assertFalse(self.far.isclosed())
        sending.cancel()
        self.failureResultOf(sending, defer.CancelledError)
        self.pair.pump()
        self.assertTrue(self.far.isclosed())

    def test_cancelling_a_sent_value_changes_nothing(self) -> None:
        """Cancelling what has fired changes nothing."""
        sending = self.near.send(1)
        sending.cancel()
        self.successResultOf(sending)
        self.pair.pump()
        self.assertEqual(self.receive_all(self.far), [1])

    def test_unsendable_value_fails_saying_what_and_where(self) -> None:
        """A value that can't be sent fails, saying what and where; nothing is sent."""
        problem = self.failureResultOf(self.near.send({"jobs": [1, object()]}), ValueNotSendable)
        self.assertIn('value["jobs"][1]', str(problem.value))
        self.assertIn("object", str(problem.value))
        self.assertIsInstance(problem.value, TypeError)
        self.near.send("fine")
        self.pair.pump()
        self.assertEqual(self.receive_all(self.far), ["fine"])

    def test_too_long_value_is_not_sendable(self) -> None:
        """Neither can one be sent that is longer than any may be."""
        self.patch(scheduler, "MAX_VALUE", 100_000)
        problem = self.failureResultOf(self.near.send(bytes(200_000)), ValueNotSendable).value
        self.assertIn("the limit is 100000", str(problem))
        for module in (wire_values, rust, channel_module):
            self.patch(module, "MAX_VALUE", 100_000)
        problem = self.failureResultOf(self.near.send(["x" * 100_000]), ValueNotSendable).value
        self.assertIn("100000 are the limit", str(problem))
        self.assertFalse(self.near.isclosed())

    def test_what_the_fast_codec_refuses_the_pure_one_sends(self) -> None:
        """What the faster codec refuses the other one sends; without the faster it sends all."""
        sent: list[Any] = [{1: "one", None: {(2,): 3}}, "\udc80", [1 << 70], {"key": (4, {5})}]
        for value in sent:
            self.successResultOf(self.near.send(value))
        self.pair.pump()
        self.assertEqual(self.receive_all(self.far), sent)
        self.patch(connection, "make_codec", partial(make_codec, pure=True))
        self.setUp()
        for value in sent:
            self.successResultOf(self.near.send(value))
        self.failureResultOf(self.near.send(object()), ValueNotSendable)
        self.pair.pump()
        self.assertEqual(self.receive_all(self.far), sent)

    def test_send_on_a_closed_channel_fails(self) -> None:
        """On a channel that is closed it fails, whoever closed it."""
        self.near.close()
        self.failureResultOf(self.near.send(1), ChannelClosed)
        self.pair.pump()
        self.failureResultOf(self.far.send(1), ChannelClosed)

    def test_send_within_a_callback_keeps_the_order(self) -> None:
        """Whoever is told that there is room may send more; the order stays."""
        self.fill()
        first = self.near.send("first")
        first.addCallback(lambda _: self.near.send("third"))
        self.near.send("second")
        self.drain()
        self.assertEqual(self.receive_all(self.far), ["first", "second", "third"])


class Receiving(ChannelCase):
    """``receive`` and its Deferred."""

    def test_values_and_receives_are_in_order(self) -> None:
        """Values come in the order they were sent, to receives in the order they were asked."""
        early = [self.far.receive() for _ in range(2)]
        for value in range(4):
            self.near.send(value)
        self.pair.pump()
        late = [self.far.receive() for _ in range(2)]
        self.assertEqual([self.successResultOf(d) for d in early + late], [0, 1, 2, 3])

    def test_cancelled_receive_leaves_the_value_to_the_next(self) -> None:
        """Cancelling leaves the value for the next."""
        first, second = self.far.receive(), self.far.receive()
        first.cancel()
        self.failureResultOf(first, defer.CancelledError)
        self.near.send("value")
        self.pair.pump()
        self.assertEqual(self.successResultOf(second), "value")

    def test_cancelled_receive_of_a_long_value_stops_the_sender(self) -> None:
        """With the wait for a long value cancelled, the sender waits; the next receive resumes."""
        value = HUGE * 3
        sending, received = self.near.send(value), self.far.receive()
        self.pair.to_far(100_000)
        received.cancel()
        self.failureResultOf(received, defer.CancelledError)
        self.pair.pump()
        self.assertNoResult(sending)
        received = self.far.receive()
        self.pair.pump()
        self.successResultOf(sending)
        self.assertTrue(self.successResultOf(received) == value)

    def test_deferreds_timeout_works_on_receive(self) -> None:
        """A Deferred's own timeout works on it."""
        received = self.far.receive().addTimeout(3, self.pair.clock)
        self.pair.clock.advance(3)
        self.failureResultOf(received, defer.TimeoutError)

    def test_receive_send_and_close_within_a_callback_work(self) -> None:
        """Whoever gets a value may ask for the next, send and close."""
        values: list[Any] = []

        def got(value: Any) -> None:
            values.append(value)
            if value == 2:
                self.far.send("enough")
                self.far.close()
            else:
                self.far.receive().addCallback(got)

        self.far.receive().addCallback(got)
        for value in range(5):
            self.near.send(value)
        self.pair.pump()
        self.assertEqual(values, [0, 1, 2])
        self.assertEqual(self.receive_all(self.near), ["enough"])
        self.assertTrue(self.near.isclosed())

    def test_iteration_gives_the_values_up_to_the_end(self) -> None:
        """``async for`` gives the values up to the end."""

        async def collect() -> list[Any]:
            return [value async for value in self.far]

        collected = defer.ensureDeferred(collect())
        for value in range(3):
            self.near.send(value)
            self.pair.pump()
        self.assertNoResult(collected)
        self.near.close()
        self.pair.pump()
        self.assertEqual(self.successResultOf(collected), [0, 1, 2])

    def test_iteration_ends_with_the_other_ends_error(self) -> None:
        """``async for`` ends with the other end's error, after the values before it."""
        values: list[Any] = []

        async def collect() -> None:
            async for value in self.far:
                values.append(value)

        collected = defer.ensureDeferred(collect())
        self.near.send(1)
        self.pair.pump()
        self.near.close("no more paper")
        self.pair.pump()
        self.assertEqual(
            self.failureResultOf(collected, RemoteError).value.message, "no more paper"
        )
        self.assertEqual(values, [1])

    def test_cancelled_iteration_leaves_the_channel_open(self) -> None:
        """A coroutine that iterates can be cancelled; the channel goes on."""

        async def collect() -> list[Any]:
            return [value async for value in self.far]

        collected = defer.ensureDeferred(collect())
        collected.cancel()
        self.failureResultOf(collected, defer.CancelledError)
        self.near.send(1)
        self.pair.pump()
        self.assertEqual(self.receive_now(self.far), 1)


class Closing(ChannelCase):
    """``close``, ``send_end``, ``waitclose`` and ``isclosed``."""

    def test_close_delivers_what_was_sent_then_ends_both(self) -> None:
        """What was sent before arrives; then both ends are at their end."""
        self.near.send(1)
        self.near.close()
        self.assertTrue(self.near.isclosed())
        self.pair.pump()
        self.assertTrue(self.far.isclosed())
        self.assertEqual(self.receive_now(self.far), 1)
        for end in (self.near, self.far):
            self.assertIsInstance(self.failureResultOf(end.receive()).value, EOFError)
            self.assertIsNone(self.successResultOf(end.waitclose()))
        self.assertEqual(self.pair.near.mux.streams, {})
        self.assertEqual(self.pair.far.mux.streams, {})

    def test_close_goes_behind_a_value_that_waits(self) -> None:
        """A close goes behind a value that waits for room, and the value arrives."""
        sending = self.near.send(HUGE)
        self.near.close()
        self.pair.pump()
        self.assertNoResult(sending)
        received = self.far.receive()
        self.pair.pump()
        self.successResultOf(sending)
        self.assertTrue(self.successResultOf(received) == HUGE)
        self.failureResultOf(self.far.receive(), ChannelClosed)

    def test_second_close_does_nothing(self) -> None:
        """Closing again, from either side, does nothing."""
        self.near.close()
        self.near.close()
        self.far.close()
        self.pair.pump()
        self.near.close("too late")
        self.pair.pump()
        self.assertIsNone(self.successResultOf(self.far.waitclose()))

    def test_close_fails_own_receives_at_once(self) -> None:
        """Who waits at the end that closes is told at once."""
        waiting = [self.near.receive(), self.near.receive()]
        closing = self.near.waitclose()
        self.near.close()
        for deferred in waiting:
            self.failureResultOf(deferred, ChannelClosed)
        self.assertIsNone(self.successResultOf(closing))

    def test_values_that_came_before_close_can_be_received(self) -> None:
        """What had come before the close can be received; what comes after it is dropped."""
        self.far.send("came")
        self.pair.pump()
        self.far.send("under way")
        self.near.close()
        self.pair.pump()
        self.assertEqual(self.receive_all(self.near), ["came"])

    def test_close_drops_the_rest_of_the_same_piece(self) -> None:
        """That holds too when both come in one piece."""
        for value in range(3):
            self.far.send(value)
        self.pair.turn()
        self.near.receive().addCallback(lambda _: self.near.close())
        self.pair.pump()
        self.assertEqual(self.receive_all(self.near), [])

    def test_close_error_reaches_receive_waitclose_and_send(self) -> None:
        """The other end gets the error: from receive, waitclose and send."""
        waiting = [self.far.receive(), self.far.waitclose(), self.far.send(HUGE)]
        self.near.close("out of order")
        self.pair.pump()
        waiting += [self.far.receive(), self.far.waitclose(), self.far.send(1)]
        for deferred in waiting:
            problem = self.failureResultOf(deferred, RemoteError).value
            self.assertEqual((problem.code, problem.message), ("remote", "out of order"))
        self.assertEqual(str(problem), "out of order")

    def test_close_exception_arrives_with_its_type(self) -> None:
        """An exception arrives with its type, one's own class by its full name."""

        class Odd(Exception):
            pass

        for error, name in ((KeyError("k"), "KeyError"), (Odd("o"), f"{__name__}.")):
            near, far = self.pair.channel()
            near.close(error)
            self.pair.pump()
            problem = self.failureResultOf(far.receive(), RemoteError).value
            self.assertTrue(problem.type.startswith(name), problem.type)
            self.assertEqual(problem.message, str(error))

    def test_too_long_error_is_cut_and_arrives(self) -> None:
        """An error that is too long for a frame is cut, and arrives."""
        error = RemoteError("ValueError", "m" * 500_000, "f" * 500_000, "odd")
        self.near.close(error)
        self.pair.pump()
        problem = self.failureResultOf(self.far.receive(), RemoteError).value
        self.assertEqual((problem.type, problem.code), ("ValueError", "odd"))
        self.assertTrue(problem.message.startswith("mmm"))
        self.assertIsNone(self.pair.far.lost)

    def test_remote_error_is_passed_on_whole(self) -> None:
        """A RemoteError is passed on whole."""
        self.near.close(RemoteError("ZeroDivisionError", "by zero", "Traceback: ...", "remote"))
        self.pair.pump()
        problem = self.failureResultOf(self.far.receive(), RemoteError).value
        self.assertEqual(problem.as_map()["formatted"], "Traceback: ...")
        self.assertEqual(str(problem), "Traceback: ...")

    def test_close_error_goes_before_values_that_wait(self) -> None:
        """An error goes before what waits for room: that fails."""
        sending = self.near.send(HUGE)
        self.near.close("stop")
        self.failureResultOf(sending, ChannelClosed)
        self.pair.pump()
        self.failureResultOf(self.far.receive(), RemoteError)

    def test_error_after_a_waiting_close_goes_before_both(self) -> None:
        """After a close that waits behind a value, an error still goes before both."""
        sending = self.near.send(HUGE)
        self.near.close()
        self.assertNoResult(sending)
        self.near.close("changed my mind")
        self.failureResultOf(sending, ChannelClosed)
        self.pair.pump()
        self.failureResultOf(self.far.receive(), RemoteError)

    def test_values_before_an_error_are_received_first(self) -> None:
        """What was sent before an error is received before it."""
        self.near.send(1)
        self.near.close("then this")
        self.pair.pump()
        self.assertEqual(self.receive_now(self.far), 1)
        self.failureResultOf(self.far.receive(), RemoteError)

    def test_crossing_closes_leave_nothing(self) -> None:
        """Both ends close at once, one with an error: both are closed, nothing is left."""
        self.near.close()
        self.far.close("mine")
        self.pair.pump()
        self.failureResultOf(self.near.receive(), ChannelClosed)
        self.failureResultOf(self.far.receive(), ChannelClosed)
        self.assertEqual((self.pair.near.mux.streams, self.pair.far.mux.streams), ({}, {}))

    def test_peers_close_fails_sends_that_wait(self) -> None:
        """Sends that wait when the other end closes are told."""
        sending = self.near.send(HUGE)
        self.pair.pump()
        self.far.close()
        self.pair.pump()
        self.failureResultOf(sending, ChannelClosed)

    def test_waitclose_fires_when_both_ends_have_ended(self) -> None:
        """It fires though the code may still run: no CLOSE comes after both have ended."""
        for first, second in ((True, False), (False, True)):
            near, far = self.pair.channel("exec")
            for ends in (first, second):
                (near if ends else far).send_end()
                self.pair.pump()
            self.assertIsNone(self.successResultOf(near.waitclose()))

    def test_waitclose_fires_when_a_waiting_end_has_gone(self) -> None:
        """It fires once the END has gone that waited behind a long value."""
        near, far = self.pair.channel("exec")
        closing = near.waitclose()
        near.send(HUGE)
        near.send_end()
        far.send_end()
        self.pair.pump()
        self.assertNoResult(closing)
        received = far.receive()
        self.pair.pump()
        self.assertEqual(self.successResultOf(received), HUGE)
        self.pair.pump()
        self.assertIsNone(self.successResultOf(closing))

    def test_waitclose_tells_an_error_read_together_with_the_end(self) -> None:
        """The code's error is told, also when it is read at once with the END before it."""
        near, far = self.pair.channel("exec")
        closing = near.waitclose()
        far.send_end()
        far.close(ValueError("late"))
        self.pair.pump()
        self.assertIn("late", str(self.failureResultOf(closing, RemoteError)))

    def test_after_send_end_only_the_other_end_sends(self) -> None:
        """After ``send_end`` nothing more is sent, and the other end goes on."""
        closing = self.far.waitclose()
        self.near.send(1)
        self.near.send_end()
        self.assertTrue(self.near.isclosed())
        self.failureResultOf(self.near.send(2), ChannelClosed)
        self.pair.pump()
        self.assertIsNone(self.successResultOf(closing))
        self.assertFalse(self.far.isclosed())
        self.assertEqual(self.receive_all(self.far), [1])
        self.far.send("still")
        self.pair.pump()
        self.assertEqual(self.receive_now(self.near), "still")
        self.far.send_end()
        self.pair.pump()
        self.failureResultOf(self.near.receive(), ChannelClosed)
        self.assertEqual((self.pair.near.mux.streams, self.pair.far.mux.streams), ({}, {}))

    def test_send_end_goes_behind_a_value_that_waits(self) -> None:
        """The end goes behind a value that waits for room."""
        sending = self.near.send(HUGE)
        self.near.send_end()
        received, end = self.far.receive(), self.far.receive()
        self.pair.pump()
        self.successResultOf(sending)
        self.assertTrue(self.successResultOf(received) == HUGE)
        self.failureResultOf(end, ChannelClosed)

    def test_error_after_half_close_is_told_to_who_asks(self) -> None:
        """An error after the half-close is not lost: whoever asks from then on gets it."""
        self.near.send_end()
        self.pair.pump()
        self.failureResultOf(self.far.receive(), ChannelClosed)
        sending = self.far.send(HUGE)
        self.near.close("went wrong later")
        self.pair.pump()
        for deferred in (sending, self.far.receive(), self.far.waitclose(), self.far.send(1)):
            self.failureResultOf(deferred, RemoteError)

    def test_connection_lost_after_half_close_fails_sends_alone(self) -> None:
        """When the connection ends after the half-close, only what would be sent is lost."""
        self.near.send_end()
        self.pair.pump()
        sending = self.far.send(HUGE)
        self.pair.lose()
        self.failureResultOf(sending, ConnectionLost)
        self.failureResultOf(self.far.receive(), ChannelClosed)
        self.assertIsNone(self.successResultOf(self.far.waitclose()))

    def test_close_after_half_close_ends_the_rest(self) -> None:
        """The end that was told of the half-close closes the rest."""
        self.near.send_end()
        self.pair.pump()
        self.far.close()
        self.pair.pump()
        self.failureResultOf(self.near.receive(), ChannelClosed)
        self.assertEqual((self.pair.near.mux.streams, self.pair.far.mux.streams), ({}, {}))

    def test_cancelled_waitclose_changes_nothing(self) -> None:
        """Cancelling a wait for the end changes nothing."""
        first, second = self.far.waitclose(), self.far.waitclose()
        first.cancel()
        self.failureResultOf(first, defer.CancelledError)
        self.assertFalse(self.far.isclosed())
        self.near.close()
        self.pair.pump()
        self.assertIsNone(self.successResultOf(second))

    def test_callback_may_cancel_others_that_wait(self) -> None:
        """Whoever is told of the end may cancel the others that wait for it."""
        first, second = self.far.receive(), self.far.receive()
        closing = [self.far.waitclose(), self.far.waitclose()]

        def told(_: object) -> None:
            for deferred in (second, *closing):
                deferred.cancel()

        first.addErrback(told)
        self.near.close()
        self.pair.pump()
        self.successResultOf(first)
        for deferred in (second, *closing):
            self.failureResultOf(deferred, defer.CancelledError)

    def test_result_is_a_last_value_and_the_end(self) -> None:
        """A result is a last value and the end in one."""
        received, closing = self.far.receive(), self.far.waitclose()
        self.pair.near.mux.close(self.near.core.stream, 2, self.pair.near.encode({"answer": 42}))
        self.pair.near.flush_soon()
        self.pair.pump()
        self.assertEqual(self.successResultOf(received), {"answer": 42})
        self.assertIsNone(self.successResultOf(closing))
        self.failureResultOf(self.far.receive(), ChannelClosed)

    def test_result_is_kept_until_somebody_asks(self) -> None:
        """A result that nobody waits for is kept until somebody asks."""
        self.pair.near.mux.close(self.near.core.stream, 2, self.pair.near.encode(42))
        self.pair.near.flush_soon()
        self.pair.pump()
        self.assertEqual(self.receive_now(self.far), 42)

    def test_repr_shows_number_gateway_and_state(self) -> None:
        """It shows its number, where it leads and whether it is open."""
        self.assertEqual(repr(self.near), "<Channel 1 of near, open>")
        self.near.close()
        self.assertEqual(repr(self.near), "<Channel 1 of near, closed>")


class Raw(PairCase):
    """Channels that carry bytes."""

    def test_raw_channel_sends_bytes_alone(self) -> None:
        """Bytes and what is like them arrive as bytes; nothing else can be sent."""
        near, far = self.pair.channel(raw=True)
        for data in (b"one", bytearray(b"two"), memoryview(b"three")):
            near.send(data)
        self.pair.pump()
        self.assertEqual(b"".join(self.receive_all(far)), b"onetwothree")
        for value in ("text", 1, None, [b"x"]):
            self.failureResultOf(near.send(value), TypeError)

    def test_long_raw_bytes_arrive_in_order(self) -> None:
        """A long run arrives in order, in pieces, with back pressure."""
        near, far = self.pair.channel(raw=True)
        sending = near.send(HUGE)
        self.pair.pump()
        self.assertNoResult(sending)
        got = b""
        while len(got) < len(HUGE):
            got += self.receive_now(far)
            self.pair.pump()
        self.assertTrue(got == HUGE)
        self.successResultOf(sending)


@collects
class Between(PairCase):
    """Channels that are sent over channels."""

    def setUp(self) -> None:
        super().setUp()
        self.near, self.far = self.pair.channel()

    def new(self, far: bool = False, raw: bool = False) -> Channel:
        """A plain channel from one end, to be sent to the other."""
        connection = self.pair.far if far else self.pair.near
        return Channel(connection.open("channel", raw=raw), self.pair.end(connection))

    def pass_on(self, value: object) -> Any:
        """Send a value and receive it at the other end."""
        self.successResultOf(self.near.send(value))
        self.pair.pump()
        return self.receive_now(self.far)

    def test_sent_channel_works_both_ways(self) -> None:
        """A channel that is sent works at its other end, both ways."""
        mine = self.new()
        theirs = self.pass_on({"reply to": [mine]})["reply to"][0]
        theirs.send("from far")
        mine.send("from near")
        self.pair.pump()
        self.assertEqual(self.receive_now(mine), "from far")
        self.assertEqual(self.receive_now(theirs), "from near")

    def test_several_channels_of_the_far_end_can_be_sent(self) -> None:
        """The far end's channels can be sent as well, several in one value."""
        mine = [self.new(far=True) for _ in range(3)]
        self.far.send(tuple(mine))
        self.pair.pump()
        for number, channel in enumerate(self.receive_now(self.near)):
            channel.send(number)
            self.pair.pump()
            self.assertEqual(self.receive_now(mine[number]), number)

    def test_raw_channel_is_raw_at_its_other_end(self) -> None:
        mine = self.new(raw=True)
        theirs = self.pass_on(mine)
        mine.send(b"raw")
        self.pair.pump()
        self.assertEqual(self.receive_now(theirs), b"raw")
        self.failureResultOf(theirs.send("text"), TypeError)

    def test_channel_can_be_sent_over_itself(self) -> None:
        self.assertIs(self.pass_on(self.near), self.far)

    def test_channel_that_comes_back_is_the_same(self) -> None:
        """A channel that comes back is the very one that was sent."""
        mine = self.new()
        theirs = self.pass_on(mine)
        self.far.send([theirs, self.far])
        self.pair.pump()
        back, me = self.receive_now(self.near)
        self.assertIs(back, mine)
        self.assertIs(me, self.near)

    def test_channel_sent_twice_is_the_same_object(self) -> None:
        """Sent twice, it is the same at the other end while somebody holds it there."""
        mine = self.new()
        one, two = self.pass_on([mine, mine])
        self.assertIs(one, two)
        self.assertIs(self.pass_on(mine), one)

    def test_channels_go_over_sent_channels(self) -> None:
        """Channels go over channels that went over channels."""
        outer = self.new()
        outer_far = self.pass_on(outer)
        inner = self.new()
        outer.send(inner)
        self.pair.pump()
        inner_far = self.receive_now(outer_far)
        inner_far.send("deep")
        self.pair.pump()
        self.assertEqual(self.receive_now(inner), "deep")

    def test_values_sent_before_the_channel_arrives_wait(self) -> None:
        """What is sent on it before the value with it is received waits for that."""
        mine = self.new()
        mine.send("early")
        self.near.send(mine)
        mine.send("late")
        mine.close()
        self.pair.pump()
        theirs = self.receive_now(self.far)
        self.assertEqual(self.receive_all(theirs), ["early", "late"])
        self.failureResultOf(theirs.receive(), ChannelClosed)
        self.failureResultOf(theirs.send(1), ChannelClosed)

    def test_error_sent_before_the_channel_arrives_waits(self) -> None:
        """So does an error."""
        mine = self.new()
        self.near.send(mine)
        mine.close("never mind")
        self.pair.pump()
        theirs = self.receive_now(self.far)
        self.assertEqual(
            self.failureResultOf(theirs.receive(), RemoteError).value.message, "never mind"
        )

    def test_channel_closed_by_its_first_receiver_comes_closed(self) -> None:
        """Of two values with it the first's receiver closes it: the second has a closed one."""
        mine = self.new()
        self.near.send(mine)
        self.near.send([mine])
        self.pair.pump()
        theirs = self.receive_now(self.far)
        theirs.close()
        del theirs
        self.pair.pump()
        (again,) = self.receive_now(self.far)
        self.assertTrue(again.isclosed())
        self.failureResultOf(again.receive(), ChannelClosed)
        self.failureResultOf(again.send(1), ChannelClosed)
        again.close()
        self.pair.pump()
        self.assertIsNone(self.pair.far.lost)

    def test_own_channel_closed_meanwhile_comes_back_closed(self) -> None:
        """It comes back after it was closed here: a closed one."""
        mine = self.new()
        theirs = self.pass_on(mine)
        self.far.send(theirs)
        mine.close()
        self.pair.pump()
        back = self.receive_now(self.near)
        self.assertEqual((back.id, back.isclosed()), (mine.id, True))
        self.assertIsNone(self.pair.near.lost)

    def test_own_channel_forgotten_meanwhile_comes_back_closed(self) -> None:
        """It comes back after it was closed and forgotten here."""
        mine = self.new()
        theirs = self.pass_on(mine)
        self.far.send(theirs)
        mine.close()
        self.pair.turn()
        self.pair.to_far()
        del mine
        gc.collect()
        self.pair.pump()
        back = self.receive_now(self.near)
        self.assertTrue(back.isclosed())
        self.assertIsNone(self.pair.near.lost)

    def test_closed_or_foreign_channel_is_refused_with_its_place(self) -> None:
        """A closed channel, or one of another connection, can't be sent; where it is is said."""
        closed = self.new()
        closed.close()
        problem = self.failureResultOf(self.near.send({"c": closed}), ValueNotSendable).value
        self.assertIn('value["c"]', str(problem))
        self.assertIn("it is closed", str(problem))
        ended = self.new()
        ended.send_end()
        self.failureResultOf(self.near.send(ended), ValueNotSendable)
        other, _ = Pair().channel()
        problem = self.failureResultOf(self.near.send([other]), ValueNotSendable).value
        self.assertIn("it belongs to another connection", str(problem))

    def test_foreign_channel_is_refused_in_a_first_value(self) -> None:
        """Neither in the first value that a channel is opened with."""
        other, _ = Pair().channel()
        with self.assertRaises(ValueNotSendable):
            self.pair.near.encode({"kwargs": {"c": other}})


@collects
class Abandoned(PairCase):
    """Channels that nobody holds any more."""

    def drop_all(self) -> None:
        """Let go of the channels that only the pair holds, and let that be noticed."""
        self.pair.kept.clear()
        gc.collect()
        self.pair.pump()

    def test_channel_that_nobody_holds_is_closed(self) -> None:
        """A plain channel that nobody holds is closed."""
        near, far = self.pair.channel()
        waiting = near.receive()
        del far
        self.drop_all()
        self.failureResultOf(waiting, ChannelClosed)
        self.assertEqual((self.pair.near.mux.streams, self.pair.far.mux.streams), ({}, {}))

    def test_values_of_a_dropped_channel_still_arrive(self) -> None:
        """What was sent on it still arrives, also what waited for room."""
        near, far = self.pair.channel()
        far.send("short")
        sending = far.send(HUGE)
        del far
        self.drop_all()
        self.assertEqual(self.receive_now(near), "short")
        received = near.receive()
        self.pair.pump()
        self.assertTrue(self.successResultOf(received) == HUGE)
        self.successResultOf(sending)

    def test_dropped_channel_stays_open_while_received_from(self) -> None:
        """One that somebody waits for stays open until that has come."""
        near, far = self.pair.channel()
        received = far.receive()
        del far
        self.drop_all()
        self.assertFalse(near.isclosed())
        near.send("in time")
        self.pair.pump()
        self.assertEqual(self.successResultOf(received), "in time")
        del received
        self.drop_all()
        self.assertTrue(near.isclosed())

    def test_dropped_channel_stays_open_while_its_end_is_awaited(self) -> None:
        """So does one whose end somebody waits for."""
        near, far = self.pair.channel()
        closing = far.waitclose()
        del far
        self.drop_all()
        self.assertFalse(near.isclosed())
        near.close("the end")
        self.pair.pump()
        self.failureResultOf(closing, RemoteError)

    def test_dropped_channel_with_a_callback_stays_open(self) -> None:
        """One with a callback stays open."""
        near, far = self.pair.channel()
        values: list[Any] = []
        far.setcallback(values.append)
        del far
        self.drop_all()
        near.send(1)
        self.pair.pump()
        self.assertEqual(values, [1])

    def test_channel_in_a_dropped_value_is_closed(self) -> None:
        """One that came in a value that nobody kept is closed."""
        near, far = self.pair.channel()
        mine = Channel(self.pair.near.open("channel"), self.pair.end(self.pair.near))
        near.send(mine)
        self.pair.pump()
        self.receive_now(far)
        gc.collect()
        self.pair.pump()
        self.assertTrue(mine.isclosed())

    def test_dropped_channel_that_comes_back_in_time_stays_open(self) -> None:
        """One that was let go, but comes back before that was noticed, stays open."""
        near, far = self.pair.channel()
        mine = Channel(self.pair.near.open("channel"), self.pair.end(self.pair.near))
        near.send(mine)
        self.pair.pump()
        theirs = self.receive_now(far)
        far.send(theirs)
        self.pair.turn()
        self.pair.to_near()
        del mine
        gc.collect()  # now it waits for the next turn to be closed
        back = self.receive_now(near)
        self.pair.pump()
        self.assertFalse(back.isclosed())
        back.send("still open")
        self.pair.pump()
        self.assertEqual(self.receive_now(theirs), "still open")

    def test_code_of_a_dropped_channel_runs_on(self) -> None:
        """Code runs on when nobody holds its channel; what it sends is taken and dropped."""
        near, far = self.pair.channel("exec")
        for _ in range(4):
            far.send(bytes(200_000))
        self.pair.pump()
        del near
        self.drop_all()
        sends = [far.send(HUGE) for _ in range(3)]
        self.pair.pump()
        for send in sends:
            self.successResultOf(send)
        self.assertFalse(far.isclosed())

    def test_error_of_dropped_code_is_logged_once(self) -> None:
        """What it raises is logged, once, with its words."""
        near, far = self.pair.channel("exec")
        del near
        self.drop_all()

        def end() -> None:
            far.close(RemoteError("ValueError", "bad", "Traceback: bad"))
            self.pair.pump()

        self.assertEqual(self.logged_errors(end), ["Traceback: bad"])

    def test_error_before_the_drop_is_logged(self) -> None:
        """So is what it had raised before."""
        near, far = self.pair.channel("exec")
        far.close(RemoteError("ValueError", "bad", "Traceback: bad"))
        self.pair.pump()

        def drop(near: list[Channel]) -> None:
            near.clear()
            self.drop_all()

        held = [near]
        del near
        self.assertEqual(self.logged_errors(lambda: drop(held)), ["Traceback: bad"])

    def test_error_already_told_is_not_logged(self) -> None:
        """But not what somebody was told of."""
        near, far = self.pair.channel("exec")
        far.close("bad")
        self.pair.pump()
        self.failureResultOf(near.waitclose(), RemoteError)
        held = [near]
        del near

        def drop() -> None:
            held.clear()
            self.drop_all()

        self.assertEqual(self.logged_errors(drop), [])

    def test_lost_connection_of_dropped_code_is_not_logged(self) -> None:
        """Nor the end of the connection."""
        near, far = self.pair.channel("exec")
        del near
        self.drop_all()
        self.assertEqual(self.logged_errors(self.pair.lose), [])
        self.failureResultOf(far.send(1), ConnectionLost)

    def test_dropped_code_receives_the_end_and_its_eof_is_quiet(self) -> None:
        """It learns that nothing comes any more; if that ends it, there is nothing to log."""
        near, far = self.pair.channel("exec")
        near.send("before")
        del near
        self.drop_all()
        self.assertEqual(self.receive_now(far), "before")
        self.failureResultOf(far.receive(), ChannelClosed)
        self.assertFalse(far.isclosed())

        def end() -> None:
            far.close(RemoteError("EOFError", "", "Traceback: EOFError"))
            self.pair.pump()

        self.assertEqual(self.logged_errors(end), [])

    def test_dropping_channels_of_a_lost_connection_does_nothing(self) -> None:
        """Letting go of channels of a connection that is over does nothing."""
        held = [*self.pair.channel(), *self.pair.channel("exec")]
        self.pair.lose()
        held.clear()

        self.assertEqual(self.logged_errors(self.drop_all), [])
        self.assertEqual(self.pair.clock.getDelayedCalls(), [])


class Misuse(ChannelCase):
    """What can't be done at the same time."""

    def test_receive_with_a_callback_set_is_refused(self) -> None:
        """A channel with a callback can't be received from."""
        self.near.setcallback(lambda value: None)
        with self.assertRaisesRegex(PycomnetError, "channel 1 has a callback"):
            self.failureResultOf(self.near.receive()).raiseException()

    def test_callback_while_a_receive_waits_is_refused(self) -> None:
        """A callback can't be set while a receive waits; after that it can."""
        waiting = self.near.receive()
        with self.assertRaises(PycomnetError):
            self.near.setcallback(lambda value: None)
        waiting.cancel()
        self.failureResultOf(waiting, defer.CancelledError)
        self.near.setcallback(lambda value: None)
        with self.assertRaises(PycomnetError):
            self.near.setcallback(lambda value: None)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=3000),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


class Everything(SynchronousTestCase):
    """What holds for any values, windows and cuts of the stream."""

    @settings(max_examples=examples(60), deadline=None)
    @given(
        st.lists(values, max_size=12), st.integers(1, 5000), st.integers(1024, 9000), st.booleans()
    )
    def test_any_values_arrive_in_order_with_any_windows(
        self, sent: list[Any], size: int, window: int, callback: bool
    ) -> None:
        """All values arrive, equal and in order, and every send fires."""
        pair = Pair(far_limits=Limits(window=window, frame=max(1024, window // 2)))
        near, far = pair.channel()
        received: list[Any] = []

        async def take() -> None:
            async for value in far:
                received.append(value)

        if callback:
            far.setcallback(received.append)
        else:
            defer.ensureDeferred(take())
        sends = [near.send(value) for value in sent]
        near.close()
        pair.pump(size)
        self.assertEqual(received, sent)
        for send in sends:
            self.successResultOf(send)
        self.assertEqual((pair.near.mux.streams, pair.far.mux.streams), ({}, {}))
        self.assertEqual(frames(pair.near_transport.value()), [])
