"""In what order the end of a channel is told: values, errback, endmarker, who waits for the end."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.channels.multichannel import MultiChannel
from pycomnet.errors import ConnectionLost, RemoteError
from pycomnet.test.kit import PairCase

END = "the endmarker"


class EndingCase(PairCase):
    """A channel whose callback and errback are at work until the test says that they have done."""

    purpose = "test"

    def setUp(self) -> None:
        super().setUp()
        self.near, self.far = self.pair.channel(self.purpose)
        self.told: list[Any] = []
        self.working: list[defer.Deferred[None]] = []

    def work(self, what: Any) -> defer.Deferred[None]:
        """A callback that is slow."""
        self.assertEqual([one for one in self.working if not one.called], [], "side by side")
        error: Any = what.value if isinstance(what, Failure) else None
        self.told.append(what if error is None else error.message)
        working: defer.Deferred[None] = defer.Deferred()
        self.working.append(working)
        return working

    def done(self) -> None:
        """What is at work has done."""
        self.working[-1].callback(None)

    def set(self) -> None:
        """Set a callback and an errback that are slow."""
        self.near.setcallback(self.work, self.work, END)

    def close(self, error: str | None = None) -> None:
        """The far end closes."""
        self.far.close(error)
        self.pair.pump()


class Order(EndingCase):
    """Each is told when the one before it has done."""

    def test_value_error_endmarker_and_waitclose_follow_in_order(self) -> None:
        """A value, the error, the endmarker; then ``waitclose`` fails."""
        self.set()
        waiting = self.near.waitclose()
        self.far.send(1)
        self.close("bad")
        for told in ([1], [1, "bad"], [1, "bad", END]):
            self.assertEqual(self.told, told)
            self.assertNoResult(waiting)
            self.done()
        self.failureResultOf(waiting, RemoteError)

    def test_endmarker_follows_the_last_value_without_error(self) -> None:
        """Without an error the endmarker is next."""
        self.set()
        waiting = self.near.waitclose()
        self.far.send(1)
        self.close()
        for told in ([1], [1, END]):
            self.assertEqual(self.told, told)
            self.assertNoResult(waiting)
            self.done()
        self.assertIsNone(self.successResultOf(waiting))

    def test_waitclose_after_the_end_waits_for_the_callbacks(self) -> None:
        """``waitclose`` that is called when the end has come waits for them as well."""
        self.far.send(1)
        self.close()
        self.set()
        waiting = self.near.waitclose()
        self.done()
        self.assertNoResult(waiting)
        self.done()
        self.successResultOf(waiting)
        self.successResultOf(self.near.waitclose())

    def test_waitclose_after_the_loss_waits_for_the_callbacks(self) -> None:
        """So it is when the connection is lost."""
        failures: list[Failure] = []
        self.near.setcallback(self.work, failures.append, END)
        waiting = self.near.waitclose()
        self.far.send(1)
        self.pair.pump()
        self.pair.lose()
        self.assertNoResult(waiting)
        self.assertEqual(failures, [])
        self.done()
        self.assertEqual(len(failures), 1)
        self.assertEqual(self.told, [1, END])
        self.assertNoResult(waiting)
        self.done()
        self.failureResultOf(waiting, ConnectionLost)

    def test_waitclose_waits_for_the_errback_of_a_failed_callback(self) -> None:
        """When a callback fails the channel's end is told once the errback has done."""
        self.near.setcallback(self.work, self.told.append, END)
        waiting = self.near.waitclose()
        self.far.send(1)
        self.pair.pump()
        slow: defer.Deferred[None] = defer.Deferred()
        self.near.core.errback = lambda failure: slow
        self.working[-1].errback(ValueError("mine"))
        self.assertNoResult(waiting)
        slow.callback(None)
        self.successResultOf(waiting)
        self.assertEqual(self.told, [1])

    def test_waitclose_waits_for_the_endmarkers_errback(self) -> None:
        """What the endmarker's callback raises goes to the errback, and ``waitclose`` waits."""

        def callback(value: Any) -> Any:
            raise ValueError(value)

        slow: defer.Deferred[None] = defer.Deferred()
        self.near.setcallback(callback, lambda failure: slow, END)
        waiting = self.near.waitclose()
        self.close()
        self.assertNoResult(waiting)
        slow.callback(None)
        self.successResultOf(waiting)

    def test_error_during_the_endmarker_is_told_after_it(self) -> None:
        """An error that comes while the end is being told is told after it."""
        self.set()
        self.far.send_end()
        self.pair.pump()
        self.close("late")
        self.assertEqual(self.told, [END])
        self.done()
        self.assertEqual(self.told, [END, "late"])
        self.done()


class Waiting(EndingCase):
    """Who waits for the end and must not wait for the callback."""

    def test_callback_may_await_its_own_channels_end(self) -> None:
        ended: list[str] = []

        async def callback(value: Any) -> None:
            await self.near.waitclose()
            ended.append(value)

        self.near.setcallback(callback, None, END)
        other = self.near.waitclose()
        self.far.send("waits")
        self.pair.pump()
        self.assertNoResult(other)
        self.close()
        self.assertEqual(ended, ["waits", END])
        self.successResultOf(other)

    def test_callback_may_return_its_own_channels_waitclose(self) -> None:
        """A callback that returns what waits for it."""
        self.near.setcallback(lambda value: self.near.waitclose(), None, END)
        self.far.send(1)
        self.close()
        self.successResultOf(self.near.waitclose())

    def test_queued_values_can_be_taken_after_the_end(self) -> None:
        """Values that wait in a queue of several channels can be taken after the end."""
        other, others = self.pair.channel()
        both = MultiChannel([self.near, other])
        queue = both.make_receive_queue(END)
        for far in (self.far, others):
            far.send(1)
            far.close()
        self.pair.pump()
        self.successResultOf(both.waitclose())
        taken = [self.successResultOf(queue.get()) for _ in range(4)]
        self.assertEqual([value for _, value in taken].count(END), 2)


class RunningCode(EndingCase):
    """A channel of code that has closed it, or sends no more, and still runs."""

    purpose = "exec"

    def test_waitclose_waits_for_code_that_sends_no_more(self) -> None:
        """``waitclose`` waits for the code; values have their end at once."""
        waiting = self.near.waitclose()
        received = self.near.receive()
        self.far.send_end()
        self.pair.pump()
        self.failureResultOf(received, EOFError)
        self.assertNoResult(waiting)
        self.close("late")
        self.failureResultOf(waiting, RemoteError)
        self.failureResultOf(self.near.waitclose(), RemoteError)

    def test_waitclose_fails_when_running_codes_connection_is_lost(self) -> None:
        """When the connection is lost nobody knows how the code ended."""
        waiting = self.near.waitclose()
        self.far.send_end()
        self.pair.pump()
        self.pair.lose()
        self.failureResultOf(waiting, ConnectionLost)

    def test_closing_here_ends_waitclose(self) -> None:
        """Closing it here ends the wait."""
        waiting = self.near.waitclose()
        self.far.send_end()
        self.pair.pump()
        self.near.close()
        self.successResultOf(waiting)
