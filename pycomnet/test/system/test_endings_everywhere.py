"""Nothing is left of a far side on any transport, whatever it does and whichever process is killed.

Each test is a transport. For each of the ways in which it can end there is a program with a far
side for each way to misbehave; all programs of a transport run at the same time.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from pycomnet.test.processes import children, command_line, parent, still_there, stop
from pycomnet.test.system.daemons import Daemon, Daemons, daemons
from pycomnet.test.system.mediators import Mediator
from pycomnet.test.system.nearby import Near, near
from pycomnet.test.system.sshd import sshd

SCRIPT = str(Path(__file__).with_name("near_side.py"))
#: The six ways, with the most stubborn grandchild there is, and with one that has no parent any
#: more; and one that sends without end.
WAYS = ("idle", "receive", "sleep", "send", "swallow", "c_call", "stubborn", "daemon")
#: Those of them that have no process outside of their worker's session.
INSIDE = WAYS[:6]
#: Seconds of silence after which another end is asked, where that is what is tested: more than a
#: busy machine needs to start eight gateways, in which a program may say nothing.
KEEPALIVE = 4


def kill(*pids: int, number: int = signal.SIGKILL) -> None:
    """Send these, and nobody else, a signal."""
    os.kill(pids[0], number)
    for pid in pids[1:]:
        with contextlib.suppress(ProcessLookupError):  # it has ended as one before it did
            os.kill(pid, number)


class Program:
    """A program with its gateways.

    :ivar families: of each gateway the worker, its supervisor, and what its code has started.
    """

    def __init__(self, program: Near) -> None:
        self.program = program
        self.pid = program.pid
        self.families: list[list[int]] = []

    @property
    def supervisors(self) -> list[int]:
        """Those of one worker each."""
        return [family[1] for family in self.families]

    @property
    def fork_server(self) -> int:
        """The supervisor that has forked the last gateway's."""
        return parent(self.supervisors[-1])

    def clients(self, pid: int | None = None) -> list[int]:
        """The ssh processes that it, or another one, has started."""
        return [
            child for child in children(pid or self.pid) if command_line(child).startswith(b"ssh\0")
        ]


@attrs.frozen
class Cell:
    """One way in which a transport's gateways end.

    :ivar cause: what ends them.
    :ivar words: what those who wait are told, each of them; None: the program is gone or stopped.
    :ivar ways: what the far sides do.
    :ivar env: what the program is told (near_side.py).
    """

    name: str
    cause: Callable[[Program], object]
    words: str | None
    spec: str
    ways: tuple[str, ...] = WAYS
    master: str = ""
    factory: str = ""

    @property
    def env(self) -> dict[str, str]:
        """What the program is told."""
        names = ("SPEC", "MASTER", "FACTORY")
        given = zip(names, (self.spec, self.master, self.factory), strict=True)
        return {f"PYCOMNET_TEST_{name}": value for name, value in given if value}


def check(cells: list[Cell]) -> None:
    """Run the programs, end them each in its way, and see that nothing is left and all is told."""
    assert len({cell.name for cell in cells}) == len(cells)
    with ExitStack() as stack:
        programs = [
            Program(stack.enter_context(near(SCRIPT, "learn", *cell.ways, **cell.env)))
            for cell in cells
        ]
        for program in programs:
            program.families = program.program.line()
        everything = {pid for program in programs for family in program.families for pid in family}
        stack.callback(end_anyway, everything)
        kill(*everything, number=0)  # all are there
        for cell, program in zip(cells, programs, strict=True):
            cell.cause(program)
        left = still_there(everything)
        names = {
            pid: f"{cell.name}: {way}"
            for cell, program in zip(cells, programs, strict=True)
            for way, family in zip(
                (("master",) if cell.master else ()) + cell.ways, program.families, strict=True
            )
            for pid in family
        }
        assert not left, {names[pid]: command_line(pid) for pid in left}
        for cell, program in zip(cells, programs, strict=True):
            if cell.words is not None:
                for told in program.program.line():
                    assert re.search(cell.words, told), (cell.name, told)


