"""Temporary files: what a killed run has left goes; what a user has, and what is in use, stays."""

from __future__ import annotations

import fcntl
import os
from unittest import mock

from pycomnet.far.rsync import files
from pycomnet.far.rsync.files import TEMPORARY, is_temporary, temporary_name
from pycomnet.test.rsync.kit import sync, tree_of
from pycomnet.test.rsync.test_cases import NOON, CaseTests

LEFT = TEMPORARY.decode() + "0123456789abcdef0123"


class LeftTests(CaseTests):
    """What is at the destination only, and has a temporary file's name, or nearly."""

    def test_form(self) -> None:
        """Each temporary name has the form, and nothing else that begins as they do."""
        made = [temporary_name(b"name"), files.other_temporary_name()]
        made.append(files.TemporaryNames().next())
        for name in made:
            self.assertTrue(is_temporary(name), name)
        for name in (
            b"cache",
            b"0" * 19,
            b"0" * 21,
            b"0" * 19 + b"g",
            b"0" * 20 + b"\n",
            b"A" * 20,
        ):
            self.assertFalse(is_temporary(TEMPORARY + name), name)

    def test_left_file(self) -> None:
        """What a killed run has left is removed without delete, and that is said."""
        self.in_destination(LEFT, b"left")
        self.in_destination("mine", b"mine")
        self.assertEqual(
            sync(self.source, self.destination, dry_run=True)["deleted"], [LEFT.encode()]
        )
        self.assertEqual(sorted(os.listdir(self.destination)), [LEFT, "mine"])
        self.assertEqual(sync(self.source, self.destination)["deleted"], [LEFT.encode()])
        self.assertEqual(os.listdir(self.destination), ["mine"])

    def test_names_of_a_user(self) -> None:
        """Directories, links and all that only begins with the prefix stay without delete."""
        self.in_destination(".pycomnet-cache/file")
        self.in_destination(".pycomnet-notes")
        self.in_destination(f"{LEFT}/file")
        os.symlink("x", f"{self.destination}/{LEFT[:-1]}4")
        before = tree_of(self.destination)
        done = sync(self.source, self.destination)
        self.assertEqual((done["deleted"], done["failed"]), ([], {}))
        self.assertEqual(set(tree_of(self.destination)), set(before))

    def test_names_of_a_user_with_delete(self) -> None:
        """With delete they go as all else, and each is named."""
        self.in_destination(".pycomnet-cache/file")
        self.in_destination(f"{LEFT}/file")
        self.in_destination(f"{LEFT[:-1]}4")
        done = sync(self.source, self.destination, delete=True)
        self.assertEqual(sorted(done["deleted"]), sorted(
            [b".pycomnet-cache", LEFT.encode(), LEFT[:-1].encode() + b"4"]
        ))  # fmt: skip
        self.assertEqual(os.listdir(self.destination), [])

    def test_file_of_another_user(self) -> None:
        """A file of that form that another user owns stays."""
        self.in_destination(LEFT, b"left")
        with mock.patch.object(os, "geteuid", lambda: os.getuid() + 1):
            self.assertEqual(sync(self.source, self.destination)["deleted"], [])
        self.assertEqual(os.listdir(self.destination), [LEFT])

    def test_file_in_use(self) -> None:
        """One that another run has locked stays, with delete as well."""
        path = self.in_destination(LEFT, b"left")
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for delete in (False, True):
                self.assertEqual(sync(self.source, self.destination, delete=delete)["deleted"], [])
        self.assertEqual(os.listdir(self.destination), [LEFT])

    def test_names_at_the_source(self) -> None:
        """There what has the form is skipped, which is said; what only begins so is sent."""
        self.in_source(".pycomnet-cache/file", b"content")
        self.in_source(f"{LEFT}0/file", b"content")
        self.in_source(".pycomnet-notes", b"content")
        self.in_source(LEFT, b"left")
        done = sync(self.source, self.destination)
        self.assertEqual(set(done["skipped"]), {LEFT.encode()})
        os.remove(f"{self.source}/{LEFT}")
        os.utime(self.source, ns=(NOON, NOON))
        sync(self.source, self.destination)
        self.assert_equal_trees()
