"""Temporary files: what a killed run has left goes; what a user has, and what is in use, stays."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.rsync import files, names
from pycomnet.far.rsync.files import (
    TEMPORARY,
    NewFile,
    ShortFiles,
    is_temporary,
    remove_left,
    temporary_name,
    temporary_names,
    write_all,
)
from pycomnet.far.rsync.oldfiles import OldFiles
from pycomnet.far.rsync.tree import AtDirectory, PathDirectory
from pycomnet.test.rsync.kit import CutOff, Sender, sync, tree_of
from pycomnet.test.rsync.test_cases import NOON, CaseTests

LEFT = TEMPORARY.decode() + "0123456789abcdef0123"


class LeftTests(CaseTests):
    """What is at the destination only, and has a temporary file's name, or nearly."""

    def test_form(self) -> None:
        """Each temporary name has the form, and nothing else that begins as they do."""
        made = [temporary_name(b"name"), files.other_temporary_name()]
        shorts = ShortFiles(names.Posix().native)
        opened = AtDirectory(os.open(self.destination, os.O_RDONLY))
        self.addCleanup(opened.close)
        shorts.enter(opened)
        with mock.patch.object(os, "rename", lambda name, *_, **__: made.append(name)):
            shorts.write(b"name", b"", 0o644, NOON)
        self.assertEqual(len(made), 3)
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


class DisturbedDirectory(AtDirectory):
    """A directory in which another run cleans up, at the worst moment.

    :param when: ``create``: a file is made and not locked yet; ``rename``: it is finished.
    :ivar removed: how many files the other run has removed.
    """

    def __init__(self, path: str, when: str, times: int = 1) -> None:
        super().__init__(os.open(path, os.O_RDONLY))
        self._when = when
        self._times = times
        self.removed = 0

    def clean(self, when: str, name: bytes) -> None:
        if when == self._when and self._times:
            self._times -= 1
            self.removed += remove_left(AtDirectory(self.descriptor), name)

    def create(self, name: bytes) -> int:
        descriptor = super().create(name)
        self.clean("create", name)
        return descriptor

    def rename(self, name: bytes, other: bytes) -> None:
        self.clean("rename", name)
        super().rename(name, other)


