"""The lock of a file, that of another beside it."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from contextlib import closing

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.net import private
from pycomnet.net.filelock import ENDING, FileLock, FileLocked
from pycomnet.test.processes import posix_locks


class FileLockTests(SynchronousTestCase):
    """One has it at a time."""

    def setUp(self) -> None:
        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory, 0o700)
        self.path = os.path.join(directory, "file.db")

    def test_one_has_it_at_a_time(self) -> None:
        """Also within a process; and the next one when it is released."""
        one, other = FileLock(self.path), FileLock(self.path)
        one.acquire()
        self.assertRaises(FileLocked, other.acquire)
        one.release()
        other.acquire()
        self.assertRaises(FileLocked, one.acquire)
        other.release()
        one.release()

    def test_a_released_lock_is_free_though_a_copy_of_its_descriptor_is_open(self) -> None:
        """As in a process that was forked meanwhile."""
        one = FileLock(self.path)
        one.acquire()
        copies = [os.dup(one._descriptor)]
        self.addCleanup(os.close, copies[0])
        one.release()
        other = FileLock(self.path)
        other.acquire()
        other.release()

    def test_the_file_itself_is_not_touched(self) -> None:
        """So SQLite's locks on it stay, whoever tries to have it."""
        private.create_file(self.path)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            before = posix_locks(self.path)
            self.assertTrue(before)
            one, other = FileLock(self.path), FileLock(self.path)
            one.acquire()
            private.create_file(self.path)
            self.assertRaises(FileLocked, other.acquire)
            one.release()
            self.assertEqual(posix_locks(self.path), before)

    def test_a_file_that_others_can_change_is_refused(self) -> None:
        """The one beside it, and the file itself, are this user's alone."""
        for path in (self.path + ENDING, self.path):
            with open(path, "w"):
                os.chmod(path, 0o666)
        self.assertRaises(private.NotPrivate, FileLock(self.path).acquire)
        self.assertRaises(private.NotPrivate, private.create_file, self.path)
        os.unlink(self.path)
        os.symlink("elsewhere", self.path)
        self.assertRaises(private.NotPrivate, private.create_file, self.path)

    def test_a_file_system_without_locks_is_an_error_where_they_are_required(self) -> None:
        """Others go on without."""

        def flock(descriptor: int, how: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        self.patch(fcntl, "flock", flock)
        one = FileLock(self.path)
        self.assertRaises(OSError, one.acquire)
        one.acquire(required=False)
        one.release()

    def test_a_new_file_is_this_users_alone(self) -> None:
        """Whatever the umask is."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        private.create_file(self.path)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
