"""Guessing is slow for the guesser, and for nobody else."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import Unauthenticated
from pycomnet.ext import access
from pycomnet.ext.access.checkslots import CheckSlots
from pycomnet.ext.access.throttle import (
    KNOWN,
    LONGEST_DELAY,
    PLACE_FREE,
    TOKENS_FREE,
    TRUST,
    USER_FREE,
    Throttle,
)
from pycomnet.test.ext.access.kit import AccessCase
from pycomnet.wire.hello import PLAIN


class CountTests(SynchronousTestCase):
    """What is counted."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.throttle = Throttle(self.clock)

    def fails(self, place: str, user: str) -> float:
        """A try that fails; the seconds until its reply."""
        return self.throttle.failed(self.throttle.begin(place, user))

    def succeeds(self, place: str, user: str) -> None:
        """A try that does not."""
        self.throttle.succeeded(self.throttle.begin(place, user))

    def test_delay_doubles_up_to_a_most(self) -> None:
        """For a user from a place."""
        delays = [self.fails("here", "alice") for _ in range(10)]
        self.assertEqual(delays[:4], [0.25, 0.5, 1.0, 2.0])
        self.assertEqual(delays[-1], LONGEST_DELAY)
        self.assertEqual(self.throttle.wait("here", "alice"), LONGEST_DELAY)

    def test_others_are_not_delayed(self) -> None:
        """Neither the same user from elsewhere, nor another from the same place."""
        for _ in range(15):
            self.fails("here", "alice")
        self.assertEqual(self.throttle.wait("there", "alice"), 0)
        self.assertEqual(self.throttle.wait("here", "bob"), 0)

    def test_place_that_tries_many_names_is_slowed(self) -> None:
        """But for who has logged in from there before."""
        self.succeeds("here", "bob")
        for number in range(PLACE_FREE + 10):
            self.fails("here", f"user {number}")
        self.assertGreater(self.throttle.wait("here", "anybody"), 10)
        self.assertEqual(self.throttle.wait("here", "bob"), 0)

    def test_many_places_that_try_one_name_are_slowed(self) -> None:
        """Their failures are; the user's own logins aren't."""
        delays = [self.fails(f"place {n}", "alice") for n in range(USER_FREE + 10)]
        self.assertEqual(delays[0], 0.25)
        self.assertGreater(delays[-1], 10)
        self.assertEqual(self.throttle.wait("home", "alice"), 0)

    def test_success_ends_it_and_so_does_time(self) -> None:
        """A failure is forgotten after a while."""
        for _ in range(5):
            self.fails("here", "alice")
        self.succeeds("here", "alice")
        self.assertEqual(self.fails("here", "alice"), 0.25)
        for _ in range(5):
            self.fails("here", "bob")
        self.clock.advance(1000)
        self.assertEqual(self.fails("here", "bob"), 0.25)

    def test_users_own_mistake_is_not_delayed_by_others(self) -> None:
        """However often others have tried the name from elsewhere."""
        for number in range(USER_FREE + 10):
            self.fails(f"place {number}", "alice")
        self.assertGreater(self.fails("home", "alice"), 10)  # the reply, as nobody knows who it is
        self.assertLess(self.throttle.wait("home", "alice"), 1)

    def test_user_stays_known_at_a_place_after_others_failures(self) -> None:
        """Who guesses a name does not make its user a stranger there."""
        self.succeeds("here", "alice")
        self.fails("here", "alice")
        for number in range(PLACE_FREE + 10):
            self.fails("here", f"user {number}")
        self.assertLess(self.throttle.wait("here", "alice"), 1)
        self.clock.advance(TRUST + 1)
        for number in range(PLACE_FREE + 10):
            self.fails("here", f"user {number}")
        self.assertGreater(self.throttle.wait("here", "alice"), 10)

    def test_try_counts_until_it_was_right(self) -> None:
        """So tries at the same time are as many, and one that is given up counts."""
        self.throttle.begin("here", "alice")
        self.assertGreater(self.throttle.wait("here", "alice"), 0)
        right = self.throttle.begin("here", "bob")
        self.throttle.succeeded(right)
        self.assertEqual(self.throttle.wait("here", "bob"), 0)
        undone = self.throttle.begin("here", "carol")
        self.throttle.undo(undone)
        self.assertEqual(self.throttle.wait("here", "carol"), 0)
        self.assertEqual(self.throttle.begin("here", "alice").delay, 0.5)

    def test_programs_of_a_user_log_in_at_the_same_time(self) -> None:
        """After the first of them; until one is wrong."""
        self.succeeds("here", "alice")
        tries = [self.throttle.begin("here", "alice") for _ in range(4)]
        self.assertEqual(self.throttle.wait("here", "alice"), 0)
        for one in tries[:3]:
            self.throttle.succeeded(one)
        self.throttle.failed(tries[3])
        tries = [self.throttle.begin("here", "alice") for _ in range(2)]
        self.assertGreater(self.throttle.wait("here", "alice"), 0)

    def test_token_that_is_tried_again_slows_itself(self) -> None:
        """And no other: nobody guesses a token, and there is no user to guess for."""
        self.throttle = Throttle(self.clock, TOKENS_FREE, False)
        for _ in range(30):
            self.fails("here", "token one")
        self.assertGreater(self.throttle.wait("here", "token one"), 10)
        self.assertEqual(self.throttle.wait("here", "token two"), 0)
        for number in range(TOKENS_FREE):
            self.fails("here", f"token {number}")
        self.assertGreater(self.throttle.wait("here", "token x"), 10)

    def test_networks_of_ipv6_count_together(self) -> None:
        """Whoever has a /48 has 65,536 places."""
        for number in range(400):
            self.fails(f"2001:db8:0:{number:x}::/64", f"user {number}")
        self.assertGreater(self.throttle.wait("2001:db8:0:ffff::/64", "anybody"), 10)
        self.assertEqual(self.throttle.wait("2001:db8:1:1::/64", "anybody"), 0)

    def test_what_is_kept_has_a_bound(self) -> None:
        """However many names and places there are."""
        for number in range(KNOWN):
            self.fails(f"place {number}", f"user {number}")
            self.succeeds(f"place {number}", f"other {number}")
        self.assertLessEqual(len(self.throttle), 2 * KNOWN)


