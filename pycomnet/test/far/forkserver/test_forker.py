"""The fork server's pre-forked worker, and how many processes it may have."""

from __future__ import annotations

import os
import select
import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.forkserver.forker import Forker
from pycomnet.far.forkserver.loop import Loop
from pycomnet.far.forkserver.preforked import IDLE, PreforkedWorker


class Supervisor:
    """What a forker needs of the supervisor that it works for."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.children: dict[int, Any] = {}


class NurseryCase(SynchronousTestCase):
    """A forker that forks nothing, and one in reserve without a process."""

    def setUp(self) -> None:
        self.supervisor: Any = Supervisor()
        self.now = 100.0
        self.supervisor.loop.now = lambda: self.now

    def forker(self, most: int | None = None) -> Forker:
        """One that may have so many processes."""
        return Forker(self.supervisor, most, None)

    def keep(self, forker: Forker) -> int:
        """Give it one in reserve; what that has as its standard input."""
        stdin, write_fd = os.pipe()
        self.addCleanup(os.close, stdin)
        preforked = PreforkedWorker(1, (write_fd,), self.now + IDLE, forker._preforked_ended)
        forker.preforked = self.supervisor.children[1] = preforked
        return stdin


class InReserve(NurseryCase):
    """When one in reserve is ended."""

    def test_unused_preforked_worker_is_ended_after_a_time(self) -> None:
        """It is told so by the end of its standard input, once its time is over."""
        forker = self.forker()
        self.assertIsNone(forker.check_time())
        stdin = self.keep(forker)
        self.assertEqual(forker.check_time(), IDLE)
        self.now += IDLE - 1
        self.assertEqual(forker.check_time(), 1)
        self.assertEqual(select.select([stdin], [], [], 0)[0], [])
        self.now += 1
        self.assertIsNone(forker.check_time())
        self.assertIsNone(forker.preforked)
        self.assertEqual(os.read(stdin, 1), b"")

    def test_killed_preforked_worker_is_forgotten(self) -> None:
        """One that ended by itself is forgotten."""
        forker = self.forker()
        stdin = self.keep(forker)
        self.supervisor.children.pop(1).reaped(-signal.SIGKILL)
        self.assertIsNone(forker.preforked)
        self.assertEqual(os.read(stdin, 1), b"")
        self.assertIsNone(forker.check_time())

    def test_preforked_worker_does_not_count_as_a_process(self) -> None:
        """It is none of the processes that there may be; those still to be forked are."""
        self.assertFalse(self.forker().is_full())
        forker: Any = self.forker(2)
        self.keep(forker)
        self.supervisor.children[2] = object()
        self.assertFalse(forker.is_full())
        forker._wanted.append(object())
        self.assertTrue(forker.is_full())


class Turns(SynchronousTestCase):
    """What the loop does when nothing happens, and when what happened is dealt with."""

    def setUp(self) -> None:
        self.loop = Loop()
        self.read_fd, self.write_fd = os.pipe()
        for fd in (self.read_fd, self.write_fd):
            self.addCleanup(os.close, fd)
        self.done: list[str] = []

    def _readable(self, events: int) -> None:
        self.done.append(os.read(self.read_fd, 10).decode())
        self.loop.soon(lambda: self.done.append("soon"))

    def test_soon_is_called_once_after_a_turns_events(self) -> None:
        self.loop.watch(self.read_fd, select.POLLIN, self._readable)
        os.write(self.write_fd, b"x")
        self.loop.turn(10)
        self.assertEqual(self.done, ["x", "soon"])
        self.loop.turn(0)
        self.assertEqual(self.done, ["x", "soon"])

    def test_idle_is_not_called_in_a_turn_with_events(self) -> None:
        """What waits for nothing to happen is not called in a turn in which something does."""
        self.loop.watch(self.read_fd, select.POLLIN, self._readable)
        self.loop.when_idle(lambda: self.done.append("idle"), 10)
        os.write(self.write_fd, b"x")
        self.loop.turn(0)
        self.assertEqual(self.done, ["x", "soon"])
        self.loop.when_idle(lambda: self.done.append("idle"), 0.001)
        self.loop.turn(0)
        self.loop.turn(0)
        self.assertEqual(self.done, ["x", "soon", "idle"])
