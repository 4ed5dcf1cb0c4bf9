"""Daemons under attack: each with what shows that it still serves, and what the attack cost it.

Attackers are plain blocking sockets in threads of their own, so that what they send is theirs to
the byte. Who is served meanwhile uses the library as a user does.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import attrs
from twisted.internet.threads import deferToThread

import pycomnet
from pycomnet.gateways import localfactory
from pycomnet.nameserver.records import encode
from pycomnet.net import endpoints
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.processes import processor_time, resident
from pycomnet.test.system.daemons import PATIENCE, Daemon, Daemons, environment
from pycomnet.wire.frames import GOAWAY, HEADER, HEADER_SIZE, HELLO
from pycomnet.wire.hello import PLAIN
from pycomnet.wire.mux import Limits, Mux

#: All of them, as ``twistd`` has them.
ALL = ("nameserver", "service", "gateway", "http-exec", "factory")
#: Those that speak the wire protocol to whoever connects.
ON_THE_WIRE = ("nameserver", "service", "gateway", "factory")
#: Those that a token is needed for.
WITH_TOKENS = ("gateway", "http-exec", "factory")
LOOPBACK = "tcp:0:interface=127.0.0.1"
#: Seconds that a call may take while others attack, on a busy machine.
SOON = 120.0
#: Seconds that an attacker waits for an answer.
IMPATIENCE = 120.0
#: What the log of a daemon must never show.
BROKEN = ("Traceback", "Unhandled")
MB = 1 << 20
CALC = "org.example.calc"
#: How a request to a service begins: FIRST and END, and its purpose.
INVOKE = b"\x0a\x06invoke"
#: The log line that says where each listens.
_WHERE = {
    "nameserver": r"the nameserver is at (\S+)",
    "service": rf"offers {CALC} at (\S+)",
    "gateway": r"reach it with socket=([^/\s]+)",
    "http-exec": r"reach it with http=([^/\s]+)",
    "factory": r"listening on (\S+)",
}


@attrs.frozen
class Victim:
    """A daemon under attack.

    :ivar kind: its name, without ``pycomnet-``.
    :ivar where: the address that its log says, as a client has it.
    """

    kind: str
    daemon: Daemon
    where: str
    token_file: Path | None = None
    _groups: weakref.WeakSet[Any] = attrs.field(factory=weakref.WeakSet, eq=False, repr=False)

    @property
    def pid(self) -> int:
        """Its process."""
        return self.daemon.pid

    @property
    def token(self) -> bytes:
        """The token that lets a client in."""
        return b"" if self.token_file is None else self.token_file.read_bytes().strip()

    @property
    def credential(self) -> bytes | None:
        """What a hello to it has to have."""
        return self.token or None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.where.rpartition(":")[2])

    def connect(self) -> socket.socket:
        """A new connection, that says nothing yet."""
        if self.where.startswith("unix:"):
            plain = socket.socket(socket.AF_UNIX)
            plain.settimeout(IMPATIENCE)
            plain.connect(self.where.removeprefix("unix:"))
            return plain
        return socket.create_connection(("127.0.0.1", self.port), IMPATIENCE)

    async def serves(self, timeout: float = SOON) -> None:
        """See that it does for another client what it is for, soon."""
        from twisted.internet import reactor

        if self.kind in ("nameserver", "service"):
            # Others that came before this client may keep it waiting for the hello, too.
            with patch.object(endpoints, "CONNECT_TIMEOUT", timeout):
                async with pycomnet.Context(reactor, timeout=timeout) as context:
                    if self.kind == "nameserver":
                        await context.at(self.where, NAMESERVER).invoke("stat")
                    else:
                        calc = await context.connect(self.where, CALC)
                        assert await calc.invoke("add", {"a": 1, "b": 2}) == 3
            return
        with patch.object(localfactory, "CONNECT_TIMEOUT", timeout):
            async with pycomnet.Group(reactor) as group:
                gateway = await self.gateway(group).addTimeout(timeout, reactor)
                channel = gateway.remote_exec("channel.send(6 * 7)")
                assert await channel.receive().addTimeout(timeout, reactor) == 42

    def join(self, group: Any) -> None:
        """Have a group use it as its factory, as it may do already."""
        token = None if self.token_file is None else str(self.token_file)
        if group not in self._groups:
            self._groups.add(group)
            group.setlocalfactory(endpoint=self.where, token_file=token)

    def gateway(self, group: Any, options: str = "") -> Any:
        """A gateway that it gives."""
        if self.kind == "factory":
            self.join(group)
            return group.makegateway(f"popen{options}")
        how = "http" if self.kind == "http-exec" else "socket"
        return group.makegateway(f"{how}={self.where}//token_file={self.token_file}{options}")


def start(running: Daemons, kind: str, *options: str, listen: str = "", **env: str) -> Victim:
    """Start a daemon; :func:`ready` waits for it.

    :param listen: where, instead of any port of loopback.
    """
    directory = running.directory
    token_file = directory / f"{kind}.token"
    arguments = ["--listen", listen or LOOPBACK]
    if kind in WITH_TOKENS:
        arguments += ["--token-file", str(token_file)]
    if kind == "nameserver" and "--store" not in options:
        arguments += ["--store", "memory:"]
    arguments += options
    if kind == "service":
        daemon = running.service("none", *arguments, **env)
    else:
        daemon = running.start(f"pycomnet-{kind}", *arguments, directory=None, **env)
    return Victim(kind, daemon, "", token_file if kind in WITH_TOKENS else None)


def ready(victim: Victim) -> Victim:
    """Wait until a daemon listens; the same with its address."""
    return attrs.evolve(victim, where=victim.daemon.wait_for(_WHERE[victim.kind])[1])


def start_all(running: Daemons, *kinds: str) -> dict[str, Victim]:
    """Start some daemons at the same time, all of them by default."""
    started = [start(running, kind) for kind in kinds or ALL]
    return {victim.kind: ready(victim) for victim in started}


@asynccontextmanager
async def withstands(
    victim: Victim, memory: int = 24 * MB, processor: float = 3.0
) -> AsyncIterator[None]:
    """An attack, after which a daemon serves others, and is neither bloated nor worn out.

    :param memory: bytes that it may have grown by, when the attack is over.
    :param processor: seconds of processor that all of it may have cost.
    """
    await victim.serves()
    before, used = resident(victim.pid), processor_time(victim.pid)
    begun = len(victim.daemon.lines)
    yield
    await victim.serves()
    grown, cost = resident(victim.pid) - before, processor_time(victim.pid) - used
    said = "".join(victim.daemon.lines[begun:])
    assert not any(word in said for word in BROKEN), said[:4000]
    assert grown <= memory, f"{victim.kind} grew by {grown / MB:.1f} MB"
    assert cost <= processor, f"{victim.kind} took {cost:.2f} s of processor"


def in_thread(attack: Callable[..., Any], *args: Any) -> Any:
    """Have an attacker do its worst beside what the test does; fires with what it returns."""
    return deferToThread(attack, *args)


def frame(kind: int, channel: int, payload: bytes = b"") -> bytes:
    """One frame of the wire."""
    return HEADER.pack(len(payload), kind, channel) + payload


def hello_of(victim: Victim, **limits: int) -> bytes:
    """The hello of a client that may come in."""
    data: bytes = Mux(True, Limits(**limits), credential=victim.credential).data_to_send()
    return data


def call(interface: str, method: str, args: Any) -> bytes:
    """The payload of an OPEN that is a call of a service."""
    return INVOKE + encode([interface, method, args, None])


class Peer:
    """An attacker on the wire: it takes frames apart, and keeps no rule.

    :param plain: a socket that is connected.
    :ivar frames: what has come: type, channel, payload.
    """

    def __init__(self, plain: Any) -> None:
        self.socket = plain
        self.frames: list[tuple[int, int, bytes]] = []
        self._rest = b""

    @classmethod
    def of(cls, victim: Victim, **limits: int) -> Peer:
        """One that was let in: it has exchanged hellos."""
        peer = cls(victim.connect())
        peer.send(hello_of(victim, **limits))
        peer.until(lambda kind, channel: kind == HELLO)
        return peer

    def send(self, data: bytes) -> bool:
        """Send bytes; False when the other end has closed the connection."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def read(self) -> bool:
        """Take what comes next; False at the end."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        rest, at = self._rest + data, 0
        while len(rest) - at >= HEADER_SIZE:
            length, kind, channel = HEADER.unpack_from(rest, at)
            stop = at + HEADER_SIZE + length
            if stop > len(rest):
                break
            self.frames.append((kind, channel, rest[at + HEADER_SIZE : stop]))
            at = stop
        self._rest = rest[at:]
        return bool(data)

    def until(self, wanted: Callable[[int, int], bool], count: int = 1) -> bool:
        """Read until so many frames like this have come; False at the end."""
        while sum(wanted(kind, channel) for kind, channel, _ in self.frames) < count:
            if not self.read():
                return False
        return True

    def goodbye(self) -> tuple[str, str]:
        """The code and the message of the GOAWAY that the connection ends with."""
        while self.read():
            continue
        self.socket.close()
        for kind, _, payload in self.frames:
            if kind == GOAWAY:
                reason = PLAIN.decode(payload)
                return reason["code"], reason["message"]
        return "", "closed without a word"

    def close(self) -> None:
        self.socket.close()


class Http:
    """An attacker who speaks HTTP as it likes.

    :param plain: a socket that is connected, to the mediator or to what is before it.
    """

    def __init__(self, plain: Any) -> None:
        self.socket = plain
        self._rest = b""

    def send(self, data: bytes) -> bool:
        """Send bytes; False when the other end has closed the connection."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def request(self, victim: Victim, method: str, path: str, *headers: str, body: str = "") -> int:
        """Ask for something with a good token; the answer's status."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"Authorization: Bearer {victim.token.decode()}", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", body]).encode())
        return self.status()

    def status(self) -> int:
        """The status of the answer that comes next; 0 when there is none. Its body is kept."""
        while b"\r\n\r\n" not in self._rest:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                return 0
            self._rest += data
        self.head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return int(self.head.split()[1])

    def body(self) -> bytes:
        """The body of the answer that came, by its length."""
        size = 0
        for line in self.head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                size = int(line.partition(b":")[2])
        while len(self._rest) < size:
            data = self.socket.recv(1 << 16)
            assert data, "the connection ended within an answer"
            self._rest += data
        body, self._rest = self._rest[:size], self._rest[size:]
        return body

    def rest(self) -> bytes:
        """All that comes until the connection is closed."""
        data = self._rest
        with contextlib.suppress(ConnectionError):
            while piece := self.socket.recv(1 << 16):
                data += piece
        return data

    def close(self) -> None:
        self.socket.close()


def ended_by_peer(plain: socket.socket) -> bool:
    """Read until the other end closes the connection; whether it does within the socket's time."""
    try:
        while plain.recv(1 << 16):
            continue
    except (ConnectionError, ssl.SSLError):
        return True
    except TimeoutError:
        return False
    return True


def is_closed(plain: socket.socket) -> bool:
    """Whether the other end has closed the connection by now; what came before is dropped."""
    plain.setblocking(False)
    try:
        while plain.recv(1 << 16):
            continue
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def closing(sockets: list[Any]) -> Iterator[None]:
    """Close all these at the end."""
    try:
        yield
    finally:
        for one in sockets:
            one.close()


def as_user(uid: int, code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python as another user; root alone can."""
    drop = f"import os, socket, sys\nos.setgroups([])\nos.setgid({uid})\nos.setuid({uid})\n"
    return subprocess.run(
        [sys.executable, "-c", drop + code, *args],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
