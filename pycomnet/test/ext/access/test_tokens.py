"""Tokens: those of a file, and an issuer's JSON Web Tokens."""

from __future__ import annotations

import base64
import builtins
import errno
import hashlib
import hmac
import json
import time
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.task import Clock

from pycomnet.auth.reloadedfiles import EMPTY_AFTER
from pycomnet.auth.tokens import BearerToken
from pycomnet.errors import AccessConfigError
from pycomnet.ext.access import Jwt, TokenFile
from pycomnet.test.ext.access.test_passwords import FileCase, looks

ISSUER, AUDIENCE = "https://issuer.example", "shop"


class TokenFileTests(FileCase):
    """A file of tokens."""

    def login(self, checker: TokenFile, token: str) -> Any:
        """The login with a token."""
        return checker.check(BearerToken(token.encode()))

    def test_token_has_its_section_as_its_user(self) -> None:
        """With the roles that it names; the mediator's keys may be there."""
        path = self.file(
            "tokens",
            "[alice]\ntoken = alice-token-123456\nroles = admin, read\nprocesses = 3\n"
            f"[bob]\nsha256 = {hashlib.sha256(b'bob-token-12345678').hexdigest()}\n",
        )
        checker = TokenFile(path)
        login = self.login(checker, "alice-token-123456")
        self.assertEqual((login.user.name, login.user.how), ("alice", "token"))
        self.assertEqual(login.user.roles, {"admin", "read"})
        self.assertEqual(self.login(checker, "bob-token-12345678").user.roles, frozenset())
        for wrong in ("", "alice", "alice-token-123457"):
            self.assertRaises(UnauthorizedLogin, self.login, checker, wrong)

    def test_token_that_has_gone_is_withdrawn(self) -> None:
        """Others hold."""
        two = "[alice]\ntoken = alice-token-123456\n[bob]\ntoken = bob-token-12345678\n"
        checker = TokenFile(self.file("tokens", two))
        alice = self.login(checker, "alice-token-123456")
        bob = self.login(checker, "bob-token-12345678")
        self.file("tokens", "[bob]\ntoken = bob-token-12345678\n")
        self.assertTrue(looks(checker))
        self.assertEqual([checker.holds(alice), checker.holds(bob)], [False, True])
        self.assertRaises(UnauthorizedLogin, self.login, checker, "alice-token-123456")

    def test_file_without_sections_withdraws_all_half_a_minute_later(self) -> None:
        """At the start it is an error."""
        checker = TokenFile(self.file("tokens", "[alice]\ntoken = alice-token-123456\n"))
        clock = Clock()
        checker.seconds = clock.seconds
        alice = self.login(checker, "alice-token-123456")
        self.file("tokens", "")
        self.assertFalse(looks(checker))
        clock.advance(EMPTY_AFTER - 1)
        self.assertFalse(looks(checker))
        self.assertTrue(checker.holds(alice))
        clock.advance(1)
        self.assertTrue(looks(checker))
        self.assertFalse(checker.holds(alice))
        self.assertRaises(UnauthorizedLogin, self.login, checker, "alice-token-123456")
        self.assertRaisesRegex(AccessConfigError, "no section", TokenFile(checker.path).open)

    def test_token_may_expire(self) -> None:
        """At a time of day; one that is no time is an error at the start."""
        text = "[{0}]\ntoken = {0}-token-123456\nexpires = {1}\n"
        path = self.file(
            "tokens",
            text.format("alice", "2001-01-01T00:00:00Z") + text.format("bob", "2999-01-01"),
        )
        checker = TokenFile(path)
        self.assertRaises(UnauthorizedLogin, self.login, checker, "alice-token-123456")
        self.assertEqual(self.login(checker, "bob-token-123456").expires, 32472144000.0)
        wrong = TokenFile(self.file("wrong", text.format("alice", "soon")))
        self.assertIn("[alice]", str(self.assertRaises(AccessConfigError, wrong.open)))

    def test_file_that_others_can_read_is_refused(self) -> None:
        """As it has secrets."""
        path = self.file("tokens", "[alice]\ntoken = alice-token-123456\n", 0o644)
        problem = self.assertRaises(AccessConfigError, TokenFile(path).open)
        self.assertIn("chmod", str(problem))


