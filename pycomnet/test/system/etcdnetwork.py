"""Nodes with networks of their own, which can be cut off from each other.

Each is a network namespace on a bridge of another namespace. Nothing of it is seen outside of these
processes, and it goes when they end. It needs root.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

TIMEOUT = 30
#: The two halves: bridges.
TOGETHER, APART = "whole", "apart"


def has_network_namespaces() -> bool:
    """Whether this user may make some."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return False
    made = subprocess.run(
        ["unshare", "-n", "ip", "link", "add", "try", "type", "bridge"], capture_output=True
    )
    return made.returncode == 0


class Network:
    """Some nodes.

    :param names: of the nodes.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._holders: dict[str, subprocess.Popen[bytes]] = {}

    def address(self, name: str) -> str:
        """A node's address."""
        return f"10.77.0.{self._names.index(name) + 1}"

    def inside(self, name: str) -> list[str]:
        """What to write before a command so that it runs at a node."""
        return ["nsenter", "-t", str(self._holders[name].pid), "-n"]

    def start(self) -> None:
        """Make them."""
        self._hold("hub")
        for bridge in (TOGETHER, APART):
            self._run("hub", "link", "add", bridge, "type", "bridge")
            self._run("hub", "link", "set", bridge, "up")
        self._run("hub", "link", "set", "lo", "up")
        self._run("hub", "address", "add", "10.77.0.254/24", "dev", TOGETHER)
        for name in self._names:
            self._hold(name)
            there = str(self._holders[name].pid)
            self._run(
                *("hub", "link", "add", "name", name, "type", "veth"),
                *("peer", "name", "eth0", "netns", there),
            )
            self._run("hub", "link", "set", "dev", name, "master", TOGETHER, "up")
            self._run(name, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            self._run(name, "link", "set", "eth0", "up")
            self._run(name, "link", "set", "lo", "up")

    def _hold(self, name: str) -> None:
        """Start a process in a namespace of its own, which ends with its standard input."""
        self._holders[name] = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo; read line"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        output = self._holders[name].stdout
        assert output is not None
        output.readline()

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self.inside(name), "ip", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT)

    def part(self, *names: str) -> None:
        """Cut some nodes off from all others; among themselves they are together."""
        for name in names:
            self._run("hub", "link", "set", "dev", name, "master", APART)

    def join(self, *names: str) -> None:
        """Put them together with the others again."""
        for name in names:
            self._run("hub", "link", "set", "dev", name, "master", TOGETHER)

    def is_healthy(self, urls: Sequence[str]) -> bool:
        """Whether all these members of etcd take writes."""
        command = [*self.inside("hub"), "etcdctl", "--endpoints", ",".join(urls), "endpoint"]
        return subprocess.run([*command, "health"], capture_output=True).returncode == 0

    def stop(self) -> None:
        """End them."""
        for holder in self._holders.values():
            holder.kill()
            holder.communicate()


@contextmanager
def network(*names: str) -> Iterator[Network]:
    """Nodes that end with the block."""
    made = Network(names)
    try:
        made.start()
        yield made
    finally:
        made.stop()
