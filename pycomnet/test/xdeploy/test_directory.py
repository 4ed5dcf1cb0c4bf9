"""The far side's directory: others can't reach it, and several threads write to it at once."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pycomnet.far.xdeploy import directory, environments, lookup, upkeep, wheels
from pycomnet.far.xdeploy.directory import VenvDirectory, clear, read_json, remove_tree
from pycomnet.far.xdeploy.interpreter import VenvRefused
from pycomnet.test.xdeploy.packages import wheel
from pycomnet.test.xdeploy.test_farside import DirectoryCase, ScriptedChannel

REQUEST: dict[str, Any] = {
    "name": "work",
    "key": "k",
    "python": None,
    "upgrade": False,
    "about": "{}",
    "look": False,
    "compile": True,
    "package": "pycomnet.far.xdeploy",
}


def mode(path: str | Path) -> int:
    """A file's permissions."""
    return stat.S_IMODE(os.stat(path).st_mode)


class PrivacyTests(DirectoryCase):
    """Nobody else may write to it, open its locks, or let it be another one."""

    def serve(self, root: Path) -> None:
        channel: Any = ScriptedChannel()
        lookup.serve(channel, {**REQUEST, "root": str(root)})

    def test_nothing_is_opened_in_a_directory_of_others(self) -> None:
        """It is refused before a lock in it is opened, which may be a link to any file of ours."""
        victim = self.path / "victim"
        victim.write_text("keys")
        root = self.path / "theirs"
        (root / "locks").mkdir(parents=True)
        (root / "locks" / "name-work").symlink_to(victim)
        root.chmod(0o777)
        self.assertRaises(VenvRefused, self.serve, root)
        self.assertEqual(victim.read_text(), "keys")
        self.assertEqual(os.listdir(root), ["locks"])

    def test_part_that_others_may_write_to_is_refused(self) -> None:
        """The parts are checked as well: they may have been there before."""
        victim = self.path / "victim"
        victim.write_text("keys")
        locks = Path(self.directory.path("locks"))
        (locks / "name-work").symlink_to(victim)
        locks.chmod(0o777)
        self.assertRaises(VenvRefused, self.serve, Path(self.directory.root))
        self.assertEqual(victim.read_text(), "keys")

    def test_lock_is_a_file_of_this_user(self) -> None:
        """A lock that is a link, or no plain file, is not opened."""
        victim = self.path / "victim"
        victim.write_text("keys")
        path = self.directory.path("locks", "a")
        os.symlink(victim, path)
        self.assertRaises(OSError, lookup.Lock, path, False)
        self.assertEqual(victim.read_text(), "keys")
        os.remove(path)
        os.mkfifo(path)
        self.assertRaisesRegex(
            OSError, "not a regular file that this user owns", lookup.Lock, path, False
        )

    def test_nobody_else_can_open_what_is_in_it(self) -> None:
        """Who can open a lock can keep it, and requirements may have passwords in them."""
        self.addCleanup(os.umask, os.umask(0o022))
        made = VenvDirectory(str(self.path / "new" / "root"))
        made.lock("a").release()
        made.write_name("work", "text")
        for path in (made.root, *map(made.path, directory.PARTS)):
            self.assertEqual(mode(path), 0o700, path)
        self.assertEqual(mode(made.path("locks", "a")), 0o600)
        self.assertEqual(mode(made.path("names", "work")), 0o600)

    def test_parents_that_are_made_are_for_this_user_to_write(self) -> None:
        """Whatever the umask is: who may write to a parent can let another directory be the one."""
        self.addCleanup(os.umask, os.umask(0o002))
        VenvDirectory(str(self.path / "a" / "b" / "root"))
        for path in ("a", "a/b"):
            self.assertEqual(mode(self.path / path), 0o755)

    def test_parents_are_checked(self) -> None:
        """One whose parent others may write to is refused, unless only we may replace it there."""
        for parent_mode, accepted in ((0o777, False), (0o1777, True), (0o755, True)):
            parent = self.path / f"{parent_mode:o}"
            parent.mkdir()
            parent.chmod(parent_mode)
            for root in (parent / "root", parent / "sub" / "root"):
                if accepted:
                    VenvDirectory(str(root))
                else:
                    self.assertRaises(VenvRefused, VenvDirectory, str(root))
            link = self.path / f"link-{parent_mode:o}"
            link.symlink_to(parent / "root")
            (parent / "root").mkdir(mode=0o700, exist_ok=True)
            self.assertEqual(lookup.is_private(str(link)), accepted)

    def test_a_group_of_its_own_may_write_to_parents(self) -> None:
        """Many systems give each user a group, and let it write to what the user makes."""
        parent = self.path / "parent"
        parent.mkdir()
        parent.chmod(0o775)
        root = str(parent / "root")
        self.patch(lookup, "_is_own_group", lambda gid: True)
        VenvDirectory(root)
        self.assertTrue(lookup.is_private(root))
        self.patch(lookup, "_is_own_group", lambda gid: False)
        self.assertFalse(lookup.is_private(root))
        self.assertRaises(VenvRefused, VenvDirectory, root)

    def test_without_a_home_it_is_refused(self) -> None:
        """A user without a home directory is told what to do, and gets no directory ``~``."""
        self.patch(os.path, "expanduser", lambda path: path)
        self.patch(os, "environ", {})
        self.assertRaisesRegex(VenvRefused, "directory= names another place", VenvDirectory)
        self.assertFalse(os.path.lexists("~"))

    def test_file_system_without_locks_is_named(self) -> None:
        """Where the file system has no locks, the error says so, and what to do."""

        def flock(fd: int, kind: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        import fcntl

        self.patch(fcntl, "flock", flock)
        self.assertRaisesRegex(OSError, "directory= names another", self.directory.lock, "a")


class AtOnceTests(DirectoryCase):
    """Several threads of one process write to it."""

    def at_once(self, *functions: Callable[[], object]) -> None:
        """Run functions in threads; none renames before all are about to."""
        barrier = threading.Barrier(len(functions), timeout=60)
        rename = os.rename

        def together(source: str, target: str) -> None:
            if threading.current_thread() is not threading.main_thread():
                barrier.wait()
            rename(source, target)

        self.patch(os, "rename", together)
        failed: list[BaseException] = []

        def run(function: Callable[[], object]) -> None:
            try:
                function()
            except BaseException as problem:
                failed.append(problem)

        threads = [threading.Thread(target=run, args=(each,)) for each in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failed, [])

    def test_each_file_has_its_own_content(self) -> None:
        """Two names, or one file twice: each is whole, and nothing else stays."""
        one, two = (lambda name=name: self.directory.write_name(name, name) for name in ("a", "b"))  # type: ignore[misc]
        self.at_once(one, two)
        names = Path(self.directory.path("names"))
        self.assertEqual(
            {path.name: path.read_text() for path in names.iterdir()}, {"a": "a", "b": "b"}
        )
        self.at_once(*(lambda: self.directory.write({"a": 1}, "built", "x") for _ in range(2)))
        self.assertEqual(read_json(self.directory.path("built", "x")), {"a": 1})
        self.assertEqual(os.listdir(self.directory.path("new")), [])

    def test_scratch_is_nobody_elses(self) -> None:
        """Two that are made at once are two."""
        self.assertNotEqual(self.directory.scratch(), self.directory.scratch())


class DamageTests(DirectoryCase):
    """What creators that were killed, and power cuts, leave."""

    def record(self, identity: str, about: str = '{"requirements": []}') -> str:
        return lookup.record_of({"key": "k", "python": None}, identity, about)

    def test_no_name_is_left_that_nobody_can_remove(self) -> None:
        """A file that was half written, or that is damaged, is no name."""
        identity = environments.identity_of(())
        environments.make(self.directory, identity, (), {"interpreter": "3"}, lambda *step: None)
        names = Path(self.directory.path("names"))
        (names / ".1").write_text(self.record(identity))
        for number, about in enumerate(("{", "[]", "[" * 100000)):
            (names / f"bad{number}").write_text(self.record(identity, about))
        root = self.directory.root
        self.assertEqual(upkeep.listed(root), [])
        self.assertEqual(upkeep.pruned(root)["environments"], 1)

    def test_damaged_wheel_is_received_again(self) -> None:
        """A wheel whose list is damaged is not there, and takes its place again."""
        path = wheel(self.path / "index", "a")
        digest = wheels.add(self.directory, str(path))
        listed = Path(self.directory.path("wheels", digest, "wheel.json"))
        whole = listed.read_text()
        listed.write_text(whole[:50])
        self.assertFalse(self.directory.has_wheel(digest))
        self.assertEqual(wheels.add(self.directory, str(path)), digest)
        self.assertEqual(listed.read_text(), whole)
        self.assertEqual(os.listdir(self.directory.path("new")), [])

    def test_read_only_directories_are_removed(self) -> None:
        """What a build has made read-only is removed, and what its links mean is left alone."""
        outside = self.path / "outside"
        outside.mkdir(mode=0o500)
        tree = self.path / "tree"
        (tree / "a" / "b").mkdir(parents=True)
        (tree / "a" / "b" / "file").write_text("")
        (tree / "a" / "link").symlink_to(outside)
        tries = []
        rmtree = shutil.rmtree

        def refuse_once(path: str) -> None:  # as for a user; root may write anyway
            tries.append(path)
            if len(tries) == 1:
                raise PermissionError(errno.EACCES, "Permission denied")
            rmtree(path)

        (tree / "a" / "b").chmod(0o500)
        self.patch(shutil, "rmtree", refuse_once)
        remove_tree(str(tree))
        self.assertFalse(tree.exists())
        self.assertEqual(mode(outside), 0o500)

    def test_what_stays_does_not_hide_the_error(self) -> None:
        """If what is not needed any more can't be removed, the error is still the first one."""

        def refuse(path: str) -> None:
            raise OSError(errno.ESTALE, "Stale file handle")

        self.patch(shutil, "rmtree", refuse)
        clear(self.directory.root)
        digests = [self.add("a"), self.add("a", "2.0")]
        identity = environments.identity_of(digests)
        self.assertRaisesRegex(
            VenvRefused,
            "distribution a",
            environments.make,
            self.directory,
            identity,
            digests,
            {},
            lambda *step: None,
        )