class GuessTests(AccessCase):
    """Guessers of passwords."""

    def guess(self, count: int, user: str = "alice", where: str = "192.0.2.1") -> list[Any]:
        """Try passwords on one connection each, from a place; what comes of each."""
        found = []
        for number in range(count):
            context = self.context_of()
            self.result(context.connect(self.address))
            _, server = self.network.wires[-1]
            server.transport.peerAddr = IPv4Address("TCP", where, 40_000)
            self.patch(access.messages, "is_private", lambda transport: True)
            connection = context.peer(self.address).connection
            assert connection is not None
            payload = PLAIN.encode(["password", user, f"guess {number}"])
            found.append(connection.open("login", payload, end=True).receive())
            self.addCleanup(found[-1].addErrback, lambda _: None)
            self.contexts.append(context)
        self.network.deliver()
        return found

    def setUp(self) -> None:
        super().setUp()
        self.contexts: list[Any] = []

    def answered(self, tries: list[defer.Deferred[Any]]) -> int:
        """How many tries have been answered."""
        return sum(1 for one in tries if one.called)

    def test_tries_at_once_are_no_faster(self) -> None:
        """Only so many are checked in a time, however many connections there are."""
        tries = self.guess(200)
        self.network.wait(60, 1)
        self.assertLess(self.answered(tries), 15)
        self.assertLess(len(self.table.checked), 15)

    def test_user_gets_in_meanwhile(self) -> None:
        """From where nobody guesses, at once; other users from there, too."""
        self.guess(150)
        self.assertEqual(self.result(self.shop_for("alice").invoke("buy")), "alice")
        self.assertEqual(self.result(self.shop_for("bob").invoke("buy")), "bob")

    def test_waiting_tries_have_a_bound(self) -> None:
        """What is above it is refused at once; what has gone does not count."""
        self.network.runs_threads = False
        slots = self.control.checks.slots = CheckSlots(1, 50, 20)
        tries = [one for n in range(30) for one in self.guess(1, f"user {n}")]
        self.assertEqual((slots.waiting, self.answered(tries)), (20, 9))
        self.network.cut()
        self.network.deliver()
        self.assertEqual(slots.waiting, 0)

    def test_waiting_takes_no_thread(self) -> None:
        """Nothing runs in one while a guesser waits, and the others' logins do."""
        self.guess(50)
        self.assertEqual(self.network.threads, [])
        self.assertEqual(self.control.checks.slots.free, self.control.limits.checks)

    def test_one_login_of_a_connection_at_a_time(self) -> None:
        """Another is refused while one is under way."""
        self.network.runs_threads = False
        context = self.context_of()
        self.result(context.connect(self.address))
        connection = context.peer(self.address).connection
        assert connection is not None
        payload = PLAIN.encode(["password", "alice", "a password"])
        tries = [connection.open("login", payload, end=True).receive() for _ in range(3)]
        self.network.deliver()
        self.assertEqual([one.called for one in tries], [False, True, True])
        for one in tries[1:]:
            self.assertEqual(self.failureResultOf(one).value.error["fields"], {"reason": "busy"})
        self.network.runs_threads = True
        self.assertEqual(self.result(tries[0])["user"], "alice")

    def test_client_that_gives_up_leaves_nothing(self) -> None:
        """Neither what it waited for, nor its turn."""
        shop = self.shop_for("alice", "wrong")
        for _ in range(3):
            calling = shop.invoke("buy", timeout=0.1)
            self.network.wait(1)
            self.failureResultOf(calling)
        self.network.cut()
        self.network.wait(60, 5)
        self.assertEqual(self.control.checks.slots.waiting, 0)
        self.assertEqual(self.control.checks.slots.free, self.control.limits.checks)
        self.failure(self.shop_for().invoke("buy"), Unauthenticated)
