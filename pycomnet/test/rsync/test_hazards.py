"""What a receiver must not do: work in another directory, take another run's file, or leave one."""

from __future__ import annotations

import errno
import fcntl
import os

from twisted.trial.unittest import SkipTest

from pycomnet.far.rsync import names, scan, tree
from pycomnet.far.rsync.files import TEMPORARY, NewFile, is_same, temporary_name
from pycomnet.far.rsync.tree import open_tree
from pycomnet.test.rsync.kit import Sender, sync, tree_of
from pycomnet.test.rsync.test_cases import NOON, CaseTests


class OpenDirectoryTests(CaseTests):
    """Directories that are in use while others are opened."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(scan, "BATCH", 10)
        self.patch(scan, "FIRST_BATCH", 10)

    def test_directory_that_spans_lists(self) -> None:
        """What is in it goes into it, though other directories were opened and closed meanwhile."""
        for number in range(40):
            self.in_source(f"a/{number}/file", b"%d" % number)
        for number in range(30):
            self.in_source(f"b/{number}/file", b"%d" % number)
            os.symlink("0", f"{self.source}/b/link{number}")
        for kept in (0, 1, 4, 32):
            self.patch(tree, "KEPT", kept)
            destination = f"{self.destination}/{kept}"
            Sender(self.source, ahead=False).run(destination)
            self.assertEqual(tree_of(destination), tree_of(self.source))

    def test_hard_links_across_directories(self) -> None:
        """The other names of files may be in any number of directories."""
        for number in range(12):
            self.in_source(f"{number:02}/a/b/c/file", b"%d" % number)
        os.makedirs(f"{self.source}/z/y/x")
        for number in range(12):
            os.link(f"{self.source}/{number:02}/a/b/c/file", f"{self.source}/z/y/x/{number}")
        os.utime(f"{self.source}/z/y/x", ns=(NOON, NOON))
        for kept in (0, 2, 32):
            self.patch(tree, "KEPT", kept)
            destination = f"{self.destination}/{kept}"
            for _ in range(2):
                Sender(self.source, ahead=False, hard_links=True).run(destination)
            self.assertEqual(tree_of(destination), tree_of(self.source))

    def test_full_directories_in_the_way_leave_nothing_open(self) -> None:
        """Who looks into a directory closes it."""
        for number in range(20):
            self.in_source(f"{number}", b"x")
            self.in_destination(f"{number}/full")
        before = os.listdir("/proc/self/fd")
        self.assertEqual(len(sync(self.source, self.destination)["failed"]), 20)
        self.assertEqual(os.listdir("/proc/self/fd"), before)


class TemporaryTests(CaseTests):
    """Files under temporary names: the own ones, those of others, and what only looks so."""

    LEFT = (TEMPORARY + b"0" * 20).decode()

    def test_what_only_looks_temporary_stays(self) -> None:
        """Without ``delete`` no directory goes, and no other name that begins so."""
        for path in (f"{self.LEFT}/file", ".pycomnet-cache/file", ".pycomnet-notes"):
            self.in_destination(path)
        self.in_destination(f"sub/{self.LEFT}")
        self.in_source("sub/x")
        self.in_source(".pycomnet-sent")
        self.assertEqual(sync(self.source, self.destination)["deleted"], [])
        found = set(tree_of(self.destination))
        self.assertEqual(
            {path.decode() for path in found},
            {
                *(self.LEFT, f"{self.LEFT}/file", ".pycomnet-cache", ".pycomnet-cache/file"),
                *(".pycomnet-notes", "sub", "sub/x", ".pycomnet-sent"),
            },
        )
        deleted = sync(self.source, self.destination, delete=True)["deleted"]
        self.assertEqual(
            sorted(deleted), sorted([self.LEFT.encode(), b".pycomnet-cache", b".pycomnet-notes"])
        )
        self.assert_equal_trees()

    def test_file_that_another_run_writes_is_not_removed(self) -> None:
        """A run that writes a file beside another one leaves what the other one writes."""
        self.in_source("file", os.urandom(300000))
        opened = open_tree(self.destination, names.of_this_system()).root
        other = NewFile(opened, lambda name: name, b"file")
        os.write(other.descriptor, b"half")
        sync(self.source, self.destination)
        self.assertEqual(len(os.listdir(self.destination)), 2)
        self.assertTrue(is_same(opened, other.temporary, other.descriptor))
        os.write(other.descriptor, b", whole")
        other.commit(0o644, NOON)
        with open(f"{self.destination}/file", "rb") as file:
            self.assertEqual(file.read(), b"half, whole")
        self.assertEqual(os.listdir(self.destination), ["file"])

    def test_file_that_was_taken_is_not_renamed(self) -> None:
        """Where the temporary name is another file's now, that one does not get the name."""
        opened = open_tree(self.destination, names.of_this_system()).root
        own = NewFile(opened, lambda name: name, b"file")
        os.remove(f"{self.destination}/{own.temporary.decode()}")
        self.in_destination(own.temporary.decode(), b"half of another run's")
        with self.assertRaises(OSError):
            own.commit(0o644, NOON)
        own.close()
        self.assertEqual(os.listdir(self.destination), [own.temporary.decode()])

    def test_file_system_without_locks(self) -> None:
        """There files arrive, too; and what was left is removed when it is old."""

        def no_locks(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        self.in_source("short", b"x")
        self.in_source("long", os.urandom(100000))
        self.in_destination((TEMPORARY + b"1" * 20).decode(), b"old", NOON)
        young = self.in_destination((TEMPORARY + b"2" * 20).decode(), b"young", None)
        self.patch(fcntl, "flock", no_locks)
        self.assertEqual(sync(self.source, self.destination)["failed"], {})
        self.assertEqual(
            sorted(os.listdir(self.destination)), [os.path.basename(young), "long", "short"]
        )

    def test_file_that_could_not_be_made_and_is_given_up(self) -> None:
        """It has failed, and the rest goes on."""
        self.in_source("a", os.urandom(100000))
        self.in_source("b", b"x")
        create = tree.AtDirectory.create

        def refuse(directory: tree.AtDirectory, name: bytes) -> int:
            if name == temporary_name(b"a"):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
            return create(directory, name)

        self.patch(tree.AtDirectory, "create", refuse)
        sender = Sender(self.source)
        put = sender.raw.put
        sender.raw.put = lambda data: put(b"X" if data[:1] == b"E" else data)  # type: ignore
        done = sender.run(self.destination)
        self.assertEqual(done["failed"], {b"a": "Permission denied"})
        self.assertEqual(done["sent"], [b"b"])


class OddTimeTests(CaseTests):
    def test_time_that_has_no_room_on_the_wire(self) -> None:
        """A file whose time is centuries away has failed; the rest goes on."""
        path = self.in_source("odd", b"x")
        self.in_source("other", b"x")
        os.utime(path, (10**10, 10**10))
        if os.stat(path).st_mtime_ns < 1 << 63:
            raise SkipTest("this file system has no such times")
        self.in_destination("odd", b"old")
        done = sync(self.source, self.destination, delete=True)
        self.assertEqual(set(done["failed"]), {b"odd"})
        self.assertEqual((done["sent"], done["deleted"]), ([b"other"], []))
