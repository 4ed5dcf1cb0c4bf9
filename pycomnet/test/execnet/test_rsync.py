"""A single file that the drop-in's RSync sends is written where nobody can lead it elsewhere."""

from __future__ import annotations

import os
import stat

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.execnet.rsync import write_file


class SenderChannel:
    """The near side.

    :param directory: where the file will be.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._pieces = [b"secret ", b"content", b""]
        self.modes: list[int] = []

    def send(self, value: object) -> None:
        """It asks for more: look at what is there meanwhile."""
        for name in os.listdir(self._directory):
            found = os.lstat(os.path.join(self._directory, name))
            if stat.S_ISREG(found.st_mode):
                self.modes.append(stat.S_IMODE(found.st_mode))

    def receive(self) -> bytes:
        """The next piece."""
        return self._pieces.pop(0)


class WriteFileTests(SynchronousTestCase):
    """:func:`write_file`."""

    def test_a_file_is_written_where_no_link_leads_elsewhere(self) -> None:
        """Others may write in that directory, and knew the name of the temporary file."""
        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory)
        victim = os.path.abspath(self.mktemp())
        path = os.path.join(directory, "file")
        os.symlink(victim, f"{path}.{os.getpid()}")
        channel = SenderChannel(directory)
        write_file(channel, path, 0o640, (1, 2))
        self.assertFalse(os.path.exists(victim))
        with open(path) as file:
            self.assertEqual(file.read(), "secret content")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o640)
        self.assertEqual(os.stat(path).st_mtime, 2)
        self.assertEqual(set(channel.modes), {0o600})

    def test_what_can_not_be_finished_leaves_the_old_file(self) -> None:
        """And nothing else."""
        directory = os.path.abspath(self.mktemp())
        path = os.path.join(directory, "made", "file")
        channel = SenderChannel(directory)
        write_file(channel, path, 0o600, (1, 2))
        channel = SenderChannel(os.path.dirname(path))
        del channel._pieces[1:]
        with self.assertRaises(IndexError):
            write_file(channel, path, 0o600, (3, 4))
        self.assertEqual(os.listdir(os.path.dirname(path)), ["file"])
        self.assertEqual(os.stat(path).st_mtime, 2)
