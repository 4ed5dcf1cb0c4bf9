"""The popen transport: a far side in a process of this machine.

The first is an interpreter of its own; those after it are forked from one that is there already
(:mod:`pycomnet.gateways.place`). With ``//fork=no``, or where nothing can be forked, each is
started alone, with ``//fork=yes`` none is.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from twisted.internet import defer

from pycomnet.gateways.bootstrap import AfterMarker
from pycomnet.gateways.carrier import Carrier, Request
from pycomnet.gateways.process import LocalProcess, ProcessTransport, describe_status
from pycomnet.gateways.spec import Spec

#: What a far side on this machine is started with. It imports the far side's modules from this
#: package's own files (and so from their cached bytecode), under a name that stands in nobody's
#: way. Only the common subset of all Pythons, and nothing that is slow to import.
BOOT = """\
import os, sys
if sys.version_info < (3,): sys.dont_write_bytecode = True
m = type(os)("_pycomnet")
m.__path__ = [{path!a}]
sys.modules["_pycomnet"] = m
from _pycomnet.worker.main import main
main({config!a})
"""
PACKAGE = str(Path(__file__).resolve().parent.parent)


def boot_code(config: dict[str, Any]) -> str:
    """The program that an interpreter of this machine is started with."""
    return BOOT.format(path=PACKAGE, config=config)


def worker_config(spec: Spec, id: str) -> dict[str, Any]:
    """What a worker is told (worker/main.py)."""
    return {"id": id, "execmodel": spec.execmodel, "chdir": spec.chdir, "nice": spec.nice}


class ProcessCarrier:
    """A process that is started for one connection, and its pipes.

    :param argv: the program and its arguments.
    :param env: its whole environment, or None for this process's.
    :param letter: what it is sent before the connection begins, which it then does with a marker.
    :param pass_fds: further descriptors that it gets.
    :param what: what it is called in messages.
    """

    def __init__(
        self,
        request: Request,
        argv: list[str],
        env: dict[str, str] | None = None,
        letter: bytes = b"",
        pass_fds: tuple[int, ...] = (),
        what: str = "its process",
    ) -> None:
        self.what = what
        self._request = request
        self._argv = argv
        self._env = env
        self._letter = letter
        self._pass_fds = pass_fds
        self._before: AfterMarker | None = None
        self.process: LocalProcess | None = None

    @property
    def status(self) -> int | None:
        """How the process ended."""
        return None if self.process is None else self.process.status

    @property
    def begun(self) -> bool:
        """Whether the far side's first line runs, so that what it says from now on is its own."""
        return self._before.begun if self._before is not None else not self._letter

    def connect(self, connection: Any) -> defer.Deferred[None]:
        """Start the process."""
        reactor = self._request.reactor
        try:
            self.process = process = LocalProcess(
                self._argv, self._env, self._request.output, reactor, self._pass_fds
            )
        except (OSError, ValueError) as problem:
            words = f"can't start {self._argv[0]!r}: {problem}"
            return defer.fail(self._request.not_started(words))
        if self._letter:
            self._before = AfterMarker(connection)
            transport = ProcessTransport(process.stdin, process.stdout, self._before, reactor)
            transport.write(self._letter)
        else:
            ProcessTransport(process.stdin, process.stdout, connection, reactor)
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
        """The process's status in words, and what it printed if that was all it did."""
        words = "" if status is None else describe_status(status)
        if self._before is not None and not self._before.begun:
            noise = self._before.noise()
            if noise:
                words += f" before Python began, and had printed:\n{noise}"
        return words

    def keep(self, text: str) -> None:
        """Remember what its code said on standard error."""
        if self.process is not None:
            self.process.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
        return "" if self.process is None else self.process.stderr_tail()


def interpreter(spec: Spec) -> list[str]:
    """The interpreter of this machine that a spec names, and its arguments."""
    return shlex.split(spec.python) if spec.python else [sys.executable]


def alone(request: Request) -> ProcessCarrier:
    """A process of its own for a gateway."""
    spec = request.spec
    config = {**worker_config(spec, request.id), "near": os.getpid()}
    env = {**os.environ, **spec.env} if spec.env else None
    return ProcessCarrier(request, [*interpreter(spec), "-c", boot_code(config)], env)


def carrier(request: Request) -> Carrier:
    """What carries a popen gateway's connection."""
    from pycomnet.gateways import placecarrier, routes

    if request.spec.via is not None:
        return placecarrier.PlaceCarrier(request, routes.through)
    if request.spec.fork is not False and routes.can_fork(request.spec):
        return placecarrier.PlaceCarrier(request, routes.here, alone, first_alone=True)
    return alone(request)
