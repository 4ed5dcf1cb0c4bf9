"""Real members of etcd, for tests: started, frozen and killed as processes."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

#: Seconds that a member may take to start on a busy machine.
PATIENCE = 60.0


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class EtcdMember:
    """One member, as a process.

    :ivar url: for clients.
    :ivar directory: of its data.
    """

    def __init__(self, directory: Path, name: str, client: int, peer: int, cluster: str) -> None:
        self.name = name
        self.directory = directory / name
        self.url = f"http://127.0.0.1:{client}"
        self._log = directory / f"{name}.log"
        peers = f"http://127.0.0.1:{peer}"
        self._command = [
            *("etcd", "--name", name, "--data-dir", str(self.directory)),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", cluster, "--initial-cluster-token", directory.name),
            *("--logger", "zap", "--log-level", "error"),
        ]
        self.process: Any = None

    def start(self) -> None:
        """Start it; it is not ready then."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def is_healthy(self) -> bool:
        """Whether it has a leader and takes writes."""
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return b"true" in answer.read()
        except OSError:
            return False


class EtcdMembers:
    """A cluster of members on this machine.

    :param directory: for their data: an empty one, best in memory.
    """

    def __init__(self, directory: Path, count: int = 1) -> None:
        ports = free_ports(2 * count)
        names = [f"m{number}" for number in range(count)]
        cluster = ",".join(
            f"{name}=http://127.0.0.1:{port}"
            for name, port in zip(names, ports[count:], strict=True)
        )
        self.members = [
            EtcdMember(directory, name, ports[at], ports[count + at], cluster)
            for at, name in enumerate(names)
        ]

    @property
    def urls(self) -> str:
        """The members, as ``--store etcd:`` takes them."""
        return ",".join(one.url for one in self.members)

    def start(self) -> None:
        """Start all of them; when it returns, they take writes."""
        for one in self.members:
            one.start()
        self.wait()

    def wait(self) -> None:
        """Wait until those that run take writes."""
        deadline = time.monotonic() + PATIENCE
        running = [one for one in self.members if one.process.poll() is None]
        while not all(one.is_healthy() for one in running):
            if time.monotonic() > deadline:
                raise AssertionError(f"etcd is not ready: {self.urls}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End all of them."""
        for one in self.members:
            one.kill()
