"""The daemons of ``pycomnet demo``: processes of twistd, as users run them, and etcd's members."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

import pycomnet
from pycomnet.cli import tour
from pycomnet.deferred import deferred
from pycomnet.errors import PycomnetError
from pycomnet.net.reactors import GatewayReactor

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
#: Seconds that a daemon has to exit by itself.
END_TIMEOUT = 5.0
#: Members of etcd: three survive the loss of one.
MEMBERS = 3
#: Seconds between two reads of a daemon's log.
LOOK = 0.05
#: How many characters of a failed daemon's log are shown.
LOG_SHOWN = 2000


class Daemons:
    """Daemons with a temporary directory, which is removed when they are closed."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pycomnet-"))
        self.nameserver = f"unix:{self.directory / 'names'}"
        #: etcd's members: name -> process id
        self.members: dict[str, int] = {}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_nameserver(self) -> None:
        """Start a nameserver that keeps its records in memory."""
        self._start("pycomnet-nameserver", "--listen", self.nameserver, "--store", "memory:")

    def start_service(self) -> int:
        """Start the service, which waits for the nameserver. Returns its process id."""
        options = ("--nameserver", self.nameserver, "--wait", "--ttl", "2")
        return self._start("pycomnet-service", *options, "pycomnet.cli.tourservice")

    def start_workflow(self) -> int:
        """Start the workflow service, which keeps its runs in a file. Returns its process id."""
        config = self.directory / "tasks.json"
        config.write_text(json.dumps({"tasks": {"visit": tour.visit().as_dict()}}))
        options = ("--config", str(config), "--name", "/tour/workflow")
        more = ("--nameserver", self.nameserver, "--wait", "--ttl", "2")
        return self._start("pycomnet-workflow", *options, *more)

    @deferred
    async def start_mediator(self, reactor: GatewayReactor) -> str:
        """Start an HTTP mediator on this machine.

        :returns: fires with the spec of gateways that it starts, once it listens.
        """
        options = ("--listen", "tcp:0:interface=127.0.0.1", "--token-file", "http.token")
        pid = self._start("pycomnet-http-exec", *options, "--drain", "1")
        log = self.directory / f"{pid}.log"
        while True:
            self.check()
            found = re.search(r"reach it with (http=[^/\s]+)", log.read_text(errors="replace"))
            if found is not None:
                return f"{found[1]}//token_file={self.directory / 'http.token'}"
            await deferLater(reactor, LOOK)

    def start_cluster(self) -> None:
        """Start three members of etcd, and two nameservers that share them and wait for them."""
        ports = free_ports(2 * MEMBERS)
        clients, peers = (
            [f"http://127.0.0.1:{port}" for port in some] for some in (ports[::2], ports[1::2])
        )
        names = [f"member-{number}" for number in range(1, MEMBERS + 1)]
        cluster = ",".join(f"{name}={peer}" for name, peer in zip(names, peers, strict=True))
        for name, client, peer in zip(names, clients, peers, strict=True):
            self.members[name] = self._run(
                *("etcd", "--name", name, "--data-dir", name),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", cluster, "--initial-cluster-token", self.directory.name),
                *("--logger", "zap", "--log-level", "error"),
            )
        addresses = [f"unix:{self.directory / name}" for name in ("names-1", "names-2")]
        for address in addresses:
            store = f"etcd:{','.join(clients)}"
            self._start("pycomnet-nameserver", "--listen", address, "--store", store)
        self.nameserver = ",".join(addresses)

    def kill(self, pid: int) -> None:
        """Kill a daemon, so that it can't clean up or unregister."""
        for process in self._processes:
            if process.pid == pid:
                process.kill()
                process.wait()

    def check(self) -> None:
        """Check that the daemons still run, except those that were killed.

        :raises PycomnetError: one has ended; the message has the end of its log.
        """
        for process in self._processes:
            if process.poll() not in (None, -signal.SIGKILL):
                log = (self.directory / f"{process.pid}.log").read_text(errors="replace")
                raise PycomnetError(f"a daemon of the tour has ended:\n{log[-LOG_SHOWN:]}")

    def _start(self, *args: str) -> int:
        return self._run(*TWISTD, "-n", "--pidfile=", *args)

    def _run(self, *command: str) -> int:
        root = str(Path(pycomnet.__file__).parent.parent)
        search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        log = self.directory / "log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": search},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C signals only the tour, which ends them
            )
        log.rename(self.directory / f"{process.pid}.log")
        self._processes.append(process)
        return process.pid

    @deferred
    async def close(self) -> None:
        """End the daemons, the last one first, and remove the directory. It does not fail."""
        await deferToThread(self._end)

    def _end(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
