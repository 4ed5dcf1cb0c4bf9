"""Addresses, credentials, and the servers that others tell of."""

from __future__ import annotations

import base64
import binascii
import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import CredentialsNotSent
from pycomnet.nats import NatsAddressError, NatsSettings
from pycomnet.nats.credentials import credentials
from pycomnet.nats.pool import ServerPool
from pycomnet.nats.settings import MOST_LEARNED, read_server, read_servers, read_via


class AddressTests(SynchronousTestCase):
    """Addresses of servers."""

    def test_addresses(self) -> None:
        """With and without a scheme, a port, and what is before the @."""
        one, two, three = read_servers("nats://u:p%40@a:1, tls://b,[::1]:7")
        self.assertEqual((one.host, one.port, one.user, one.password), ("a", 1, "u", "p@"))
        self.assertEqual((two.host, two.port, two.tls), ("b", 4222, True))
        self.assertEqual((three.host, three.port, three.tls), ("::1", 7, False))

    def test_what_is_none(self) -> None:
        """The error does not have the password."""
        for text in ("http://a", "nats://", "nats://a:x", "nats://a/b", "nats://a b:1", ""):
            self.assertRaises(NatsAddressError, read_servers, text)
        problem = self.assertRaises(NatsAddressError, read_server, "nats:127.0.0.1:4222")
        self.assertIn("expected nats://HOST:PORT", str(problem))
        self.assertEqual(read_server("nats:4222").host, "nats")  # a host's name
        problem = self.assertRaises(NatsAddressError, read_server, "nats://me:secret@a:99999")
        self.assertNotIn("secret", str(problem))

    def test_no_part_of_a_password_is_shown(self) -> None:
        """Also if it has to be encoded, and what is before that is taken for a port."""
        for password in ("hunter/2", "hunter#2", "hunter?2", "hunter,2", "1/hunter,2"):
            given = f"nats://me:{password}@a"
            for servers in (f"nats://b,{given}", *([[given]] * ("," not in password))):
                with self.assertRaisesRegex(NatsAddressError, "%2F") as caught:
                    read_servers(servers)
                self.assertNotIn("hunter", str(caught.exception))
                self.assertIsNone(caught.exception.__cause__)

    def test_no_secrets_are_shown(self) -> None:
        """Neither of a server nor of settings."""
        given = NatsSettings(servers="nats://me:secret@a", token="hidden")
        self.assertNotIn("secret", repr(given) + str(given.servers[0]))
        self.assertNotIn("hidden", repr(given))

    def test_options_that_do_not_go_together(self) -> None:
        """They are refused at once."""
        for options in ({"user": "a"}, {"token": "t", "nkey": "f"}, {"private_key": "f"}):
            self.assertRaises(NatsAddressError, NatsSettings, servers="a", **options)

    def test_what_via_may_be(self) -> None:
        """Addresses, or settings."""
        given = read_via("nats://a,b")
        self.assertIs(read_via(given), given)
        self.assertRaises(NatsAddressError, read_via, 4222)


