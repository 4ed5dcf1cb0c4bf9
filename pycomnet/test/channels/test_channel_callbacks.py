"""``setcallback``: one value at a time, whatever the callback returns or raises, and the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel
from pycomnet.errors import (
    ChannelClosed,
    ConnectionLost,
    ProtocolViolation,
    PycomnetError,
    RemoteError,
)
from pycomnet.test.kit import HUGE, PairCase, frame
from pycomnet.wire.frames import DATA

END = "the endmarker"


class CallbackCase(PairCase):
    """A test on a channel whose near end gets a callback."""

    def setUp(self) -> None:
        super().setUp()
        self.near, self.far = self.pair.channel()
        self.values: list[Any] = []
        self.failures: list[Any] = []  # Failures

    def send(self, *values: object) -> None:
        """Send values from the far end, and deliver them in one piece."""
        for value in values:
            self.far.send(value)
        self.pair.pump()

    def set(self, callback: Callable[[Any], Any] | None = None, **options: Any) -> None:
        """Set a callback, and an errback that collects what it gets."""
        options.setdefault("errback", self.failures.append)
        self.near.setcallback(callback or self.values.append, **options)


class Values(CallbackCase):
    """What the callback is called with, and when."""

    def test_callback_gets_each_value_in_order(self) -> None:
        self.set()
        self.send(1, "two", [3])
        self.send({"four": 4})
        self.assertEqual(self.values, [1, "two", [3], {"four": 4}])

    def test_callback_gets_values_over_the_window(self) -> None:
        """Values longer than the window are no exception, bytes or not."""
        self.set()
        self.send(HUGE, HUGE.hex())
        self.assertTrue(self.values == [HUGE, HUGE.hex()])

    def test_callback_gets_earlier_values_first(self) -> None:
        """It gets those that had come before it was set first."""
        self.send(1, 2)
        self.set()
        self.assertEqual(self.values, [1, 2])
        self.send(3)
        self.assertEqual(self.values, [1, 2, 3])

    def test_callback_gets_the_values_not_yet_received(self) -> None:
        """Some values can be received before."""
        self.send(1, 2, 3)
        self.assertEqual(self.receive_now(self.near), 1)
        self.set()
        self.assertEqual(self.values, [2, 3])

    def test_values_the_callback_took_make_room(self) -> None:
        """What it took gives the sender room again: also what had come before it was set."""
        sends = [self.far.send(bytes(60_000)) for _ in range(60)]
        self.pair.pump()
        self.assertNoResult(sends[-1])
        self.set()
        self.pair.pump()
        self.assertEqual(len(self.values), 60)
        for send in sends:
            self.successResultOf(send)

    def test_callback_on_a_raw_channel_gets_bytes(self) -> None:
        """On a raw channel it gets the bytes as they come."""
        near, far = self.pair.channel(raw=True)
        near.setcallback(self.values.append)
        far.send(HUGE)
        self.pair.pump()
        self.assertTrue(b"".join(self.values) == HUGE)

    def test_callback_gets_channels_in_values(self) -> None:
        self.set()
        mine = Channel(self.pair.far.open("channel"), self.pair.end(self.pair.far))
        self.send([mine])
        self.values[0][0].send("through it")
        self.pair.pump()
        self.assertEqual(self.receive_now(mine), "through it")

    def test_second_callback_is_refused(self) -> None:
        """There is one callback; a second is refused, also after the end."""
        self.set()
        with self.assertRaises(PycomnetError):
            self.set()
        self.far.close()
        self.pair.pump()
        with self.assertRaises(PycomnetError):
            self.set()


class Runs(CallbackCase):
    """Short values that come together."""

    def test_close_in_a_run_stops_the_callback(self) -> None:
        """Once the callback has closed the channel it gets no more."""

        def callback(value: int) -> None:
            self.values.append(value)
            if value == 3:
                self.near.close()

        self.set(callback, endmarker=END)
        self.send(*range(10))
        self.assertEqual(self.values, [0, 1, 2, 3, END])
        self.assertEqual(self.failures, [])

    def test_raise_in_a_run_stops_the_callback(self) -> None:
        """Once the callback has raised it gets no more, and its errback says what it raised."""

        def callback(value: int) -> None:
            self.values.append(value)
            if value == 3:
                raise ValueError("four is too much")

        self.set(callback)
        self.send(*range(10))
        self.assertEqual(self.values, [0, 1, 2, 3])
        self.assertEqual([failure.type for failure in self.failures], [ValueError])

    def test_wait_in_a_run_holds_up_the_rest(self) -> None:
        """While it waits, the rest waits, with its cost; then it comes in order."""
        pending: defer.Deferred[None] = defer.Deferred()

        def callback(value: int) -> defer.Deferred[None] | None:
            self.values.append(value)
            return pending if value == 3 else None

        self.set(callback)
        self.send(*range(10))
        self.assertEqual(self.values, [0, 1, 2, 3])
        stream = self.near.core.stream
        self.assertEqual(stream.unacked, 4 * 65)
        self.send(10, 11)
        self.assertEqual(self.values, [0, 1, 2, 3])
        pending.callback(None)
        self.assertEqual(self.values, [*range(12)])
        self.assertEqual(stream.unacked, 12 * 65)
        self.send(12, 13)
        self.assertEqual(self.values, [*range(14)])

    def test_values_of_a_run_before_an_invalid_one_are_given(self) -> None:
        """Of those that came with one that is not a value, the ones before it are given."""
        self.set()
        stream = self.near.core.stream
        payloads = [b"\x01", b"\x02", b"\xc1", b"\x03"]
        self.pair.near.dataReceived(b"".join(frame(DATA, stream.id, each) for each in payloads))
        self.pair.pump()
        self.assertEqual(self.values, [1, 2])
        self.assertEqual([failure.type for failure in self.failures], [ProtocolViolation])

    def test_run_that_cannot_be_decoded_together_is_given(self) -> None:
        """Values that can't be decoded together come all the same."""
        self.set()
        self.send(1, {2: 3}, (4,), {"five": {6}})
        self.assertEqual(self.values, [1, {2: 3}, (4,), {"five": {6}}])

    def test_run_fills_waiting_receives_then_later_ones(self) -> None:
        """Each waiting receive gets one, the rest is there for later ones."""
        waiting = [self.near.receive(), self.near.receive()]
        self.send(*range(5))
        self.assertEqual([self.successResultOf(each) for each in waiting], [0, 1])
        self.assertEqual([self.receive_now(self.near) for _ in range(3)], [2, 3, 4])


