"""``run --send``: what it refuses, before anything is started."""

from __future__ import annotations

import os
from typing import Any

import click

from pycomnet.cli.run import read_script
from pycomnet.test.cli.case import CommandCase


class Sending(CommandCase):
    """What ``--send`` refuses, before anything is started."""

    def refusal(self, send: str, *args: str, **options: Any) -> str:
        """The message of the error."""
        error = self.assertRaises(click.UsageError, read_script, args, send=(send,), **options)
        return str(error.format_message())

    def test_directory_that_cannot_be_sent_is_refused(self) -> None:
        """No directory, one that is elsewhere, a link that leads out, nothing to lie beside."""
        script = self.file("script.py", "")
        own = os.path.dirname(script)
        self.assertIn("no such directory", self.refusal(os.path.join(own, "nope"), script))
        self.assertIn("expected a directory in or above", self.refusal("/proc", script))
        self.assertIn("needs a FILE", self.refusal(own, code="1"))
        os.symlink("/etc/passwd", os.path.join(own, "link"))
        self.assertIn("leads out of", self.refusal(own, script))

    def test_too_large_directory_is_named(self) -> None:
        """What is too large is named."""
        script = self.file("script.py", "")
        own = os.path.dirname(script)
        with open(os.path.join(own, "huge.bin"), "wb") as file:
            file.truncate(200 << 20)
        message = self.refusal(own, script)
        self.assertIn("200 MiB are more than the 100 MiB", message)
        self.assertIn("the largest is huge.bin (200 MiB)", message)
