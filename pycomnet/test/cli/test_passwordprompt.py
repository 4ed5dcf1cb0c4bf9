"""The question for a password, on a terminal of the test's own."""

from __future__ import annotations

import os
import termios

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.cli.passwordprompt import ask_secret
from pycomnet.errors import AccessConfigError


class AskingTests(SynchronousTestCase):
    """What it leaves is a terminal that shows what is typed."""

    def setUp(self) -> None:
        self.main, self.end = os.openpty()
        self.addCleanup(os.close, self.main)
        self.addCleanup(os.close, self.end)
        name = os.ttyname(self.end)
        real = os.open
        self.opened: list[int] = []

        def opens(path: str, flags: int) -> int:
            assert path == "/dev/tty"
            self.opened.append(real(name, flags))
            return self.opened[-1]

        self.patch(os, "open", opens)
        self.reactor = MemoryReactorClock()

    @property
    def shows(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self.end)[3] & termios.ECHO)

    def test_prompt_can_not_control_the_terminal(self) -> None:
        """An address may come from a nameserver's record, and a name is of any bytes."""
        asked = ask_secret("Password of \udcff for tcp:\x1b[2J\nhere: ", self.reactor)
        shown = os.read(self.main, 8192)
        self.assertEqual(shown, b"Password of \xff for tcp:\\x1b[2J\\nhere: ")
        self.assertFalse(self.shows)
        os.write(self.main, b"a secret\n")
        (reader,) = self.reactor.getReaders()
        reader.doRead()
        self.assertEqual(self.successResultOf(asked), "a secret")
        self.assertTrue(self.shows)

    def test_what_is_no_text(self) -> None:
        """As it may be at a terminal with another encoding."""
        asked = ask_secret("Password: ", self.reactor)
        os.write(self.main, b"se\xffcret\n")
        (reader,) = self.reactor.getReaders()
        reader.doRead()
        self.assertIn("UTF-8", str(self.failureResultOf(asked, AccessConfigError).value))
        self.assertTrue(self.shows)

    def test_prompt_that_can_not_be_written(self) -> None:
        """A terminal whose output is stopped takes nothing."""

        def fails(descriptor: int, data: bytes) -> int:
            raise BlockingIOError(11, "try again")

        self.patch(os, "write", fails)
        self.failureResultOf(ask_secret("Password: ", self.reactor), OSError)
        self.assertTrue(self.shows)
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertRaises(OSError, os.fstat, self.opened[0])
