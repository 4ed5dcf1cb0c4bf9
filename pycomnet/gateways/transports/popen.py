"""The popen transport: a far side in a process of this machine.

The first is an interpreter of its own; those after it are forked from one that is there already
(:mod:`pycomnet.gateways.forkserver.server`). With ``//fork=no``, or where nothing can be forked,
each is started alone, with ``//fork=yes`` none is.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet import defer

from pycomnet.far.path import FIRST_LINE
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.bootstrap import AfterMarker
from pycomnet.gateways.transports.environment import divide, too_long
from pycomnet.gateways.transports.environment import letter as letter_of
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.process import LocalProcess, ProcessTransport, describe_status

#: What a far side on this machine is started with. It imports the far side's modules from this
#: package's own files (and so from their cached bytecode), under a name that stands in nobody's
#: way. Only the common subset of all Pythons, and nothing that is slow to import.
BOOT = """\
{first}
import os, sys
if sys.version_info < (3,): sys.dont_write_bytecode = True
m = type(os)("_pycomnet")
m.__path__ = [{path!a}]
sys.modules["_pycomnet"] = m
from _pycomnet.far.main import main
main({config!a})
"""
#: Modules that Python 3.13 imports before what ``-c`` gives it, to show that in tracebacks: from
#: the working directory first, unless this variable is set.
IMPORTED_FIRST = (
    *("linecache", "tokenize", "token", "re", "enum", "types", "functools", "keyword"),
    *("collections", "operator", "reprlib", "copyreg", "io", "codecs", "abc", "os"),
)
SAFE_PATH = "PYTHONSAFEPATH"
PACKAGE = str(Path(__file__).resolve().parents[2])


def boot_code(config: dict[str, Any]) -> str:
    """The program that an interpreter of this machine is started with."""
    return BOOT.format(first=FIRST_LINE, path=PACKAGE, config=config)


def needs_safe_path(env: Mapping[str, str]) -> bool:
    """Whether the working directory has what an interpreter imports before our first line.

    Only then is it told to keep that from its path, as code there can see that it was.
    """
    return SAFE_PATH not in env and any(
        os.path.exists(f"{name}.py") or os.path.isdir(name) for name in IMPORTED_FIRST
    )


def prepare(env: Mapping[str, str], config: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """What an interpreter is started with for an environment.

    :param config: what it is told; changed.
    :returns: the environment it is started in, and what it is sent first.
    """
    fits, rest = divide(env)
    if needs_safe_path(env):
        fits[SAFE_PATH] = "1"
        config["safe_path"] = True
    if not rest:
        return fits, b""
    config["more"] = True
    return fits, letter_of(rest)


def worker_config(spec: Spec, id: str) -> dict[str, Any]:
    """What a worker is told (far/main.py)."""
    return {"id": id, "execmodel": spec.execmodel, "chdir": spec.chdir, "nice": spec.nice}


class ProcessGatewayTransport:
    """A process that is started for one connection, and its pipes.

    :param argv: the program and its arguments.
    :param env: its whole environment, or None for this process's.
    :param letter: what it is sent before the connection begins.
    :param pass_fds: further descriptors that it gets.
    :param what: what it is called in messages.
    """

    def __init__(
        self,
        request: GatewayRequest,
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
        return self._before is not None and self._before.begun

    def connect(self, connection: Any) -> defer.Deferred[None]:
        """Start the process."""
        reactor = self._request.reactor
        try:
            self.process = process = LocalProcess(
                self._argv, self._env, self._request.output, reactor, self._pass_fds
            )
        except (OSError, ValueError) as problem:
            words = f"can't start {self._argv[0]!r}: {problem}"
            if isinstance(problem, FileNotFoundError) and len(self._argv[0].split()) > 1:
                words += "; a python= argument is one path, or a list of it and its arguments"
            elif isinstance(problem, OSError) and problem.errno == errno.E2BIG:
                words += f"; {too_long(self._argv, self._env)}"
            return defer.fail(self._request.not_started(words))
        self._before = AfterMarker(connection, self._request.output, self._letter)
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
        """The process's status in words, and what it printed if that was all it did."""
        words = "" if status is None else describe_status(status)
        return words if self._before is None else self._before.describe_end(words)

    def keep(self, text: str) -> None:
        """Remember what its code said on standard error."""
        if self.process is not None:
            self.process.keep(text)

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""
        return "" if self.process is None else self.process.stderr_tail()


def interpreter(spec: Spec) -> list[str]:
    """The interpreter of this machine that a spec names, and its arguments."""
    return list(spec.python) if spec.python else own_interpreter()


def own_interpreter() -> list[str]:
    """The interpreter that runs this program, with the options that it was started with.

    So ``-I`` or ``-X utf8`` hold for far sides, too, as they do for what multiprocessing starts.
    """
    return [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]


def alone(request: GatewayRequest) -> ProcessGatewayTransport:
    """A process of its own for a gateway."""
    spec = request.spec
    config = {**worker_config(spec, request.id), "near": os.getpid()}
    env = {**os.environ, **spec.env}
    env, letter = prepare(env, config)
    return ProcessGatewayTransport(
        request, [*interpreter(spec), "-c", boot_code(config)], env, letter
    )


def carrier(request: GatewayRequest) -> GatewayTransport:
    """What carries a popen gateway's connection."""
    from pycomnet.gateways.forkserver import routes, transport

    if request.spec.via is not None:
        return transport.ForkedGatewayTransport(request, routes.through)
    if request.spec.fork is not False and routes.can_fork(request.spec):
        return transport.ForkedGatewayTransport(request, routes.here, alone, first_alone=True)
    return alone(request)
