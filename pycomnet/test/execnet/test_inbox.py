"""What comes over the drop-in's channels, and the order in which callbacks get it."""

from __future__ import annotations

import gc
import io
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import ChannelClosed, ConnectionLost
from pycomnet.errors import RemoteError as _RemoteError
from pycomnet.execnet import RemoteError
from pycomnet.execnet.callbackthread import CallbackThread
from pycomnet.execnet.inbox import END, NO_ENDMARKER, Inbox
from pycomnet.test.garbage import collects

#: Seconds to wait for another thread.
TIMEOUT = 60


class Dropped:
    """The connection's part of a channel that nobody holds."""

    def is_held(self) -> bool:
        """It is not."""
        return False


@collects
class CallbackThreadTests(SynchronousTestCase):
    """:class:`CallbackThread`."""

    def test_setting_a_callback_fails_if_no_thread_can_be_started(self) -> None:
        """At the limit of threads, and when the program ends; later there may be one."""

        class NoThread(threading.Thread):
            def start(self) -> None:
                raise RuntimeError("can't start new thread")

        thread = CallbackThread("test", NoThread)
        inbox = Inbox(thread)
        with self.assertRaisesRegex(RuntimeError, "can't start"):
            inbox.set_callback(print, NO_ENDMARKER, lambda function: function())
        self.assertFalse(inbox.has_callback)

    def test_it_ends_when_nothing_refers_to_it(self) -> None:
        """And not before, however long nothing is called."""
        made: list[threading.Thread] = []

        def make(**arguments: Any) -> threading.Thread:
            made.append(threading.Thread(**arguments))
            return made[0]

        thread = CallbackThread("test", make)  # type: ignore[arg-type]
        thread.start()
        thread.start()
        self.assertEqual(len(made), 1)
        self.assertTrue(made[0].is_alive())
        del thread
        gc.collect()
        made[0].join(TIMEOUT)
        self.assertFalse(made[0].is_alive())

    def test_an_error_does_not_end_it(self) -> None:
        """Other channels' callbacks are called by it as well."""
        called: queue.Queue[int] = queue.Queue()

        def fails(value: int) -> None:
            raise SystemExit

        thread = CallbackThread("test")
        thread.start()
        thread.put(fails, 1)
        thread.put(called.put, 2)
        self.assertEqual(called.get(timeout=TIMEOUT), 2)
        self.assertFalse(thread.is_current())
        self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)


