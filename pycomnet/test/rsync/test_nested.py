"""A destination in the source, around it, or the same: it is refused, unless it is excluded."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.rsync.entries import BadBatch
from pycomnet.far.rsync.nested import place_of, refuse_nested
from pycomnet.test.rsync.kit import Sender, tree_of, write


class NestedTests(SynchronousTestCase):
    """Two directories of one machine."""

    def setUp(self) -> None:
        self.base = os.path.realpath(self.mktemp())
        self.source = os.path.join(self.base, "around", "source")
        write(os.path.join(self.source, "sub", "file"), b"content")

    def refused(self, destination: str, **options: Any) -> str:
        """Why it is refused; nothing was written."""
        before = tree_of(self.base)
        with self.assertRaises(OSError) as raised:
            Sender(self.source, **options).run(destination)
        self.assertEqual(tree_of(self.base), before)
        return str(raised.exception.strerror)

    def test_destination_in_source(self) -> None:
        """There or not, in a dry run too, by whatever path."""
        os.symlink(os.path.join(self.source, "sub"), os.path.join(self.base, "elsewhere"))
        for destination in ("around/source/sub/there", "elsewhere/there", "elsewhere/a/../there"):
            for dry_run in (False, True):
                why = self.refused(os.path.join(self.base, destination), dry_run=dry_run)
                self.assertIn("in the source, as 'sub/there': exclude '/sub/there/'", why)
        self.assertIn("as 'sub'", self.refused(os.path.join(self.source, "sub")))

    def test_source_in_destination(self) -> None:
        """With ``delete`` it would delete the source, and without it could change it."""
        for delete in (False, True):
            why = self.refused(self.base, delete=delete)
            self.assertIn("in the destination, as 'around/source': exclude '/around/source/'", why)

    def test_source_itself(self) -> None:
        """By a link, too."""
        link = os.path.join(self.base, "link")
        os.symlink(self.source, link)
        for destination in (self.source, link):
            self.assertEqual(self.refused(destination), "the destination is the source itself")

    def test_excluded_destination(self) -> None:
        """One in the source, or around it, that takes no part."""
        inside = os.path.join(self.source, "sub", "backup")
        Sender(self.source, exclude=["/sub/backup/"], delete=True).run(inside)
        self.assertEqual(tree_of(inside).keys(), {b"sub", b"sub/file"})
        self.assertIn("exclude", self.refused(inside, exclude=["*.pyc"]))
        around = os.path.dirname(self.source)
        Sender(self.source, exclude=["backup", "/source/"], delete=True).run(around)
        self.assertEqual(set(os.listdir(around)), {"source", "sub"})

    def test_neighbour(self) -> None:
        """A directory beside it, whose name begins with its name."""
        Sender(self.source).run(self.source + "2")
        self.assertEqual(tree_of(self.source + "2"), tree_of(self.source))

    def test_other_machine(self) -> None:
        """There a device and inode are another directory's, whatever the paths are."""
        _, levels = place_of(self.source)
        refuse_nested(["another", levels], self.source, lambda path: True)
        refuse_nested(["", levels], self.source, lambda path: True)

    def test_system_without_inodes(self) -> None:
        """What can't be compared is not refused."""
        status = mock.Mock(st_dev=1, st_ino=0)
        with mock.patch("pycomnet.far.rsync.nested.os.stat", return_value=status):
            place = place_of(self.source)
            refuse_nested(place, self.source, lambda path: True)

    def test_nonsense(self) -> None:
        """What is no place ends a fetch as what breaks the protocol."""
        for place in (1, [], ["m"], ["m", []], ["m", [[1, "1:1"]]], ["m", [[b"x", 1]]], ["m", 5]):
            with self.assertRaises(BadBatch):
                refuse_nested(place, self.source, lambda path: True)
