"""Runs a program of this machine, such as pip, and waits for its end without blocking."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Mapping, Sequence

import attrs
from twisted.internet import defer
from twisted.internet.interfaces import IReactorThreads
from twisted.python.failure import Failure

from pycomnet.deferred import deferred
from pycomnet.far.xdeploy.building import read_output
from pycomnet.far.xdeploy.processgroup import ProcessGroup
from pycomnet.services.threads import in_thread

#: The turns of the programs that run.
_turns = defer.DeferredSemaphore(os.cpu_count() or 1)


@attrs.frozen
class Ran:
    """How a program ended.

    :ivar status: its exit status, or minus the signal that ended it.
    :ivar output: what it wrote to its standard output and error; of much, the begin and the end.
    """

    status: int
    output: str


class _Program:
    """A program that is run by a thread, and can be ended by another.

    What it leaves in its process group is killed when it has ended. Its output goes through a file:
    a pipe would stay open, and the thread wait, for as long as a daemon that it has started lives.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: str | None) -> None:
        self._argv, self._env, self._cwd = list(argv), dict(env), cwd
        self._lock = threading.Lock()
        self._group: ProcessGroup | None = None
        self._ended = False

    def run(self) -> Ran:
        with tempfile.TemporaryFile() as output:
            with self._lock:
                if self._ended:
                    return Ran(-signal.SIGKILL, "")
                self._group = group = ProcessGroup(
                    self._argv,
                    env=self._env,
                    cwd=self._cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            return Ran(group.wait(), read_output(output))

    def end(self) -> None:
        with self._lock:
            self._ended = True
            if self._group is not None:
                self._group.kill()


@deferred
async def run_tool(
    reactor: IReactorThreads, argv: Sequence[str], env: Mapping[str, str], cwd: str | None = None
) -> Ran:
    """Run a program; at most as many at a time as this machine has processors.

    It has a thread of its own, as it takes long: those of the reactor's pool are for short work.

    :param env: its whole environment.
    :returns: fires with :class:`Ran`; fails with ``OSError`` if it can't be started. Cancelling it
        kills the program, and what it started.
    """
    async with _turns:
        program = _Program(argv, env, cwd)
        ended: defer.Deferred[Ran] = defer.Deferred(lambda _: program.end())

        def done(outcome: Ran | Failure) -> None:
            if not ended.called:
                ended.callback(outcome)

        def run() -> None:
            outcome: Ran | Failure
            try:
                outcome = program.run()
            except BaseException:
                outcome = Failure()
            reactor.callFromThread(done, outcome)

        threading.Thread(target=run, name="pycomnet tool", daemon=True).start()
        return await ended


@contextlib.asynccontextmanager
async def scratch(reactor: IReactorThreads) -> AsyncIterator[str]:
    """A directory for the time of a block.

    What is in it may be large, so it is removed in a thread. What a killed program still writes
    there does not hide why it was killed.
    """
    place = tempfile.mkdtemp(prefix="pycomnet-xdeploy-")
    try:
        yield place
    finally:
        await in_thread(reactor, shutil.rmtree, place, True)
