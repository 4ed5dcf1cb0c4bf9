"""Code that waits for a busy main thread fails; code that is only slow does not."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.execnet.channel import Channel
from pycomnet.execnet.errors import MAIN_THREAD_ONLY_DEADLOCK_TEXT, RemoteError
from pycomnet.execnet.mainthreadtimeout import (
    BEGIN_TIMEOUT,
    LATE_REPORT,
    MainThreadTimeout,
    checked_status,
)
from pycomnet.far.execnet.gateway_base import WAITED


class FarSide:
    """A gateway that says what it is told to say."""

    def __init__(self) -> None:
        self.status: Any = {"running": 0, "queued": 0, "channels": 1}
        self.callback: Any = None
        self.asked = 0

    def newchannel(self) -> FarSide:
        """The channel for what has begun."""
        return self

    def setcallback(self, callback: Any, errback: Any) -> None:
        """Keep the callback."""
        self.callback = callback

    def isalive(self) -> bool:
        """It is."""
        return True

    def remote_status(self) -> defer.Deferred[dict[str, Any]]:
        """How many wait."""
        self.asked += 1
        return defer.execute(lambda: self.status)


class EndedChannel(Channel):
    """A channel that notes its end."""

    error: Exception | None = None

    kind = ""

    def end_here(self, error: RemoteError | None = None, kind: str = "") -> None:
        """Note it."""
        self.error, self.kind = error, kind


class Core:
    """The connection's part of a channel."""

    def __init__(self, id: int) -> None:
        self.stream = self
        self.id = id
        self.over = None
        self.channel = EndedChannel(None, id)  # type: ignore[arg-type]
        self.handle = lambda: self.channel


class MainThreadTimeoutTests(SynchronousTestCase):
    """:class:`MainThreadTimeout`."""

    def made(self, id: int) -> Any:
        """A request's channel."""
        return Core(id)

    def setUp(self) -> None:
        self.clock = Clock()
        self.far = FarSide()
        self.timeout = MainThreadTimeout(self.far, self.clock)  # type: ignore[arg-type]
        self.core = self.made(3)
        self.timeout.add(self.core)

    def test_code_that_begins_is_left_alone(self) -> None:
        """The far side is not even asked."""
        self.far.callback(3)
        self.clock.advance(10 * BEGIN_TIMEOUT)
        self.assertEqual((self.far.asked, self.core.channel.error), (0, None))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_code_that_waits_for_the_main_thread_fails(self) -> None:
        """With words that say what to do."""
        self.far.status["queued"] = 1
        self.clock.advance(BEGIN_TIMEOUT)
        self.clock.advance(LATE_REPORT)
        self.assertEqual(str(self.core.channel.error), MAIN_THREAD_ONLY_DEADLOCK_TEXT)
        self.assertEqual(self.core.channel.kind, WAITED)

    def test_a_far_side_that_says_no_status_is_not_asked_again(self) -> None:
        """An old or a hostile one: nothing is left of the request, and nothing is logged."""
        answers: list[Any] = [
            {},
            None,
            {"queued": "x"},
            {"running": 0, "queued": -1, "channels": 1},
        ]
        for id, answer in enumerate(answers, 10):
            self.far.status = answer
            core = self.made(id)
            self.timeout.add(core)
            self.clock.advance(BEGIN_TIMEOUT)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertIsNone(core.channel.error)
            with self.assertRaisesRegex(OSError, "should report what it does"):
                checked_status(answer)

    def test_code_that_begins_while_the_far_side_answers_goes_on(self) -> None:
        """Its message comes later than the answer."""
        self.far.status["queued"] = 1
        self.clock.advance(BEGIN_TIMEOUT)
        self.far.callback(3)
        self.clock.advance(LATE_REPORT)
        self.assertIsNone(self.core.channel.error)

    def test_a_slow_far_side_is_waited_for(self) -> None:
        """Nothing waits there for the main thread, so the code will begin."""
        for _ in range(5):
            self.clock.advance(BEGIN_TIMEOUT)
        self.assertEqual((self.far.asked, self.core.channel.error), (5, None))
        self.core.over = EOFError()
        self.clock.advance(BEGIN_TIMEOUT)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nonsense_is_ignored(self) -> None:
        """A far side that says what it should not changes nothing."""
        nonsense: list[Any] = ["x", None, [], 99, 3.5]
        for value in nonsense:
            self.far.callback(value)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