class Waiting(CallbackCase):
    """Callbacks that return something to wait for."""

    def setUp(self) -> None:
        super().setUp()
        self.pending: list[defer.Deferred[None]] = []

    def slowly(self, value: Any) -> defer.Deferred[None]:
        """A callback that has not done until :meth:`done` is called."""
        self.values.append(value)
        deferred: defer.Deferred[None] = defer.Deferred()
        self.pending.append(deferred)
        return deferred

    def done(self) -> None:
        """Let the callback at work be done."""
        self.pending.pop(0).callback(None)

    def test_next_value_waits_for_the_callbacks_deferred(self) -> None:
        """The next value waits for the Deferred."""
        self.set(self.slowly)
        self.send(1, 2, 3)
        for upto in ([1], [1, 2], [1, 2, 3]):
            self.assertEqual(self.values, upto)
            self.done()
        self.send(4)
        self.assertEqual(self.values, [1, 2, 3, 4])

    def test_next_value_waits_for_the_callbacks_coroutine(self) -> None:
        """The same for a coroutine function."""

        async def callback(value: Any) -> None:
            await self.slowly(value)
            self.values.append(-value)

        self.set(callback)
        self.send(1, 2)
        self.done()
        self.assertEqual(self.values, [1, -1, 2])
        self.done()
        self.assertEqual(self.values, [1, -1, 2, -2])

    def test_fired_results_are_not_waited_for(self) -> None:
        """What has fired already is not waited for."""

        async def callback(value: Any) -> None:
            self.values.append(value)

        self.set(callback)
        self.send(1, 2, 3)
        self.assertEqual(self.values, [1, 2, 3])

    def test_many_fired_results_do_not_recurse(self) -> None:
        """However many there are: nothing recurses."""
        count = 5000
        self.far.send("first")
        for value in range(count):
            self.far.send(value)
        self.pair.pump()

        def callback(value: Any) -> defer.Deferred[None]:
            return self.slowly(value) if value == "first" else defer.succeed(None)

        self.set(callback)
        self.done()
        self.assertEqual(len(self.pending), 0)
        self.pair.pump()
        self.near.send("still fine")
        self.pair.pump()
        self.assertEqual(self.receive_now(self.far), "still fine")

    def test_other_results_are_not_waited_for(self) -> None:
        """Anything else that it returns is nothing to wait for."""

        def callback(value: Any) -> list[Any]:
            self.values.append(value)
            return [value]

        self.set(callback)
        self.send(1, 2)
        self.assertEqual(self.values, [1, 2])

    def test_deferred_chained_to_a_waiting_one_is_awaited(self) -> None:
        """A Deferred that has fired, but with another that has not, is waited for."""
        inner: defer.Deferred[None] = defer.Deferred()

        def callback(value: Any) -> defer.Deferred[Any]:
            self.values.append(value)
            return defer.succeed(None).addCallback(lambda _: inner)

        self.set(callback)
        self.send(1, 2)
        self.assertEqual(self.values, [1])
        inner.callback(None)
        self.assertEqual(self.values, [1, 2])

    def test_sender_waits_for_a_slow_callback(self) -> None:
        """The sender waits when the window is full, and goes on with each that is done."""
        self.set(self.slowly)
        sends = [self.far.send(bytes(60_000)) for _ in range(40)]
        self.pair.pump()
        self.assertEqual(len(self.values), 1)
        fired = sum(send.called for send in sends)
        self.assertLess(fired, 20)
        for _ in range(40):
            self.done()
            self.pair.pump()
        for send in sends:
            self.successResultOf(send)

    def test_long_value_waits_for_a_busy_callback(self) -> None:
        """A long value is not taken in while the callback is at work on the one before."""
        self.set(self.slowly)
        self.send("short")
        sending = self.far.send(HUGE * 2)
        self.pair.pump()
        self.assertNoResult(sending)
        self.done()
        self.pair.pump()
        self.successResultOf(sending)
        self.assertTrue(self.values[1] == HUGE * 2)

    def test_slow_callback_holds_up_no_other_channel(self) -> None:
        """A slow callback on one channel is none of the others' business."""
        self.set(self.slowly)
        self.send(*[bytes(60_000)] * 40)
        near, far = self.pair.channel()
        got: list[Any] = []
        near.setcallback(got.append)
        for value in range(10):
            far.send(value)
        self.pair.pump()
        self.assertEqual(got, list(range(10)))
        self.assertEqual(len(self.values), 1)

    def test_endmarker_waits_for_the_last_callback(self) -> None:
        """The end is told when the last value's callback is done."""
        self.set(self.slowly, endmarker=END)
        self.send(1, 2)
        self.far.close()
        self.pair.pump()
        self.assertEqual(self.values, [1])
        self.done()
        self.assertEqual(self.values, [1, 2])
        self.done()
        self.assertEqual(self.values, [1, 2, END])

    def test_error_waits_for_the_last_callback(self) -> None:
        """So is an error."""
        self.set(self.slowly)
        self.send(1)
        self.far.close("stop")
        self.pair.pump()
        self.assertEqual(self.failures, [])
        self.done()
        self.assertEqual([f.type for f in self.failures], [RemoteError])

    def test_lost_connection_is_told_after_the_last_callback(self) -> None:
        """So is the connection's end; what had come is called back with before."""
        self.set(self.slowly)
        self.send(1, 2)
        self.pair.lose()
        self.done()
        self.assertEqual(self.failures, [])
        self.done()
        self.assertEqual(self.values, [1, 2])
        self.assertEqual([f.type for f in self.failures], [ConnectionLost])

    def test_close_gives_a_busy_callback_only_the_endmarker(self) -> None:
        """Closed here while it is at work, it gets no more values, but the endmarker when done."""
        self.set(self.slowly, endmarker=END)
        self.send(1, 2, 3)
        self.near.close()
        self.assertEqual(self.values, [1])
        self.done()
        self.assertEqual(self.values, [1, END])
        self.assertEqual(self.failures, [])


