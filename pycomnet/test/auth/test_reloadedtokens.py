"""The tokens file of a daemon: what changes of it do."""

from __future__ import annotations

import os
from unittest import mock

from twisted.internet.task import Clock

from pycomnet.auth import reloadedfiles
from pycomnet.auth.admission import Admission, NotAdmitted
from pycomnet.auth.reloadedfiles import EMPTY_AFTER
from pycomnet.auth.reloadedtokens import POLL_EVERY, ReloadedTokens
from pycomnet.auth.tokens import KnownToken, TokenChecker, digest
from pycomnet.errors import TokenError
from pycomnet.mediator.server.model import UserLimits
from pycomnet.mediator.server.usertokens import UserTokens
from pycomnet.test.ext.access.test_passwords import FileCase

ALICE, BOB, NEW = "alice-token-123456", "bob-token-12345678", "alice-new-token-1234"
BOTH = f"[alice]\ntoken = {ALICE}\n[bob]\ntoken = {BOB}\n"
ONLY_BOB = f"[bob]\ntoken = {BOB}\n"


class ReloadedTokensTests(FileCase):
    """A tokens file that is watched."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.withdrawn: list[frozenset[str]] = []

    def watched(self, text: str = BOTH) -> ReloadedTokens:
        """The file with this text."""
        tokens = ReloadedTokens(self.file("tokens", text))
        tokens.open()
        tokens.watch(self.clock, self.withdrawn.append)
        self.addCleanup(tokens.unwatch)
        return tokens

    def name(self, tokens: ReloadedTokens, token: str) -> str | None:
        """Whose token this is."""
        found = tokens.find(token.encode())
        return found.name if found else None

    def test_login_sees_a_change_at_once(self) -> None:
        """A withdrawn token is refused and a new one accepted, before the next poll."""
        tokens = self.watched()
        self.assertEqual([self.name(tokens, each) for each in (ALICE, BOB)], ["alice", "bob"])
        self.file("tokens", ONLY_BOB + f"[carol]\ntoken = {NEW}\n")
        found = [self.name(tokens, each) for each in (ALICE, BOB, NEW)]
        self.assertEqual(found, [None, "bob", "carol"])
        self.assertEqual(self.withdrawn, [{"alice"}])

    def test_poll_reports_what_is_withdrawn_once(self) -> None:
        """Without any login, and until the file is no longer watched."""
        tokens = self.watched()
        self.file("tokens", ONLY_BOB)
        self.clock.advance(POLL_EVERY)
        self.clock.advance(POLL_EVERY)
        self.assertEqual(self.withdrawn, [{"alice"}])
        tokens.unwatch()
        self.file("tokens", BOTH.replace(BOB, NEW))
        self.clock.advance(POLL_EVERY)
        self.assertEqual(self.withdrawn, [{"alice"}])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_replaced_token_is_withdrawn(self) -> None:
        """Also if it is in a file of its own; other settings of a section do not matter."""
        own = self.file("alice.token", ALICE)
        tokens = self.watched("[alice]\ntoken_file = alice.token\n" + ONLY_BOB)
        self.file("tokens", ONLY_BOB + f"[alice]\ntoken = {ALICE}\n")
        self.clock.advance(POLL_EVERY)
        self.assertEqual((self.withdrawn, self.name(tokens, ALICE)), ([], "alice"))
        self.file("tokens", "[alice]\ntoken_file = alice.token\n" + ONLY_BOB)
        self.clock.advance(POLL_EVERY)
        self.clock.advance(POLL_EVERY)  # from then on it looks at the other file, too
        self.file("alice.token", NEW)
        self.clock.advance(POLL_EVERY)
        self.assertEqual(self.withdrawn, [{"alice"}])
        self.assertEqual([self.name(tokens, each) for each in (ALICE, NEW)], [None, "alice"])
        self.assertTrue(os.path.exists(own))

    def test_token_that_goes_to_another_user_is_withdrawn(self) -> None:
        """What runs is its former user's."""
        tokens = self.watched()
        self.file("tokens", BOTH.replace("alice]", "carol]"))
        self.clock.advance(POLL_EVERY)
        self.assertEqual((self.withdrawn, self.name(tokens, ALICE)), ([{"alice"}], "carol"))

    def test_broken_file_changes_nothing(self) -> None:
        """It is logged once, and read when it is in order again."""
        tokens = self.watched()
        with mock.patch.object(reloadedfiles, "log") as log:
            for text in (ONLY_BOB + "[carol]\n", "nonsense", "[bob]\n"):
                self.file("tokens", text)
                log.critical.reset_mock()
                self.clock.advance(POLL_EVERY)
                self.clock.advance(POLL_EVERY)
                self.assertEqual(log.critical.call_count, 1, text)
                self.assertEqual(self.name(tokens, ALICE), "alice")
            os.unlink(tokens.path)
            self.clock.advance(POLL_EVERY)
            self.assertEqual(self.name(tokens, ALICE), "alice")
            self.file("tokens", ONLY_BOB, 0o644)
            self.clock.advance(POLL_EVERY)
            self.assertEqual((self.name(tokens, ALICE), self.withdrawn), ("alice", []))
        self.file("tokens", ONLY_BOB)
        self.clock.advance(POLL_EVERY)
        self.assertEqual((self.name(tokens, ALICE), self.withdrawn), (None, [{"alice"}]))

    def test_error_while_sessions_are_ended_does_not_end_the_polls(self) -> None:
        """It is logged, and the next change counts."""
        told: list[frozenset[str]] = []

        def withdrawn(names: frozenset[str]) -> None:
            told.append(names)
            raise RuntimeError("of a session")

        tokens = ReloadedTokens(self.file("tokens", BOTH))
        tokens.open()
        tokens.watch(self.clock, withdrawn)
        self.addCleanup(tokens.unwatch)
        self.file("tokens", ONLY_BOB)
        self.clock.advance(POLL_EVERY)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.file("tokens", ONLY_BOB.replace(BOB, NEW))
        self.clock.advance(POLL_EVERY)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(told, [{"alice"}, {"bob"}])

    def test_admission_by_the_file_goes_with_it(self) -> None:
        """A daemon's own decision is that of the file as it is."""
        admission = Admission.of("a", ("tcp:1",), tokens=self.file("tokens", BOTH))
        transport = mock.Mock()
        self.assertEqual(admission.admit(transport, ALICE.encode()), "alice")
        self.file("tokens", ONLY_BOB)
        self.assertRaises(NotAdmitted, admission.admit, transport, ALICE.encode())
        self.assertEqual(admission.admit(transport, BOB.encode()), "bob")

    def test_file_has_to_be_in_order_at_first(self) -> None:
        """The error is that of the file."""
        for text, words in (("[alice]\n", "one of"), ("", "no sec"), ("# none\n", "no sec")):
            path = self.file("tokens", text)
            with self.assertRaisesRegex(TokenError, words):
                Admission.of("a", ("tcp:1",), tokens=path)

    def test_login_stats_two_files_however_many_there_are(self) -> None:
        """The tokens file, and the file of the token; all others only for an unknown token."""
        names = [f"user-{number}" for number in range(50)]
        for name in names:
            self.file(f"{name}.token", f"{name}-0123456789abcdef")
        text = "".join(f"[{name}]\ntoken_file = {name}.token\n" for name in names)
        tokens = self.watched(text + ONLY_BOB)
        tokens.refresh()  # now the stamps of all files are known
        looked: list[str] = []
        real = os.stat

        def stat(path: str) -> os.stat_result:
            looked.append(os.path.basename(path))
            return real(path)

        with mock.patch.object(os, "stat", stat):
            self.assertEqual(self.name(tokens, "user-7-0123456789abcdef"), "user-7")
            self.assertEqual(looked, ["tokens", "user-7.token"])
            looked.clear()
            self.assertEqual(self.name(tokens, BOB), "bob")
            self.assertEqual(looked, ["tokens"])
            looked.clear()
            self.assertEqual(self.name(tokens, NEW), None)
            self.assertEqual(len(looked), 51)

    def test_login_sees_a_change_of_a_token_file_at_once(self) -> None:
        """Of its own file, whatever the others are; a file that is gone withdraws nothing."""
        for name, token in (("alice", ALICE), ("bob", BOB)):
            self.file(f"{name}.token", token)
        text = "[alice]\ntoken_file = alice.token\n[bob]\ntoken_file = bob.token\n"
        tokens = self.watched(text)
        tokens.refresh()
        self.file("alice.token", NEW)
        found = [self.name(tokens, each) for each in (BOB, ALICE, NEW)]
        self.assertEqual((found, self.withdrawn), (["bob", None, "alice"], [{"alice"}]))
        tokens.refresh()
        self.file("bob.token", ALICE)
        found = [self.name(tokens, each) for each in (ALICE, BOB, NEW)]
        self.assertEqual((found, self.withdrawn), (["bob", None, "alice"], [{"alice"}, {"bob"}]))
        tokens.refresh()
        os.unlink(tokens.files()[1])
        self.assertEqual([self.name(tokens, each) for each in (ALICE, NEW)], ["bob", "alice"])

    def test_file_without_sections_withdraws_all_tokens_half_a_minute_later(self) -> None:
        """It is logged at once. A file that is written in the meantime withdraws nothing else."""
        for text in ("", "# none\n"):
            tokens = self.watched()
            self.withdrawn.clear()
            with mock.patch.object(reloadedfiles, "log") as log:
                self.file("tokens", text)
                self.clock.pump([POLL_EVERY] * (int(EMPTY_AFTER) - 1))
                self.assertEqual(log.critical.call_count, 1)
                self.assertIn("no section", str(log.critical.call_args.kwargs["problem"]))
                self.assertEqual((self.name(tokens, ALICE), self.withdrawn), ("alice", []))
                self.file("tokens", ONLY_BOB)
                self.clock.advance(POLL_EVERY)
                self.assertEqual(self.withdrawn, [{"alice"}])
                self.file("tokens", text)
                self.clock.pump([POLL_EVERY] * (int(EMPTY_AFTER) - 1))
                self.assertEqual(self.name(tokens, BOB), "bob")
                self.clock.pump([POLL_EVERY] * 2)
            self.assertEqual(self.withdrawn, [{"alice"}, {"bob"}])
            self.assertIsNone(self.name(tokens, BOB))
            self.file("tokens", BOTH)
            self.assertEqual(self.name(tokens, ALICE), "alice")
            self.assertEqual(self.withdrawn, [{"alice"}, {"bob"}])
            tokens.unwatch()

    def test_malformed_file_begins_the_half_minute_again(self) -> None:
        """It counts only while the file has no section."""
        tokens = self.watched()
        for text in ("", "[carol]\n", ""):
            self.file("tokens", text)
            self.clock.pump([POLL_EVERY] * (int(EMPTY_AFTER) - 1))
        self.assertEqual((self.name(tokens, ALICE), self.withdrawn), ("alice", []))
        self.clock.pump([POLL_EVERY] * 2)
        self.assertEqual((self.name(tokens, ALICE), self.withdrawn), (None, [{"alice", "bob"}]))

    def test_holding_is_by_user_and_token(self) -> None:
        """Not by other settings."""
        checker = TokenChecker([KnownToken("alice", digest(ALICE))])
        for token, holds in (
            (KnownToken("alice", digest(ALICE), {"processes": "3"}), True),
            (KnownToken("alice", digest(NEW)), False),
            (KnownToken("bob", digest(ALICE)), False),
        ):
            self.assertEqual(checker.holds(token), holds, token)


class UserTokensTests(FileCase):
    """The limits of users, which change with the file."""

    def test_limits_change_with_the_file(self) -> None:
        """A value that is not valid leaves all as it was."""
        text = f"[alice]\ntoken = {ALICE}\nprocesses = "
        tokens = UserTokens(self.file("tokens", f"{text}3\n"), UserLimits(linger=7.0))
        tokens.open()
        users = tokens.users
        self.assertEqual((users["alice"].processes, users["alice"].linger), (3, 7.0))
        self.file("tokens", f"{text}many\n{ONLY_BOB}")
        tokens.refresh()
        self.assertEqual((users["alice"].processes, list(users)), (3, ["alice"]))
        self.assertIsNone(tokens.find(BOB.encode()))
        self.file("tokens", f"{text}5\n{ONLY_BOB}")
        tokens.refresh()
        self.assertEqual((users["alice"].processes, list(users)), (5, ["alice", "bob"]))
        self.file("tokens", "")
        tokens.refresh()
        found = tokens.find(ALICE.encode())
        self.assertEqual((found and found.name, users["alice"].processes), ("alice", 5))
