"""Tokens: the files that have them, and who is let in."""

from __future__ import annotations

import hmac
import os
import stat
from pathlib import Path

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pycomnet.auth import tokens
from pycomnet.errors import TokenError

TOKEN = "a-token.of_the~right+form/0123=="


class FileCase(SynchronousTestCase):
    """What the cases below have in common."""

    def file(self, text: str, mode: int = 0o600) -> Path:
        """A file of that text and mode."""
        path = Path(self.mktemp()).absolute()
        path.write_text(text)
        path.chmod(mode)
        return path

    def refused(self, function, *args) -> str:
        """The message that it fails with, in which there is no token."""
        message = str(self.assertRaises(TokenError, function, *args))
        self.assertNotIn(TOKEN, message)
        return message


class TokenFileTests(FileCase):
    """A file with one token."""

    def test_new_tokens_are_valid_and_differ(self) -> None:
        """No two are the same, and each is one."""
        made = {tokens.new_token() for _ in range(100)}
        self.assertEqual(len(made), 100)
        for token in made:
            self.assertEqual(tokens.check_token_syntax(token, "here"), token)

    def test_token_file_has_mode_600_whatever_the_umask(self) -> None:
        """It is of mode 0600 whatever the umask, in a directory of its owner's."""
        for mask in (0o000, 0o777):
            path = Path(self.mktemp()) / "deeper" / "x.token"
            path.parent.parent.mkdir()
            path.parent.mkdir(mode=0o700)
            before = os.umask(mask)
            try:
                token = tokens.make_token_file(path)
            finally:
                os.umask(before)
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            self.assertEqual(tokens.load_token(path), token)
            self.assertEqual(os.listdir(path.parent), ["x.token"])

    def test_token_directory_is_made_for_its_owner(self) -> None:
        """The directory is made, for its owner only."""
        path = Path(self.mktemp()) / "x.token"
        tokens.make_token_file(path)
        self.assertEqual(stat.S_IMODE(path.parent.stat().st_mode) & 0o077, 0)

    def test_existing_token_file_is_not_replaced(self) -> None:
        """A file that is there is not replaced."""
        path = self.file(TOKEN)
        self.assertIn("File exists", self.refused(tokens.make_token_file, path))
        self.assertEqual(path.read_text(), TOKEN)
        self.assertEqual(tokens.load_or_make_token(path), (TOKEN, False))

    def test_missing_token_file_is_made_once(self) -> None:
        """What isn't there is made, once."""
        path = Path(self.mktemp())
        token, made = tokens.load_or_make_token(path)
        self.assertTrue(made)
        self.assertEqual(tokens.load_or_make_token(path), (token, False))

    def test_unwritable_place_is_named(self) -> None:
        """A place that can't be written to is named."""
        path = self.file("") / "x.token"
        self.assertIn(str(path), self.refused(tokens.make_token_file, path))

    def test_token_file_others_can_read_is_refused(self) -> None:
        """A file that others can read is refused, with what to do."""
        for mode in (0o640, 0o604, 0o620):
            self.assertIn("chmod 600", self.refused(tokens.load_token, self.file(TOKEN, mode)))

    def test_what_is_no_token_is_refused_and_not_shown(self) -> None:
        """What isn't a token is refused and not shown."""
        for text in (
            "",
            "short",
            f"{TOKEN}\n{TOKEN}",
            "with a space in it, long",
            TOKEN + "\u20ac",
        ):
            self.refused(tokens.load_token, self.file(text))
        self.assertIn("longer", self.refused(tokens.load_token, self.file(TOKEN * 10000)))
        path = self.file("")
        path.write_bytes(b"\xff" * 32)
        self.assertIn("text", self.refused(tokens.load_token, path))
        self.assertIn("No such file", self.refused(tokens.load_token, "/no/such/file"))

    def test_given_token_goes_before_the_environment(self) -> None:
        """What is given goes before the environment, and a token before a file."""
        path = self.file(TOKEN + "\n")
        both = {"PYCOMNET_TOKEN": "x" * 20, "PYCOMNET_TOKEN_FILE": str(path)}
        self.assertEqual(tokens.find_token("y" * 20, path, both), "y" * 20)
        self.assertEqual(tokens.find_token(None, path, both), TOKEN)
        self.assertEqual(tokens.find_token(environ=both), "x" * 20)
        del both["PYCOMNET_TOKEN"]
        self.assertEqual(tokens.find_token(environ=both), TOKEN)
        self.assertEqual(tokens.find_token(environ={}), None)
        self.refused(tokens.find_token, "bad token " + TOKEN)

    def test_default_path_is_the_xdg_state_directory(self) -> None:
        """It is where the XDG specification has a program's state."""
        path = tokens.default_token_path("http-exec", {"XDG_STATE_HOME": "/x"})
        self.assertEqual(path, Path("/x/pycomnet/http-exec.token"))
        path = tokens.default_token_path("http-exec", {})
        self.assertEqual(path, Path.home() / ".local/state/pycomnet/http-exec.token")