class TwoRunsTests(CaseTests):
    """Several runs to one destination at once."""

    def disturbed(self, when: str, times: int = 1) -> DisturbedDirectory:
        opened = DisturbedDirectory(self.destination, when, times)
        self.addCleanup(opened.close)
        return opened

    def test_no_half_file(self) -> None:
        """What a third run has written by half does not get the name from the first one."""
        content = os.urandom(300000)
        self.in_source("file", content)
        opened = self.disturbed("never")
        for first in (opened, PathDirectory(self.destination.encode(), names.Posix())):
            one = NewFile(first, names.Posix().native, b"file")
            write_all(one.descriptor, b"one " * 10)
            self.assertEqual(sync(self.source, self.destination)["failed"], {})  # the second
            third = NewFile(opened, names.Posix().native, b"file")
            write_all(third.descriptor, b"thr")
            write_all(one.descriptor, b"end")
            one.commit(0o644, NOON)
            self.assertEqual(tree_of(self.destination)[b"file"][3], b"one " * 10 + b"end")
            third.discard()
            self.assertEqual(os.listdir(self.destination), ["file"])

    def test_file_systems_without_locks(self) -> None:
        """Where nothing can be locked, short and long files arrive all the same."""
        self.in_source("short", b"content")
        self.in_source("long", os.urandom(300000))
        problem = OSError(errno.ENOLCK, "No locks available")
        with mock.patch.object(fcntl, "flock", side_effect=problem):
            self.assertEqual(sync(self.source, self.destination)["failed"], {})
        self.assertEqual(tree_of(self.destination), tree_of(self.source))

    def test_short_file_that_another_run_removes(self) -> None:
        """In a directory by path: it is written again; what can't be written leaves nothing."""
        opened = PathDirectory(self.destination.encode(), names.Posix())
        shorts = ShortFiles(names.Posix().native)
        shorts.enter(opened)
        finish = opened.finish
        removed: list[bytes] = []

        def disturbed(name: bytes, *rest: Any) -> None:
            if not removed:
                removed.append(name)
                os.unlink(os.path.join(self.destination.encode(), name))
            finish(name, *rest)

        with mock.patch.object(opened, "finish", disturbed):
            shorts.write(b"file", b"content", 0o640, NOON)
        self.assertEqual(len(removed), 1)
        status = os.stat(f"{self.destination}/file")
        self.assertEqual((stat.S_IMODE(status.st_mode), status.st_mtime_ns), (0o640, NOON))
        os.mkdir(f"{self.destination}/directory")
        self.assertRaises(IsADirectoryError, shorts.write, b"directory", b"x", 0o640, NOON)
        self.assertEqual(sorted(os.listdir(self.destination)), ["directory", "file"])

    def test_full_disk_by_path(self) -> None:
        """A short file that the disk has no room for leaves nothing, and the old one stays."""
        opened = PathDirectory(self.destination.encode(), names.Posix())
        shorts = ShortFiles(names.Posix().native)
        shorts.enter(opened)
        shorts.write(b"file", b"old", 0o644, NOON)
        problem = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch.object(os, "write", side_effect=problem):
            self.assertRaises(OSError, shorts.write, b"file", b"new", 0o644, NOON)
        self.assertEqual(os.listdir(self.destination), ["file"])
        self.assertEqual(tree_of(self.destination)[b"file"][3], b"old")

    def test_clean_up_before_the_lock(self) -> None:
        """A file that is removed before it was locked is made again."""
        opened = self.disturbed("create", 2)
        new = NewFile(opened, names.Posix().native, b"long")
        write_all(new.descriptor, b"content")
        new.commit(0o644, NOON)
        self.assertEqual(opened.removed, 2)
        self.assertEqual(tree_of(self.destination)[b"long"][3], b"content")

    def test_clean_up_before_the_rename(self) -> None:
        """A file that is finished is not removed before it has its name."""
        opened = self.disturbed("rename")
        new = NewFile(opened, names.Posix().native, b"long")
        new.commit(0o644, NOON)
        self.assertEqual(opened.removed, 0)
        self.assertEqual(os.listdir(self.destination), ["long"])

    def test_clean_up_of_short_files(self) -> None:
        """Those that come whole are written again, if another run takes them for left ones."""
        opened = self.disturbed("never")
        shorts = ShortFiles(names.Posix().native)
        shorts.enter(opened)
        rename = os.rename
        removed: list[bytes] = []

        def disturbed(name: bytes, *others: Any, **directories: Any) -> None:
            if len(removed) < 3:
                self.assertTrue(remove_left(opened, name))
                removed.append(name)
            rename(name, *others, **directories)

        with mock.patch.object(os, "rename", disturbed):
            shorts.write(b"short", b"new", 0o644, NOON)
        self.assertEqual(len(set(removed)), 3)
        self.assertEqual(tree_of(self.destination)[b"short"][3], b"new")
        self.assertEqual(os.listdir(self.destination), ["short"])

    def test_temporary_name_that_somebody_has(self) -> None:
        """A short file whose temporary name is taken gets another one, and what has it stays."""
        opened = AtDirectory(os.open(self.destination, os.O_RDONLY))
        self.addCleanup(opened.close)
        shorts = ShortFiles(names.Posix().native)
        shorts.enter(opened)
        taken: list[bytes] = []
        rename = os.rename

        def take(name: bytes, *others: Any, **directories: Any) -> None:
            rename(name, *others, **directories)
            if not taken:
                taken.append(name)
                self.in_destination(name.decode(), b"somebody's")

        with mock.patch.object(os, "rename", take):
            for name in (b"first", b"second"):
                shorts.write(name, name, 0o644, NOON)
        found = {name: each[3] for name, each in tree_of(self.destination).items() if name}
        self.assertEqual(found, {b"first": b"first", b"second": b"second", taken[0]: b"somebody's"})

    def test_failed_write_of_jython_is_explained(self) -> None:
        """Whatever the reason, its error is EBADF, of a descriptor that is an object."""
        failed = OSError(errno.EBADF, "Bad file descriptor")
        with mock.patch.object(os, "write", side_effect=failed):
            with self.assertRaisesRegex(OSError, "the disk may be full"):
                write_all(object(), b"content")
            with self.assertRaisesRegex(OSError, "Bad file descriptor"):
                write_all(5, b"content")

    def test_short_file_that_can_not_be_made(self) -> None:
        """Where the directory is gone, the error is raised, and not tried for ever."""
        os.mkdir(f"{self.destination}/gone")
        opened = AtDirectory(os.open(f"{self.destination}/gone", os.O_RDONLY))
        self.addCleanup(opened.close)
        os.rmdir(f"{self.destination}/gone")
        shorts = ShortFiles(names.Posix().native)
        shorts.enter(opened)
        self.assertRaises(FileNotFoundError, shorts.write, b"short", b"new", 0o644, NOON)

    def test_modes_of_short_files(self) -> None:
        """Each has its mode, whatever the system takes from the modes of new files."""
        opened = self.disturbed("never")
        for mask in (0o000, 0o027, 0o777):
            shorts = ShortFiles(names.Posix().native)
            before = os.umask(mask)
            try:
                shorts.enter(opened)
                for mode in (0o644, 0o600, 0o755, 0o4755, 0o000) * 2:
                    shorts.write(b"short", b"new", mode, NOON)
                    self.assertEqual(os.stat(f"{self.destination}/short").st_mode & 0o7777, mode)
            finally:
                os.umask(before)

    def test_modes_while_short_files_are_written(self) -> None:
        """Nobody may do more with it than with the file that it becomes; and if the run is killed,
        another one can open what is left, and removes it."""
        opened = self.disturbed("never")
        shorts = ShortFiles(names.Posix().native)
        shorts.enter(opened)
        write, found = os.write, list[int]()

        def seen(descriptor: int, data: bytes) -> int:
            found.append(os.fstat(descriptor).st_mode & 0o7777)
            return write(descriptor, data)

        with mock.patch.object(os, "write", seen):
            for mode in (0o640, 0o400, 0o200, 0o000, 0o4711):
                shorts.write(b"short", b"new", mode, NOON)
                self.assertEqual(os.stat(f"{self.destination}/short").st_mode & 0o7777, mode)
        self.assertEqual(found, [0o640, 0o400, 0o600, 0o600, 0o600])

    def test_short_file_that_fails_while_another_run_removes_it(self) -> None:
        """What has failed is raised, and it is not tried again."""
        opened = self.disturbed("never")
        shorts = ShortFiles(names.Posix().native)
        shorts.enter(opened)
        tried = []

        def full(descriptor: int, data: bytes) -> int:
            (name,) = os.listdir(self.destination)
            tried.append(remove_left(opened, name.encode()))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with mock.patch.object(os, "write", full):
            problem = self.assertRaises(OSError, shorts.write, b"short", b"new", 0o644, NOON)
        self.assertEqual((problem.errno, tried), (errno.ENOSPC, [True]))
        self.assertEqual(os.listdir(self.destination), [])

    def test_discarded(self) -> None:
        """What has been replaced by another run's file is not removed."""
        opened = self.disturbed("never")
        new = NewFile(opened, names.Posix().native, b"long")
        os.remove(f"{self.destination}/{new.temporary.decode()}")
        other = NewFile(opened, names.Posix().native, b"long")
        self.assertEqual(other.temporary, new.temporary)
        self.assertRaises(OSError, new.commit, 0o644, NOON)
        new.discard()
        other.commit(0o644, NOON)
        self.assertEqual(os.listdir(self.destination), ["long"])

    def test_links(self) -> None:
        """To replace something by a link or another name takes no other run's temporary file."""
        first = self.in_source("first", b"content")
        os.link(first, f"{self.source}/second")
        os.symlink("first", f"{self.source}/link")
        self.in_destination("second", b"other")
        self.in_destination("link", b"other")
        opened = self.disturbed("never")
        others = [NewFile(opened, names.Posix().native, name) for name in (b"second", b"link")]
        for other in others:
            self.addCleanup(other.close)
        self.assertEqual(sync(self.source, self.destination, hard_links=True)["failed"], {})
        there = set(os.listdir(self.destination))
        self.assertEqual(
            there - {"first", "second", "link"}, {os.fsdecode(o.temporary) for o in others}
        )

    def test_left_basis(self) -> None:
        """What an earlier run has left goes when its file is whole, though it was the basis."""
        content = os.urandom(300000)
        self.in_source("long", content)
        self.in_destination(temporary_name(b"long").decode(), content[:200000])
        sender = Sender(self.source)
        self.assertEqual(sender.run(self.destination)["failed"], {})
        self.assertLess(sender.literal, 150000)
        self.assertEqual(os.listdir(self.destination), ["long"])

    def test_run_that_is_killed_again_and_again(self) -> None:
        """Each run goes on from where the last one was, and no more than two files are left."""
        content = os.urandom(2000000)
        self.in_source("long", content)
        self.in_destination("long", os.urandom(2000000), NOON - 1)  # nothing of it is of use
        literal = []
        for cut in (1000000, 500000, 200000, 100000, None):
            sender = Sender(self.source, cut=cut)
            if cut is None:
                self.assertEqual(sender.run(self.destination)["sent"], [b"long"])
            else:
                self.assertRaises(CutOff, sender.run, self.destination)
                left = set(os.listdir(self.destination)) - {"long"}
                self.assertLessEqual(left, set(map(os.fsdecode, temporary_names(b"long"))))
            literal.append(sender.literal)
        self.assertEqual(literal[0], 2000000)
        for so_far, wanted in zip(literal[1:], (1000000, 500000, 300000, 200000), strict=True):
            self.assertLess(abs(so_far - wanted), 150000)
        self.assertEqual(os.listdir(self.destination), ["long"])
        self.assert_equal_trees()

    def test_left_and_old_file(self) -> None:
        """Parts are taken from what a run has left, and from the old file as well."""
        content = os.urandom(1000000)
        self.in_source("long", content)
        self.in_destination("long", b"front" + content[500000:], NOON - 1)
        for place, name in enumerate(temporary_names(b"long")):
            self.in_destination(name.decode(), content[: 600000 - place * 500000])
        sender = Sender(self.source)
        self.assertEqual(sender.run(self.destination)["failed"], {})
        self.assertLess(sender.literal, 10000)
        self.assertEqual(os.listdir(self.destination), ["long"])
        self.assert_equal_trees()


class OldFilesTests(SynchronousTestCase):
    def test_all_are_as_one(self) -> None:
        """Whatever is read is as of one file; what is copied ends with a file."""
        contents = [os.urandom(10000), os.urandom(3), os.urandom(8193)]
        with ExitStack() as stack:
            files = [stack.enter_context(TemporaryFile()) for _ in contents]
            for file, content in zip(files, contents, strict=True):
                file.write(content)
                file.flush()
            descriptors = [os.dup(file.fileno()) for file in files]
            old = OldFiles(list(zip(map(len, contents), descriptors, strict=True)))
            whole = contents[0][:8192] + contents[2]
            self.assertEqual((old.block, old.size), (4096, len(whole)))
            for offset in (0, 100, 8191, 8192, 8193, 16384, 16385, 20000):
                for size in (0, 1, 5000, 30000):
                    self.assertEqual(old.read(offset, size), whole[offset : offset + size])
            output = stack.enter_context(TemporaryFile())
            self.assertEqual(old.copy(output.fileno(), 4096, 10000), 4096)
            self.assertEqual(old.copy(output.fileno(), 8192, 10000), 8193)
            output.seek(0)
            self.assertEqual(output.read(), whole[4096:])
            old.close()
