"""What far code prints, as lines under its gateway's id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.cli.gatewayoutput import GatewayFiles, GatewayLines
from pycomnet.cli.run import open_directory
from pycomnet.gateways.output import MAX_LINE, STDERR, STDOUT, Output


class Lines(SynchronousTestCase):
    """Pieces in, lines out."""

    def setUp(self) -> None:
        self.out: list[str] = []
        self.err: list[str] = []

    def lines(self, **options: Any) -> GatewayLines:
        """Lines that go to the two lists."""

        def write(to: list[str]) -> Any:
            return lambda text: to.append(text)

        return GatewayLines(write(self.out), write(self.err), **options)

    def test_lines_do_not_mix_wherever_cut(self) -> None:
        """Lines of two gateways and two streams do not mix."""
        lines = self.lines()
        for gateway, stream, text in (
            ("a", STDOUT, "one"),
            ("b", STDOUT, "two\nthr"),
            ("a", STDERR, "oops\n"),
            ("a", STDOUT, " and a half\n\n"),
            ("b", STDOUT, "ee"),
        ):
            lines(Output(gateway, stream, text))
        self.assertEqual("".join(self.out), "[b] two\n[a] one and a half\n[a] \n")
        self.assertEqual("".join(self.err), "[a] oops\n")
        lines.flush()
        lines.flush()
        self.assertEqual(self.out[-1], "[b] three\n")

    def test_line_without_end(self) -> None:
        """It is shown when it gets too long to be kept."""
        lines = self.lines()
        lines(Output("a", STDOUT, "x" * MAX_LINE))
        self.assertEqual(self.out, [])
        lines(Output("a", STDOUT, "y"))
        self.assertEqual(self.out, ["[a] " + "x" * MAX_LINE + "y\n"])

    def test_lines_stay_whole_without_prefix(self) -> None:
        """Several gateways' lines stay whole; one's output is as it is."""
        lines = self.lines(prefix=False)
        lines(Output("a", STDOUT, "one\ntw"))
        self.assertEqual(self.out, ["one\n"])
        lines = self.lines(prefix=False, alone=True)
        lines(Output("a", STDOUT, "half"))
        lines.flush()
        self.assertEqual(self.out[1:], ["half"])

    def test_each_gateway_has_its_colour_on_a_terminal(self) -> None:
        """On a terminal each gateway has its own."""
        lines = self.lines(colours=lambda stream: stream == STDOUT)
        for gateway in ("a", "b", "a"):
            lines(Output(gateway, STDOUT, "x\n"))
        lines(Output("a", STDERR, "x\n"))
        a, b, again = self.out
        self.assertEqual(a, again)
        self.assertEqual(a, "\x1b[36m[a]\x1b[0m x\n")
        self.assertNotEqual(a.replace("a", "b"), b)
        self.assertEqual(self.err, ["[a] x\n"])

    def test_prefix_cannot_be_forged(self) -> None:
        """Nothing that is printed looks as if another gateway had printed it."""
        lines = self.lines()
        lines(Output("a", STDOUT, "x\r[b] y\u2028[b] z\r\n"))
        self.assertEqual(self.out, ["[a] x\r[a] [b] y\u2028[a] [b] z\r\n"])

    def test_control_characters_are_made_visible_on_a_terminal(self) -> None:
        """There control characters are made visible, without a prefix as well; or left alone."""
        text = "\x1b]0;title\a\rx\r\n"
        for options, expected in (
            ({}, "[a] \\x1b]0;title\\x07\\rx\n"),
            ({"prefix": False, "alone": True}, "\\x1b]0;title\\x07\\rx\\r\n"),
            ({"raw": True}, f"[a] {text}"),
            ({"raw": True, "prefix": False, "alone": True}, text),
        ):
            self.out.clear()
            self.lines(terminal=lambda stream: stream == STDOUT, **options)(
                Output("a", STDOUT, text)
            )
            self.assertEqual(self.out, [expected])

    def test_knows_whether_there_is_anything_to_wait_for(self) -> None:
        """It hands on what there is to wait for, and knows whether there is."""
        written: defer.Deferred[None] = defer.Deferred()
        lines = GatewayLines(lambda text: written, lambda text: None)
        self.assertIs(lines(Output("a", STDOUT, "x\n")), written)
        self.assertFalse(lines.idle)
        written.callback(None)
        self.assertTrue(lines.idle)


class Files(SynchronousTestCase):
    """``--output-dir``."""

    def test_one_per_gateway_and_stream(self) -> None:
        """Each has what was printed, byte for byte; those of silent ones are there, too."""
        directory = Path(self.mktemp())
        directory.parent.mkdir(parents=True, exist_ok=True)
        files = GatewayFiles(str(directory))
        files.open("a")
        files.open("b")
        files(Output("a", STDOUT, "no end"))
        files(Output("a", STDERR, "err\n"))
        found = {path.name: path.read_text() for path in directory.iterdir()}
        self.assertEqual(found, {"a.out": "no end", "a.err": "err\n", "b.out": "", "b.err": ""})

    def test_what_is_there(self) -> None:
        """No link is followed, nothing but a plain file of this user's written to."""
        directory = Path(self.mktemp())
        directory.mkdir()
        victim = directory / "victim"
        victim.write_text("precious")
        (directory / "link.out").symlink_to("victim")
        (directory / "hard.out").hardlink_to(victim)
        os.mkfifo(directory / "pipe.out")
        (directory / "pipe.err").mkdir()
        files = GatewayFiles(str(directory))
        for gateway in ("link", "hard", "pipe"):
            error = self.assertRaises(OSError, files.open, gateway)
            self.assertIn(f"{gateway}.out", str(error))
        self.assertEqual(victim.read_text(), "precious")
        old = directory / "old.out"
        old.write_text("of the last time")
        files.open("old")
        self.assertEqual(old.read_text(), "")

    def test_files_are_private_whatever_the_umask(self) -> None:
        """What is made is this user's alone, whatever the umask says."""
        self.addCleanup(os.umask, os.umask(0))
        directory = Path(self.mktemp())
        GatewayFiles(str(directory)).open("a")
        modes = [path.stat().st_mode & 0o777 for path in (directory, directory / "a.out")]
        self.assertEqual(modes, [0o700, 0o600])

    def test_directory_is_made_only_in_an_existing_one(self) -> None:
        """A directory is made where its parent is, and nowhere else."""
        path = Path(self.mktemp()) / "x"
        error = self.assertRaises(click.BadParameter, open_directory, str(path))
        self.assertIn(f"there is no directory {str(path.parent.absolute())!r}", str(error))
        self.assertFalse(path.parent.exists())
        self.assertRaises(click.BadParameter, open_directory, os.devnull)
        self.assertIs(open_directory(None), None)
