"""One run of a command: the reactor, the standard streams, signals and the exit status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, NoReturn, cast

import click
from twisted.internet import defer
from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from pycomnet.cli.options import brief
from pycomnet.cli.stdstreams import OutputStream
from pycomnet.errors import PycomnetError, ServiceUnreachable, TimeoutExpired, Unauthenticated
from pycomnet.net.clock import StoppableClock, use_monotonic_clock
from pycomnet.net.reactors import GatewayReactor
from pycomnet.services.nameserveraddress import DEFAULT_NAMESERVER
from pycomnet.text.logs import Logger
from pycomnet.text.printable import message as safe_message
from pycomnet.text.printable import visible

log = Logger()

#: A shell reports this plus the signal's number for a program that a signal ended.
SIGNALLED = 128
#: The exit status when ``--timeout`` expired, as of coreutils' ``timeout``.
TIMED_OUT = 124
#: Seconds that gateways have to exit by themselves when a command ends.
END_TIMEOUT = 5.0

#: What to do if nothing listens where the commands look for a nameserver by default.
START_NAMESERVER = (
    '; that is where the nameserver of this machine listens: start it with "twistd '
    'pycomnet-nameserver", or give the address of another with --nameserver'
)
#: Appended to the error message of a service that needs a login.
LOG_IN = " (--user, --token-file or --cert gives them)"

SIGNALS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "the terminal is gone",
}


class CommandProgram:
    """One run of a command: what its coroutine works with.

    :param stdout: the descriptor of standard output.
    :param stderr: the descriptor of standard error.
    :ivar reactor: the reactor that runs.
    :ivar stdout: standard output.
    :ivar stderr: standard error; write to it with :meth:`show`.
    :ivar above: if not None, it is called with each text for standard error, which is then not
        written there. A progress bar sets it, to show the text above itself.
    :ivar ending: the end of the message about a signal; empty in commands without gateways.
    """

    def __init__(self, reactor: GatewayReactor, stdout: int = 1, stderr: int = 2) -> None:
        self.reactor = reactor
        self.stdout = OutputStream(stdout, self._broken, reactor)
        self.stderr = OutputStream(stderr, self._broken, reactor)
        self.above: Callable[[str], None] | None = None
        self.ending = ": ending the gateways"
        self._main: defer.Deferred[int] | None = None
        self._was_signalled = False
        #: the exit status, if the run is ended before its coroutine is done
        self._ended: int | None = None

    # -- for commands ----------------------------------------------------------------------------

    def show(self, text: str) -> defer.Deferred[None] | None:
        """Write to standard error. Returns what :meth:`OutputStream.put` returns."""
        if self.above is not None:
            self.above(text)
            return None
        return self.stderr.put(encode(text))

    def print_text(self, text: str, raw: bool = False) -> defer.Deferred[None] | None:
        """Write to standard output, with control characters made visible if it is a terminal.

        :param raw: leave control characters unchanged.
        :returns: what :meth:`OutputStream.put` returns.
        """
        if not raw and self.stdout.isatty():
            text = visible(text)
        return self.stdout.put(encode(text))

    def say(self, message: str) -> None:
        """Show a message to the user, on a line of its own on standard error.

        The message may quote another process: its text can't imitate another message.
        """
        prefix = "pycomnet: "
        if self.stderr.isatty() and "NO_COLOR" not in os.environ:
            prefix = click.style(prefix, fg="red", bold=True)
        self.show(f"{prefix}{safe_message(message)}\n")

    def end(self, status: int) -> None:
        """Cancel the command, so that it cleans up, and then exit with this status."""
        if self._ended is None:
            self._ended = status
            if self._main is not None:
                self._main.cancel()

    # -- the run ---------------------------------------------------------------------------------

    def start(
        self, main: Callable[[CommandProgram], Coroutine[Any, Any, int]]
    ) -> defer.Deferred[int]:
        """Start a command.

        :returns: fires with the exit status, once all output is written. It does not fail. Use
            :meth:`end` to cancel it.
        """
        self._main = running = defer.Deferred.fromCoroutine(main(self))
        running.addErrback(self._explain)
        running.addCallback(self._drain)
        running.addErrback(self._explain)
        if self._ended is not None:
            running.cancel()
        return running.addCallback(lambda status: status if self._ended is None else self._ended)

    def run(self, main: Callable[[CommandProgram], Coroutine[Any, Any, int]]) -> int:
        """Run the reactor until the command is done; return the exit status."""
        statuses: list[int] = []

        def begin() -> None:
            self.start(main).addCallback(statuses.append).addBoth(lambda _: self.reactor.stop())

        self.reactor.callWhenRunning(begin)
        # The reactor's own handlers would stop it before the command has cleaned up.
        previous = {
            number: signal.signal(number, self._signalled)
            for number in SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN  # nohup, or a shell's "&"
        }
        try:
            cast(ReactorBase, self.reactor).run(installSignalHandlers=False)
        finally:
            for number, old in previous.items():
                signal.signal(number, old)
        return statuses[0]

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._was_signalled:
            # The second signal: exit at once. The far sides see their connections end, and exit.
            if self.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # a progress bar hides the cursor
            os._exit(SIGNALLED + number)
        self._was_signalled = True
        IReactorFromThreads(self.reactor).callFromThread(self._stop, number)

    def _stop(self, number: int) -> None:
        if self._ended is None:
            self.say(f"{SIGNALS[signal.Signals(number)]}{self.ending}")
            self.end(SIGNALLED + number)

    def _broken(self, problem: OSError) -> None:
        if isinstance(problem, BrokenPipeError):
            self.end(SIGNALLED + signal.SIGPIPE)  # as any program in a pipeline, silently
        else:
            if self.stderr.problem is None:
                self.say(f"can't write: {problem}")
            self.end(1)

    def _explain(self, failure: Failure) -> int:
        if self._ended is not None:
            return self._ended
        problem = failure.value
        if isinstance(problem, defer.FirstError):
            failure = problem.subFailure
            problem = failure.value
        if isinstance(problem, click.ClickException):
            self.show(f"Error: {problem.format_message()}\n")
            return problem.exit_code
        if isinstance(problem, PycomnetError | OSError):
            # A nested error is of a call that the service has made, with credentials of its own.
            lacks_login = (
                isinstance(problem, Unauthenticated)
                and problem.reason == "missing"
                and not problem.nested
            )
            lacks_nameserver = isinstance(
                problem, ServiceUnreachable
            ) and f" {DEFAULT_NAMESERVER}:" in str(problem)
            self.say(brief(problem) + LOG_IN * lacks_login + START_NAMESERVER * lacks_nameserver)
            if isinstance(problem, TimeoutExpired):
                return TIMED_OUT
        else:
            log.failure("the command failed", failure)
        return 1

    async def _drained(self, status: int) -> int:
        for stream in (self.stdout, self.stderr):
            await stream.when_empty()
        return status

    def _drain(self, status: int) -> defer.Deferred[int]:
        if self._ended is not None:
            return defer.succeed(status)  # a stuck reader may have been the reason to interrupt
        return defer.Deferred.fromCoroutine(self._drained(status))


def encode(text: str) -> bytes:
    """Encode text for a standard stream. Bytes that were not UTF-8 when read come out unchanged."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def run_command(main: Callable[[CommandProgram], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run a command in the global reactor, and exit with its status.

    :param main: called with the :class:`CommandProgram`; its coroutine returns the exit status. It
        is cancelled by Ctrl-C, SIGTERM, SIGHUP (status 128 plus the signal's number) and when the
        reader of standard output has gone (141, as for SIGPIPE). A second signal exits at once.
    """
    for fd in (0, 1, 2):
        # If the caller has closed a descriptor, the first socket would get its number.
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    from twisted.internet import reactor

    use_monotonic_clock(reactor, StoppableClock())  # see passwordprompt.ask
    status = CommandProgram(reactor).run(main)
    # Else the interpreter's own flush at exit would report the broken pipe again.
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
    sys.exit(status)
