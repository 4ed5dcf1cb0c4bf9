"""Debian's nats-server as a process, for tests."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pycomnet.test.needs import require
from pycomnet.test.system.daemons import PATIENCE

PROGRAM = "nats-server"


class NatsServerProcess:
    """A server of its own on a free port of the loopback interface.

    :param options: further arguments.
    :param jetstream: whether it has JetStream. In a cluster that needs more options.
    :param advertise: the name under which other servers announce it to clients.
    """

    def __init__(
        self, directory: Path, *options: str, jetstream: bool = True, advertise: str = ""
    ) -> None:
        self._directory = directory
        self._options = list(options)
        if jetstream:
            self._options += ["-js", "-sd", str(directory / "js")]
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        if advertise:
            self._options += ["--client_advertise", f"{advertise}:{self.port}"]
        self.address = f"nats://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, again on the same port, and wait until it listens."""
        self.process = subprocess.Popen(
            [
                PROGRAM,
                *("-a", "127.0.0.1", "-p", str(self.port)),
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
def nats_server(directory: Path, *options: str, **more: Any) -> Iterator[NatsServerProcess]:
    """A server for as long as it is needed; see :class:`NatsServerProcess`."""
    require(PROGRAM)
    server = NatsServerProcess(directory, *options, **more)
    try:
        yield server
    finally:
        server.kill()