def end_anyway(pids: set[int]) -> None:
    """What a failed test has left."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


class Cable:
    """What a connection to a port goes through, and that can break in either way.

    :ivar port: the one to connect to.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._silent = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                one = self._listener.accept()[0]
                other = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            self._sockets += [one, other]
            for source, sink in ((one, other), (other, one)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if self._silent.is_set():
                    return  # and neither end learns so
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def silence(self) -> None:
        """Carry nothing any more, as a network that is gone."""
        self._silent.set()

    def cut(self) -> None:
        """Both ends see their connection end, and can make no new one."""
        if self._listener.fileno() >= 0:
            # The thread waits in accept, which would otherwise take one more connection.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._listener.close()
        for one in self._sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        """Let go of everything."""
        self.cut()
        for one in self._sockets:
            one.close()


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons in a directory whose name is short enough for a socket's."""
    with daemons(tmp_path_factory.mktemp("e")) as running:
        yield running


@pytest.fixture
def cable() -> Iterator[Callable[[int], Cable]]:
    """Makes cables that are gone at the end."""
    made: list[Cable] = []

    def make(port: int) -> Cable:
        made.append(Cable(port))
        return made[-1]

    yield make
    for one in made:
        one.close()


def near_killed(program: Program) -> None:
    """The program is killed."""
    kill(program.pid)


def supervisors_killed(program: Program) -> None:
    """So are the supervisors of all its workers."""
    kill(*program.supervisors)


def fork_server_killed(program: Program) -> None:
    """So is the one that has forked those."""
    kill(program.fork_server)


SUPERVISORS = "GatewayDied: .*its process is gone: it was killed by SIGKILL"


def test_popen_gateways_end_with_their_cause_told() -> None:
    """On this machine."""
    spec = "popen//fork=yes"
    check(
        [
            Cell("near side", near_killed, None, spec),
            Cell("supervisors", supervisors_killed, SUPERVISORS, spec),
            Cell("alone", supervisors_killed, SUPERVISORS, "popen//fork=no", INSIDE),
            Cell("fork server", fork_server_killed, "its fork server is gone: .*SIGKILL", spec),
        ]
    )


def test_ssh_gateways_end_with_their_cause_told(tmp_path: Path) -> None:
    """Over ssh, also when its client is killed or stopped, or sshd's process for it killed."""
    with sshd(tmp_path) as server:
        spec = server.spec()
        quick = f"{spec}//keepalive={KEEPALIVE}"
        gone = "the route to it is gone: ssh is gone: "
        check(
            [
                Cell("near side", near_killed, None, spec),
                Cell("client", lambda p: kill(*p.clients()), f"{gone}it was killed", spec),
                Cell(
                    "silent",
                    lambda p: stop(*p.clients()),
                    f"{gone}.*was silent for",
                    quick,
                ),
                Cell("sshd", lambda p: kill(parent(p.fork_server)), f"{gone}it exited", spec),
                Cell("supervisors", supervisors_killed, SUPERVISORS, spec),
                Cell("fork server", fork_server_killed, f"{gone}it exited", spec),
            ]
        )


def test_socket_gateways_end_with_their_cause_told(
    started: Daemons, cable: Callable[[int], Cable]
) -> None:
    """At a service on a port, also when the network is gone or the service."""

    def service() -> tuple[Daemon, str, int]:
        token = started.directory / "token"
        daemon = started.start(
            "pycomnet-gateway",
            *("--listen", "tcp:0:interface=127.0.0.1", "--token-file", str(token)),
            *("--keepalive", str(KEEPALIVE)),
        )
        where = daemon.wait_for(r"clients reach it with socket=(\S+)")[1]
        return daemon, f"//token_file={token}", int(where.split("//")[0].rpartition(":")[2])

    stays, token, port = service()
    killed, _, killed_port = service()
    ended, _, ended_port = service()
    spec = f"socket=127.0.0.1:{port}{token}"
    cut, silent = cable(port), cable(port)
    gone = "the route to it is gone: the connection to the service is gone"
    check(
        [
            Cell("near side", near_killed, None, spec),
            Cell("cut", lambda _: cut.cut(), gone, spec.replace(str(port), str(cut.port))),
            Cell(
                "silent",
                lambda _: silent.silence(),
                f"{gone}: .*was silent for",
                spec.replace(str(port), f"{silent.port}//keepalive={KEEPALIVE}"),
            ),
            Cell(
                "service killed",
                lambda _: kill(killed.pid),
                gone,
                spec.replace(str(port), str(killed_port)),
            ),
            Cell(
                "service ended",
                lambda _: kill(ended.pid, number=signal.SIGTERM),
                gone,
                spec.replace(str(port), str(ended_port)),
            ),
            Cell("supervisors", supervisors_killed, SUPERVISORS, spec),
            Cell("fork server", fork_server_killed, gone, spec),
        ]
    )
    assert stays.process.poll() is None


def test_http_gateways_end_with_their_cause_told(
    started: Daemons, cable: Callable[[int], Cable]
) -> None:
    """On a mediator, which keeps what has lost its client for ten seconds here."""
    options = ("--linger", "10", "--drain", "0.5")
    stays, killed, ended = (Mediator(started, *options) for _ in range(3))
    cut = cable(stays.port)
    spec = stays.spec()
    check(
        [
            Cell("near side", near_killed, None, spec),
            Cell(
                "cut",
                lambda _: cut.cut(),
                "was out of reach for",
                spec.replace(str(stays.port), str(cut.port)),
            ),
            Cell("mediator killed", lambda _: kill(killed.pid), "out of reach", killed.spec()),
            Cell(
                "mediator ended",
                lambda _: kill(ended.pid, number=signal.SIGTERM),
                "GatewayDied",
                ended.spec(),
            ),
            Cell("supervisors", supervisors_killed, SUPERVISORS, spec, INSIDE),
        ]
    )
    assert stays.daemon.process.poll() is None


def test_gateways_behind_others_end_with_their_cause_told() -> None:
    """Through another gateway of an interpreter of its own, also when that one breaks."""
    outer = f"popen//fork=yes//python={sys.executable} -X hop=1"
    inner = f"popen//via=master//python={sys.executable} -X hop=2"
    gone = "(the route to it|its fork server|its process) is gone"

    def kill_master(program: Program) -> None:
        kill(program.families[0][0])

    def kill_first_fork_server(program: Program) -> None:
        kill(parent(program.families[0][1]))

    check(
        [
            Cell("near side", near_killed, None, inner, master=outer),
            Cell("intermediate", kill_master, gone, inner, master=outer),
            Cell("its fork server", kill_first_fork_server, gone, inner, master=outer),
            Cell("supervisors", supervisors_killed, gone, inner, master=outer),
            Cell(
                "fork server",
                # The outer one first: else it may just have begun to end what the other has left.
                lambda p: kill(parent(p.families[0][1]), p.fork_server),
                gone,
                inner,
                master=outer,
            ),
        ]
    )


def factories(started: Daemons) -> Callable[..., tuple[Daemon, str]]:
    """Starts factories, each on a socket of its own; the daemon and its address."""
    number = 0

    def make(*options: str) -> tuple[Daemon, str]:
        nonlocal number
        number += 1
        address = f"unix:{started.directory}/{number}"
        daemon = started.start("pycomnet-factory", "--listen", address, *options)
        daemon.wait_for("listening on")
        return daemon, address

    return make


def test_factory_gateways_end_with_their_cause_told(
    started: Daemons, cable: Callable[[int], Cable]
) -> None:
    """As the factory's, also when a program stands still, or the factory is gone."""
    make = factories(started)
    token = started.directory / "token"
    stays, address = make("--port", "0", "--token-file", str(token))
    port = int(stays.wait_for(r"listening on tcp:127.0.0.1:(\d+)")[1])
    _, quick_address = make("--keepalive", str(KEEPALIVE))
    killed, killed_address = make()
    ended, ended_address = make()
    cut = cable(port)
    os.environ["PYCOMNET_TOKEN_FILE"] = str(token)
    try:
        check(
            [
                Cell("near side", near_killed, None, "popen", factory=address),
                Cell(
                    "near side stopped",
                    lambda p: stop(p.pid),
                    None,
                    "popen",
                    factory=quick_address,
                ),
                Cell(
                    "cut",
                    lambda _: cut.cut(),
                    "the factory is gone",
                    "popen",
                    factory=f"tcp:127.0.0.1:{cut.port}",
                ),
                Cell(
                    "factory killed",
                    lambda _: kill(killed.pid),
                    "the factory is gone",
                    "popen",
                    factory=killed_address,
                ),
                Cell(
                    "factory ended",
                    lambda _: kill(ended.pid, number=signal.SIGTERM),
                    "GatewayDied",
                    "popen",
                    factory=ended_address,
                ),
                Cell("supervisors", supervisors_killed, SUPERVISORS, "popen", factory=address),
            ]
        )
        # The fork server is shared by all programs.
        gone = "its fork server is gone: .*SIGKILL"
        check([Cell("fork server", fork_server_killed, gone, "popen", factory=address)])
    finally:
        del os.environ["PYCOMNET_TOKEN_FILE"]
    assert stays.process.poll() is None


def test_factory_gateways_elsewhere_end_with_their_cause_told(
    started: Daemons, tmp_path: Path
) -> None:
    """Over ssh, on a mediator and through others, as the factory's."""
    make = factories(started)
    with sshd(tmp_path) as server:
        spec = server.spec()
        gone = "the route to it is gone: ssh is gone: "
        kept = [make() for _ in range(6)]
        cells = [
            Cell("near side", near_killed, None, spec),
            Cell("factory", lambda _: kill(kept[1][0].pid), "the factory is gone", spec),
            Cell(
                "client",
                lambda p: kill(*p.clients(kept[2][0].pid)),
                f"{gone}it was killed",
                spec,
            ),
            Cell(
                "silent",
                lambda p: stop(*p.clients(kept[3][0].pid)),
                f"{gone}.*was silent for",
                f"{spec}//keepalive={KEEPALIVE}",
            ),
            Cell("supervisors", supervisors_killed, SUPERVISORS, spec),
            Cell("fork server", fork_server_killed, f"{gone}it exited", spec),
        ]
        check(
            [
                attrs.evolve(cell, factory=address)
                for cell, (_, address) in zip(cells, kept, strict=True)
            ]
        )
    mediator = Mediator(started, "--linger", "5")
    stays, address = make()
    killed, killed_address = make()
    inner = f"popen//via=master//python={sys.executable} -X hop=2"
    gone = "GatewayDied"
    check(
        [
            Cell("http, near side", near_killed, None, mediator.spec(), factory=address),
            Cell(
                "http, factory",
                lambda _: kill(killed.pid),
                "the factory is gone",
                mediator.spec(),
                factory=killed_address,
            ),
            Cell("via, near side", near_killed, None, inner, master="popen", factory=address),
            Cell(
                "via, intermediate",
                lambda p: kill(p.families[0][0]),
                gone,
                inner,
                master="popen",
                factory=address,
            ),
        ]
    )
    assert stays.process.poll() is None
