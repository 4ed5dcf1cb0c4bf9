"""The page ``docs/howto/nameservers.rst`` is followed literally: each machine is a network."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import pycomnet
from pycomnet.test.needs import missing, needs
from pycomnet.test.system.daemons import PATIENCE
from pycomnet.test.system.etcdnetwork import Network, has_network_namespaces, network
from pycomnet.test.waiting import wait_until

ROOT = Path(pycomnet.__file__).parent.parent
PAGE = ROOT / "docs" / "howto" / "nameservers.rst"
MACHINES = ("a", "b", "c", "ns1", "ns2", "app")

pytestmark = [
    needs("etcd", "openssl", "nsenter", "unshare"),
    pytest.mark.skipif(not PAGE.is_file(), reason="there are no docs beside an installed package"),
]


class Machines:
    """Machines with networks of their own, and with each other's names.

    :ivar desk: where the certificates are made.
    """

    def __init__(self, directory: Path, net: Network) -> None:
        self.desk = directory / "desk"
        self.desk.mkdir()
        self._directory = directory
        self._net = net
        self._hosts = directory / "hosts"
        lines = [f"{net.address(name)} {name}" for name in MACHINES]
        self._hosts.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        programs = directory / "bin"
        programs.mkdir()
        for name, code in (
            ("pycomnet", "-m pycomnet"),
            ("twistd", "-c 'from twisted.scripts.twistd import run; run()'"),
        ):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {code} "$@"\n')
            (programs / name).chmod(0o755)
        self._env = {
            **{name: text for name, text in os.environ.items() if "PYCOMNET" not in name},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        self._running: list[subprocess.Popen[bytes]] = []
        for name in MACHINES:
            (directory / name).mkdir()

    def equip(self) -> None:
        """Give each what the page says."""
        for name in MACHINES:
            for file in ("ca.pem", f"{name}.pem", f"{name}.key"):
                shutil.copy(self.desk / file, self._directory / name)
        shutil.copy(ROOT / "docs" / "examples" / "calc.py", self._directory / "app")

    def _command(self, machine: str, line: str) -> list[str]:
        # What is another machine's disk in the page is a directory here.
        line = line.replace("/var/lib/etcd", str(self._directory / machine / "etcd"))
        mount = f"mount --bind {self._hosts} /etc/hosts && {line}"
        return [*self._net.inside(machine), "unshare", "-m", "bash", "-ec", mount]

    def start(self, machine: str, line: str) -> None:
        """Start a command that goes on."""
        log = self._directory / machine / "log"
        with log.open("ab") as output:
            self._running.append(
                subprocess.Popen(
                    self._command(machine, f"exec {line}" if "\n" not in line else line),
                    cwd=self._directory / machine,
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def seen(self, machine: str, text: str) -> None:
        """Wait until a machine's command has said something."""
        log = self._directory / machine / "log"
        try:
            wait_until(lambda: text in log.read_text(errors="replace"), repr(text))
        except AssertionError as problem:
            raise AssertionError(f"{problem}: {log.read_text()[-3000:]}") from None

    def run(self, line: str, machine: str | None = None) -> str:
        """Run a command, at a machine or at the desk; what it prints."""
        command = ["bash", "-ec", line] if machine is None else self._command(machine, line)
        ran = subprocess.run(
            command,
            cwd=self.desk if machine is None else self._directory / machine,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def stop(self) -> None:
        """End all commands."""
        for one in reversed(self._running):
            if one.poll() is None:
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()


@pytest.fixture
def machines() -> Iterator[Machines]:
    if not has_network_namespaces():
        missing("network namespaces can't be made")
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="pycomnet-h-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        made = Machines(directory, stack.enter_context(network(*MACHINES)))
        stack.callback(made.stop)
        yield made


def section(title: str) -> list[str]:
    """The commands of a section of the page, each with its further lines."""
    text = re.split(rf"^{title}\n-+\n", PAGE.read_text(), flags=re.M)[1]
    text = re.split(r"^\S.*\n-{3,}$", text, flags=re.M)[0]
    found: list[list[str]] = []
    for block in re.findall(r"^\.\. code-block:: console\n\n((?: {3}.*\n|\n)+)", text, re.M):
        within = False
        for line in block.splitlines():
            if line.startswith("   $ "):
                found.append([line[5:]])
                within = True
            elif within and line.startswith("     "):
                found[-1].append(line[3:])
            else:
                within = False
    return ["\n".join(lines) for lines in found]


def renamed(command: str, name: str, other: str) -> str:
    """A machine's command, for another machine: "likewise", as the page says."""
    command = re.sub(
        rf"(--name ){name}\b|(advertise-\S+-urls https://){name}\b", rf"\1\2{other}", command
    )
    return re.sub(rf"\b{name}(?=\.(?:pem|key))", other, command)


def test_page_is_followed(machines: Machines) -> None:
    """Three members and two nameservers with TLS, a service, and its caller."""
    for command in section("Certificates"):
        machines.run(command)
    machines.equip()
    (etcd,) = section("etcd")
    for name in ("a", "b", "c"):
        machines.start(name, renamed(etcd, "a", name))
    (nameserver,) = section("The nameservers")
    for name in ("ns1", "ns2"):
        machines.start(name, renamed(nameserver, "ns1", name))
    for name in ("ns1", "ns2"):
        machines.seen(name, "the nameserver is at ")
    *exports, service, listing, call, cluster = section("Clients and services")
    assert len(exports) == 3
    first = "\n".join([*exports, service])
    machines.start("app", first)
    machines.seen("app", "registered ")
    shown = machines.run("\n".join([*exports, listing]), "app")
    assert "org.example.calc" in shown and "tls:app:2013" in shown
    assert machines.run("\n".join([*exports, call]), "app") == "3\n"
    shown = machines.run("\n".join([*exports, cluster]), "app")
    for name in ("a", "b", "c"):
        assert re.search(rf"^{name} +https://{name}:2379 +3\S+ +(leader|follower) ", shown, re.M)
    assert shown.count("leader") == 1
    assert len(re.findall(r"^[0-9a-f]{8} +tls:", shown, re.M)) == 2


def test_who_has_no_certificate_is_not_admitted(machines: Machines) -> None:
    """By etcd, as the page has it started: a nameserver without one waits, and says why."""
    for command in section("Certificates"):
        machines.run(command)
    machines.equip()
    (etcd,) = section("etcd")
    for name in ("a", "b", "c"):
        machines.start(name, renamed(etcd, "a", name))
    (nameserver,) = section("The nameservers")
    machines.start("ns1", nameserver.replace("//cert=ns1.pem//key=ns1.key", ""))
    machines.seen("ns1", "can't read from etcd: ")
