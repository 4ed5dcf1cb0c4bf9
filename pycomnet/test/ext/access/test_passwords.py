"""Files of passwords: what they may have, what is wrong with others, and what changes in them."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from pycomnet.errors import AccessConfigError
from pycomnet.ext.access import PasswordFile, hashes
from pycomnet.ext.access.hashes import SCHEMES, make_hash, scheme_of, verify
from pycomnet.ext.access.libcrypt import crypt, knows
from pycomnet.ext.access.passwordfile import read_groups, read_passwords

#: Hashes of "secret", each as cheap as its scheme allows.
HASHES = {
    "bcrypt": "$2b$04$abcdefghijklmnopqrstuuE/EuGIRkO7jIiIc2pPNbIQj6cmVuWxO",
    "apr1": "$apr1$zZM8j58e$4zTZsgTQtCcA63O.vRaOR.",
}


def looks(checker: Any) -> bool:
    """Have a checker look at its files; whether anything has changed."""
    before = checker.version
    checker.refresh()
    return bool(checker.version != before)


class FileCase(SynchronousTestCase):
    """A test with files in a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(mode=0o700, parents=True)

    def file(self, name: str, text: str, mode: int = 0o600) -> str:
        """Write a file, all at once; its path. Each time it has another time of change."""
        path = self.directory / name
        made = self.directory / f"{name}.new"
        made.write_text(text)
        made.chmod(mode)
        before = path.stat().st_mtime_ns if path.exists() else 0
        os.utime(made, ns=(before + 1_000_000_000, before + 1_000_000_000))
        made.replace(path)
        return str(path)

    def accepted(self, checker: PasswordFile, user: str, password: str) -> bool:
        """Whether a checker accepts a password."""
        try:
            checker.check(UsernamePassword(user.encode(), password.encode()))
        except UnauthorizedLogin:
            return False
        return True

    def refused(self, path: str) -> str:
        """What is wrong with a password file."""
        return str(self.assertRaises(AccessConfigError, read_passwords, path))


