"""Credentials that are almost right, sent to a server: none gets in, and nothing grows."""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from pycomnet.errors import ConnectionLost
from pycomnet.ext import access
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.access.kit import SHOP, Table
from pycomnet.test.services.network import Network
from pycomnet.wire.hello import PLAIN
from pycomnet.wire.mux import Mux
from pycomnet.wire.values import InvalidValue, ValueNotReceivable

TOKEN = "alice-token-0123456789"
ISSUER, AUDIENCE = "https://issuer.example.org", "shop"
#: Seconds after which a delayed reply has come.
PATIENCE = 100.0
#: How often a message may be delayed: before its check, and its reply.
DELAYS = 4


class MutatedLogins:
    """A server that takes passwords, tokens and JSON Web Tokens, and a client that has almost the
    right ones.

    :param directory: for the files of tokens and keys.
    :param whole: the share of messages that go over the connection as a client's do; others are
        passed to what reads them there, which is much quicker.
    :ivar outcomes: what came of the messages: how many of each.
    :ivar got_in: the messages that were accepted, though they are not what is right.
    """

    def __init__(self, directory: Path, seed: int, whole: float = 1.0) -> None:
        self._whole = whole
        self._random = Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.got_in: list[bytes] = []
        self.network = Network()
        self.network.runs_threads = True
        self.right = {"password": ["alice", "a password"], "token": [TOKEN], "jwt": [""]}
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        # Files don't change here: one look at them in a while, and not with each delayed reply.
        self.control = access.AccessControl(
            self.network,
            threads=self.network,
            clock=self.network.seconds,
            limits=access.AccessLimits(refresh=100 * PATIENCE),
        )
        self.server = ServiceServer(self.network, threads=self.network, access=self.control)
        self._table = Table(alice=("a password", ""))
        checkers = (
            self._table,
            access.TokenFile(self._write(directory / "tokens", f"[alice]\ntoken = {TOKEN}\n")),
            self._issuer(directory),
        )
        self.ran = ran = []  # type: list[str]

        @access.auth(access.AnyOf(*checkers))
        @interface(SHOP)
        class Shop(Service):
            """Sells."""

            @method()
            def buy(self, request: Any) -> None:
                """Buy what there is."""
                ran.append("buy")

        self.server.add(Shop())
        self.address: Any = self.server.listen("tcp:0:interface=127.0.0.1").result
        self._context = Context(self.network)
        self._connection: Any = None
        #: the server's end of a connection whose client has only said hello
        self._passing: Any = None

    @staticmethod
    def _write(path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o600)
        return path

    def _issuer(self, directory: Path) -> Any:
        made = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key())
        keys = {"keys": [{**json.loads(made), "kid": "one"}]}
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 86_400}
        self.right["jwt"] = [jwt.encode(claims, self._key, "RS256", headers={"kid": "one"})]
        path = self._write(directory / "keys.json", json.dumps(keys))
        return access.Jwt(str(path), issuer=ISSUER, audience=AUDIENCE)

    # -- what is sent ----------------------------------------------------------------------------

    def _mutated(self, data: bytes) -> bytes:
        random, found = self._random, bytearray(data)
        for _ in range(random.randint(1, 4)):
            at = random.randrange(len(found) + 1)
            found[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
        return bytes(found)

    def _mutated_jwt(self, token: str) -> str:
        """With a part of another content, in proper base64."""
        random = self._random
        parts = token.split(".")
        at = random.randrange(3)
        content = base64.urlsafe_b64decode(parts[at] + "==")
        parts[at] = base64.urlsafe_b64encode(self._mutated(content)).rstrip(b"=").decode()
        return ".".join(parts)

    def message(self) -> tuple[str, bytes]:
        """A message, and the kind of credentials that it is almost right as."""
        kind = self._random.choice(list(self.right))
        texts = self.right[kind]
        named = "token" if kind == "jwt" else kind
        if self._random.random() < 0.2:
            return kind, self._mutated(PLAIN.encode([named, *texts]))
        if kind == "jwt" and self._random.random() < 0.5:
            texts = [self._mutated_jwt(texts[0])]
        else:
            at = self._random.randrange(len(texts))
            changed = self._mutated(texts[at].encode()).decode(errors="replace")
            texts = [*texts[:at], changed, *texts[at + 1 :]]
        return kind, PLAIN.encode([named, *texts])

    def _is_right(self, payload: bytes) -> bool:
        """Whether a message says what is right after all."""
        try:
            kind, *texts = PLAIN.decode(payload)
        except (InvalidValue, ValueNotReceivable, TypeError, ValueError):
            return False
        if kind != "token" or texts == [TOKEN]:
            return [kind, *texts] in (["token", TOKEN], ["password", *self.right["password"]])
        return self._contents(texts[0]) == self._contents(self.right["jwt"][0])

    @staticmethod
    def _contents(token: str) -> list[bytes]:
        """A token's parts: text around the signature's bytes says nothing."""
        try:
            header, claims, signature = token.encode().split(b".")
            return [header, claims, base64.urlsafe_b64decode(signature + b"==")]
        except ValueError:
            return []

    # -- sending ---------------------------------------------------------------------------------

    def run(self, count: int) -> None:
        """Send so many."""
        for _ in range(count):
            _, payload = self.message()
            whole = self._random.random() < self._whole
            outcome = self._send(payload) if whole else self._pass(payload)
            if outcome == "in":
                outcome = "right after all" if self._is_right(payload) else "got in"
                if outcome == "got in":
                    self.got_in.append(payload)
            self.outcomes[outcome] += 1

    def _connect(self) -> Any:
        connection = self._connection
        if connection is None or connection.lost is not None or connection.broken:
            self._context = Context(self.network)
            self._context.connect(self.address, SHOP).addErrback(lambda _: None)
            self.network.deliver()
            self._connection = connection = self._context.peer(self.address).connection
        return connection

    def _accepted(self) -> Any:
        """The server's end of a connection: the same one, until it has been closed."""
        passing: Any = self._passing
        if passing is None or passing.broken or passing.lost is not None:
            passing = self._passing = self.server.connected()
            self.network.join(passing)
            passing.dataReceived(Mux(True).data_to_send())
        return passing

    def _leave(self) -> None:
        """End that connection."""
        passing, self._passing = self._passing, None
        if passing is not None:
            passing.abort(ConnectionLost("the client has gone"))
            self.network.deliver()

    def _pass(self, payload: bytes) -> str:
        """Pass a message to the server's access control, as its connection does."""
        protocol = self._accepted()
        ends: list[Any] = []
        self.control.log_in(protocol, payload).addBoth(ends.append)
        for _ in range(DELAYS):
            while not ends and self.network.threads:
                self.network.run_threads()
                self.network.advance(0)
            if ends:
                break
            self.network.advance(PATIENCE)
        if protocol.broken or protocol.caller.logins:
            outcome = "in" if protocol.caller.logins else "no message"
            self._leave()
            return outcome
        return "refused" if ends else "got in"

    def _send(self, payload: bytes) -> str:
        connection = self._connect()
        ends: list[Any] = []
        connection.open("login", payload, end=True).receive().addBoth(ends.append)
        self.network.deliver()
        if not ends:
            self.network.advance(PATIENCE)
            self.network.deliver()
        ends_of_wires = [server for _, server in self.network.wires]
        more = ends_of_wires[1:]
        logins: Any = ends_of_wires[0].protocol.caller.logins if ends_of_wires else {}
        if more or bool(logins) != (bool(ends) and isinstance(ends[0], dict)):
            return "got in"  # or what the reply says is not so
        if logins:
            self.network.cut()
            self.network.deliver()
            self._connection = None
            return "in"
        return "refused" if self.network.wires else "no message"

    def kept(self) -> dict[str, int]:
        """How much the server keeps of those who have failed."""
        self._leave()
        self.network.cut()
        self.network.deliver()
        self._connection = None
        self._table.checked.clear()
        self.network.advance(3600)
        self.network.deliver()
        throttles = self.control.checks.throttles
        return {
            "connections": len(self.server.connections),
            "waiting": self.control.checks.slots.waiting,
            "held": self.server.held.size,
            **{f"tries of {kind}": len(throttle) for kind, throttle in throttles.items()},
        }