class TokensFileTests(FileCase):
    """A file with several tokens and their limits."""

    def test_tokens_file_takes_each_form_of_token(self) -> None:
        """Each form of a token, and what else is said."""
        one = self.file("one-" + TOKEN)
        path = self.file(
            f"[alice]\ntoken_file = {one}\nprocesses = 4\n"
            f"[bob]\nsha256 = {tokens.digest('two-' + TOKEN).hex()}\n"
            f"[carol]\ntoken = three-{TOKEN}\n"
        )
        found = tokens.load_tokens(path, ("processes",))
        self.assertEqual([known.name for known in found], ["alice", "bob", "carol"])
        self.assertEqual(found[0].options, {"processes": "4"})
        checker = tokens.TokenChecker(found)
        for name, number in (("alice", "one"), ("bob", "two"), ("carol", "three")):
            given = tokens.BearerToken(f"{number}-{TOKEN}".encode())
            self.assertEqual(self.successResultOf(checker.requestAvatarId(given)), name.encode())
        self.assertNotIn(found[0].digest.hex(), repr(found))
        self.assertNotIn(TOKEN, repr(given))

    def test_token_file_is_relative_to_the_tokens_file(self) -> None:
        """A token file is looked for beside the tokens file."""
        directory = Path(self.mktemp()).absolute()
        tokens.make_token_file(directory / "a.token")
        path = self.file("[alice]\ntoken_file = a.token\n")
        path = path.rename(directory / "tokens.ini")
        self.assertEqual(len(tokens.load_tokens(path)), 1)

    def test_wrong_tokens_file_is_named_without_the_token(self) -> None:
        """What is wrong is named, but not the token."""
        for text, words in (
            ("[alice]\n", "one of"),
            (f"[alice]\ntoken = {TOKEN}\nsha256 = {'0' * 64}\n", "one only"),
            (f"[alice]\ntoken = {TOKEN}\nproceses = 4\n", "no key 'proceses'"),
            ("[alice]\nsha256 = 12\n", "64 hex"),
            ("[alice]\ntoken = short\n", "[alice]: a token has at least"),
            (f"[a]\ntoken = {TOKEN}\n[b]\ntoken = {TOKEN}\n", "another section"),
            (f"[a]\n{TOKEN.rstrip('=')}\n", "line 2"),
            (f"token = {TOKEN}\n", "line 1"),
            (f"[a]\ntoken = {TOKEN}\n[a]\n", "line 3"),
            ("[a]\ntoken_file = /no/such/file\n", "/no/such/file"),
        ):
            self.assertIn(words, self.refused(tokens.load_tokens, self.file(text), ("processes",)))
        path = self.file(f"[a]\ntoken = {TOKEN}\n", 0o644)
        self.assertIn("chmod", self.refused(tokens.load_tokens, path))


class CheckerTests(SynchronousTestCase):
    """Who is let in."""

    def test_checker_works_with_a_cred_portal(self) -> None:
        """It is a checker as twisted.cred has it, and a portal asks it."""
        checker = tokens.TokenChecker.of_one(TOKEN)
        verifyObject(ICredentialsChecker, checker)
        verifyObject(tokens.IBearerToken, tokens.BearerToken(b""))

        class Realm:
            def requestAvatar(self, name, mind, *interfaces):
                return interfaces[0], name, lambda: None

        portal = Portal(Realm(), [checker])  # type: ignore[arg-type]
        interface = tokens.IBearerToken
        login = portal.login(tokens.BearerToken(TOKEN.encode()), None, interface)
        self.assertEqual(self.successResultOf(login)[1], b"default")
        for wrong in (b"", TOKEN[:-1].encode(), TOKEN.encode() + b"x", b"\xff" * 32):
            login = portal.login(tokens.BearerToken(wrong), None, interface)
            self.failureResultOf(login, UnauthorizedLogin)

    def test_every_token_is_compared_by_compare_digest(self) -> None:
        """Every known token is compared, whichever fits, and by compare_digest."""
        compared = []

        def compare(a: bytes, b: bytes) -> bool:
            compared.append(b)
            return a == b

        self.patch(hmac, "compare_digest", compare)
        known = [tokens.KnownToken(str(n), tokens.digest(f"{n}-{TOKEN}")) for n in range(5)]
        checker = tokens.TokenChecker(known)
        for given in (f"0-{TOKEN}", f"4-{TOKEN}", "none"):
            compared.clear()
            found = checker.find(given.encode())
            self.assertEqual(found and found.name, None if given == "none" else given[0])
            self.assertEqual(compared, [token.digest for token in known])
