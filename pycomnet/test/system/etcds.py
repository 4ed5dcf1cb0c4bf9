"""Real members of etcd, for tests: started, frozen and killed as processes."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pycomnet.test.system.etcdnetwork import Network

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

    :param client: the port of its clients; ``peer`` is that of the other members.
    :param cluster: all members' names and addresses, as etcd takes them.
    :param token: names the cluster.
    :param host: its address.
    :param before: what its command is run by.
    :ivar url: for clients.
    :ivar health: where it says how it is.
    :ivar directory: of its data.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        client: int,
        peer: int,
        cluster: str,
        host: str = "127.0.0.1",
        before: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.directory = directory / name
        self.health = self.url = f"http://{host}:{client}"
        self.peer_url = f"http://{host}:{peer}"
        self._log = directory / f"{name}.log"
        self._command = [
            *before,
            *("etcd", "--name", name, "--data-dir", str(self.directory)),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", self.peer_url),
            *("--initial-advertise-peer-urls", self.peer_url),
            *("--initial-cluster", cluster, "--initial-cluster-token", directory.name),
            *("--logger", "zap", "--log-level", "error"),
        ]
        self.process: Any = None

    def add_arguments(self, *arguments: str) -> None:
        """Have it started with more."""
        self._command += arguments

    def use_tls(self, health: int, *arguments: str) -> None:
        """Have it take TLS only.

        :param health: a port where it says without TLS how it is.
        """
        secure = self.url.replace("http:", "https:")
        self.health = f"http://127.0.0.1:{health}"
        self._command = [secure if part == self.url else part for part in self._command]
        self._command += ["--listen-metrics-urls", self.health, *arguments]
        self.url = secure

    def restore(self, snapshot: Path, cluster: str, token: str) -> None:
        """Replace its data, while it doesn't run, by those of a snapshot."""
        shutil.rmtree(self.directory, ignore_errors=True)
        done = subprocess.run(
            [
                *("etcdctl", "snapshot", "restore", str(snapshot), "--name", self.name),
                *("--data-dir", str(self.directory), "--initial-cluster", cluster),
                *("--initial-cluster-token", token),
                *("--initial-advertise-peer-urls", self.peer_url),
            ],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr

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

    def leads(self) -> bool:
        """Whether it says that it is the leader."""
        try:
            with urllib.request.urlopen(f"{self.health}/metrics", timeout=2) as answer:
                return b"etcd_server_is_leader 1" in answer.read()
        except OSError:
            return False

    def is_healthy(self) -> bool:
        """Whether it has a leader and takes writes."""
        try:
            with urllib.request.urlopen(f"{self.health}/health", timeout=2) as answer:
                return b"true" in answer.read()
        except OSError:
            return False


class EtcdMembers:
    """A cluster of members on this machine.

    :param directory: for their data: an empty one, best in memory.
    :param network: has a node for each, with the member's name; default: all are on loopback.
    """

    def __init__(self, directory: Path, count: int = 1, network: Network | None = None) -> None:
        self.directory = directory
        self._network = network
        names = [f"m{number}" for number in range(count)]
        if network is None:
            ports = free_ports(2 * count)
            places = [("127.0.0.1", ports[at], ports[count + at]) for at in range(count)]
            before: list[list[str]] = [[] for _ in names]
        else:
            places = [(network.address(name), 2379, 2380) for name in names]
            before = [network.inside(name) for name in names]
        self.cluster = ",".join(
            f"{name}=http://{host}:{peer}"
            for name, (host, _, peer) in zip(names, places, strict=True)
        )
        self.members = [
            EtcdMember(directory, name, client, peer, self.cluster, host, before[at])
            for at, (name, (host, client, peer)) in enumerate(zip(names, places, strict=True))
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
        if self._network is not None:
            while not self._network.is_healthy([one.url for one in self.members]):
                if time.monotonic() > deadline:
                    raise AssertionError(f"etcd is not ready: {self.urls}")
            return
        while True:
            running = [one for one in self.members if one.process.poll() is None]
            if not running:
                raise AssertionError("all members of etcd have ended")
            if all(one.is_healthy() for one in running):
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"etcd is not ready: {self.urls}")
            time.sleep(0.05)

    def control(self, *arguments: str) -> None:
        """Call etcdctl with the first member."""
        command = ["etcdctl", "--endpoints", self.members[0].url, *arguments]
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, text=True)
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """End all of them."""
        for one in self.members:
            one.kill()
