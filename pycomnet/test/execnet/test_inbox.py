"""What comes over the drop-in's channels, and the order in which callbacks get it."""

from __future__ import annotations

import queue
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

#: Seconds to wait for another thread.
TIMEOUT = 60


class InboxTests(SynchronousTestCase):
    """:class:`Inbox`."""

    def setUp(self) -> None:
        self.thread = CallbackThread("test")
        self.inbox = Inbox(self.thread)
        self.seen: queue.Queue[Any] = queue.Queue()

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

    def test_a_callback_that_raises_gets_no_more(self) -> None:
        """Its error is the channel's."""

        def callback(value: object) -> None:
            self.seen.put(value)
            raise ValueError(42)

        self.set_callback(callback, NO_ENDMARKER)
        self.inbox.arrived(1)
        self.inbox.arrived(2)
        self.assertTrue(self.inbox.closed.wait(TIMEOUT))
        self.inbox.arrived(END)
        self.assertEqual(self.seen.get(timeout=TIMEOUT), 1)
        self.assertTrue(self.seen.empty())

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
