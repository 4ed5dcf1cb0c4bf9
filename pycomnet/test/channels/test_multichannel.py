"""Several channels as one."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.channels.channel import Channel
from pycomnet.channels.multichannel import MultiChannel
from pycomnet.errors import ChannelClosed, ConnectionLost, PycomnetError, RemoteError
from pycomnet.test.kit import HUGE, Pair
from pycomnet.wire.values import ValueNotSendable

END = "the endmarker"


class MultiCase(SynchronousTestCase):
    """A test on three channels of three connections."""

    def setUp(self) -> None:
        self.pairs = [Pair() for _ in range(3)]
        ends = [pair.channel() for pair in self.pairs]
        self.near = [near for near, _ in ends]
        self.far = [far for _, far in ends]
        self.multi = MultiChannel(self.near)

    def pump(self) -> None:
        """Deliver everything."""
        for pair in self.pairs:
            pair.pump()

    def send(self, far: Channel, *values: object) -> None:
        """Send values to one of the channels."""
        for value in values:
            far.send(value)
        self.pump()


class Sequence(MultiCase):
    """It is a sequence of its channels."""

    def test_length_order_and_members_are_its_channels(self) -> None:
        self.assertEqual(len(self.multi), 3)
        self.assertEqual(list(self.multi), self.near)
        self.assertIs(self.multi[1], self.near[1])
        self.assertIn(self.near[2], self.multi)
        self.assertNotIn(self.far[2], self.multi)

    def test_without_channels_everything_is_done_at_once(self) -> None:
        multi = MultiChannel([])
        self.assertIsNone(self.successResultOf(multi.send_each(1)))
        self.assertEqual(self.successResultOf(multi.receive_each()), [])
        self.assertIsNone(self.successResultOf(multi.waitclose()))


class SendEach(MultiCase):
    """``send_each``."""

    def test_send_each_reaches_each_channel(self) -> None:
        """Each gets the value."""
        self.assertIsNone(self.successResultOf(self.multi.send_each("hello")))
        self.pump()
        self.assertEqual([self.successResultOf(far.receive()) for far in self.far], ["hello"] * 3)

    def test_send_each_fires_with_the_slowest(self) -> None:
        """It fires when there is room on the slowest."""
        sending = self.multi.send_each(HUGE)
        for far in self.far:
            self.assertNoResult(sending)
            receiving = far.receive()
            self.pump()
            self.assertTrue(self.successResultOf(receiving) == HUGE)
        self.assertIsNone(self.successResultOf(sending))

    def test_send_each_fails_as_the_first_and_sends_the_others(self) -> None:
        """It fails as the first that fails, with that error itself; the others are sent."""
        self.far[1].close("closed")
        self.pump()
        problem = self.failureResultOf(self.multi.send_each("value"), RemoteError).value
        self.assertEqual(problem.message, "closed")
        self.pump()
        self.assertEqual(self.successResultOf(self.far[2].receive()), "value")

    def test_send_each_refuses_unsendable_values(self) -> None:
        """A value that can't be sent is refused."""
        self.failureResultOf(self.multi.send_each(object()), ValueNotSendable)

    def test_cancelled_send_each_takes_back_what_waits(self) -> None:
        """Cancelling takes back what was not sent."""
        for pair in self.pairs[1:]:
            pair.near.pauseProducing()
        sending = self.multi.send_each("value")
        sending.cancel()
        self.failureResultOf(sending, defer.CancelledError)
        for pair in self.pairs[1:]:
            pair.near.resumeProducing()
        self.pump()
        self.assertEqual(self.successResultOf(self.far[0].receive()), "value")
        for far in self.far[1:]:
            waiting = far.receive()
            self.assertNoResult(waiting)


class ReceiveEach(MultiCase):
    """``receive_each``."""

    def test_receive_each_gives_values_in_channel_order(self) -> None:
        """One value from each, in the channels' order, when the last has come."""
        receiving = self.multi.receive_each()
        for number in (2, 0, 1):
            self.assertNoResult(receiving)
            self.send(self.far[number], number, "later")
        self.assertEqual(self.successResultOf(receiving), [0, 1, 2])
        self.assertEqual(self.successResultOf(self.multi.receive_each()), ["later"] * 3)

    def test_receive_each_gives_channels_when_asked(self) -> None:
        """They can be given with their channels."""
        for far in self.far:
            self.send(far, far.id)
        pairs = self.successResultOf(self.multi.receive_each(withchannel=True))
        self.assertEqual(pairs, [(channel, channel.id) for channel in self.near])

    def test_receive_each_fails_as_the_first_and_loses_nothing(self) -> None:
        """It fails as the first that fails; values that come later on the others are not lost."""
        receiving = self.multi.receive_each()
        self.far[1].close("broken")
        self.pump()
        self.assertEqual(self.failureResultOf(receiving, RemoteError).value.message, "broken")
        self.send(self.far[0], "later")
        self.assertEqual(self.successResultOf(self.near[0].receive()), "later")

    def test_cancelled_receive_each_loses_nothing(self) -> None:
        """Cancelling leaves what has not come for later."""
        receiving = self.multi.receive_each()
        receiving.cancel()
        self.failureResultOf(receiving, defer.CancelledError)
        for far in self.far:
            self.send(far, 1)
        self.assertEqual(self.successResultOf(self.multi.receive_each()), [1, 1, 1])