class Raising(CallbackCase):
    """Callbacks that raise."""

    def broken(self, value: Any) -> None:
        """A callback that fails at the second value."""
        self.values.append(value)
        if len(self.values) == 2:
            raise KeyError("broken")

    def check_broken(self) -> None:
        """The channel is over, both ends and the errback know why; no more values were given."""
        self.assertEqual(self.values, [1, 2])
        self.assertEqual([repr(f.value) for f in self.failures], ["KeyError('broken')"])
        self.assertTrue(self.near.isclosed())
        problem = self.failureResultOf(self.far.receive(), RemoteError).value
        self.assertEqual((problem.type, problem.message), ("KeyError", "'broken'"))
        self.failureResultOf(self.far.send(4), RemoteError)
        self.pair.lose()
        self.assertEqual(len(self.failures), 1)
        self.assertEqual(self.values, [1, 2])

    def test_raised_error_goes_to_errback_and_other_end(self) -> None:
        """The errback gets it, once; the other end too; the endmarker is not given."""
        self.set(self.broken, endmarker=END)
        self.send(1, 2, 3)
        self.check_broken()

    def test_error_raised_for_earlier_values_goes_to_errback(self) -> None:
        """The same when the values had come before."""
        self.send(1, 2, 3)
        self.set(self.broken)
        self.pair.pump()
        self.check_broken()

    def test_failed_deferred_goes_to_errback(self) -> None:
        """The same when its Deferred fails."""

        def callback(value: Any) -> defer.Deferred[None]:
            return defer.maybeDeferred(self.broken, value)

        self.set(callback)
        self.send(1, 2, 3)
        self.check_broken()

    def test_coroutine_failing_later_goes_to_errback(self) -> None:
        """The same when its coroutine does, later, with more values there."""
        waiting: defer.Deferred[None] = defer.Deferred()

        async def callback(value: Any) -> None:
            await waiting
            self.broken(value)

        self.set(callback)
        self.send(1, 2, 3)
        waiting.callback(None)
        self.pair.pump()
        self.check_broken()

    def test_raised_error_without_errback_is_logged(self) -> None:
        """Without an errback it is logged."""
        self.set(self.broken, errback=None)
        self.send(1, 2, 3)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.failures.append(Failure(KeyError("broken")))
        self.check_broken()

    def test_system_exit_costs_only_the_channel(self) -> None:
        """Even SystemExit costs only the channel; the other end is told no more than that."""

        def callback(value: Any) -> None:
            raise SystemExit(3)

        self.set(callback)
        self.send(1)
        self.assertEqual([f.type for f in self.failures], [SystemExit])
        self.failureResultOf(self.far.receive(), ChannelClosed)

    def test_raising_callback_leaves_other_channels_working(self) -> None:
        """The other channels and the connection go on, in the same piece of data."""
        near, far = self.pair.channel()
        got: list[Any] = []
        near.setcallback(got.append)
        self.set(self.broken)
        for value in range(5):
            self.far.send(value)
            far.send(value)
        self.pair.pump()
        self.assertEqual(got, [0, 1, 2, 3, 4])
        self.assertEqual(len(self.failures), 1)
        self.assertIsNone(self.pair.near.lost)

    def test_raising_errback_is_logged_and_harms_nobody(self) -> None:
        """An errback that raises is logged, and harms nobody."""

        def errback(failure: Failure) -> None:
            raise ValueError("errback")

        near, far = self.pair.channel()
        near.setcallback(self.values.append, self.failures.append)
        self.set(self.broken, errback=errback)
        self.send(1, 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        far.send("fine")
        self.pair.pump()
        self.assertEqual(self.values, [1, 2, "fine"])

    def test_failing_errback_coroutine_is_logged(self) -> None:
        """So is one whose Deferred or coroutine fails."""

        async def errback(failure: Failure) -> None:
            raise ValueError("errback")

        self.set(self.broken, errback=errback)
        self.send(1, 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_errback_may_close_and_open_channels(self) -> None:
        """An errback may close its channel and others, and open new ones."""
        other, other_far = self.pair.channel()
        opened: list[Channel] = []

        def errback(failure: Failure) -> None:
            self.near.close()
            other.close("because of the other")
            opened.append(self.pair.open())

        self.set(self.broken, errback=errback)
        self.send(1, 2)
        self.failureResultOf(other_far.receive(), RemoteError)
        self.assertFalse(opened[0].isclosed())


class End(CallbackCase):
    """What the callback and the errback are told at the end."""

    def test_good_end_gives_the_endmarker_and_no_error(self) -> None:
        """A good end is no error: the endmarker says it."""
        self.set(endmarker=END)
        self.send(1)
        self.far.close()
        self.pair.pump()
        self.assertEqual((self.values, self.failures), ([1, END], []))

    def test_good_end_without_endmarker_gives_nothing(self) -> None:
        """Without one, nothing does."""
        self.set()
        self.send(1)
        self.far.close()
        self.pair.pump()
        self.assertEqual((self.values, self.failures), ([1], []))

    def test_none_can_be_the_endmarker(self) -> None:
        """Anything can be the endmarker, None as well."""
        self.set(endmarker=None)
        self.far.close()
        self.pair.pump()
        self.assertEqual(self.values, [None])

    def test_half_close_gives_the_endmarker_once(self) -> None:
        """When the other end sends no more, that is the end of the values."""
        self.set(endmarker=END)
        self.send(1)
        self.far.send_end()
        self.pair.pump()
        self.assertEqual(self.values, [1, END])
        self.near.send("answer")
        self.near.close()
        self.pair.pump()
        self.assertEqual(self.receive_now(self.far), "answer")
        self.assertEqual(self.values, [1, END])

    def test_error_after_half_close_goes_to_errback_once(self) -> None:
        """An error that comes after that is still told to the errback, once."""
        self.set(endmarker=END)
        self.far.send_end()
        self.pair.pump()
        self.far.close("went wrong later")
        self.pair.pump()
        self.pair.lose()
        self.assertEqual([f.value.message for f in self.failures], ["went wrong later"])
        self.assertEqual(self.values, [END])

    def test_error_after_half_close_without_errback_is_logged(self) -> None:
        self.set(errback=None)
        self.far.send_end()
        self.pair.pump()
        self.far.close("went wrong later")
        self.pair.pump()
        self.assertEqual(len(self.flushLoggedErrors(RemoteError)), 1)

    def test_connection_lost_after_half_close_is_no_error(self) -> None:
        """The connection's end after a good end of the values is no error of theirs."""
        self.set(endmarker=END)
        self.far.send_end()
        self.pair.pump()
        self.pair.lose()
        self.assertEqual((self.values, self.failures), ([END], []))

    def test_result_is_a_value_before_the_endmarker(self) -> None:
        """A result is a value before the end."""
        self.set(endmarker=END)
        self.pair.far.mux.close(self.far.core.stream, 2, self.pair.far.encode("result"))
        self.pair.far.flush_soon()
        self.pair.pump()
        self.assertEqual(self.values, ["result", END])

    def test_errback_gets_the_error_before_the_endmarker(self) -> None:
        """The errback gets the other end's error, then the callback the endmarker."""
        told: list[str] = []
        self.near.setcallback(told.append, lambda f: told.append(f.getErrorMessage()), END)
        self.send("value")
        self.far.close("gone wrong")
        self.pair.pump()
        self.assertEqual(told, ["value", "gone wrong", END])

    def test_errback_gets_connection_lost(self) -> None:
        """The connection's end is another class of error."""
        self.set(endmarker=END)
        self.pair.lose()
        self.assertEqual([f.type for f in self.failures], [ConnectionLost])
        self.assertEqual(self.values, [END])

    def test_error_without_errback_is_logged(self) -> None:
        self.set(errback=None)
        self.far.close("gone wrong")
        self.pair.pump()
        self.assertEqual(len(self.flushLoggedErrors(RemoteError)), 1)

    def test_callback_set_after_the_end_gets_values_and_endmarker(self) -> None:
        """Set after the end, it gets what had come, and then the end."""
        self.send(1, 2)
        self.far.close()
        self.pair.pump()
        self.set(endmarker=END)
        self.assertEqual(self.values, [1, 2, END])

    def test_callback_set_after_an_error_gets_values_and_error(self) -> None:
        """The same with an error."""
        self.send(1)
        self.far.close("gone wrong")
        self.pair.pump()
        self.set(endmarker=END)
        self.assertEqual(self.values, [1, END])
        self.assertEqual([f.type for f in self.failures], [RemoteError])

    def test_callback_set_after_the_loss_gets_values_and_error(self) -> None:
        """The same after the connection's end."""
        self.send(1)
        self.pair.lose()
        self.set(endmarker=END)
        self.assertEqual(self.values, [1, END])
        self.assertEqual([f.type for f in self.failures], [ConnectionLost])

    def test_callback_set_after_own_close_gets_values_and_endmarker(self) -> None:
        """Set on a channel that was closed here, it gets what had come, and the endmarker."""
        self.send(1)
        self.near.close()
        self.set(endmarker=END)
        self.assertEqual((self.values, self.failures), ([1, END], []))

    def test_callback_that_closes_gets_only_the_endmarker(self) -> None:
        """A callback that closes the channel gets no more, and the endmarker when it is done."""

        def callback(value: Any) -> None:
            self.values.append(value)
            if value == 2:
                self.near.close()
                self.values.append("closed")

        self.set(callback, endmarker=END)
        self.send(1, 2, 3, 4)
        self.assertEqual(self.values, [1, 2, "closed", END])

    def test_callback_that_closes_gets_no_more_earlier_values(self) -> None:
        """The same for values that had come before."""

        def callback(value: Any) -> None:
            self.values.append(value)
            if value == 2:
                self.near.close()

        self.send(1, 2, 3, 4)
        self.set(callback, endmarker=END)
        self.assertEqual(self.values, [1, 2, END])

    def test_coroutine_that_closes_gets_the_endmarker_when_done(self) -> None:
        """One that closes the channel and goes on gets the endmarker after that."""
        waiting: defer.Deferred[None] = defer.Deferred()

        async def callback(value: Any) -> None:
            self.values.append(value)
            if value != END:
                self.near.close()
                await waiting
                self.values.append("done")

        self.set(callback, endmarker=END)
        self.send(1, 2)
        self.assertEqual(self.values, [1])
        waiting.callback(None)
        self.assertEqual(self.values, [1, "done", END])

    def test_callback_that_closes_and_raises_has_errback_told(self) -> None:
        """One that closes the channel and raises has its errback told."""

        async def callback(value: Any) -> None:
            self.near.close()
            raise KeyError("after all")

        self.set(callback, endmarker=END)
        self.send(1, 2)
        self.assertEqual([f.type for f in self.failures], [KeyError])
        self.assertEqual(self.values, [])

    def test_callback_may_drop_the_connection(self) -> None:

        def callback(value: Any) -> None:
            self.values.append(value)
            self.pair.near.abort(ConnectionLost("enough"))
            self.pair.lose()

        self.set(callback, endmarker=END)
        self.send(1, 2)
        self.assertEqual(self.values[0], 1)
        self.assertEqual([f.type for f in self.failures], [ConnectionLost])

    def test_callback_may_send_on_any_channel(self) -> None:
        """A callback may send, on its own channel and on others."""
        other, other_far = self.pair.channel()

        def callback(value: Any) -> None:
            self.near.send(value + 1)
            other.send(-value)

        self.set(callback)
        self.send(1, 2)
        self.assertEqual(self.receive_all(self.far), [2, 3])
        self.assertEqual(self.receive_all(other_far), [-1, -2])

    def test_coroutine_callback_runs_for_the_endmarker(self) -> None:
        """A coroutine function runs for the endmarker as well."""
        waiting: defer.Deferred[None] = defer.Deferred()

        async def callback(value: Any) -> None:
            await waiting
            self.values.append(value)

        self.set(callback, endmarker=END)
        self.far.close()
        self.pair.pump()
        waiting.callback(None)
        self.assertEqual(self.values, [END])

    def test_error_raised_at_the_endmarker_goes_to_errback(self) -> None:
        """What it raises at the endmarker goes to the errback."""

        def callback(value: Any) -> None:
            raise KeyError(value)

        self.set(callback, endmarker=END)
        self.far.close()
        self.pair.pump()
        self.assertEqual([f.type for f in self.failures], [KeyError])

    def test_coroutine_error_at_the_endmarker_goes_to_errback(self) -> None:
        """Also when it does so later."""

        async def callback(value: Any) -> None:
            raise KeyError(value)

        self.set(callback, endmarker=END)
        self.far.close()
        self.pair.pump()
        self.assertEqual([f.type for f in self.failures], [KeyError])

    def test_errback_told_of_the_error_is_not_told_again(self) -> None:
        """An errback that has been told of the error is not told again: that is logged."""

        def callback(value: Any) -> None:
            raise KeyError(value)

        self.set(callback, endmarker=END)
        self.far.close("gone wrong")
        self.pair.pump()
        self.assertEqual([f.type for f in self.failures], [RemoteError])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_codes_channel_gives_value_error_and_endmarker(self) -> None:
        """All that is no different for code's channel, whose end is the code's."""
        near, far = self.pair.channel("exec")
        near.setcallback(self.values.append, self.failures.append, END)
        far.send(1)
        far.close(RemoteError("ZeroDivisionError", "division by zero", "Traceback", "remote"))
        self.pair.pump()
        self.assertEqual(self.values, [1, END])
        self.assertEqual(self.failures[0].value.type, "ZeroDivisionError")
