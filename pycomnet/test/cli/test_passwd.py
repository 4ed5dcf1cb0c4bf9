"""``pycomnet passwd``, and the credentials of the other commands."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.cli.app import root
from pycomnet.cli.identity import Identity
from pycomnet.errors import AccessConfigError, TokenError
from pycomnet.ext.access import hashes
from pycomnet.ext.access.credentials import ClientCertificate, Password, Token
from pycomnet.ext.access.passwordedit import set_password
from pycomnet.ext.access.passwordfile import read_passwords
from pycomnet.ext.access.storedcredentials import (
    credentials_path,
    from_environment,
    from_file,
    stored_credentials,
)


class DirectoryCase(SynchronousTestCase):
    """A test with a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(mode=0o700, parents=True)
        self.path = self.directory / "passwd"
        self.patch(hashes, "BCRYPT_ROUNDS", 4)


class PasswdTests(DirectoryCase):
    """The command."""

    def passwd(self, *arguments: str, password: str | bytes = "secret") -> Any:
        """Run it; its result."""
        return CliRunner().invoke(
            root, ["passwd", "--stdin", *arguments[:-1], str(self.path), arguments[-1]], password
        )

    def test_users_are_created_changed_verified_and_deleted(self) -> None:
        """In a file that only its owner can read, whose comments and other lines stay."""
        self.assertEqual(self.passwd("alice").exit_code, 0)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        text = "# our users\n\n" + self.path.read_text() + "# the end\n"
        self.path.write_text(text)
        self.assertIn("added", self.passwd("bob", password="other\n").output)
        self.assertIn("changed", self.passwd("alice", password="new\r\n").output)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        lines = self.path.read_text().splitlines()
        self.assertEqual([line.partition(":")[0] for line in lines][:2], ["# our users", ""])
        self.assertEqual(lines[3], "# the end")
        for user, password, status in (
            ("alice", "new", 0),
            ("alice", "secret", 1),
            ("bob", "other", 0),
            ("carol", "other", 1),
        ):
            found = self.passwd("--verify", user, password=password)
            self.assertEqual(found.exit_code, status, (user, found.output))
        self.assertEqual(self.passwd("--delete", "alice").exit_code, 0)
        self.assertEqual(list(read_passwords(str(self.path)).users), ["bob"])
        self.assertEqual(self.passwd("--delete", "alice").exit_code, 1)
        self.assertEqual(os.listdir(self.directory), ["passwd"])

    def test_password_that_is_no_text(self) -> None:
        """It is refused in words, and there is no file then."""
        result = self.passwd("alice", password=b"se\xffcret\n")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("Error: a password is text in UTF-8", result.output)
        with self.assertRaisesRegex(AccessConfigError, "UTF-8"):
            set_password(str(self.path), "alice", "se\udcffcret")
        self.assertEqual(os.listdir(self.directory), [])

    def test_password_is_in_no_output(self) -> None:
        """Nor in the file; the hash is of the scheme that was asked for."""
        result = self.passwd("--scheme", "argon2", "alice")
        self.assertNotIn("secret", result.output)
        self.assertIn(":$argon2id$", self.path.read_text())
        self.assertNotIn("secret", self.path.read_text())

    def test_what_is_no_user_or_password_is_refused(self) -> None:
        """And the file stays as it was, or is not created."""
        for user, password in (
            ("", "secret"),
            ("a:b", "secret"),
            ("#a", "secret"),
            ("a\nb", "secret"),
            ("alice", ""),
            ("alice", "x" * 80),
        ):
            result = self.passwd(user, password=password)
            self.assertEqual(result.exit_code, 1, (user, result.output))
        self.assertFalse(self.path.exists())

    def test_files_that_are_not_its_own_are_left_alone(self) -> None:
        """The system's, broken ones, and those that others can change."""
        for text, mode, says in (
            ("root:x:0:0::/:/bin/sh\n", 0o600, "shadow"),
            ("root:!:0:0::/:/bin/sh\n", 0o600, "passwd(1)"),
            ("rubbish\n", 0o600, "line 1"),
            ("", 0o666, "chmod"),
        ):
            self.path.write_text(text)
            self.path.chmod(mode)
            result = self.passwd("alice")
            self.assertEqual(result.exit_code, 1, text)
            self.assertIn(says, result.output)
            self.assertEqual(self.path.read_text(), text)

    def test_comment_makes_no_users(self) -> None:
        """Whatever separates lines for others: a server splits at newlines alone."""
        hashed = hashes.make_hash("x")
        for separator in ("\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"):
            text = f"# note{separator}mallory:{hashed}\nbob:{hashed}\r\n"
            self.path.write_bytes(text.encode())
            self.path.chmod(0o600)
            self.assertEqual(list(read_passwords(str(self.path)).users), ["bob"])
            self.assertEqual(self.passwd("alice").exit_code, 0)
            self.assertEqual(list(read_passwords(str(self.path)).users), ["bob", "alice"])
            self.assertTrue(self.path.read_bytes().startswith(text.encode()))

    def test_group_that_could_read_it_still_can(self) -> None:
        """A server may be of it; others, and who could write, can't any more."""
        self.passwd("alice")
        for before, after in ((0o640, 0o640), (0o644, 0o640), (0o600, 0o600)):
            self.path.chmod(before)
            self.passwd("bob")
            self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), after)

    def test_file_that_can_not_be_written_stays_as_it_was(self) -> None:
        """The disk is full before the new file is whole: nothing of it is left."""
        self.passwd("alice")
        before = self.path.read_bytes()

        def fails(fd: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(os, "fsync", fails)
        for options in ((), ("--delete",)):
            result = self.passwd(*options, "alice", password="other")
            self.assertEqual(result.exit_code, 1)
            self.assertIn("No space left", result.output)
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(os.listdir(self.directory), ["passwd"])

    def test_link_stays_a_link(self) -> None:
        """What it leads to is replaced."""
        link = self.directory / "link"
        link.symlink_to("passwd")
        result = CliRunner().invoke(root, ["passwd", "--stdin", str(link), "alice"], "secret")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertTrue(link.is_symlink())
        self.assertEqual(list(read_passwords(str(self.path)).users), ["alice"])


class IdentityTests(DirectoryCase):
    """What the other commands give."""

    def stored(self, text: str, mode: int = 0o600) -> list[Any]:
        """The credentials of a file."""
        path = self.directory / "credentials.toml"
        path.write_text(text)
        path.chmod(mode)
        return from_file(path)

    def test_file_has_credentials_for_addresses(self) -> None:
        """Each for the servers that it names."""
        token = self.directory / "token"
        token.write_text("a-token-of-some-length\n")
        token.chmod(0o600)
        found = self.stored(
            f"""
            [[credentials]]
            address = "tls:*.example.org:*"
            user = "alice"
            password = "a secret"

            [[credentials]]
            address = "tls:build.example.com:2013"
            token_file = "{token}"

            [[credentials]]
            address = "unix:*"
            peer = true

            [[credentials]]
            address = "tls:*"
            certificate = "client.pem"
            """
        )
        kinds = ["password", "token", "peer", "certificate"]
        self.assertEqual([one.kind for one in found], kinds)
        for address, suits in (
            ("tls:calc.example.org:2013", ["password", "certificate"]),
            ("tls:calc.example.org:2013:trustRoots=ca.pem", []),
            ("tls:build.example.com:2013", ["token", "certificate"]),
            ("tls:example.org.evil.com:2013", ["certificate"]),
            ("tcp:calc.example.org:2013", []),
            ("unix:/run/calc", ["peer"]),
        ):
            self.assertEqual([one.kind for one in found if one.suits(address)], suits, address)
        self.assertNotIn("a secret", repr(found))

    def test_file_that_others_can_read_is_refused(self) -> None:
        """Whatever is in it."""
        for mode in (0o640, 0o604, 0o660):
            problem = self.assertRaises(AccessConfigError, self.stored, "", mode)
            self.assertIn("chmod 600", str(problem))
        link = self.directory / "link"
        link.symlink_to("credentials.toml")
        self.assertRaises(AccessConfigError, from_file, link)

    def test_wrong_table_is_named(self) -> None:
        """And what is in it is not shown."""
        for text in (
            'user = "a"\npassword = "secret1"',
            'address = "tls:*"\nuser = "a"',
            'address = "tls:*"\nuser = "a"\npassword = "secret1"\ntoken = "secret2"',
            'address = "tls:*"\nuser = "a"\npasword = "secret1"',
            'address = "tls:*"\nuser = "a"\npassword = 1',
            'address = "tls:*"\npeer = false',
            'address = "tls"\npeer = true',
        ):
            problem = self.assertRaises(
                AccessConfigError,
                self.stored,
                f'[[credentials]]\naddress="*"\npeer=true\n[[credentials]]\n{text}\n',
            )
            self.assertIn("table 2", str(problem))
            self.assertNotIn("secret", str(problem))
        problem = self.assertRaises(AccessConfigError, self.stored, 'password = "secret\n')
        self.assertNotIn("secret", str(problem))

    def test_certificate_of_the_address_is_given(self) -> None:
        """Where it has one; a server that does not know it is called without a login."""
        for given in (Identity(user="bob"), Identity()):
            of_address = next(one for one in given.credentials() if one.kind == "certificate")
            self.assertTrue(of_address.suits("tls:h:1:certificate=a.pem:privateKey=a.key", True))
            self.assertFalse(of_address.suits("tls:h:1:trustRoots=ca.pem", True))
            self.assertFalse(of_address.suits("unix:/run/x", True))
            self.assertTrue(of_address.optional)

    def test_options_come_before_the_environment_and_that_before_the_file(self) -> None:
        """Who the process is comes last: it is no secret."""
        environ = {
            "XDG_CONFIG_HOME": str(self.directory),
            "PYCOMNET_USER": "alice",
            "PYCOMNET_PASSWORD": "a secret",
            "PYCOMNET_TOKEN": "a-token-of-a-gateway",
            "PYCOMNET_SERVICE_TOKEN": "a-token-of-some-length",
            "PYCOMNET_CERTIFICATE": "client.pem",
        }
        path = credentials_path(environ)
        path.parent.mkdir(mode=0o700)
        path.write_text('[[credentials]]\naddress = "tls:*"\ntoken = "another-token-1234"\n')
        path.chmod(0o600)
        kinds = [one.kind for one in stored_credentials(environ)]
        unasked = ["certificate", "peer"]
        self.assertEqual(kinds, ["password", "token", "certificate", "token", *unasked])
        nothing = stored_credentials({"XDG_CONFIG_HOME": "/nowhere"})
        self.assertEqual([one.kind for one in nothing], unasked)
        # A gateway's token lets whoever has it run code: no service gets it.
        gateways = {"XDG_CONFIG_HOME": "/nowhere", "PYCOMNET_TOKEN": "a-token-of-a-gateway"}
        self.assertEqual([one.kind for one in stored_credentials(gateways)], unasked)
        self.assertRaises(AccessConfigError, stored_credentials, {"PYCOMNET_PASSWORD": "x"})
        self.assertEqual([one.kind for one in from_environment(environ)], kinds[:3])
        environ["PYCOMNET_CREDENTIALS_FOR"] = "tls:*.example.org:* unix:*"
        for one in from_environment(environ)[:2]:  # the password's two
            self.assertEqual(one.kind, "password")
            self.assertFalse(one.suits("tls:db.example.com:1", True))
        given = Identity(user="bob", certificate="c.pem").credentials()
        self.assertEqual([type(one) for one in given[:2]], [Password, ClientCertificate])
        self.assertEqual([one.kind for one in given[2:]], unasked)
        self.assertRaises(TokenError, Identity(token_file="/nowhere").credentials)
        self.assertEqual(Token("a-token-of-some-length").kind, "token")
