"""The popen transport: a far side in a process of this machine."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from twisted.internet import defer

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


def boot_code(spec: Spec, id: str) -> str:
    """The program that a far side is started with."""
    config = {
        "id": id,
        "execmodel": spec.execmodel,
        "chdir": spec.chdir,
        "nice": spec.nice,
        "near": os.getpid(),
    }
    return BOOT.format(path=PACKAGE, config=config)


class ProcessCarrier:
    """A process that is started for one gateway, and its pipes."""

    what = "its process"

    def __init__(self, request: Request) -> None:
        self._request = request
        self.process: LocalProcess | None = None

    @property
    def status(self) -> int | None:
        """How the process ended."""
        return None if self.process is None else self.process.status

    def connect(self, connection: Any) -> defer.Deferred[None]:
        """Start the process."""
        spec, reactor = self._request.spec, self._request.reactor
        python = shlex.split(spec.python) if spec.python else [sys.executable]
        env = {**os.environ, **spec.env} if spec.env else None
        argv = [*python, "-c", boot_code(spec, self._request.id)]
        try:
            self.process = process = LocalProcess(argv, env, self._request.output, reactor)
        except (OSError, ValueError) as problem:
            return defer.fail(self._request.not_started(f"can't start {python[0]!r}: {problem}"))
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
        """The process's status in words."""
        return "" if status is None else describe_status(status)

    def keep(self, text: str) -> None:
        """Remember what its code said on standard error."""
        if self.process is not None:
            self.process.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
        return "" if self.process is None else self.process.stderr_tail()


def carrier(request: Request) -> Carrier:
    """What carries a popen gateway's connection."""
    return ProcessCarrier(request)
