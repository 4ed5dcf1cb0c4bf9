"""What blocks the reactor is named: the method, and the line."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.services.launch.blocked import BEAT, LATE, BlockWatch, blame, codes


class Slow:
    """Has a method."""

    def sleep(self, request: Any) -> Any:
        return inner(request)


def inner(request: Any) -> Any:
    return request()


METHODS: dict[str, dict[str, Any]] = {"t.w": {"sleep": Slow().sleep, "len": len}}


class BlockedTests(SynchronousTestCase):
    """A reactor that is turned by hand, and a clock that goes on without it."""

    def setUp(self) -> None:
        self.reactor = Clock()
        self.now = 100.0
        self.said: list[str] = []
        self.watch = BlockWatch(
            self.reactor, lambda: codes(METHODS), 5.0, lambda: self.now, sys._current_frames
        )
        self.watch.start(thread=False)
        self.addCleanup(self.watch.stop)
        observe: Any = self.observe
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def observe(self, event: Any) -> None:
        if "reactor blocked" in formatEvent(event):
            self.said.append(formatEvent(event))

    def turn(self) -> None:
        """The reactor turns in time."""
        self.now += BEAT
        self.reactor.advance(BEAT)

    def block(self, seconds: float) -> None:
        """In a method: time passes, and the thread looks."""

        def wait() -> None:
            end = self.now + seconds
            while self.now < end:
                self.now += BEAT
                self.watch.look()

        METHODS["t.w"]["sleep"](wait)
        self.reactor.advance(BEAT)

    def test_turning_reactor_is_not_reported(self) -> None:
        """Nothing is said of a reactor that turns, or is a little late."""
        for _ in range(100):
            self.turn()
        self.block(LATE)
        self.assertEqual(self.said, [])

    def test_blocked_reactor_says_how_long_and_where(self) -> None:
        """For how long, in which method, and where in the user's code."""
        self.turn()
        self.block(3.0)
        (said,) = self.said
        self.assertRegex(said, r"^reactor blocked for 2\.5 s in t\.w\.sleep \(.*_blocked\.py:\d+\)")
        for _ in range(10):
            self.turn()
        self.assertEqual(len(self.said), 1)

    def test_lasting_block_is_said_once(self) -> None:
        """While it lasts it is said once, as nothing else may be said any more."""
        self.turn()
        self.block(10.0)
        first, second = self.said
        self.assertIn("5.0 s so far in t.w.sleep", first)
        self.assertIn("thread=True", first)
        self.assertIn("blocked for 9.5 s in t.w.sleep", second)

    def test_code_that_holds_the_interpreter_is_not_named(self) -> None:
        """Code that lets no other thread run can't be named."""
        self.turn()
        self.now += 4
        self.reactor.advance(BEAT)
        self.assertIn("held the interpreter's lock", self.said[0])

    def test_code_outside_methods_is_named_by_its_function(self) -> None:
        """What is no method is named by its function."""
        namespace: dict[str, Any] = {"__name__": "shop.calc", "getframe": sys._getframe}
        exec(compile("def total():\n    return getframe()", "calc.py", "exec"), namespace)
        self.assertEqual(blame(namespace["total"](), {}), "shop.calc.total (calc.py:2)")
