"""What a watcher makes of what watchfiles tells it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pycomnet
from pycomnet.rsync import filewatcher as watchers
from pycomnet.rsync.changes import EVERYTHING, Changes
from pycomnet.rsync.options import make_options
from pycomnet.test.rsync.case import RSyncCase


class FakeWatchfiles:
    """What stands for watchfiles: each watch tells, or raises, what is next."""

    class Change:
        added = 1

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps

    def watch(self, path: str, **options: Any) -> Iterator[set[tuple[int, str]]]:
        while self.steps:
            step = self.steps.pop(0)
            if isinstance(step, BaseException):
                raise step
            yield step
        options["stop_event"].set()


class Pauses(threading.Event):
    """An event that is not waited for, and says how long it would have been."""

    made: list[Pauses]

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float | None] = []
        self.made.append(self)

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return self.is_set()


class Panic(BaseException):
    """As what a panic in Rust becomes: no Exception."""


class WatcherThreadTests(RSyncCase):
    """What a watcher makes of what watchfiles tells."""

    def told_of(self, *steps: Any) -> tuple[list[Any], list[Any], list[float | None]]:
        """The changes, the failures, and the pauses."""
        changes: list[Any] = []
        failures: list[Any] = []
        reactor = mock.Mock(callFromThread=lambda _, function, argument: function(argument))
        Pauses.made = []
        with (
            mock.patch.dict(sys.modules, {"watchfiles": FakeWatchfiles(list(steps))}),
            mock.patch("pycomnet.rsync.filewatcher.Event", Pauses),
            mock.patch("pycomnet.rsync.filewatcher.Thread") as thread,
        ):
            root = os.fsencode(self.source)
            args = root, make_options(), changes.append, failures.append, reactor
            watchers.FileWatcher(*args)
            thread.call_args.kwargs["target"]()
        return changes, failures, Pauses.made[0].seconds

    def test_first_is_everything(self) -> None:
        """Then it is what has changed; many changes are everything, too."""
        few = {(2, f"{self.source}/a/{number}") for number in range(watchers.MANY)}
        changes, failures, _ = self.told_of(set(), set(), few, {*few, (2, f"{self.source}/b")})
        self.assertEqual(changes, [EVERYTHING, Changes(frozenset([b"a"])), EVERYTHING])
        self.assertEqual(failures, [])

    def test_what_it_can_not_tell_is_looked_for_less_and_less(self) -> None:
        """A comparison opens directories: one with such a name would be compared without end."""
        unknown = RuntimeError("unable to decode path to string")
        changes, _, pauses = self.told_of(*[set(), unknown] * 10)
        self.assertEqual(changes, [EVERYTHING] * 10)
        self.assertEqual(pauses, [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30])
        # Also where such a thing happens all the time.
        changes, _, pauses = self.told_of(unknown, unknown)
        self.assertEqual((changes, pauses), ([EVERYTHING] * 2, [0.5, 1]))
        change = {(2, f"{self.source}/a")}
        changes, _, pauses = self.told_of(set(), unknown, set(), unknown, set(), change, unknown)
        self.assertEqual(changes, [*[EVERYTHING] * 3, Changes(frozenset([b""]))])
        self.assertEqual(pauses, [0.5, 1, 0.5])

    def test_failures_are_told(self) -> None:
        """What the system can't do, and what is wrong in watchfiles, ends it with a reason."""
        for problem in (OSError("too many watches"), KeyError("x"), Panic("at line 1")):
            changes, (failure,), _ = self.told_of(set(), problem)
            self.assertEqual(changes, [EVERYTHING])
            self.assertIsInstance(failure, pycomnet.SyncError)
            self.assertIn(str(problem.args[0]), str(failure))
