"""The directories of a destination: few are open at a time, and none is mistaken for another."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.rsync import names, scan, tree
from pycomnet.far.rsync.files import ShortFiles
from pycomnet.far.rsync.tree import PathDirectory, Tree, open_tree
from pycomnet.test.properties import given, settings
from pycomnet.test.rsync.kit import CutOff, Sender, sync, write
from pycomnet.test.rsync.test_cases import NOON, CaseTests


class OpenDirectoryTests(CaseTests):
    """More directories than are kept open, and lists that come between their content."""

    def make_directories(self, count: int) -> None:
        """Make directories with a file each, that come before one that takes several lists."""
        for number in range(count):
            self.in_source(f"a{number}/file", b"content %d" % number)
        for number in range(30):
            os.makedirs(f"{self.source}/many/d{number}")
            os.symlink(f"to {number}", f"{self.source}/many/l{number}")
            self.in_source(f"many/f{number}", b"file %d" % number)

    def assert_sent(self, lists_first: int, kept: int, most: int, **options: Any) -> None:
        """Send it all, the content after so many lists; the trees are equal."""
        with (
            mock.patch.object(tree, "KEPT", kept),
            mock.patch.multiple(scan, FIRST_BATCH=most, BATCH=most),
        ):
            sender = Sender(self.source, lists_first=lists_first, **options)
            self.assertEqual(sender.run(self.destination)["failed"], {})
        self.assert_equal_trees()

    def test_directory_in_two_lists(self) -> None:
        """What comes between two lists of a directory does not close it under the second."""
        self.make_directories(20)
        for lists_first in range(4, 11):
            self.assert_sent(lists_first, 4, 10)
            shutil.rmtree(self.destination)

    def test_directory_in_two_lists_again(self) -> None:
        """Nor where there is an old tree, in which each name is something else."""
        self.make_directories(12)
        for lists_first in range(3, 16, 2):
            for number in range(30):
                self.in_destination(f"many/l{number}", b"a file")
                os.makedirs(f"{self.destination}/many/f{number}")
            self.assert_sent(lists_first, 2, 5)
            shutil.rmtree(self.destination)

    def test_leaders_elsewhere(self) -> None:
        """To look at the first names of hard links closes no directory that is in use."""
        for number in range(10):
            self.in_source(f"a{number}/first", b"content %d" % number)
        os.makedirs(f"{self.source}/b/c/d/e/f")
        for number in range(10):
            for path in ("b", "b/c/d/e/f"):
                os.link(f"{self.source}/a{number}/first", f"{self.source}/{path}/{number}")
            self.in_destination(f"b/{number}", b"content %d" % number)
        for _ in range(2):
            self.assert_sent(9, 2, 1000, hard_links=True)

    @settings(max_examples=6, deadline=None)
    @given(st.integers(0, 20), st.integers(1, 6), st.integers(1, 40), st.booleans())
    def test_any_order(self, lists_first: int, kept: int, most: int, again: bool) -> None:
        """However many are kept, and however long the lists are, the trees are equal."""
        self.setUp()
        self.make_directories(8)
        os.link(f"{self.source}/a0/file", f"{self.source}/many/link")
        if again:
            for number in range(0, 30, 3):
                self.in_destination(f"many/f{number}", b"old %d" % number, NOON - 1)
        self.assert_sent(lists_first, kept, most, hard_links=True)


class DescriptorTests(CaseTests):
    """What is open after a run, and how much at once."""

    def assert_nothing_left_open(self, run: Callable[[], object]) -> None:
        """Fail if a run leaves descriptors open."""
        before = os.listdir("/proc/self/fd")
        run()
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    def test_directories_in_the_place_of_files(self) -> None:
        """A directory that is looked at, as a file shall be in its place, is closed."""
        for number in range(5):
            self.in_source(f"f{number}", b"content")
            os.makedirs(f"{self.destination}/f{number}")
        self.assert_nothing_left_open(lambda: sync(self.source, self.destination))
        self.assert_equal_trees()

    def test_run_that_ends_early(self) -> None:
        """The old files that new ones take parts from are closed when the connection is lost."""
        for number in range(3):
            content = os.urandom(300000)
            self.in_source(f"f{number}", content[::-1])
            self.in_destination(f"f{number}", content, NOON - 1)

        def run() -> None:
            self.assertRaises(CutOff, Sender(self.source, cut=100000).run, self.destination)

        self.assert_nothing_left_open(run)

    def test_full_disk(self) -> None:
        """What there is no room for fails; what is there stays, and nothing is left behind."""
        for name in ("long", "short"):
            size = 300000 if name == "long" else 3000
            self.in_source(name, os.urandom(size))
            self.in_destination(name, b"old" * size, NOON - 1)
        self.in_source("empty")

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def run() -> None:
            with mock.patch.object(os, "write", full):
                done = sync(self.source, self.destination)
            self.assertEqual(sorted(done["failed"]), [b"long", b"short"])
            self.assertEqual(done["sent"], [b"empty"])

        self.assert_nothing_left_open(run)
        self.assertEqual(sorted(os.listdir(self.destination)), ["empty", "long", "short"])
        self.assertEqual(Path(self.destination, "short").read_bytes(), b"old" * 3000)
        self.assertEqual(Path(self.destination, "long").read_bytes(), b"old" * 300000)
        self.assertEqual(sync(self.source, self.destination)["failed"], {})
        self.assert_equal_trees()

    def test_time_that_the_system_can_not_have(self) -> None:
        """It is that entry's failure, whatever kind it is; the others go on."""
        odd = NOON + 86400
        self.in_source("short", b"short", odd)
        self.in_source("long", os.urandom(300000), odd)
        self.in_source("same", b"same", odd)
        self.in_destination("same", b"same")
        self.in_source("directory/in", b"in it")
        os.symlink("text", f"{self.source}/link")
        for name in ("directory", "link"):
            os.utime(f"{self.source}/{name}", ns=(odd, odd), follow_symlinks=False)
        self.in_source("other", b"other")
        utime = os.utime

        def of_32_bits(path: Any, times: Any = None, **given: Any) -> None:
            if given.get("ns") == (odd, odd):
                raise OverflowError("timestamp out of range for platform time_t")
            utime(path, times, **given)

        with mock.patch.object(os, "utime", of_32_bits):
            done = sync(self.source, self.destination)
        self.assertEqual(
            sorted(done["failed"]), [b"directory", b"link", b"long", b"same", b"short"]
        )
        self.assertEqual(sorted(done["sent"]), [b"directory/in", b"other"])
        self.assertEqual(sorted(os.listdir(self.destination)), ["directory", "other", "same"])
        self.assertEqual(sync(self.source, self.destination)["failed"], {})
        self.assert_equal_trees()

    def test_deeper_than_python_recurses(self) -> None:
        """A tree of any depth is sent and deleted; few of its directories are open at once."""
        base = os.path.dirname(self.source)
        # trial, which removes it before its next run, recurses as well.
        self.addCleanup(subprocess.run, ["rm", "-rf", base], check=True)
        depth = sys.getrecursionlimit() + 200
        descriptor = os.open(self.source, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("d", dir_fd=descriptor)
            inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        os.close(descriptor)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        few = len(os.listdir("/proc/self/fd")) + 2 * tree.KEPT + 20
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, most[1]))
        try:
            done = sync(self.source, self.destination)
            self.assertEqual((done["failed"], len(done["made"])), ({}, depth))
            empty = os.path.join(base, "empty")
            os.mkdir(empty)
            for full in (self.destination, self.source):
                done = sync(empty, full, delete=True)
                self.assertEqual((done["failed"], done["deleted"]), ({}, [b"d"]))
                self.assertEqual(os.listdir(full), [])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, most)