class WaitClose(MultiCase):
    """``waitclose``."""

    def test_waitclose_fires_when_all_are_closed(self) -> None:
        """It fires when all are closed."""
        closing = self.multi.waitclose()
        for far in self.far:
            self.assertNoResult(closing)
            far.close()
            self.pump()
        self.assertIsNone(self.successResultOf(closing))

    def test_waitclose_fails_as_the_first_in_channel_order(self) -> None:
        """It fails with the first channel's failure in their order, when all are closed."""
        closing = self.multi.waitclose()
        self.far[2].close("third")
        self.far[1].close("second")
        self.pump()
        self.assertNoResult(closing)
        self.far[0].close()
        self.pump()
        self.assertEqual(self.failureResultOf(closing, RemoteError).value.message, "second")

    def test_waitclose_fails_for_a_lost_connection(self) -> None:
        """A connection that ends is a failure."""
        closing = self.multi.waitclose()
        self.pairs[0].lose()
        for far in self.far[1:]:
            far.close()
        self.pump()
        self.failureResultOf(closing, ConnectionLost)

    def test_cancelled_waitclose_changes_nothing(self) -> None:
        """Cancelling changes nothing for the channels."""
        closing = self.multi.waitclose()
        closing.cancel()
        self.failureResultOf(closing, defer.CancelledError)
        self.assertFalse(self.near[0].isclosed())


class Queue(MultiCase):
    """``make_receive_queue``."""

    def get(self, queue: Any) -> tuple[Channel, Any]:
        """The next item, which must be there."""
        item: tuple[Channel, Any] = self.successResultOf(queue.get())
        return item

    def test_queue_gives_values_with_channels_as_they_came(self) -> None:
        """Values come with their channels, in the order they came in."""
        queue = self.multi.make_receive_queue()
        waiting = queue.get()
        for number in (1, 0, 2, 1):
            self.send(self.far[number], number)
        got = [self.successResultOf(waiting), *(self.get(queue) for _ in range(3))]
        self.assertEqual(got, [(self.near[number], number) for number in (1, 0, 2, 1)])

    def test_queue_gives_an_endmarker_for_each_end(self) -> None:
        """The endmarker comes when a channel ends, well or not; which, its waitclose says."""
        queue = self.multi.make_receive_queue(endmarker=END)
        self.send(self.far[0], "last")
        self.far[0].close()
        self.pump()
        self.far[1].close("failed")
        self.pump()
        self.pairs[2].lose()
        got = [self.get(queue) for _ in range(4)]
        near = self.near
        self.assertEqual(got, [(near[0], "last"), (near[1], END), (near[2], END), (near[0], END)])
        self.successResultOf(near[0].waitclose())
        self.failureResultOf(near[1].waitclose(), RemoteError)
        self.failureResultOf(near[2].waitclose(), ConnectionLost)

    def test_queue_without_endmarker_logs_errors_alone(self) -> None:
        """Without one, a good end puts nothing in, and an error is logged."""
        queue = self.multi.make_receive_queue()
        self.far[0].close()
        self.far[1].close("failed")
        self.pump()
        self.assertNoResult(queue.get())
        self.assertEqual(len(self.flushLoggedErrors(RemoteError)), 1)

    def test_sender_waits_for_an_unread_queue(self) -> None:
        """Whoever sends faster than the queue is read waits."""
        queue = self.multi.make_receive_queue()
        sends = [self.far[0].send(bytes(60_000)) for _ in range(60)]
        self.pump()
        self.assertLess(sum(send.called for send in sends), 20)
        self.send(self.far[1], "meanwhile")
        self.assertEqual(self.get(queue)[0], self.near[0])
        self.assertEqual(self.get(queue), (self.near[1], "meanwhile"))
        for _ in range(59):
            self.pump()
            self.assertEqual(self.get(queue)[0], self.near[0])
        for send in sends:
            self.successResultOf(send)

    def test_cancelled_get_leaves_the_value_to_the_next(self) -> None:
        queue = self.multi.make_receive_queue()
        first, second = queue.get(), queue.get()
        first.cancel()
        self.failureResultOf(first, defer.CancelledError)
        self.send(self.far[0], "value")
        self.assertEqual(self.successResultOf(second), (self.near[0], "value"))

    def test_queue_while_a_receive_waits_is_refused(self) -> None:
        """No queue can be made while a receive waits on one of them."""
        waiting = self.near[2].receive()
        with self.assertRaises(PycomnetError):
            self.multi.make_receive_queue()
        self.far[2].close()
        self.pump()
        self.failureResultOf(waiting, ChannelClosed)
