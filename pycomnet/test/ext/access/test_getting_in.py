"""Attempts to get in: what somebody tries who has read the code. None of them works."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.internet import defer

from pycomnet.auth.principal import Principal
from pycomnet.errors import RemoteError
from pycomnet.ext.access.checkers import Checker, Login, identify
from pycomnet.ext.access.messages import read_message
from pycomnet.services.client.context import Context
from pycomnet.services.interface import INTROSPECTION
from pycomnet.test.ext.access.kit import SHOP
from pycomnet.test.ext.access.mutated import MutatedLogins
from pycomnet.test.ext.access.test_ends import LoginCase
from pycomnet.test.ext.access.test_heads import _Transport
from pycomnet.wire.hello import PLAIN
from pycomnet.wire.values import InvalidValue

#: Mutated messages with credentials.
MUTATED = 20_000
#: Those that a server gets; benchmarks/fuzz_logins.py sends a million.
SENT = 400


class _Naming(Checker):
    """Accepts everybody, as a user."""

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, credentials: Any) -> Login:
        return Login(Principal(self.name, how="token"))


class _Foreign:
    """As one of twisted.cred."""

    def __init__(self, name: str) -> None:
        self.name = name

    def requestAvatarId(self, credentials: Any) -> Any:
        return defer.succeed(self.name.encode())


class GettingInTests(LoginCase):
    """A stranger, and a user who may do little."""

    def call(self, connection: Any, *request: Any, purpose: str = "invoke") -> Any:
        """A call by hand; what comes of it."""
        received = connection.open(purpose, connection.encode(list(request)), end=True).receive()
        received.addErrback(lambda failure: failure.value)
        return received

    def raw(self, payload: bytes, purpose: str = "invoke") -> Any:
        """A stranger's request, as bytes; what comes of it."""
        connection = self.connection(Context(self.network))
        received = connection.open(purpose, payload, end=True).receive()
        received.addErrback(lambda failure: failure.value)
        self.network.wait(1)
        found: list[Any] = []
        received.addCallback(found.append)
        return found[0] if found else None  # a channel is only opened, and nobody takes it

    def test_call_right_behind_a_login_is_judged_by_what_counted_before(self) -> None:
        """In one write with it: it does not wait for the check, nor run before it."""
        connection = self.connection(Context(self.network))
        login = self.login(connection, "password", "alice", "a password")
        calling = self.call(connection, SHOP, "buy", None, None)
        self.network.deliver()
        self.assertEqual(self.successResultOf(login)["user"], "alice")
        self.assertIsInstance(self.successResultOf(calling), RemoteError)
        self.assertEqual(self.shop.ran, [])

    def test_names_in_other_encodings_open_nothing(self) -> None:
        """The bytes of an allowed request, and another one's where a reader may look."""
        hours = PLAIN.encode([SHOP, "hours", None, None])
        self.assertEqual(self.raw(hours), ["9 to 5"])
        name = SHOP.encode()
        long = b"\xd9" + bytes([len(name)]) + name  # a text of a length in a byte of its own
        for payload in (
            b"\x94" + long + b"\xa3buy\xc0\xc0",
            b"\xdc\x00\x04" + hours[1:],
            b"\x94" + long + b"\xa5hours\xc0\xc0",
            PLAIN.encode([SHOP, "buy", [SHOP, "hours"], None]),
            PLAIN.encode([SHOP, "hours\0", None, None]),
            PLAIN.encode([SHOP, "HOURS", None, None]),
            PLAIN.encode([SHOP + ".", "hours", None, None]),
            PLAIN.encode([SHOP, "buy", None, None, []]),
            hours + hours,
            hours[:-1],
            PLAIN.encode({"interface": SHOP, "method": "buy"}),
        ):
            self.raw(payload)
        self.assertEqual(set(self.shop.ran), {"hours"})

    def test_what_is_no_method_is_not_called(self) -> None:
        """Neither the attributes of a service, nor what others declare for themselves."""
        for name in (
            "started",
            "stopped",
            "ran",
            "__init__",
            "interfaces",
            "_key",
            "",
            "buy.__call__",
        ):
            self.raw(PLAIN.encode([SHOP, name, None, None]))
            self.raw(PLAIN.encode([INTROSPECTION, name, None, None]))
        for purpose in ("stream", "login", "channel", "gateway", "invoke\0"):
            self.raw(PLAIN.encode([SHOP, "buy", None, None]), purpose)
        self.assertEqual(self.shop.ran, [])

    def test_user_gets_no_more_by_a_login_that_fails(self) -> None:
        """Nor by several at the same time, or by what the same connection was before."""
        connection = self.connection(Context(self.network))
        for message in (
            ["password", "bob", "b password"],
            ["password", "alice", "a password"],
            ["password", "bob", "wrong"],
            ["token", "x" * 40],
            ["peer"],
            ["certificate"],
        ):
            self.login(connection, *message)
            self.network.wait(40, 5)
        calling = self.call(connection, SHOP, "stock", None, None)
        self.network.deliver()
        self.assertEqual(self.successResultOf(calling).error["code"], "forbidden")
        self.assertEqual(self.shop.ran, [])

    def test_removed_user_who_logs_in_all_the_time_is_out(self) -> None:
        """On several connections, so that a check is always under way."""
        self.network.runs_threads = False
        connections = [self.connection(Context(self.network)) for _ in range(4)]
        for number in range(40):
            self.login(connections[number % 4], "password", "alice", "a password")
            if number == 20:
                del self.table.users["alice"]
            self.network.run_threads()
            self.network.wait(0.3)
        self.network.runs_threads = True
        self.network.wait(120, 5)
        for connection in connections:
            calling = self.call(connection, SHOP, "buy", None, None)
            self.network.deliver()
            self.assertIsInstance(self.successResultOf(calling), RemoteError)
        self.assertEqual([one.logins for one in self.control._callers.values()], [{}] * 4)

    def test_client_is_nobody_else_by_what_it_says_of_itself(self) -> None:
        """In its hello: an id, a user, roles."""
        context = Context(self.network)
        for client in (b"x" * 16, "alice", ["alice"], {"user": "alice"}, True, b""):
            context.client_id = client  # type: ignore[assignment]
            self.failure(context.at(self.address, SHOP).invoke("buy"))
            self.network.cut()
            self.network.deliver()
        self.assertEqual(self.shop.ran, [])

    def test_name_that_an_issuer_chose_is_printable_and_short(self) -> None:
        """Of a token, a certificate or another checker: what logs it may be a terminal."""
        names = ("alice\n", "\x1b[2Jalice", "\u202eecila", "alice\0", "a" * 256, "")
        for name in names:
            for checker in (_Naming(name), _Foreign(name)):
                asked: Any = defer.Deferred.fromCoroutine(
                    identify(checker, None, "token", defer.maybeDeferred)
                )
                self.failureResultOf(asked, UnauthorizedLogin)
        asked = defer.Deferred.fromCoroutine(
            identify(_Naming("Ålice B"), None, "token", defer.maybeDeferred)
        )
        self.assertEqual(self.successResultOf(asked).user.name, "Ålice B")

    def test_half_a_login_is_none(self) -> None:
        """Nor one without its end."""
        payload = PLAIN.encode(["password", "alice", "a password"])
        for data, end in ((payload[:-3], True), (payload, False), (payload[:1], False)):
            core = self.connection(Context(self.network)).open("login", data, end=end)
            core.receive().addErrback(lambda _: None)
            self.network.wait(1)
        self.assertEqual([one for one in self.control._callers.values() if one.logins], [])