class TreeTests(CaseTests):
    """Which directories are open."""

    def open(self, *paths: str) -> Tree:
        for path in paths:
            write(f"{self.destination}/{path}/file", path.encode(), NOON)
        opened = open_tree(self.destination.encode(), names.Posix())
        assert opened is not None
        self.addCleanup(opened.close)
        return opened

    def test_least_recently_used(self) -> None:
        """The one that was not used for longest is closed, not the one that was opened first."""
        opened = self.open("a", "b", "c")
        with mock.patch.object(tree, "KEPT", 2):
            first, second = opened.directory(b"a"), opened.directory(b"b")
            self.assertIs(opened.directory(b"a"), first)
            opened.directory(b"c")
        self.assertEqual(first.names(), [b"file"])
        self.assertRaises(OSError, second.names)

    def test_held(self) -> None:
        """What is held is not closed, also while a deeper tree is walked; later it is."""
        opened = self.open("a", "b/c/d/e")
        with mock.patch.object(tree, "KEPT", 1):
            with opened.hold(b"a") as held, opened.hold(b"b/c/d/e") as other:
                self.assertEqual((held.names(), other.names()), ([b"file"], [b"file"]))
            opened.directory(b"b")
            opened.directory(b"b/c")
        self.assertRaises(OSError, held.names)

    def test_mode_of_a_link(self) -> None:
        """The mode of what a link points to is not changed, whatever the directory is opened by."""
        os.chmod(self.in_source("private", b"content"), 0o600)
        os.symlink(f"{self.source}/private", f"{self.destination}/link")
        os.symlink(self.source, f"{self.destination}/directories")
        os.chmod(self.source, 0o700)
        by_path = PathDirectory(self.destination.encode(), names.Posix())
        for opened in (self.open().root, by_path):
            for name in (b"link", b"directories"):
                self.assertRaises(OSError, opened.chmod, name, 0o777)
                with mock.patch.object(opened, "open", side_effect=PermissionError(13, "no")):
                    self.assertRaises(OSError, opened.chmod, name, 0o777)
        self.assertEqual(stat.S_IMODE(os.stat(f"{self.source}/private").st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.source).st_mode), 0o700)

    def test_mode_of_what_is_not_readable(self) -> None:
        """What can't be opened to read gets its mode all the same."""
        opened = self.open("d").root
        with mock.patch.object(opened, "open", side_effect=PermissionError(13, "no")):
            opened.chmod(b"d", 0o751)
        self.assertEqual(stat.S_IMODE(os.stat(f"{self.destination}/d").st_mode), 0o751)

    def test_closed_is_an_error(self) -> None:
        """A directory that was closed is not the next one that is opened, nor the current one."""
        opened = self.open("a", "b")
        first = opened.directory(b"a")
        opened.forget(b"a")
        opened.directory(b"b")
        for function, arguments in (
            (first.names, ()),
            (first.status, (b"file",)),
            (first.own_status, ()),
            (first.mkdir, (b"new",)),
            (first.remove, (b"file",)),
            (first.child, (b"b",)),
        ):
            self.assertRaises(OSError, function, *arguments)
        first.close()
        self.assertEqual(opened.directory(b"b").names(), [b"file"])


