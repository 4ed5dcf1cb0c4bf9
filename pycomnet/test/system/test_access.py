"""Access on real sockets: each checker, over each transport, with each outcome."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.internet.task import deferLater

import pycomnet
from pycomnet.errors import CredentialsNotSent, Forbidden, ServiceUnreachable, Unauthenticated
from pycomnet.ext import access

AUTHORITY = trustme.CA()
ISSUER = "https://issuer.example"
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
#: Seconds that what is bound to happen may take on a machine that is busy.
PATIENCE = 60
TRANSPORTS = ("tcp", "unix", "tls", "tls-certificate")
OUTCOMES = ("right", "wrong", "missing", "expired", "withdrawn", "anothers")
NAME = "org.example.guarded"
#: The key of the issuer of JSON Web Tokens, and another.
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def hashed(password: str) -> str:
    """A hash that is cheap to check."""
    from passlib.hash import bcrypt

    return str(bcrypt.using(rounds=4).hash(password))


def write(path: Path, text: str) -> None:
    """Replace a file, so that nobody reads half of it."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(path)


@attrs.define
class Case:
    """A checker, and the credentials of each outcome.

    :ivar checker: the checker.
    :ivar give: outcome -> credentials; alice's are right, bob's are another's.
    :ivar withdraw: takes alice's away.
    """

    checker: Any
    give: Callable[[str], Any]
    withdraw: Callable[[], None]


def password_case(files: Path) -> Case:
    users = {"alice": "a secret", "bob": "b secret"}
    lines = {name: hashed(password) for name, password in users.items()}
    passwd, shadow = files / "passwd", files / "shadow"
    names = (*lines, "carol")
    write(passwd, "".join(f"{name}:x:1000:1000::/:/bin/sh\n" for name in names))

    def fill(**found: str) -> None:
        entries = [f"{name}:{one}:19000:0:9:7:::\n" for name, one in found.items()]
        over = f"carol:{hashed('c secret')}:19000:0:9:7::19001:\n"
        write(shadow, "".join([*entries, over]))

    fill(**lines)
    given = {
        "wrong": ("alice", "b secret"),
        "expired": ("carol", "c secret"),
        "anothers": ("bob", "b secret"),
    }
    return Case(
        access.PasswordFile(passwd),
        lambda outcome: access.Password(*given.get(outcome, ("alice", "a secret"))),
        lambda: fill(bob=lines["bob"]),
    )


def token_case(files: Path) -> Case:
    path = files / "tokens"
    soon = datetime.datetime.fromtimestamp(time.time() + 3, datetime.timezone.utc).isoformat()
    sections = {}
    for name in ("alice", "bob", "carol"):
        digest = hashlib.sha256(f"{name}-token-123456789".encode()).hexdigest()
        sections[name] = f"[{name}]\nsha256 = {digest}\n"
    sections["carol"] += f"expires = {soon}\n"
    write(path, "".join(sections.values()))
    given = {"wrong": "nobody", "expired": "carol", "anothers": "bob"}
    return Case(
        access.TokenFile(path),
        lambda outcome: access.Token(f"{given.get(outcome, 'alice')}-token-123456789"),
        lambda: write(path, sections["bob"]),
    )