class MutatedTests(LoginCase):
    """Messages with credentials that are almost right."""

    def test_no_mutated_message_gets_in(self) -> None:
        """But those that decode to the right one, byte for byte or not. Nothing is kept of them."""
        random = Random(16)
        right = PLAIN.encode(["password", "alice", "a password"])
        kept = len(self.control.checks.throttles["password"])
        same = 0
        for _ in range(MUTATED):
            data = bytearray(right)
            for _ in range(random.randint(1, 4)):
                at = random.randrange(len(data) + 1)
                data[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
            try:
                found = read_message(bytes(data), _Transport())
            except InvalidValue:
                continue
            if found.credentials is None or found.kind != "password":
                continue
            given = found.credentials.username, found.credentials.password
            if given == (b"alice", b"a password"):
                same += 1
                continue
            self.assertRaises(UnauthorizedLogin, self.table.check, found.credentials)
        self.assertLess(same, MUTATED // 5)
        self.assertEqual(len(self.control.checks.throttles["password"]), kept)

    def test_server_lets_none_in_and_keeps_nothing(self) -> None:
        """Passwords, tokens and JSON Web Tokens, over connections."""
        directory = Path(self.mktemp())
        directory.mkdir(mode=0o700)
        logins = MutatedLogins(directory, 1)
        logins.run(200)
        before = logins.kept()
        logins.run(SENT)
        self.assertEqual((logins.got_in, logins.ran), ([], []))
        self.assertEqual(logins.kept()["connections"], 0)
        for name, count in logins.kept().items():
            self.assertLessEqual(count, max(before[name], 100), name)
        self.assertEqual(sorted(logins.outcomes), ["no message", "refused", "right after all"])
