"""Builds at the far side: they end with what asked for them, and what they write is bounded."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.xdeploy import building, pipresolve, processgroup
from pycomnet.far.xdeploy.directory import VenvDirectory, remove_tree
from pycomnet.far.xdeploy.lookup import Lock, lock_path
from pycomnet.far.xdeploy.processgroup import ProcessGroup
from pycomnet.test.processes import still_there
from pycomnet.test.xdeploy.test_farside import WaitingChannel, _Older


class RunTests(SynchronousTestCase):
    """:func:`building.run`."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()

    def run_it(self, code: str, channel: Any = None) -> str:
        output = self.path / "output"
        argv = [sys.executable, "-c", code]
        channel = channel or WaitingChannel(lambda: None)
        building.run(argv, str(self.path), "a-1.tar.gz", str(output), channel)
        return output.read_text()

    def test_it_waits_until_the_program_has_ended(self) -> None:
        """It returns when the program has ended, and keeps what that wrote."""
        self.assertEqual(self.run_it("print('built')"), "built\n")

    def test_failure_has_status_and_output(self) -> None:
        """A program that fails is an error with its status and what it wrote."""
        problem = self.assertRaises(building.HookFailed, self.run_it, "print('x'); exit(3)")
        self.assertEqual((problem.name, problem.status, problem.output), ("a-1.tar.gz", 3, "x\n"))

    def test_it_ends_with_the_near_side(self) -> None:
        """When the near side ends the channel, the program is killed, and what it has started."""
        pipe = self.path / "pipe"
        os.mkfifo(pipe)
        code = (
            "import os, subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
            f"open({str(pipe)!r}, 'w').write('%d %d' % (os.getpid(), child.pid))\n"
            "time.sleep(1000)\n"
        )
        started: list[int] = []

        def end() -> None:
            started.extend(map(int, pipe.read_text().split()))
            raise EOFError

        self.assertRaises(EOFError, self.run_it, code, WaitingChannel(end))
        self.assertEqual(len(started), 2)
        self.assertEqual(still_there(started), [])

    def test_lock_is_kept_by_the_build(self) -> None:
        """If the process that builds is killed, the place is free when its program has ended."""
        directory = VenvDirectory(str(self.path / "root"))
        pipe = self.path / "pipe"
        os.mkfifo(pipe)
        code = (
            "import sys\n"
            "from pycomnet.far.xdeploy import building, directory\n"
            "from pycomnet.test.xdeploy.test_farside import WaitingChannel\n"
            "root, pipe, path = sys.argv[1:]\n"
            "lock = directory.VenvDirectory(root).lock('built-x')\n"
            "program = 'import os; open(%r, \"w\").write(str(os.getpid())); open(%r).read()'\n"
            "program %= pipe, pipe\n"
            "argv = [sys.executable, '-c', program]\n"
            "channel = WaitingChannel(lambda: print(flush=True))\n"
            "building.run(argv, path, 'x', path + '/o', channel, held=(lock,))\n"
        )
        argv = [sys.executable, "-c", code, directory.root, str(pipe), str(self.path)]
        near = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert near.stdout is not None
        with near.stdout as stream:
            self.assertEqual(stream.readline(), b"\n")  # it waits for the program's end
        build = int(pipe.read_text())
        near.kill()
        near.wait()
        self.assertIsNone(directory.try_lock("built-x"))
        self.assertEqual(Lock(lock_path(directory.root, "built-x"), False).holder(), build)
        pipe.write_text("end")
        directory.lock("built-x").release()  # it waits for the program's end

    def test_lock_that_was_given_back_is_free(self) -> None:
        """Also if a program that was started meanwhile has its descriptor."""
        directory = VenvDirectory(str(self.path / "root"))
        with directory.lock("a") as lock:
            argv = [sys.executable, "-c", "input()"]
            other = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=(lock.fileno(),))
        again = directory.try_lock("a")
        self.assertIsNotNone(again)
        other.communicate(b"\n")

    def test_much_output_is_cut_in_the_middle(self) -> None:
        """Of much output the begin and the end are kept."""
        self.patch(building, "MAX_OUTPUT", 100)
        path = self.path / "output"
        path.write_bytes(b"begin" + b"x" * 100000 + b"end")
        with path.open("rb") as file:
            text = building.read_output(file)
        self.assertTrue(text.startswith("begin"))
        self.assertTrue(text.endswith("end"))
        self.assertIn("100008 bytes in all", text)
        self.assertLess(len(text), 200)


