"""``pycomnet sync``."""

from __future__ import annotations

import os
from typing import Any

from click.testing import CliRunner

import pycomnet
from pycomnet.cli.app import root
from pycomnet.cli.sync import read_target, run_sync
from pycomnet.errors import SpecError
from pycomnet.test.cli.case import CommandCase


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
