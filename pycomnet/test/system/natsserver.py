"""Debian's nats-server as a process, for tests."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from pycomnet.test.needs import require
from pycomnet.test.system.daemons import PATIENCE

PROGRAM = "nats-server"


class NatsServerProcess:
    """A server of its own, with JetStream, on a free port of the loopback interface.

    :param options: further arguments.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self._directory = directory
        self._options = options
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"nats://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, again on the same port, and wait until it listens."""
        self.process = subprocess.Popen(
            [
                PROGRAM,
                *("-a", "127.0.0.1", "-p", str(self.port)),
                *("-js", "-sd", str(self._directory / "js")),
                *self._options,
            ],
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.process.poll() is None, "nats-server has ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)  # a server that is not ready tells nobody
        raise AssertionError("nats-server does not listen")

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Have it stop reading and answering, with its connections open."""
        self.process.send_signal(signal.SIGSTOP)


@contextlib.contextmanager
def nats_server(directory: Path, *options: str) -> Iterator[NatsServerProcess]:
    """A server for as long as it is needed."""
    require(PROGRAM)
    server = NatsServerProcess(directory, *options)
    try:
        yield server
    finally:
        server.kill()