class ProcessGroupTests(SynchronousTestCase):
    """:class:`ProcessGroup`, also where an end can't be seen without collecting it."""

    def both_ways(self) -> Iterator[bool]:
        for can_watch in {processgroup.CAN_WATCH, False}:
            with mock.patch.object(processgroup, "CAN_WATCH", can_watch):
                yield can_watch

    def test_what_it_leaves_is_killed(self) -> None:
        """With the program's end what it has started ends."""
        code = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
            "print(child.pid)\n"
            "sys.exit(3)\n"
        )
        for _ in self.both_ways():
            group = ProcessGroup([sys.executable, "-c", code], stdout=subprocess.PIPE)
            assert group.process.stdout is not None
            with group.process.stdout as stream:
                pid = int(stream.readline())
            self.assertEqual(group.wait(), 3)
            self.assertEqual(still_there([pid]), [])

    def test_nobody_else_is_killed(self) -> None:
        """Once its end was collected, its number may be another one's."""
        for _ in self.both_ways():
            group = ProcessGroup([sys.executable, "-c", "pass"])
            self.assertEqual([group.wait(), group.wait()], [0, 0])
            with mock.patch.object(os, "killpg") as killpg:
                group.kill()
            killpg.assert_not_called()

    def test_a_number_that_was_given_back_is_not_killed(self) -> None:
        """Somebody who waits for any child may collect the end: the number is another's then."""
        for can_watch in self.both_ways():
            group = ProcessGroup([sys.executable, "-c", "pass"])
            os.waitpid(group.process.pid, 0)
            with mock.patch.object(os, "killpg") as killpg:
                self.assertEqual(group.wait(), 0)
                group.kill()
            if can_watch:
                killpg.assert_not_called()

    def test_several_wait_while_one_kills(self) -> None:
        """Each of those that wait gets the status."""
        for _ in self.both_ways():
            group = ProcessGroup([sys.executable, "-c", "import time; time.sleep(1000)"])
            with ThreadPoolExecutor(3) as pool:
                waiting = [pool.submit(group.wait) for _ in range(3)]
                group.kill()
                found = [each.result(60) for each in waiting]
            self.assertEqual(found, [-signal.SIGKILL] * 3)


class OwnIndexTests(SynchronousTestCase):
    """An index that is given for the far machine's pip."""

    def test_it_is_the_only_one(self) -> None:
        """What that machine is configured for beside it does not count; else it does."""
        for given, others in (("http://127.0.0.1/simple", False), (None, True)):
            seen: dict[str, str] = {}

            def started(argv: Any, seen: dict[str, str] = seen, **options: Any) -> Any:
                seen.update(options["env"])
                raise OSError("not started")

            path = Path(self.mktemp()).absolute()
            path.mkdir()
            plan: dict[str, Any] = {
                "requirements": ["a"],
                "constraints": [],
                "sdists": [],
                "pip": [],
            }
            creation: Any = SimpleNamespace(
                directory=VenvDirectory(str(path / "root")), channel=WaitingChannel(lambda: None)
            )
            around = {"PIP_EXTRA_INDEX_URL": "http://other", "PIP_PRE": "1"}
            self.patch(os, "environ", {**os.environ, **around})
            self.patch(building, "ProcessGroup", started)
            plan.update(index=given, hashed=False)
            self.assertRaises(OSError, pipresolve.resolve, creation, plan)
            self.assertEqual("PIP_EXTRA_INDEX_URL" in seen and "PIP_PRE" in seen, others)
            self.assertEqual(seen.get("PIP_INDEX_URL"), given)
            self.assertEqual(seen.get("PIP_CONFIG_FILE") == os.devnull, not others)


class ArchiveTests(SynchronousTestCase):
    """Sdists that a Python without filters unpacks."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.path.mkdir()

    def test_owners_and_modes_of_an_archive_are_not_taken(self) -> None:
        """Files are ours, also if root unpacks them, and are writable; programs stay programs."""
        archive = self.path / "a-1.0.tar.gz"
        members = [("a-1.0", 0o555), ("a-1.0/run", 0o4755), ("a-1.0/text", 0o000)]
        with tarfile.open(archive, "w:gz") as opened:
            for name, mode in members:
                info = tarfile.TarInfo(name)
                info.type = tarfile.REGTYPE if "/" in name else tarfile.DIRTYPE
                info.mode, info.uid, info.gid = mode, 12345, 12345
                opened.addfile(info, io.BytesIO())
        chowned: list[Any] = []
        for name in ("chown", "lchown", "fchown"):
            self.patch(os, name, lambda *args, **options: chowned.append(args))
        self.patch(os, "geteuid", lambda: 0)
        self.patch(building, "tarfile", _Older())
        made = building.unpack(str(archive), str(self.path / "target"))
        self.assertEqual(chowned, [])
        found = [
            stat.S_IMODE(os.stat(os.path.join(made, name)).st_mode) for name in ("", "run", "text")
        ]
        self.assertEqual(found, [0o755, 0o755, 0o644])
        remove_tree(str(self.path / "target"))