def jwt_case(files: Path) -> Case:
    import jwt

    path = files / "keys.json"

    def fill(**keys: Any) -> None:
        listed = [
            {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": kid}
            for kid, key in keys.items()
        ]
        write(path, json.dumps({"keys": listed}))

    def give(outcome: str) -> Any:
        claims = {
            "iss": ISSUER,
            "aud": "shop",
            "sub": "bob" if outcome == "anothers" else "alice",
            "exp": time.time() + (3 if outcome == "expired" else 3600),
        }
        key = OTHER_KEY if outcome == "wrong" else KEY
        return access.Token(jwt.encode(claims, key, "RS256", headers={"kid": "one"}))

    fill(one=KEY)
    checker = access.Jwt(str(path), issuer=ISSUER, audience="shop", leeway=0)
    return Case(checker, give, lambda: fill(two=OTHER_KEY))


def certificate_case(files: Path) -> Case:
    users = files / "users"
    names = {"alice": "alice.example.org", "bob": "bob.example.org"}
    for name in ("alice", "bob", "mallory"):
        issued = AUTHORITY.issue_cert(f"{name}.example.org")
        issued.private_key_and_cert_chain_pem.write_to_path(str(files / f"{name}.pem"))
    expired = AUTHORITY.issue_cert(names["alice"], not_before=LONG_AGO, not_after=LONG_AGO + DAY)
    expired.private_key_and_cert_chain_pem.write_to_path(str(files / "expired.pem"))
    write(users, "".join(f"{user}: {name}\n" for user, name in names.items()))
    given = {"wrong": "mallory", "expired": "expired", "anothers": "bob"}

    def give(outcome: str) -> Any:
        file = str(files / f"{given.get(outcome, 'alice')}.pem")
        return access.ClientCertificate(file, file)

    return Case(access.Certificates(users), give, lambda: write(users, f"bob: {names['bob']}\n"))


def peer_case(files: Path) -> Case:
    users = files / "users"
    me = os.getuid()
    write(users, f"alice: {me}\n")

    def give(outcome: str) -> Any:
        # There is one user of this process: the outcome is what the file says of it.
        found = {"wrong": f"alice: {me + 1}\n", "anothers": f"bob: {me}\n"}
        write(users, found.get(outcome, f"alice: {me}\n"))
        return access.PeerUser()

    return Case(access.PeerUsers(users), give, lambda: write(users, f"alice: {me + 1}\n"))


def any_case(files: Path) -> Case:
    password = password_case(files)
    (files / "more").mkdir()
    token = token_case(files / "more")
    return attrs.evolve(password, checker=access.AnyOf(token.checker, password.checker))


CASES = {
    "password": password_case,
    "token": token_case,
    "jwt": jwt_case,
    "certificate": certificate_case,
    "peer": peer_case,
    "any": any_case,
}


def make_service(checker: Any) -> pycomnet.Service:
    """A service for the users of a checker, and a method for alice alone."""

    @access.auth(checker)
    @pycomnet.interface(NAME)
    class Guarded(pycomnet.Service):
        @pycomnet.method()
        def whoami(self, request: Any) -> list[str]:
            return [request.user.name, request.user.how]

        @access.auth(checker, allow="alice")
        @pycomnet.method()
        def mine(self, request: Any) -> str:
            return "yours"

    return Guarded()


@attrs.define
class Place:
    """A server, and where it is."""

    case: Case
    server: Any
    addresses: dict[str, str]
    contexts: list[Any]

    def call(self, transport: str, method: str, credentials: Any) -> Any:
        """Call a method on a connection of its own."""
        return self.remote(transport, credentials).invoke(method)

    def remote(self, transport: str, credentials: Any) -> Any:
        """The service, with credentials."""
        from twisted.internet import reactor

        context = pycomnet.Context(reactor, credentials=credentials, timeout=PATIENCE)
        self.contexts.append(context)
        return context.at(self.addresses[transport], NAME)


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose name is short enough for a socket in it."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest_twisted.async_yield_fixture
async def place(request: Any, short: Path) -> Any:
    """A server with a checker, on all transports."""
    from twisted.internet import reactor

    case = CASES[request.param](short)
    AUTHORITY.cert_pem.write_to_path(str(short / "ca.pem"))
    issued = AUTHORITY.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(short / "server.pem"))
    client = AUTHORITY.issue_cert("client.example.org")
    client.private_key_and_cert_chain_pem.write_to_path(str(short / "client.pem"))
    server = pycomnet.ServiceServer(reactor)
    await server.add(make_service(case.checker))
    loopback = "0:interface=127.0.0.1"
    listen = {
        "tcp": f"tcp:{loopback}",
        "unix": f"unix:{short / 's'}",
        "tls": f"tls:{loopback}:privateKey={short / 'server.pem'}",
        "tls-certificate": (
            f"tls:{loopback}:privateKey={short / 'server.pem'}:clientCAs={short / 'ca.pem'}"
        ),
    }
    addresses = {name: await server.listen(one) for name, one in listen.items()}
    for name in ("tls", "tls-certificate"):
        addresses[name] += f":trustRoots={short / 'ca.pem'}"
    if request.param != "certificate":
        addresses["tls-certificate"] += f":certificate={short / 'client.pem'}"
    made = Place(case, server, addresses, [])
    yield made
    for context in made.contexts:
        await context.close()
    await server.close()


