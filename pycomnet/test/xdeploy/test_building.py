"""Builds at the far side: they end with what asked for them, and what they write is bounded."""

from __future__ import annotations

import io
import os
import stat
import sys
import tarfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.xdeploy import building
from pycomnet.far.xdeploy.directory import remove_tree
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

    def test_much_output_is_cut_in_the_middle(self) -> None:
        """Of much output the begin and the end are kept."""
        self.patch(building, "MAX_OUTPUT", 100)
        path = self.path / "output"
        path.write_bytes(b"begin" + b"x" * 100000 + b"end")
        text = building.read_output(str(path))
        self.assertTrue(text.startswith("begin"))
        self.assertTrue(text.endswith("end"))
        self.assertIn("100008 bytes in all", text)
        self.assertLess(len(text), 200)


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
