"""``pycomnet sync``."""

from __future__ import annotations

import io
import os
import signal
import sys
from functools import partial
from typing import Any
from unittest import mock

from click.testing import CliRunner
from rich.console import Console

import pycomnet
from pycomnet.cli.app import root
from pycomnet.cli.program import CommandProgram
from pycomnet.cli.sync import SyncLines, read_target, run_sync
from pycomnet.cli.syncbars import SyncBars
from pycomnet.errors import SpecError
from pycomnet.rsync import rsync
from pycomnet.rsync.changes import EVERYTHING, Changes
from pycomnet.rsync.watch import SourceWatch
from pycomnet.test.cli.case import CommandCase
from pycomnet.test.rsync.case import MovedWatcher
from pycomnet.test.waiting import until


class TargetTests(CommandCase):
    def test_targets(self) -> None:
        """The last colon divides spec and path; a Windows drive belongs to the path."""
        for text, spec, path in (
            ("popen:/tmp/x", "popen", "/tmp/x"),
            ("ssh=me@host:dir", "ssh=me@host", "dir"),
            ("popen//env:A=b:dir", "popen//env:A=b", "dir"),
            ("socket=tcp:host:2000:dir", "socket=tcp:host:2000", "dir"),
            ("ssh=host:C:\\dir", "ssh=host", "C:\\dir"),
            ("ssh=host:C:/dir", "ssh=host", "C:/dir"),
            ("popen:~/x", "popen", "~/x"),
        ):
            specs, found = read_target(text)
            self.assertEqual((specs, found), ([pycomnet.Spec.parse(spec)], path))
        self.assertEqual(len(read_target("ssh=web{1..8}:/srv")[0]), 8)

    def test_mistakes(self) -> None:
        """What is no target is a mistake on the command line."""
        for text in ("popen", "/tmp/x", "popen:", ":x", "nothing=1:x"):
            self.assertRaises(SpecError, read_target, text)
        ran = CliRunner().invoke(root, ["sync", ".", "popen"])
        self.assertEqual(ran.exit_code, 2)
        self.assertIn("SPEC:DEST", ran.output)
        ran = CliRunner().invoke(root, ["sync", ".", "popen:x", "--exclude", "[a"])
        self.assertEqual(ran.exit_code, 2)
        self.assertIn("not closed", ran.output)


class SyncTests(CommandCase):
    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.source = self.directory / "source"
        self.source.mkdir()
        (self.source / "file").write_text("content")
        self.target = str((self.directory / "target").resolve())

    async def run_sync(self, *targets: tuple[str, str], **options: Any) -> int:
        sync = pycomnet.RSync(self.source, **options)
        pairs = [(spec, path) for text, path in targets for spec in self.specs(text)]
        return await self.status_of(lambda program: run_sync(program, sync, pairs))

    async def test_lines(self) -> None:
        """Each thing that is done is a line, then there is one for the target."""
        os.mkfifo(self.source / "fifo")
        self.assertEqual(await self.run_sync(("popen", self.target)), 0)
        lines = self.stdout.splitlines()
        self.assertEqual(lines[:2], ["skipped fifo (it is a FIFO)", "sent file"])
        self.assertIn(f"gw0:{self.target}: 2 entries, 1 sent, 1 skipped, ", lines[2])
        self.assertEqual(os.listdir(self.target), ["file"])

    async def test_failures(self) -> None:
        """What failed is said at the end, and the status is 1; the other target is done."""
        bad = self.file("bad", "")
        status = await self.run_sync(("popen", bad), ("popen", self.target))
        self.assertEqual(status, 1)
        self.assertIn(f"gw0:{bad}: Not a directory", self.stderr)
        self.assertEqual(os.listdir(self.target), ["file"])

    async def test_gateway_that_does_not_start(self) -> None:
        """A gateway that can't be started is reported; the other target is done."""
        status = await self.run_sync(("popen//python=/nowhere", "x"), ("popen", self.target))
        self.assertEqual(status, 1)
        self.assertIn("1 of 2 gateways could not be started", self.stderr)
        self.assertEqual(os.listdir(self.target), ["file"])


