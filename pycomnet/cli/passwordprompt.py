"""Prompts for a password at the terminal, while the reactor runs."""

from __future__ import annotations

import os
import sys
import termios
from contextlib import nullcontext
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.cli.program import encode
from pycomnet.deferred import deferred
from pycomnet.errors import AccessConfigError
from pycomnet.ext.access.storedcredentials import credentials_path
from pycomnet.net.clock import StoppableClock
from pycomnet.text.printable import visible_line

#: Bytes of a read: more than a terminal's longest line.
READ = 8192
#: Held while a prompt is shown: there is one at a time.
_terminal = defer.DeferredLock()


@deferred
async def ask(user: str, address: str) -> str:
    """Ask for a user's password at an address.

    Meanwhile the command's clock stands still, so that typing counts against no ``--timeout``.

    :returns: fires with the password.
    :raises AccessConfigError: there is no terminal, or nothing was entered.
    """
    from twisted.internet import reactor

    needed = f"{address} needs the password of {user}"
    await _terminal.acquire()
    try:
        if not sys.stderr.isatty():
            raise OSError
        clock = reactor.seconds
        with clock.stopped() if isinstance(clock, StoppableClock) else nullcontext():
            return await ask_secret(f"Password of {user} for {address}: ", reactor)
    except EOFError:
        raise AccessConfigError(f"{needed}, and none was entered") from None
    except OSError:
        raise AccessConfigError(
            f"{needed}, and there is no terminal to ask for it: set PYCOMNET_PASSWORD, or write it "
            f"to {credentials_path()}"
        ) from None
    finally:
        _terminal.release()


def ask_secret(prompt: str, reactor: IReactorFDSet) -> defer.Deferred[str]:
    """Show a prompt on the controlling terminal, and read a line that the terminal does not show.

    :func:`getpass.getpass` in a thread can't be interrupted: the process would go on until somebody
    presses Enter, on a terminal that shows nothing any more.

    :returns: fires with the line, without its newline. Cancelling it, and the reactor's end,
        restore the terminal.
    :raises EOFError: through the Deferred: the input has ended.
    :raises AccessConfigError: through the Deferred: the input is not UTF-8.
    :raises OSError: through the Deferred: there is no terminal.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return defer.fail()
    try:
        return _HiddenInput(terminal, prompt, reactor).answer
    except (OSError, termios.error) as problem:
        os.close(terminal)
        return defer.fail(OSError(*problem.args))


@implementer(IReadDescriptor)
class _HiddenInput:
    """Reads one line from a terminal that does not show it.

    :ivar answer: fires with the line.
    """

    def __init__(self, terminal: int, prompt: str, reactor: IReactorFDSet) -> None:
        self._terminal = terminal
        self._reactor = reactor
        self._line = b""
        self._shown: list[Any] = termios.tcgetattr(terminal)
        hidden = list(self._shown)
        hidden[3] &= ~termios.ECHO
        self.answer: defer.Deferred[str] = defer.Deferred(lambda _: self._close())
        shown = encode(visible_line(prompt))  # the address may come from another client's record
        termios.tcsetattr(terminal, termios.TCSAFLUSH, hidden)
        try:
            os.write(terminal, shown)
        except OSError:  # the terminal's output is stopped, or the terminal is gone
            self._restore()
            raise
        reactor.addReader(self)

    def doRead(self) -> None:
        try:
            data = os.read(self._terminal, READ)
        except BlockingIOError:
            return
        except OSError as problem:  # the terminal is gone
            self._close()
            self.answer.errback(problem)
            return
        self._line += data
        if not data or self._line.endswith(b"\n"):
            self._close()
            if not self._line:
                self.answer.errback(EOFError())
                return
            try:
                text = os.fsdecode(self._line.removesuffix(b"\n"))
                text.encode()
            except UnicodeError:
                self.answer.errback(AccessConfigError("a password is text in UTF-8"))
            else:
                self.answer.callback(text)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""
        self.answer.cancel()

    def fileno(self) -> int:
        return self._terminal

    def logPrefix(self) -> str:
        return "a password"

    def _close(self) -> None:
        if self._terminal < 0:
            return
        self._reactor.removeReader(self)
        self._restore()
        os.close(self._terminal)
        self._terminal = -1

    def _restore(self) -> None:
        try:
            # TCSAFLUSH drops an unfinished line, which the shell would get otherwise.
            termios.tcsetattr(self._terminal, termios.TCSAFLUSH, self._shown)
            os.write(self._terminal, b"\n")
        except (OSError, termios.error):
            pass  # the terminal is gone