class JwtCase(FileCase):
    """A test with an issuer, whose tokens it makes by itself: no library is in between."""

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def setUp(self) -> None:
        super().setUp()
        self.path = self.file("keys.json", self.key_set(one=self.key))
        self.checker = self.make()

    def make(self, **options: Any) -> Jwt:
        """A checker, open."""
        checker = Jwt(self.path, issuer=ISSUER, audience=AUDIENCE, **options)
        checker.open()
        return checker

    def key_set(self, **keys: Any) -> str:
        """A JSON Web Key Set with the public keys of these."""
        import jwt

        found = []
        for kid, key in keys.items():
            kind: Any = jwt.algorithms.RSAAlgorithm
            if isinstance(key, ec.EllipticCurvePrivateKey):
                kind = jwt.algorithms.ECAlgorithm
            found.append({**json.loads(kind.to_jwk(key.public_key())), "kid": kid})
        return json.dumps({"keys": found})

    def token(self, key: Any = None, header: Any = None, **changes: Any) -> str:
        """A token; changes of its claims, where None leaves one out."""
        import jwt

        return str(
            jwt.encode(
                self.claims(**changes),
                key or self.key,
                "RS256",
                headers={
                    name: value
                    for name, value in {"kid": "one", **(header or {})}.items()
                    if value is not None or name == "typ"
                },
            )
        )

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a token."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "alice",
            "exp": time.time() + 600,
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def by_hand(self, header: dict[str, Any], signature: bytes, **changes: Any) -> str:
        """A token that no library makes."""
        parts = [json.dumps(header).encode(), json.dumps(self.claims(**changes)).encode()]
        return ".".join(encoded(part) for part in (*parts, signature))

    def login(self, token: str, checker: Jwt | None = None) -> Any:
        """The login with a token."""
        return (checker or self.checker).check(BearerToken(token.encode()))

    def turn_away(self, *tokens: str) -> None:
        """Tokens are refused."""
        for token in tokens:
            self.assertRaises(UnauthorizedLogin, self.login, token)