class CredentialTests(SynchronousTestCase):
    """What is sent to a server, and what is not."""

    def test_an_address_comes_first(self) -> None:
        """Its user, or its token."""
        settings = NatsSettings(servers="u:p@a,t@b,c", user="x", password="y")
        sent = [credentials(settings, server, "", True) for server in settings.servers]
        self.assertEqual(sent[0], {"user": "u", "pass": "p"})
        self.assertEqual(sent[1], {"auth_token": "t"})
        self.assertEqual(sent[2], {"user": "x", "pass": "y"})

    def test_a_password_is_not_sent_where_others_can_read_it(self) -> None:
        """Unless that is allowed."""
        settings = NatsSettings(servers="u:p@far.example")
        server = settings.servers[0]
        self.assertRaises(CredentialsNotSent, credentials, settings, server, "", False)
        allowed = NatsSettings(servers="u:p@far.example", plain_credentials=True)
        self.assertEqual(credentials(allowed, server, "", False), {"user": "u", "pass": "p"})

    def test_an_nkey_signs(self) -> None:
        """The server's nonce; its seed is not sent."""
        secret = bytes(range(32))
        raw = bytes([18 << 3 | 5, 0]) + secret
        seed = base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little"))
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"# mine\n" + seed.rstrip(b"=") + b"\n")
        settings = NatsSettings(servers="a", nkey=path)
        sent = credentials(settings, settings.servers[0], "nonce", False)
        self.assertTrue(sent["nkey"].startswith("U"))
        public = base64.b32decode(sent["nkey"])[1:33]
        signature = base64.urlsafe_b64decode(sent["sig"] + "==")
        Ed25519PublicKey.from_public_bytes(public).verify(signature, b"nonce")
        self.assertNotIn(seed.decode(), str(sent))
        self.assertRaises(
            CredentialsNotSent, credentials, settings, settings.servers[0], None, True
        )

    def test_a_file_without_a_seed(self) -> None:
        """Or that is not there, or whose checksum is wrong."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"SU" + b"A" * 56)
        for name in (path, os.path.join(path, "none")):
            settings = NatsSettings(servers="a", nkey=name)
            self.assertRaises(
                NatsAddressError, credentials, settings, settings.servers[0], "n", True
            )


class PoolTests(SynchronousTestCase):
    """Servers that are learned of."""

    def test_servers_are_learned(self) -> None:
        """With the credentials and TLS of the one that told; known by its name if by number."""
        settings = NatsSettings(servers="tls://u:p@a")
        pool = ServerPool(settings)
        told = {"connect_urls": ["a:4222", "10.0.0.1:4223", "b:1", 7, "x:y@c", "\r\n", "d:bad"]}
        pool.learn(told, settings.servers[0], True)
        found = [pool.take() for _ in range(len(pool))]
        self.assertEqual(
            [(one.host, one.name) for one in found[1:]], [("10.0.0.1", "a"), ("b", "b")]
        )
        self.assertTrue(all(one.tls and one.password == "p" for one in found))
        pool.remove(found[1])
        self.assertEqual([pool.take().host for _ in range(3)], ["a", "b", "a"])

    def test_what_was_announced_in_the_clear_needs_a_known_name(self) -> None:
        """Somebody on the way may have a certificate of a host elsewhere, and would get the
        password; hosts of the domain that the user has given are known."""
        for given, announced, expected in (
            ("a.nats.example", "b.nats.example", "b.nats.example"),
            ("a.nats.example", "nats.example", "a.nats.example"),
            ("a.nats.example", "b.other.example", "a.nats.example"),
            ("a.nats.example", "c.b.nats.example", "a.nats.example"),
            ("a.nats.example", "anats.example", "a.nats.example"),
            ("nats.com", "evil.com", "nats.com"),
            ("a", "b", "a"),
            ("a", "a", "a"),
            ("a.nats.example", "10.0.0.1", "a.nats.example"),
        ):
            settings = NatsSettings(servers=f"tls://u:p@{given}:1")
            for is_proven in (False, True):
                pool = ServerPool(settings)
                pool.learn({"connect_urls": [f"{announced}:2"]}, settings.servers[0], is_proven)
                _, found = pool.take(), pool.take()
                name = announced if is_proven and announced != "10.0.0.1" else expected
                self.assertEqual((found.host, found.name), (announced, name))
        pool.learn({"connect_urls": ["far.example:1"]}, settings.servers[0], False)
        pool.learn({"connect_urls": ["far.example:1"]}, settings.servers[0], True)
        self.assertEqual(pool.take().name, "far.example")

    def test_a_hostile_server_tells_of_many(self) -> None:
        """There is a limit."""
        settings = NatsSettings(servers="a")
        pool = ServerPool(settings)
        for first in range(0, 1000, 50):
            urls = [f"h{number}:1" for number in range(first, first + 50)]
            pool.learn({"connect_urls": urls}, settings.servers[0], True)
        self.assertLessEqual(len(pool), MOST_LEARNED + 1)
        pool.learn({"connect_urls": "h:1"}, settings.servers[0], True)
