"""How this machine's fork server is started: if need be, before the program loads Twisted.

Loading Twisted takes a program as long as a fork server takes to start and to import what its
gateways need. A program that will make gateways can let both happen at the same time.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterable
from typing import Any

import attrs

from pycomnet.far.live import Live
from pycomnet.gateways.boot import Boot, boot, interpreter, start_process
from pycomnet.gateways.spec import STARTUP, Spec

#: The kinds of limits that this system has.
LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))


@attrs.frozen
class Imports:
    """The modules that this machine's fork server imports before it forks, for all its gateways.

    Only for an interpreter that is this program's.

    :ivar names: of modules.
    :ivar path: where they are found, as ``sys.path``.
    """

    names: tuple[str, ...] = ()
    path: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str], path: Iterable[object]) -> Imports:
        """Of modules that this program has imported, from where it did that.

        Entries of the path that are no text are left out, as Python itself ignores them.
        """
        texts = (os.path.abspath(each) for each in path if isinstance(each, str))
        return cls(tuple(names), tuple(texts))


@attrs.frozen
class LocalStart:
    """The start of a fork server of this machine.

    :ivar argv: its interpreter, with its arguments.
    :ivar env: its environment.
    :ivar imports: what it imports, if it is this program's interpreter.
    :ivar key: identifies it in a group: gateways with the same key can have the same one.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    imports: Imports
    key: tuple[Any, ...]

    @classmethod
    def of(cls, spec: Spec, imports: Imports) -> LocalStart:
        """The start of one for gateways of a spec, now."""
        env = dict(os.environ)
        variables = {
            name: value
            for given in (env, spec.env)
            for name, value in given.items()
            if name.startswith(STARTUP)
        }
        env.update(variables)
        argv = tuple(interpreter(spec))
        # Its interpreter finds the modules that this one would find.
        equals_this = spec.python is None and not any(name.startswith(STARTUP) for name in spec.env)
        key = ("popen", argv, tuple(sorted(variables.items())), inherited())
        return cls(argv, env, imports if equals_this else Imports(), key)

    def boot(self, descriptor_socket: int | None) -> Boot:
        """Its command.

        :param descriptor_socket: the descriptor of its end of the descriptor-passing socket.
        """
        config: dict[str, Any] = {"near": os.getpid(), "descriptor_socket": descriptor_socket}
        if self.imports.names:
            config["imports"] = {
                "names": list(self.imports.names),
                "path": list(self.imports.path),
            }
        return boot(self.argv, self.env, {"fork_server": config})


class EarlyForkServer(Live):
    """A fork server that was started before there is a group; one group may take it.

    :param imports: what it imports.
    :ivar start: how it was started.
    :ivar command: its command.
    :ivar process: its process.
    :ivar socket: this process's end of the descriptor-passing socket.
    :ivar directory: the identity of the directory in which it was started.
    :ivar umask: its umask.
    :raises OSError: it can't be started.
    """

    def __init__(self, imports: Imports) -> None:
        self.start = LocalStart.of(Spec(), imports)
        self.directory = directory_id()
        self.umask = current_umask()
        self.socket, theirs = socket.socketpair()
        with theirs:
            try:
                self.command = self.start.boot(theirs.fileno())
                self.process: subprocess.Popen[bytes] = start_process(
                    self.command.argv, self.command.env, (theirs.fileno(),)
                )
            except BaseException:
                self.socket.close()
                raise
        self.socket.setblocking(False)
        self._near = os.getpid()
        self._taken = False

    def take(self) -> bool:
        """Use it: from now on the caller ends it. Only the first call returns True.

        If it has died, none does.
        """
        if self._taken or self._near != os.getpid():
            return False
        if self.process.poll() is not None:
            self.end()
            return False
        self._taken = True
        return True

    def end(self) -> None:
        """End it, if nobody has taken it. It has not forked anything."""
        if self._taken or self._near != os.getpid():
            return
        self._taken = True
        self.socket.close()
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        with self.process:  # waits for it, and closes its pipes
            pass


def inherited() -> tuple[Any, ...]:
    """The properties that a process inherits at its start, and that are not sent to a fork server.

    Its user and groups, limits, priority and processors.
    """
    limits = tuple(map(resource.getrlimit, LIMITS))
    processors = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    return os.geteuid(), os.getegid(), tuple(os.getgroups()), limits, priority, processors


def current_umask() -> int:
    """This process's umask, which can only be read by setting it.

    Files that another thread creates meanwhile are private to this user, not open to all.
    """
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def directory_id() -> tuple[int, int]:
    """The identity of the working directory: its path may belong to a new one by now."""
    status = os.stat(".")
    return status.st_dev, status.st_ino
