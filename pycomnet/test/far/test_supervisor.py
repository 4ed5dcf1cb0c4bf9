"""Ending what a worker has left, with lists of processes as the system may give them."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far import supervisor


class EndAllTests(SynchronousTestCase):
    """A list of descendants may lack some while others end."""

    def setUp(self) -> None:
        """Signals are recorded, and the lists are given by the test."""
        self.sent: list[tuple[int, int]] = []
        self.lists: list[set[int]] = []
        self.patch(os, "kill", lambda pid, number: self.sent.append((pid, number)))
        self.patch(supervisor, "descendants", lambda pid: self.lists.pop(0))
        self.patch(supervisor, "reap_all", lambda: None)

    def test_process_that_is_found_later_is_told_to_end_as_well(self) -> None:
        """Each gets SIGTERM once, and nobody SIGKILL while there is time."""
        self.lists = [{1, 2}, {2, 3}, set()]
        supervisor.end_all({1}, 1000.0)
        self.assertEqual(self.sent, [(pid, signal.SIGTERM) for pid in (1, 2, 3)])

    def test_each_that_is_left_is_killed_after_the_grace(self) -> None:
        """Also one that was never told; again and again, until there is none."""
        self.lists = [{1, 2}, {2}, set()]
        supervisor.end_all({1}, 0.0)
        self.assertEqual([number for _, number in self.sent], [signal.SIGKILL] * 4)
        self.assertEqual(sorted(pid for pid, _ in self.sent), [1, 1, 2, 2])

    def test_supervisor_tells_who_is_found_later(self) -> None:
        """So does the supervisor of a worker."""
        watching: Any = supervisor.Supervisor.__new__(supervisor.Supervisor)
        watching.pid, watching.hurry = 9, False
        self.patch(os, "killpg", lambda pid, number: self.sent.append((-pid, number)))
        self.patch(supervisor, "_lives", lambda pid: bool(self.lists))
        self.patch(supervisor, "_group_lives", lambda pid: False)
        self.lists = [{1}, {1, 2}, {1, 2}, set()]
        watching._end_rest(set())
        told = [pid for pid, number in self.sent if number == signal.SIGTERM]
        self.assertEqual(sorted(told), [-9, 1, 2])
        self.assertEqual([one for one in self.sent if one[1] == signal.SIGKILL], [])