class WatchTests(CommandCase):
    """``--watch``; the changes are told by the test."""

    timeout = 120

    def setUp(self) -> None:
        super().setUp()
        self.source = self.directory / "source"
        self.source.mkdir()
        (self.source / "file").write_text("content")
        self.watchers: list[MovedWatcher] = []

        def start(*args: Any) -> MovedWatcher:
            self.watchers.append(MovedWatcher(*args))
            return self.watchers[0]

        patched = mock.patch.object(rsync, "SourceWatch", partial(SourceWatch, start_watcher=start))
        patched.start()
        self.addCleanup(patched.stop)

    def watch(self, number: int) -> tuple[pycomnet.RSync, Any]:
        sync = pycomnet.RSync(self.source)
        targets = [
            (spec, str((self.directory / f"target{place}").resolve()))
            for place, spec in enumerate(self.specs(f"{number}xpopen"))
        ]
        running = self.program.start(lambda program: run_sync(program, sync, targets, watch=True))
        return sync, running

    async def test_ends_by_a_signal(self) -> None:
        """Each run that does something has its lines; Ctrl-C ends it, with its status."""
        _, running = self.watch(1)
        await until(lambda: self.watchers, "it watches")
        self.watchers[0].changed(EVERYTHING)
        await until(lambda: "1 entries, 1 sent" in self.stdout, "the first run is told")
        (self.source / "other").write_text("more")
        self.watchers[0].changed(Changes(listed=frozenset([b""])))
        await until(lambda: "2 entries, 1 sent" in self.stdout, "the second run is told")
        self.watchers[0].changed(Changes(listed=frozenset([b""])))
        self.program._stop(signal.SIGINT)
        self.assertEqual(await running, 130)
        self.assertTrue(self.watchers[0].is_stopped)
        self.assertEqual(self.stdout.count("entries"), 2)
        self.assertIn("interrupted", self.stderr)

    async def test_target_that_dies_is_told(self) -> None:
        """Its end is said when it comes; that of the last one ends the command."""
        sync, running = self.watch(2)
        await until(lambda: self.watchers, "it watches")
        self.watchers[0].changed(EVERYTHING)
        await until(lambda: self.stdout.count("1 entries, 1 sent") == 2, "both are told")
        pids = [target.gateway.info["pid"] for target in sync._targets]
        os.kill(pids[0], signal.SIGKILL)
        await until(lambda: "killed by SIGKILL" in self.stderr, "the end is told")
        self.assertNotIn("no gateway is left", self.stderr)
        self.assertFalse(running.called)
        os.kill(pids[1], signal.SIGKILL)
        self.assertEqual(await running, 1)
        self.assertIn("no gateway is left", self.stderr)

    def test_mistakes(self) -> None:
        """It says what to install before it starts anything; and a dry run has nothing to watch."""
        with mock.patch.dict(sys.modules, {"watchfiles": None}):
            ran = CliRunner().invoke(root, ["sync", ".", "popen:x", "--watch"])
        self.assertEqual(ran.exit_code, 1)
        self.assertIn("pip install 'pycomnet[watch]'", ran.output)
        ran = CliRunner().invoke(root, ["sync", ".", "popen:x", "--watch", "--dry-run"])
        self.assertEqual(ran.exit_code, 2)
        self.assertIn("not both", ran.output)


class BarsTests(CommandCase):
    """The progress bars."""

    def test_bars_show_bytes_and_files(self) -> None:
        """There is one for each target, with its bytes, its files, and lines above."""
        results = [
            pycomnet.TargetResult("gw0:[a]", ["x"] * 7, needed=4000000, done=1000000),
            pycomnet.TargetResult("gw1:b"),
        ]
        shown = io.StringIO()
        console = Console(file=shown, force_terminal=True, width=120, color_system=None)
        bars = SyncBars(lambda: results, console)
        bars.progress.start()
        bars.show_above("sent file\n")
        bars.update()
        text = shown.getvalue()
        for part in ("sent file", "gw0:[a]", "1.0/4.0 MB", "7 files", "gw1:b", "0 files"):
            self.assertIn(part, text)
        results[0].done = 5000000  # it has grown: no more than all is done
        bars.update()
        self.assertIn("4.0/4.0 MB", shown.getvalue())
        bars.progress.stop()

    def test_there_are_none_without_a_terminal(self) -> None:
        """Standard error that is a file gets none, and neither does a quiet run."""
        for quiet in (False, True):
            with SyncLines(self.program, False, quiet, False).bars(pycomnet.RSync(".")):
                self.assertIsNone(self.program.above)
        self.assertEqual(self.stderr, "")

    async def test_on_a_terminal(self) -> None:
        """On a terminal lines are shown above the bars; in the end only text is there."""
        main, other = os.openpty()
        program = CommandProgram(self.reactor, other, other)
        lines = SyncLines(program, False, False, False)
        sync = pycomnet.RSync(".")
        shown = io.StringIO()
        with (
            mock.patch("pycomnet.cli.syncbars.Console", lambda stderr: Console(file=shown)),
            lines.bars(sync),
        ):
            self.assertIsNotNone(program.above)
            lines.event(pycomnet.SyncEvent("sent", "gw0:x", "a\x1b[2Jb"))
        self.assertIsNone(program.above)
        self.assertIn("sent a", shown.getvalue())
        self.assertNotIn("\x1b[2J", shown.getvalue())
        os.close(main)
        os.close(other)