def encoded(data: bytes) -> str:
    """As the parts of a token are."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class JwtTests(JwtCase):
    """JSON Web Tokens."""

    def test_token_of_the_issuer_is_its_users(self) -> None:
        """With the roles that it has, until it expires."""
        login = self.login(self.token(roles=["clerk", "read"], exp=time.time() + 100))
        self.assertEqual((login.user.name, login.user.how), ("alice", "jwt"))
        self.assertEqual(login.user.roles, {"clerk", "read"})
        self.assertLess(abs(login.expires - time.time() - 130), 31)
        self.assertEqual(self.login(self.token(roles="a b")).user.roles, {"a", "b"})
        deep = self.make(roles="realm_access.roles", user="email")
        login = self.login(self.token(email="a@x", realm_access={"roles": ["x"]}), deep)
        self.assertEqual((login.user.name, login.user.roles), ("a@x", {"x"}))

    def test_claims_have_to_be_there_and_right(self) -> None:
        """The issuer, the audience, the end, the user; and its begin, if there is one."""
        for name in ("iss", "aud", "exp", "sub"):
            self.turn_away(self.token(**{name: None}))
        self.turn_away(
            self.token(iss="https://other.example"),
            self.token(aud="another"),
            self.token(exp=time.time() - 60),
            self.token(nbf=time.time() + 600),
            self.token(sub=""),
            self.token(sub=7),
            self.token(exp="soon"),
        )

    def test_signature_has_to_be_the_issuers(self) -> None:
        """Of the key that the token names."""
        self.turn_away(
            self.token(self.other),
            self.token(header={"kid": "two"}),
            self.token()[:-4] + "AAAA",
            "",
            "a.b.c",
            "x" * 15_000,
        )

    def test_token_does_not_choose_its_algorithm(self) -> None:
        """Neither none at all, nor an HMAC with the public key for its secret."""
        public = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for name in ("none", "None", "NONE", "nOnE", ""):
            self.turn_away(self.by_hand({"alg": name, "kid": "one"}, b""))
        header = {"alg": "HS256", "kid": "one", "typ": "JWT"}
        head = encoded(json.dumps(header).encode())
        body = encoded(json.dumps(self.claims()).encode())
        for secret in (public, public.strip(), json.dumps(self.key_set(one=self.key)).encode()):
            signature = hmac.digest(secret, f"{head}.{body}".encode(), "sha256")
            self.turn_away(f"{head}.{body}.{encoded(signature)}")
        import jwt

        self.turn_away(jwt.encode(self.claims(), self.key, "RS512", headers={"kid": "one"}))

    def test_token_does_not_bring_its_key(self) -> None:
        """Nor where to find one."""
        mine = json.loads(self.key_set(one=self.other))["keys"][0]
        self.turn_away(
            self.token(self.other, {"jwk": mine}),
            self.token(self.other, {"jku": "http://127.0.0.1/keys"}),
            self.token(self.other, {"kid": "../../../etc/passwd"}),
            self.by_hand({"alg": "RS256", "kid": ["one"]}, b"x"),
            self.by_hand({"alg": "RS256", "kid": None}, b"x"),
        )

    def test_algorithms_have_public_keys(self) -> None:
        """Others can't be pinned."""
        for wrong in ("HS256", "none", (), ["RS256", "HS512"]):
            self.assertRaises(
                AccessConfigError, Jwt, "x", issuer="x", audience="x", algorithms=wrong
            )

    def test_key_that_has_gone_ends_its_logins(self) -> None:
        """When the issuer changes its keys; those of the new key get in."""
        login = self.login(self.token())
        both = self.key_set(one=self.key, two=self.other)
        self.file("keys.json", both)
        self.assertTrue(looks(self.checker))
        self.assertTrue(self.checker.holds(login))
        self.login(self.token(self.other, {"kid": "two"}))
        self.file("keys.json", self.key_set(two=self.other))
        self.assertTrue(looks(self.checker))
        self.assertFalse(self.checker.holds(login))
        self.turn_away(self.token())

    def test_key_that_is_replaced_under_its_name_ends_its_logins(self) -> None:
        """A name is not the key. A token that names none is of the key that signed it."""
        named = self.login(self.token())
        unnamed = self.login(self.token(header={"kid": None}))
        self.file("keys.json", self.key_set(one=self.other))
        self.assertTrue(looks(self.checker))
        self.assertFalse(self.checker.holds(named))
        self.assertFalse(self.checker.holds(unnamed))
        self.file("keys.json", self.key_set(two=self.key))
        self.assertTrue(looks(self.checker))
        self.assertTrue(self.checker.holds(named))
        self.assertTrue(self.checker.holds(unnamed))

    def test_keys_without_names_all_count(self) -> None:
        """So do several of one name."""
        for name in (None, "one"):
            keys = [json.loads(self.key_set(one=one))["keys"][0] for one in (self.key, self.other)]
            for key in keys:
                key["kid"] = name
                if name is None:
                    del key["kid"]
            self.path = self.file(f"{name}.json", json.dumps({"keys": keys}))
            checker = self.make()
            for key in (self.key, self.other):
                self.login(self.token(key, {"kid": name}), checker)

    def test_type_may_be_asked_for(self) -> None:
        """Then an identity token of the same issuer is no access token."""
        checker = self.make(type="at+jwt")
        for type_, right in (
            ("at+jwt", True),
            ("AT+JWT", True),
            ("application/at+jwt", True),
            ("JWT", False),
            (None, False),
            ("logout+jwt", False),
        ):
            token = self.token(header={"typ": type_})
            self.login(token)
            if right:
                self.login(token, checker)
            else:
                self.assertRaises(UnauthorizedLogin, self.login, token, checker)

    def test_keys_that_could_not_be_read_once_are_read_later(self) -> None:
        """Though the file has not changed since."""
        other = ec.generate_private_key(ec.SECP256R1())
        token = self.token()
        self.login(token)
        self.file("keys.json", self.key_set(other=other))
        failing = self.patch(builtins, "open", mock.Mock(side_effect=OSError(errno.EMFILE, "no")))
        self.checker.refresh()
        self.login(token)
        failing.restore()
        self.checker.refresh()
        self.turn_away(token)
        self.flushLoggedErrors()

    def test_broken_keys_leave_the_old_ones_in_force(self) -> None:
        """They are logged; at the start they are an error."""
        for text in ("", "[]", "{}", '{"keys": 7}', '{"keys": []}', '{"keys": [7]}', "[" * 9999):
            self.file("keys.json", text)
            self.assertFalse(looks(self.checker))
            self.login(self.token())
            self.assertRaises(AccessConfigError, self.make)
        self.flushLoggedErrors()

    def test_key_is_for_its_own_algorithms(self) -> None:
        """A curve's key does not count for RSA."""
        self.path = self.file(
            "more.json", self.key_set(one=self.key, two=ec.generate_private_key(ec.SECP256R1()))
        )
        checker = self.make()
        self.login(self.token(), checker)
        token = self.token(header={"kid": "two"})
        self.assertRaises(UnauthorizedLogin, self.login, token, checker)

    def test_keys_come_from_where_others_cannot_change_them(self) -> None:
        """No http: URL of another machine, nor another scheme."""
        for url in ("http://issuer.example/keys", "ftp://x/keys", "file:///etc/keys"):
            self.assertRaises(AccessConfigError, Jwt, url, issuer="x", audience="x")
        Jwt("https://issuer.example/keys", issuer="x", audience="x")