def possible(checker: str, transport: str) -> type[Exception] | None:
    """The error of credentials that a transport does not have; None where it does."""
    if checker == "certificate" and transport != "tls-certificate":
        return Unauthenticated if transport == "tls" else CredentialsNotSent
    if checker == "peer" and transport != "unix":
        return CredentialsNotSent
    return None


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("place", CASES, indirect=True)
@pytest_twisted.ensureDeferred
async def test_matrix(place: Place, transport: str, outcome: str, request: Any) -> None:
    """What each checker says over each transport."""
    checker = request.node.callspec.params["place"]
    case = place.case
    if outcome == "missing":
        missing: tuple[type[Exception], ...] = (Unauthenticated,)
        if checker == "certificate" and transport == "tls-certificate":
            missing = (ServiceUnreachable, pycomnet.CallInterrupted)  # TLS itself asks for it
        with pytest.raises(missing) as found:
            await place.call(transport, "whoami", None)
        assert getattr(found.value, "reason", "missing") == "missing"
        return
    credentials = case.give(outcome)
    impossible = possible(checker, transport)
    if impossible is not None:
        with pytest.raises(impossible):
            await place.call(transport, "whoami", credentials)
        return
    how = {"any": "password"}.get(checker, checker)
    if outcome == "right":
        remote = place.remote(transport, credentials)
        assert await remote.invoke("whoami") == ["alice", how]
        assert await remote.invoke("mine") == "yours"
    elif outcome == "wrong":
        with pytest.raises(Unauthenticated) as refused:
            await place.call(transport, "whoami", credentials)
        assert refused.value.reason == "refused"
    elif outcome == "anothers":
        remote = place.remote(transport, credentials)
        assert await remote.invoke("whoami") == ["bob", how]
        with pytest.raises(Forbidden):
            await remote.invoke("mine")
    elif outcome == "withdrawn":
        remote = place.remote(transport, credentials)
        assert await remote.invoke("whoami") == ["alice", how]
        case.withdraw()
        await until_refused(remote)
    elif checker in ("token", "jwt"):
        remote = place.remote(transport, credentials)
        await until_refused(remote)
    elif checker == "certificate":
        with pytest.raises((ServiceUnreachable, pycomnet.CallInterrupted)):
            await place.call(transport, "whoami", credentials)
    elif checker != "peer":  # the users of a machine don't expire
        with pytest.raises(Unauthenticated):
            await place.call(transport, "whoami", credentials)


@pytest_twisted.ensureDeferred
async def test_reload_ends_the_logins_of_removed_users_alone(short: Path) -> None:
    """Other users and clients with certificates stay logged in, on their connections."""
    from twisted.internet import reactor

    (short / "more").mkdir()
    passwords, certificates = password_case(short), certificate_case(short / "more")
    AUTHORITY.cert_pem.write_to_path(str(short / "ca.pem"))
    issued = AUTHORITY.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(short / "server.pem"))
    server = pycomnet.ServiceServer(reactor)
    await server.add(make_service(access.AnyOf(passwords.checker, certificates.checker)))
    loopback, roots = "0:interface=127.0.0.1", short / "ca.pem"
    tls = f"tls:{loopback}:privateKey={short / 'server.pem'}:clientCAs={roots}"
    addresses = {
        "tcp": await server.listen(f"tcp:{loopback}"),
        "tls": f"{await server.listen(tls)}:trustRoots={roots}",
    }
    made = Place(passwords, server, addresses, [])
    alice, bob, certified = (
        made.remote("tcp", passwords.give("right")),
        made.remote("tcp", passwords.give("anothers")),
        made.remote("tls", certificates.give("right")),
    )
    for remote in (alice, bob, certified):
        await remote.invoke("whoami")
    connections = set(server.connections)
    assert len(connections) == 3
    passwords.withdraw()
    await until_refused(alice)
    assert await bob.invoke("whoami") == ["bob", "password"]
    assert await certified.invoke("whoami") == ["alice", "certificate"]
    assert set(server.connections) == connections
    for context in made.contexts:
        await context.close()
    await server.close()


async def until_refused(remote: Any) -> None:
    """Call until the caller is not accepted any more."""
    from twisted.internet import reactor

    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            await remote.invoke("whoami")
        except Unauthenticated:
            return
        await deferLater(reactor, 0.05)
    raise AssertionError("it is accepted still")
