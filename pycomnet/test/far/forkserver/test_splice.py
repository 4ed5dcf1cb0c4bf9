"""Bytes that the system moves from one descriptor to another."""

from __future__ import annotations

import fcntl
import os
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.forkserver.splice import available, move


@skipUnless(hasattr(os, "splice"), "the system can't move bytes")
class Moving(SynchronousTestCase):
    """From a pipe to another."""

    def pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        for fd in ends:
            os.set_blocking(fd, False)
            self.addCleanup(os.close, fd)
        return ends

    def test_available_counts_bytes_in_a_pipe(self) -> None:
        """It is known how much there is; of what is no pipe, nothing."""
        read_fd, write_fd = self.pipe()
        self.assertEqual(available(read_fd), 0)
        os.write(write_fd, b"x" * 300)
        self.assertEqual(available(read_fd), 300)
        null = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(os.close, null)
        self.assertEqual(available(null), 0)

    def test_move_moves_as_much_as_asked_for(self) -> None:
        """All of it, and no more, is moved."""
        source, into = self.pipe()
        out, target = self.pipe()
        os.write(into, bytes(range(256)) * 100)
        self.assertEqual(move(source, target, 20_000), b"")
        self.assertEqual(os.read(out, 30_000), (bytes(range(256)) * 100)[:20_000])
        self.assertEqual(available(source), 5_600)

    def test_move_returns_what_the_target_does_not_take(self) -> None:
        """What the other end does not take is read."""
        source, into = self.pipe()
        out, target = self.pipe()
        fcntl.fcntl(target, fcntl.F_SETPIPE_SZ, 4096)
        data = os.urandom(50_000)
        os.write(into, data)
        rest = move(source, target, len(data))
        self.assertTrue(os.read(out, 65536) + rest == data)
        self.assertTrue(rest)

    def test_move_reads_what_cannot_be_moved(self) -> None:
        """What can't be moved is read."""
        source, into = self.pipe()
        os.write(into, b"data")
        read_only = os.open(os.devnull, os.O_RDONLY)
        self.addCleanup(os.close, read_only)
        self.assertEqual(move(source, read_only, 4), b"data")
