"""The subprocess of a session: a far side as the popen gateway starts it, and how busy it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from twisted.internet import defer

from pycomnet.auth.tokens import clean_environment
from pycomnet.errors import SpecError
from pycomnet.gateways.boot import boot, interpreter, worker_config
from pycomnet.gateways.output import shown
from pycomnet.gateways.spec import Spec, split_command
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.gateways.transports.process import LocalProcess
from pycomnet.mediator.server.model import HttpError, UserLimits
from pycomnet.net.reactors import PipeReactor
from pycomnet.wire.frames import MEDIATED_WINDOW


class Subprocess(Protocol):
    """A subprocess that runs or has ended."""

    pid: int

    @property
    def status(self) -> int | None:
        """The exit status, or minus the number of the signal that ended it; None while it runs."""

    def when_ended(self) -> defer.Deferred[int]:
        """Fires with the status when it has ended."""

    def kill(self, number: int) -> None:
        """Send it a signal, if it still runs."""

    def stderr_tail(self) -> str:
        """The last lines of its standard error."""


#: The number of processors with which client, server and subprocess can have one each. With fewer,
#: a subprocess does not use busy polling: it would take the processor of the process that still has
#: the request.
ENOUGH_PROCESSORS = 3

#: Starts a subprocess. Its arguments: a spec, a name, the protocol for standard input and output,
#: and a function that is called with each piece of standard error, a str. The subprocess's standard
#: error is not read on until a returned Deferred fires.
Launch = Callable[[Spec, str, Any, Callable[[str], Any]], Subprocess]


def read_spec(options: Any, limits: UserLimits) -> Spec:
    """Make the spec of a popen gateway from a client's options.

    :param options: the JSON of the client's request.
    :raises HttpError: 400 if an option is not valid, 403 if it is not allowed.
    """
    if not isinstance(options, dict):
        raise HttpError(400, "options", "expected a JSON object")
    for key in options:
        if key not in limits.allow:
            raise HttpError(
                403, "option", f"option {key!r} is not allowed here", allowed=sorted(limits.allow)
            )
    env = options.get("env", {})
    if not isinstance(env, dict):
        raise HttpError(400, "options", "env must be an object of names and values")
    for key in ("python", "chdir", "id", "execmodel"):
        if not isinstance(options.get(key, ""), str):
            raise HttpError(400, "options", f"{key} must be a string")
    text = options.get("python")
    try:
        python = None if text is None else split_command(text)
        allowed = [split_command(each) for each in limits.pythons]
        if allowed and python is None:
            python = allowed[0]
        elif allowed and python not in allowed:
            raise HttpError(
                403, "python", f"{text!r} is not allowed here", allowed=list(limits.pythons)
            )
        spec = Spec.parse("popen", **{**options, "python": python})
    except (SpecError, ValueError) as problem:
        raise HttpError(400, "options", str(problem)) from None
    return spec


def launcher(reactor: PipeReactor) -> Launch:
    """Make the function that starts real subprocesses."""

    def launch(spec: Spec, name: str, protocol: Any, stderr: Callable[[str], Any]) -> Subprocess:
        python = interpreter(spec)
        config: dict[str, Any] = {
            **worker_config(spec, name),
            "near": os.getpid(),
            "window": MEDIATED_WINDOW,
        }
        if processors() < ENOUGH_PROCESSORS:
            config["busy"] = False
        # The first bytes that it reads are the client's: it may be a program of any kind.
        start = boot(python, {**clean_environment(), **spec.env}, config, sends=False)
        try:
            process = LocalProcess(
                list(start.argv), start.env, lambda text: stderr(shown(text)), reactor
            )
        except (OSError, ValueError) as problem:
            raise HttpError(
                422, "not_started", f"can't start {python[0]!r}: {problem}"
            ) from problem
        try:
            ProcessTransport(process.stdin, process.stdout, protocol, reactor, start.message)
        except BaseException:
            process.kill(signal.SIGKILL)
            raise
        return process

    return launch


def processors() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def processor_time(pid: int) -> float | None:
    """Seconds of processor time that a process and its descendants have used.

    :returns: None if there is no ``/proc``.
    """
    if not os.path.isdir("/proc/self/task"):
        return None
    ticks = 0
    waiting = [pid]
    while waiting:
        root = Path(f"/proc/{waiting.pop()}")
        try:
            fields = (root / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # user and system time, also of ended children
            for task in (root / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):
            continue  # the process has just ended
    return ticks / os.sysconf("SC_CLK_TCK")
