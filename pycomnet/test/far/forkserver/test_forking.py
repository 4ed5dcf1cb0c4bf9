"""What the fork server makes for what it starts."""

from __future__ import annotations

import errno
import os

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.forkserver import forking


class StandardPipes(SynchronousTestCase):
    """Three pipes for a process."""

    def setUp(self) -> None:
        self.before = forking.Before()

    def test_standard_pipes_connect_and_are_remembered(self) -> None:
        """What is written at the one end of each is read at the other, and none is forgotten."""
        theirs, ours = self.before.standard_pipes()
        for fd in theirs + ours:
            self.addCleanup(os.close, fd)
        (stdin, stdout, stderr), (write_fd, read_fd, err_fd) = theirs, ours
        for into, out in ((write_fd, stdin), (stdout, read_fd), (stderr, err_fd)):
            os.write(into, b"x")
            self.assertEqual(os.read(out, 10), b"x")
        self.assertGreaterEqual(self.before._highest, max(theirs + ours))

    def test_pipes_made_are_closed_when_descriptors_run_out(self) -> None:
        """When there are no descriptors left, those that were made are closed."""
        made: list[int] = []
        pipe = os.pipe

        def scarce() -> tuple[int, int]:
            if len(made) == 4:
                raise OSError(errno.EMFILE, "Too many open files")
            ends = pipe()
            made.extend(ends)
            return ends

        self.patch(os, "pipe", scarce)
        with self.assertRaises(OSError):
            self.before.standard_pipes()
        self.assertEqual(len(made), 4)
        for fd in made:
            with self.assertRaises(OSError):
                os.fstat(fd)