class InboxTests(SynchronousTestCase):
    """:class:`Inbox`."""

    def setUp(self) -> None:
        self.thread = CallbackThread("test")
        self.inbox = Inbox(self.thread)
        self.seen: queue.Queue[Any] = queue.Queue()

    def test_an_interrupt_in_a_callback_for_an_old_value_is_raised(self) -> None:
        """It is the user's Ctrl-C in the caller's thread; the callback gets its endmarker."""
        self.inbox.arrived(1)
        self.inbox.arrived(2)
        seen = []

        def callback(value: object) -> None:
            seen.append(value)
            if value == 1:
                raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.set_callback(callback, "end")
        self.assertEqual(seen, [1, "end"])
        self.assertTrue(self.inbox.closed.is_set())

    def set_callback(
        self, callback: Callable[[Any], object], endmarker: object, inbox: Inbox | None = None
    ) -> None:
        """Set a callback; no other thread changes anything meanwhile."""
        (inbox or self.inbox).set_callback(callback, endmarker, lambda function: function())

    def test_values_are_queued_until_they_are_received(self) -> None:
        """In their order, the end after them."""
        for value in (1, 2, END):
            self.inbox.arrived(value)
        self.assertEqual([self.inbox.queue.get_nowait() for _ in range(3)], [1, 2, END])
        self.assertTrue(self.inbox.closed.is_set())

    def test_a_callback_gets_what_has_come_and_what_comes(self) -> None:
        """Then the endmarker, and only then the channel is closed."""
        gate = threading.Event()

        def callback(value: object) -> None:
            if value != 1:
                gate.wait(TIMEOUT)
            self.seen.put((value, self.inbox.closed.is_set()))

        self.inbox.arrived(1)
        self.set_callback(callback, "end")
        self.inbox.arrived(2)
        self.inbox.arrived(END)
        self.assertFalse(self.inbox.closed.is_set())
        gate.set()
        self.assertTrue(self.inbox.closed.wait(TIMEOUT))
        found = [self.seen.get_nowait() for _ in range(3)]
        self.assertEqual(found, [(1, False), (2, False), ("end", False)])

    def test_a_callback_of_a_channel_that_is_over_gets_all_the_same(self) -> None:
        """Also what came before it, and the end."""
        self.inbox.arrived(1)
        self.inbox.arrived(END)
        self.set_callback(self.seen.put, "end")
        self.assertEqual([self.seen.get(timeout=TIMEOUT) for _ in range(2)], [1, "end"])
        self.assertTrue(self.inbox.closed.wait(TIMEOUT))

    def test_the_callbacks_of_all_channels_are_called_in_one_thread(self) -> None:
        """One after the other, in the order of arrival."""
        other = Inbox(self.thread)
        names: list[str] = []
        for inbox in (self.inbox, other):
            self.set_callback(lambda _: names.append(threading.current_thread().name), "end", inbox)
        for inbox in (self.inbox, other, other):
            inbox.arrived(1)
        for inbox in (self.inbox, other):
            inbox.arrived(END)
        self.assertTrue(other.closed.wait(TIMEOUT))
        self.assertEqual(names, ["test"] * 5)

    def test_a_callback_gets_what_has_come_before_set_callback_returns(self) -> None:
        """Programs look at what it has noted right afterwards."""
        for value in (1, 2, 3, END):
            self.inbox.arrived(value)
        self.set_callback(self.seen.put, "end")
        found = [self.seen.get_nowait() for _ in range(4)]
        self.assertEqual(found, [1, 2, 3, "end"])
        self.assertTrue(self.inbox.closed.is_set())

    def test_callbacks_do_not_run_while_another_gets_what_has_come(self) -> None:
        """One callback of a gateway runs at a time, whatever thread it runs in."""
        other = Inbox(self.thread)
        self.set_callback(self.seen.put, NO_ENDMARKER)

        def callback(value: object) -> None:
            self.inbox.arrived("later")
            self.seen.put(value)

        other.arrived("first")
        with self.thread.calling():
            self.set_callback(callback, NO_ENDMARKER, other)
        self.assertEqual([self.seen.get(timeout=TIMEOUT) for _ in range(2)], ["first", "later"])

    def test_a_second_callback_is_refused(self) -> None:
        """Also of two that are set at the same time."""
        self.set_callback(self.seen.put, NO_ENDMARKER)
        with self.assertRaisesRegex(OSError, "already registered"):
            self.set_callback(self.seen.put, NO_ENDMARKER)

    def test_a_callback_that_is_set_while_the_end_is_taken_gets_the_end(self) -> None:
        """A thread in receive() has END in its hands at that moment."""
        self.inbox.arrived(END)
        self.assertIs(self.inbox.queue.get_nowait(), END)
        self.set_callback(self.seen.put, "end")
        self.assertEqual(self.seen.get_nowait(), "end")
        self.assertTrue(self.inbox.closed.is_set())

    def test_a_channel_that_is_closed_here_gives_the_endmarker_at_once(self) -> None:
        """And nothing more, whatever comes."""
        self.set_callback(self.seen.put, "end")
        self.inbox.finish()
        self.assertEqual(self.seen.get_nowait(), "end")
        self.assertTrue(self.inbox.closed.is_set())
        for value in (1, END):
            self.inbox.arrived(value)
        done = threading.Event()
        self.thread.put(lambda _: done.set(), None)
        self.assertTrue(done.wait(TIMEOUT))
        self.assertTrue(self.seen.empty())

    def test_a_callback_that_raises_gets_the_endmarker_and_no_more(self) -> None:
        """Its error is the channel's, whether the channel has ended meanwhile or not."""
        for first in (1, END):
            inbox = Inbox(self.thread)
            go = threading.Event()

            def callback(value: object, go: threading.Event = go) -> None:
                self.seen.put(value)
                if value != "end":
                    go.wait(TIMEOUT)
                    raise ValueError(42)

            self.set_callback(callback, "end", inbox)
            inbox.arrived(1)
            inbox.arrived(2)
            if first is END:
                inbox.arrived(END)
            go.set()
            self.assertTrue(inbox.closed.wait(TIMEOUT))
            inbox.arrived(END)
            self.assertEqual([self.seen.get(timeout=TIMEOUT) for _ in range(2)], [1, "end"])
            self.assertIn("ValueError: 42", str(inbox.take_error()))
            self.assertIsNone(inbox.take_error())
        self.assertTrue(self.seen.empty())

    def test_an_endmarker_that_raises_is_an_error_too(self) -> None:
        """The thread goes on."""

        def callback(value: object) -> None:
            raise ValueError(value)

        self.set_callback(callback, "end")
        self.inbox.arrived(END)
        self.assertTrue(self.inbox.closed.wait(TIMEOUT))
        self.assertIn("ValueError: end", str(self.inbox.take_error()))
        other = Inbox(self.thread)
        self.set_callback(self.seen.put, "end", other)
        other.arrived(END)
        self.assertEqual(self.seen.get(timeout=TIMEOUT), "end")

    def test_errors_that_nobody_can_take_are_shown(self) -> None:
        """As execnet does, but for those of code that was interrupted."""
        shown = io.StringIO()
        self.patch(sys, "stderr", shown)
        failure = Failure(_RemoteError("ValueError", "lost", "ValueError: lost"))
        self.inbox.failed(failure)
        self.assertEqual(shown.getvalue(), "")
        self.inbox.warn()
        self.assertRegex(
            shown.getvalue(),
            r"^\[\d+\] Warning: unhandled RemoteError: ValueError: lost\n$",
        )
        for kind, count in (("ValueError", 2), ("KeyboardInterrupt", 2)):
            inbox = Inbox(self.thread)
            inbox._core = Dropped()  # type: ignore[assignment]
            inbox.failed(Failure(_RemoteError(kind, "x", "x")))
            self.assertEqual(
                shown.getvalue().count("Warning"),
                count,
            )

    def test_each_thread_gets_an_error_object_of_its_own(self) -> None:
        """Each gets another object, as each raises it."""
        self.inbox.failed(Failure(ConnectionLost("it is gone")))
        self.assertIsNot(self.inbox.take_error(), self.inbox.take_error())

    def test_an_error_of_far_code_is_raised_once(self) -> None:
        """As in execnet: later there is only the end."""
        self.inbox.failed(Failure(_RemoteError("ValueError", "42", "Traceback: 42")))
        self.inbox.arrived(END)
        error = self.inbox.take_error()
        self.assertIsInstance(error, RemoteError)
        self.assertEqual(str(error), "Traceback: 42")
        self.assertIsNone(self.inbox.take_error())

    def test_a_lost_connection_is_an_end_each_time(self) -> None:
        """EOFError, as in execnet; a normal end is no error at all."""
        self.inbox.failed(Failure(ConnectionLost("it is gone")))
        for _ in range(2):
            self.assertIsInstance(self.inbox.take_error(), EOFError)
        other = Inbox(self.thread)
        other.failed(Failure(ChannelClosed("closed")))
        self.assertIsNone(other.take_error())

    def test_what_comes_after_the_end_is_dropped(self) -> None:
        """The channel was closed here, and the other end did not know yet."""
        self.inbox.end(RemoteError("no"))
        self.inbox.arrived(1)
        self.inbox.arrived(END)
        self.assertIs(self.inbox.queue.get_nowait(), END)
        self.assertTrue(self.inbox.queue.empty())
