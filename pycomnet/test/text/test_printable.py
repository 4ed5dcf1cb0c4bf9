"""Text from elsewhere: what is made visible, and what a message can't pretend to be."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from twisted.logger import LogLevel, textFileLogObserver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.errors import RemoteError
from pycomnet.text import printable
from pycomnet.text.logs import Logger


class Visible(SynchronousTestCase):
    """Control characters."""

    def test_control_characters_alone_are_made_visible(self) -> None:
        """C0, DEL, C1, separators and bidirectional controls; nothing that is text."""
        for text in ("plain \t\n", "\xe4\xa0\xad \u20ac \u05d0 \U0001f600 \u200b"):
            self.assertEqual(printable.visible(text), text)
        for number in (*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2066, 0x2028):
            shown = printable.visible(f"a{chr(number)}b")
            self.assertTrue(shown.isprintable() and shown.startswith("a\\"), shown)
        self.assertEqual(printable.visible_line("a\nb"), "a\\nb")

    def test_messages_further_lines_do_not_look_like_others(self) -> None:
        """A message's further lines don't look like the beginning of others."""
        text = "gw0: Traceback:\n  File x\nValueError: y\n[gw1] fine\npycomnet: all is well\r"
        self.assertEqual(
            printable.message(text),
            "gw0: Traceback:\n  File x\nValueError: y\n  [gw1] fine\n  pycomnet: all is well\\r",
        )

    def test_far_error_is_shown_without_control_characters(self) -> None:
        """A far error that is shown commands no terminal; its attributes have it as it came."""
        error = RemoteError("E", "\x1b[2J", "Traceback\n\x1b[2J\n")
        self.assertEqual(str(error), "Traceback\n\\x1b[2J")
        self.assertEqual((error.message, str(RemoteError("E", "\x1b"))), ("\x1b[2J", "E: \\x1b"))


class Logging(SynchronousTestCase):
    """Fields of events in a text log."""

    def line(self, **fields: Any) -> str:
        """What a text log has of an event."""
        file = io.StringIO()
        log = Logger(observer=textFileLogObserver(file))
        log.emit(LogLevel.info, "gateway {field} is here", **fields)
        return file.getvalue()

    def test_forged_field_stays_within_its_log_line(self) -> None:
        """An id with ends of lines and escape sequences stays within its line."""
        forged = "x\n2026-01-01T00:00:00+0000 [pycomnet#info] all is well\r\x1b[2J\x9b"
        for field in (forged, ValueError(forged)):
            text = self.line(field=field)
            self.assertEqual(text.count("\n"), 1, text)
            self.assertTrue(text.rstrip("\n").isprintable(), text)
        self.assertIn("gateway plain is here\n", self.line(field="plain"))

    def test_logged_failure_stays_a_failure(self) -> None:
        """A failure that is logged stays one, whatever its text has."""
        problem = ValueError("a\nb")
        Logger().failure("it failed", Failure(problem))
        (failure,) = self.flushLoggedErrors(ValueError)
        self.assertIs(failure.value, problem)

    def test_no_module_takes_twisteds_logger(self) -> None:
        """All modules log with it: none takes Twisted's own logger."""
        package = Path(pycomnet.__file__).parent
        found = [
            str(path.relative_to(package))
            for path in package.rglob("*.py")
            if "test" not in path.parts
            and path.name != "logs.py"
            and "from twisted.logger import Logger\n" in path.read_text(encoding="utf-8")
        ]
        self.assertEqual(found, [], "import Logger from pycomnet.text.logs")

    def test_logged_exception_stays_or_is_named(self) -> None:
        """An exception stays one where its text needs nothing; one without a text is named."""
        events: list[Any] = []
        log = Logger(observer=events.append)  # type: ignore[arg-type]

        class Bad(Exception):
            def __str__(self) -> str:
                raise ValueError

        problem = ValueError("x")
        for each in (problem, Bad()):
            log.info("{field}", field=each)
        self.assertIs(events[0]["field"], problem)
        self.assertEqual(events[1]["field"], "Bad (its __str__ raises)")
        self.assertEqual(events[0]["log_namespace"], __name__)