class HashTests(SynchronousTestCase):
    """What verifies a password."""

    def hashes(self) -> dict[str, str]:
        """A hash of "secret" of each scheme that this system has."""
        from passlib import hash as library

        found = {
            "bcrypt": library.bcrypt.using(rounds=4).hash("secret"),
            "argon2": library.argon2.using(time_cost=1, memory_cost=32).hash("secret"),
            "sha512-crypt": library.sha512_crypt.using(rounds=1000).hash("secret"),
            "sha256-crypt": library.sha256_crypt.using(rounds=1000).hash("secret"),
            "apr1": library.apr_md5_crypt.hash("secret"),
            "md5-crypt": library.md5_crypt.hash("secret"),
        }
        for name, prefix in (("yescrypt", "$y$"), ("gost-yescrypt", "$gy$")):
            if knows(prefix):
                hashed = crypt(b"secret", f"{prefix}j75$abcdefgh$")
                assert hashed is not None
                found[name] = hashed
        return found

    def test_each_scheme_knows_the_right_password_alone(self) -> None:
        """Whatever may be wrong with another."""
        for name, hashed in self.hashes().items():
            scheme = scheme_of(hashed)
            assert scheme is not None, hashed
            self.assertEqual(scheme.name, name)
            self.assertTrue(verify(b"secret", hashed), name)
            for wrong in (b"", b"Secret", b"secret\0", b"secret ", b"x" * 80, b"x" * 100_000):
                self.assertFalse(verify(wrong, hashed), (name, wrong[:10]))
        self.assertLessEqual(set(self.hashes()), {scheme.name for scheme in SCHEMES})

    def test_bcrypt_does_not_look_at_the_first_72_bytes_alone(self) -> None:
        """A longer password is refused, and not cut."""
        self.patch(hashes, "BCRYPT_ROUNDS", 4)
        hashed = make_hash("x" * 72)
        self.assertTrue(verify(b"x" * 72, hashed))
        self.assertFalse(verify(b"x" * 80, hashed))
        problem = self.assertRaises(AccessConfigError, make_hash, "x" * 80)
        self.assertIn("argon2", str(problem))

    def test_new_hashes_are_of_bcrypt_or_argon2(self) -> None:
        """And of nothing else, with their costs; an empty password has none."""
        for scheme, cost in (("bcrypt", "$2b$12$"), ("argon2", "$argon2id$")):
            hashed = make_hash("secret", scheme)
            self.assertEqual(getattr(scheme_of(hashed), "name", ""), scheme)
            self.assertTrue(hashed.startswith(cost), hashed)
        self.assertRaises(AccessConfigError, make_hash, "secret", "apr1")
        self.assertRaises(AccessConfigError, make_hash, "")
        self.assertRaises(AccessConfigError, make_hash, "a\0b")

    def test_yescrypt_is_verified_by_libcrypt(self) -> None:
        """As Debian's shadow has it."""
        if not knows("$y$"):
            raise SkipTest("this system's libcrypt has no yescrypt")
        made = crypt(b"secret", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$")
        assert made is not None
        self.assertTrue(verify(b"secret", made))


class ReadTests(FileCase):
    """What a file may have."""

    def test_htpasswd_has_users_comments_and_empty_lines(self) -> None:
        """Each user with the number of their line."""
        path = self.file("passwd", f"# users\n\nalice:{HASHES['bcrypt']}\r\nbob:{HASHES['apr1']}\n")
        found = read_passwords(path)
        self.assertEqual(
            {name: one.line for name, one in found.users.items()}, {"alice": 3, "bob": 4}
        )
        self.assertEqual(found.weak, 1)

    def test_malformed_line_is_named_by_its_number(self) -> None:
        """And not shown: it may have a password."""
        good = f"alice:{HASHES['bcrypt']}\n"
        for bad in (
            "secret\n",
            ":secret\n",
            "bob:secret\n",
            "bob:\n",
            "bob:$2b$04$tooshort\n",
            "bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n",
            f"alice:{HASHES['apr1']}\n",
            "bob:secret:realm\n",
            "bob:$9$unknown\n",
        ):
            text = self.refused(self.file("passwd", good + bad))
            self.assertIn("line 2", text, bad)
            self.assertNotIn("secret", text)
        (self.directory / "latin").write_bytes(b"alice:\xff\n")
        (self.directory / "latin").chmod(0o600)
        self.assertIn("line 1", self.refused(str(self.directory / "latin")))

    def test_file_that_others_can_change_is_refused(self) -> None:
        """Who can read it does not matter here."""
        text = f"alice:{HASHES['bcrypt']}\n"
        self.assertEqual(len(read_passwords(self.file("passwd", text, 0o644)).users), 1)
        self.assertIn("chmod", self.refused(self.file("passwd", text, 0o664)))
        self.assertIn("can't read", self.refused(str(self.directory / "nothing")))

    def test_file_that_others_can_replace_is_refused(self) -> None:
        """By its directory. What is no file is no file, and nobody waits for it."""
        path = self.file("passwd", f"alice:{HASHES['bcrypt']}\n")
        self.directory.chmod(0o777)
        self.assertIn("chmod go-w", self.refused(path))
        self.directory.chmod(0o1777)
        self.assertEqual(len(read_passwords(path).users), 1)
        self.directory.chmod(0o700)
        os.mkfifo(self.directory / "pipe", 0o600)
        self.assertIn("regular", self.refused(str(self.directory / "pipe")))

    def test_passwd_has_its_hashes_in_shadow(self) -> None:
        """The locked, the expired and those without a password can't log in."""
        hashed = HASHES["bcrypt"]
        names = ["alice", "locked", "star", "empty", "expired", "later", "unknown"]
        names += ["inactive", "must change"]
        path = self.file(
            "passwd", "".join(f"{name}:x:1000:1000:,:/home:/bin/sh\n" for name in names), 0o644
        )
        shadow = {
            "alice": f"{hashed}:19000:0:99999:7::",
            "locked": f"!{hashed}:19000:0:99999:7::",
            "star": "*:19000:0:99999:7::",
            "empty": ":19000:0:99999:7::",
            "expired": f"{hashed}:19000:0:99999:7::19001",
            "later": f"{hashed}:19000:0:99999:7::20001",
            "inactive": f"{hashed}:19000:0:100:7:30:",
            "must change": f"{hashed}:0:0:99999:7::",
            "unknown": "$9$what:19000:0:99999:7::",
        }
        self.file("shadow", "".join(f"{name}:{rest}:\n" for name, rest in shadow.items()))
        found = read_passwords(path)
        now = 19_500 * 86_400.0
        able = {
            name
            for name, one in found.users.items()
            if one.hashed and not (one.ends is not None and one.ends <= now)
        }
        self.assertEqual(able, {"alice", "later"})
        self.assertEqual(found.unusable, 1)
        self.assertEqual(set(found.users), set(names))

    def test_passwd_without_a_readable_shadow_says_what_to_do(self) -> None:
        """When the server starts, and not at the first login."""
        path = self.file("passwd", "alice:x:1000:1000:,:/home:/bin/sh\n", 0o644)
        text = self.refused(path)
        self.assertIn("shadow", text)
        self.assertIn("pycomnet passwd", text)
        self.assertRaises(AccessConfigError, PasswordFile(path).open)

    def test_groups_are_read_in_both_forms(self) -> None:
        """Apache's and the system's."""
        path = self.file("group", "# roles\nadmin: alice bob\nread:x:100:bob,carol\n")
        self.assertEqual(
            read_groups(path),
            {
                "alice": frozenset({"admin"}),
                "bob": frozenset({"admin", "read"}),
                "carol": frozenset({"read"}),
            },
        )
        problem = self.assertRaises(AccessConfigError, read_groups, self.file("group", "a:b:c\n"))
        self.assertIn("line 1", str(problem))


class CheckTests(FileCase):
    """The checker of such a file."""

    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = (make_cheap(text) for text in ("one", "two"))
        self.path = self.file("passwd", f"alice:{self.one}\n")
        self.checker = PasswordFile(self.path)
        self.checker.open()

    def test_users_have_their_groups_as_roles(self) -> None:
        """As another file has them."""
        groups = self.file("groups", "admin: alice\n")
        login = PasswordFile(self.path, groups=groups).check(UsernamePassword(b"alice", b"one"))
        self.assertEqual((login.user.name, login.user.roles), ("alice", frozenset({"admin"})))
        self.assertEqual(login.user.how, "password")

    def test_file_is_read_again_when_it_changes(self) -> None:
        """Logins that went by what has changed don't hold; the others do."""
        self.file("passwd", f"alice:{self.one}\nbob:{self.one}\n")
        both = [self.checker.check(UsernamePassword(name, b"one")) for name in (b"alice", b"bob")]
        self.assertFalse(looks(self.checker))
        self.file("passwd", f"alice:{self.two}\nbob:{self.one}\n")
        self.assertTrue(looks(self.checker))
        self.assertEqual([self.checker.holds(login) for login in both], [False, True])
        self.assertFalse(self.accepted(self.checker, "alice", "one"))
        self.assertTrue(self.accepted(self.checker, "alice", "two"))
        self.file("passwd", f"alice:{self.two}\n")
        self.assertTrue(looks(self.checker))
        self.assertFalse(self.checker.holds(both[1]))

    def test_broken_file_leaves_the_old_one_in_force(self) -> None:
        """It is logged as critical, once; never is the server open to all."""
        for break_it in (
            lambda: self.file("passwd", "rubbish\n"),
            lambda: self.file("passwd", f"alice:{self.two}\n", 0o666),
            lambda: os.unlink(self.path),
        ):
            break_it()
            with capturedLogs() as events:
                for _ in range(3):
                    self.assertFalse(looks(self.checker))
            levels = [event["log_level"] for event in events]
            self.assertEqual(levels, [LogLevel.critical])
            self.assertTrue(self.accepted(self.checker, "alice", "one"))
            self.assertFalse(self.accepted(self.checker, "alice", "two"))
        self.file("passwd", f"alice:{self.two}\n")
        self.assertTrue(looks(self.checker))
        self.assertTrue(self.accepted(self.checker, "alice", "two"))

    def test_reader_that_fails_leaves_the_old_users_in_force(self) -> None:
        """Whatever it raises: else nobody could log in, or everybody would stay."""
        self.checker.open()

        def read() -> Any:
            raise RecursionError("what nobody thought of")

        self.patch(self.checker, "read", read)
        self.file("passwd", f"bob:{self.two}\n")
        self.assertFalse(looks(self.checker))
        self.assertTrue(self.accepted(self.checker, "alice", "one"))
        self.flushLoggedErrors()

    def test_file_that_could_not_be_read_once_is_read_later(self) -> None:
        """Though it has not changed since: there were no descriptors left, say."""
        login = self.checker.check(UsernamePassword(b"alice", b"one"))
        self.file("passwd", f"bob:{self.two}\n")
        read, left = self.checker.read, [1]

        def fails_once() -> Any:
            if left.pop() if left else 0:
                raise OSError(errno.EMFILE, "too many open files")
            return read()

        self.patch(self.checker, "read", fails_once)
        self.assertFalse(looks(self.checker))
        self.assertTrue(self.checker.holds(login))
        self.assertTrue(looks(self.checker))
        self.assertFalse(self.checker.holds(login))
        self.assertFalse(looks(self.checker))
        self.flushLoggedErrors()

    def test_directory_that_was_open_to_all_for_a_moment(self) -> None:
        """What has changed meanwhile counts when it is closed again."""
        directory = os.path.dirname(self.path)
        self.addCleanup(os.chmod, directory, os.stat(directory).st_mode & 0o7777)
        self.file("passwd", f"bob:{self.two}\n")
        os.chmod(directory, 0o777)
        self.assertFalse(looks(self.checker))
        os.chmod(directory, 0o700)
        self.assertTrue(looks(self.checker))
        self.flushLoggedErrors()

    def test_unknown_user_costs_one_hash_as_a_known_one_does(self) -> None:
        """So does an empty password; each of the same kind."""
        from pycomnet.ext.access import passwords

        hashed: list[str] = []

        def count(password: bytes, hash_: str) -> bool:
            hashed.append(hash_)
            return verify(password, hash_)

        self.patch(passwords, "verify", count)
        for user, password in (("alice", "one"), ("alice", ""), ("nobody", "one"), ("", "")):
            before = len(hashed)
            self.accepted(self.checker, user, password)
            self.assertEqual(hashed[before:], [self.one], user)

    def test_account_ends_on_its_day(self) -> None:
        """Though no file changes then; a login of it ends, too. Of both forms."""
        day = 86_400
        today = int(time.time()) // day
        shadow = f"alice:{self.one}:19000:0:99999:7::{today + 1}:\n"
        self.file("shadow", shadow)
        both = (
            self.file("passwd", "alice:x:1000:1000:,:/home:/bin/sh\n", 0o644),
            self.file("other", shadow),
        )
        real = time.time
        for path in both:
            checker = PasswordFile(path)
            checker.open()
            login = checker.check(UsernamePassword(b"alice", b"one"))
            self.assertEqual(login.expires, (today + 1) * day)
            self.patch(time, "time", lambda: real() + 2 * day)
            self.assertFalse(self.accepted(checker, "alice", "one"))
            self.patch(time, "time", real)

    def test_weak_hashes_are_warned_of(self) -> None:
        """Once for each reading, with their number."""
        path = self.file("weak", f"a:{HASHES['apr1']}\nb:{HASHES['apr1']}\n")
        with capturedLogs() as events:
            PasswordFile(path).open()
        self.assertEqual([event["count"] for event in events], [2])

    def test_two_of_one_file_are_one_checker(self) -> None:
        """So that a rule for each method costs one check."""
        same = PasswordFile(self.path)
        self.assertEqual(same, self.checker)
        self.assertEqual(len({same, self.checker}), 1)
        self.assertNotEqual(PasswordFile(self.path, groups="x"), self.checker)

    def test_it_is_a_checker_of_twisted_cred(self) -> None:
        """For others to use."""
        credentials = UsernamePassword(b"alice", b"one")
        self.assertEqual(self.successResultOf(self.checker.requestAvatarId(credentials)), b"alice")
        wrong = self.checker.requestAvatarId(UsernamePassword(b"alice", b"two"))
        self.failureResultOf(wrong, UnauthorizedLogin)


def make_cheap(password: str) -> str:
    """A hash with bcrypt's lowest cost."""
    from passlib.hash import bcrypt

    return str(bcrypt.using(rounds=4).hash(password))