class MissingFunctionTests(CaseTests):
    """Where an ``os`` has no function of a name, Jython looks for a Java class each time."""

    def test_looked_up_once(self) -> None:
        """How often absent names are looked up does not depend on the number of files."""
        absent: list[str] = []
        hidden = {"replace", "symlink", "supports_follow_symlinks", "O_NONBLOCK", "scandir"}

        class OldOs:
            """As Jython's: names in it, no descriptors of directories, times in two floats."""

            def __getattr__(self, name: str) -> Any:
                if name in hidden:
                    absent.append(name)
                    raise AttributeError(name)
                return getattr(os, name)

        counts = []
        for number in (1, 9):
            absent.clear()
            opened = open_tree(
                f"{self.destination}/{number}".encode(), names.Posix(), True, OldOs()
            )
            assert opened is not None
            shorts = ShortFiles(names.Posix().native)
            shorts.enter(opened.root)
            for each in range(number):
                name = b"f%d" % each
                shorts.write(name, b"content", 0o644, NOON)
                opened.root.utime(name, NOON)
                opened.root.rename(name, name + b"x")
                os.close(opened.root.open(name + b"x"))
                self.assertRaises(OSError, opened.root.symlink, b"to", b"link")
            opened.root.mkdir(b"d")
            opened.directory(b"d").mkdir(b"e")
            self.assertEqual(len(opened.root.names()), number + 1)
            counts.append(sorted(absent))
        self.assertEqual(counts[0], counts[1])


class MadeMeanwhileTests(SynchronousTestCase):
    """A root that another run makes at the same time, as one that was cancelled and has not seen
    that yet."""

    def open(self, other_makes: Callable[[str], object]) -> Any:
        path = self.mktemp()
        seen = [False]  # what the first look says

        def makedirs(wanted: str) -> None:
            other_makes(wanted)
            raise FileExistsError(errno.EEXIST, "File exists")

        places = SimpleNamespace(
            abspath=os.path.abspath,
            join=os.path.join,
            lexists=os.path.lexists,
            isdir=lambda one: seen.pop(0) if seen else os.path.isdir(one),
        )
        system = SimpleNamespace(path=places, makedirs=makedirs)
        return open_tree(path, names.of_this_system(), True, system)

    def test_directory_is_taken(self) -> None:
        """It is the one that was wanted; also if it was made between two looks."""
        self.assertIsNotNone(self.open(os.mkdir))

    def test_file_is_refused(self) -> None:
        """A file of that name is none."""
        with self.assertRaises(FileExistsError):
            self.open(lambda path: Path(path).write_text("a file"))
