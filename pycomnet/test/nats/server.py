"""A NATS server in memory, for tests: enough of its protocol for clients to talk to each other."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from pycomnet.ext.pubsub.subjects import covers
from pycomnet.nats import NatsClient, NatsSettings
from pycomnet.test.services.network import Network, ServiceCase


class ServerSide(Protocol):
    """The server's end of a connection."""

    def __init__(self, server: NatsTestServer) -> None:
        self.server = server
        self.said: dict[str, Any] = {}
        #: number -> pattern and group
        self.wanted: dict[bytes, tuple[str, str]] = {}
        self._buffer = b""

    def connectionMade(self) -> None:
        self.server.sides.append(self)
        self.write(b"INFO %b\r\n" % json.dumps(self.server.info).encode())

    def connectionLost(self, reason: Any = None) -> None:
        self.server.sides.remove(self)

    def write(self, data: bytes) -> None:
        """Send something."""
        assert self.transport is not None
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n" in self._buffer:
            line, _, rest = self._buffer.partition(b"\r\n")
            words = line.split()
            kind = words[0].upper()
            if kind in (b"PUB", b"HPUB"):
                total = int(words[-1])
                if len(rest) < total + 2:
                    return
                self._buffer = rest[total + 2 :]
                self.server.publish(words, rest[:total])
            else:
                self._buffer = rest
                self._command(kind, words[1:], line)

    def _command(self, kind: bytes, words: list[bytes], line: bytes) -> None:
        self.server.lines.append(line)
        if kind == b"CONNECT":
            self.said = json.loads(line[8:])
            if not self.server.accepts(self.said):
                self.write(b"-ERR 'Authorization Violation'\r\n")
                assert self.transport is not None
                self.transport.loseConnection()
        elif kind == b"PING" and not self.server.is_silent:
            self.write(b"PONG\r\n")
        elif kind == b"SUB":
            group = words[1].decode() if len(words) == 3 else ""
            self.wanted[words[-1]] = (words[0].decode(), group)
        elif kind == b"UNSUB":
            self.wanted.pop(words[0], None)


class NatsTestServer(Factory):
    """A server.

    :ivar lines: the commands that came, without messages.
    :ivar published: the messages that came: subject, reply, headers and payload.
    """

    noisy = False

    def __init__(self, network: Network, **info: Any) -> None:
        self.info = {"server_id": "X", "max_payload": 1 << 20, "headers": True, **info}
        self.user: dict[str, str] = {}
        self.is_silent = False
        self.drops = False
        #: what is published there is lost
        self.loses = ""
        self.sides: list[ServerSide] = []
        self.lines: list[bytes] = []
        self.published: list[tuple[str, str, bytes, bytes]] = []
        self.port = network.listenTCP(0, self, interface="127.0.0.1")
        self.address = f"nats://127.0.0.1:{self.port.number}"

    def buildProtocol(self, addr: object) -> ServerSide:
        return ServerSide(self)

    def accepts(self, said: dict[str, Any]) -> bool:
        """Whether these credentials are right."""
        return all(said.get(key) == value for key, value in self.user.items())

    def publish(self, words: list[bytes], body: bytes) -> None:
        """A message has come: hand it on, to one of each group."""
        has_headers = words[0].upper() == b"HPUB"
        size = int(words[-2]) if has_headers else 0
        numbers = 2 if has_headers else 1
        subject = words[1].decode()
        reply = words[2].decode() if len(words) - numbers == 3 else ""
        self.published.append((subject, reply, body[:size], body[size:]))
        if self.drops or (self.loses and covers(self.loses, subject)):
            return
        found = False
        groups: set[tuple[str, str]] = set()
        for side in self.sides:
            for sid, (pattern, group) in side.wanted.items():
                if not covers(pattern, subject) or (group and (pattern, group) in groups):
                    continue
                found = True
                if group:
                    groups.add((pattern, group))
                side.write(message(subject, sid, reply, body[:size], body[size:]))
        if not found and reply:
            self.send(reply, b"", b"NATS/1.0 503\r\n\r\n")

    def send(self, subject: str, payload: bytes, headers: bytes = b"", reply: str = "") -> None:
        """Send a message to those who want it."""
        for side in self.sides:
            for sid, (pattern, _) in side.wanted.items():
                if covers(pattern, subject):
                    side.write(message(subject, sid, reply, headers, payload))


def message(subject: str, sid: bytes, reply: str, headers: bytes, payload: bytes) -> bytes:
    """A message as a server sends it."""
    middle = f" {reply}" if reply else ""
    head = f"{subject} {sid.decode()}{middle}".encode()
    total = len(headers) + len(payload)
    if headers:
        return b"HMSG %b %d %d\r\n%b%b\r\n" % (head, len(headers), total, headers, payload)
    return b"MSG %b %d\r\n%b\r\n" % (head, total, payload)


class NatsCase(ServiceCase):
    """A test with a NATS server on a network in memory."""

    def setUp(self) -> None:
        super().setUp()
        self.nats = NatsTestServer(self.network)

    def client(self, *servers: NatsTestServer, **options: Any) -> NatsClient:
        """A client that is connected."""
        made = self.new_client(*servers, **options)
        self.result(made.start())
        return made

    def new_client(self, *servers: NatsTestServer, **options: Any) -> NatsClient:
        """A client that has not begun."""
        addresses = ",".join(one.address for one in servers or (self.nats,))
        made = NatsClient(NatsSettings(servers=addresses, **options), self.network)
        self.addCleanup(made.close)
        return made
