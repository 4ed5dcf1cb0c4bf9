"""The transport of a gateway over the pipes of a process that is started for it."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Sequence
from typing import Any

from twisted.internet import defer

from pycomnet.gateways.environment import too_long
from pycomnet.gateways.transports.bootstrap import AfterMarker
from pycomnet.gateways.transports.interface import GatewayRequest
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.gateways.transports.process import LocalProcess, describe_status


class ProcessGatewayTransport:
    """A process that is started for one connection, and its pipes.

    :param argv: the program and its arguments.
    :param env: its whole environment, or None for this process's.
    :param bootstrap_message: the bytes that it is sent before the connection begins.
    :param pass_fds: further descriptors that it gets.
    :param what: the word for it in messages.
    :param started: the process, if it has been started with all this already.
    """

    def __init__(
        self,
        request: GatewayRequest,
        argv: Sequence[str],
        env: dict[str, str] | None = None,
        bootstrap_message: bytes = b"",
        pass_fds: tuple[int, ...] = (),
        what: str = "its process",
        started: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.what = what
        self._request = request
        self._argv = list(argv)
        self._env = env
        self._bootstrap_message = bootstrap_message
        self._pass_fds = pass_fds
        self._started = started
        self._before: AfterMarker | None = None
        self.process: LocalProcess | None = None

    @property
    def status(self) -> int | None:
        """How the process ended."""
        return None if self.process is None else self.process.status

    @property
    def begun(self) -> bool:
        """Whether the far side's first line has run, so that further output is its own."""
        return self._before is not None and self._before.begun

    def connect(self, connection: Any) -> defer.Deferred[None]:
        """Start the process."""
        reactor = self._request.reactor
        try:
            self.process = process = LocalProcess(
                self._argv,
                self._env,
                self._request.output,
                reactor,
                self._pass_fds,
                self._started,
            )
        except (OSError, ValueError) as problem:
            words = f"can't start {self._argv[0]!r}: {problem}"
            if isinstance(problem, FileNotFoundError) and len(self._argv[0].split()) > 1:
                words += "; a python= argument is one path, or a list of it and its arguments"
            elif isinstance(problem, OSError) and problem.errno == errno.E2BIG:
                words += f"; {too_long(self._argv, self._env)}"
            return defer.fail(self._request.not_started(words))
        self._before = AfterMarker(connection, self._request.output, self._bootstrap_message)
        ProcessTransport(process.stdin, process.stdout, self._before, reactor)
        return defer.succeed(None)

    def when_ended(self) -> defer.Deferred[int | None]:
        """Fires with the process's status once it has ended."""
        if self.process is None:
            return defer.succeed(None)
        ended: defer.Deferred[Any] = self.process.when_ended()
        return ended

    def kill(self, number: int) -> None:
        """Send its process group a signal."""
        if self.process is not None:
            self.process.kill(number)

    def describe_end(self, status: int | None) -> str:
        """The process's status in words, and its output if it never began."""
        words = "" if status is None else describe_status(status)
        return words if self._before is None else self._before.describe_end(words)

    def keep(self, text: str) -> None:
        """Remember what its code wrote to standard error."""
        if self.process is not None:
            self.process.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
        return "" if self.process is None else self.process.stderr_tail()
