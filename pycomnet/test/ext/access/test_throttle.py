"""Guessing is slow for the guesser, and for nobody else."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import Unauthenticated
from pycomnet.ext import access
from pycomnet.ext.access.throttle import KNOWN, LONGEST_DELAY, PLACE_FREE, USER_FREE, Throttle
from pycomnet.test.ext.access.kit import AccessCase
from pycomnet.wire.hello import PLAIN


class CountTests(SynchronousTestCase):
    """What is counted."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.throttle = Throttle(self.clock)

    def test_delay_doubles_up_to_a_most(self) -> None:
        """For a user from a place."""
        delays = [self.throttle.failed("here", "alice") for _ in range(10)]
        self.assertEqual(delays[:4], [0.25, 0.5, 1.0, 2.0])
        self.assertEqual(delays[-1], LONGEST_DELAY)
        self.assertEqual(self.throttle.wait("here", "alice"), LONGEST_DELAY)

    def test_others_are_not_delayed(self) -> None:
        """Neither the same user from elsewhere, nor another from the same place."""
        for _ in range(15):
            self.throttle.failed("here", "alice")
        self.assertEqual(self.throttle.wait("there", "alice"), 0)
        self.assertEqual(self.throttle.wait("here", "bob"), 0)

    def test_place_that_tries_many_names_is_slowed(self) -> None:
        """But for who has logged in from there before."""
        self.throttle.succeeded("here", "bob")
        for number in range(PLACE_FREE + 10):
            self.throttle.failed("here", f"user {number}")
        self.assertGreater(self.throttle.wait("here", "anybody"), 10)
        self.assertEqual(self.throttle.wait("here", "bob"), 0)

    def test_many_places_that_try_one_name_are_slowed(self) -> None:
        """Their failures are; the user's own logins aren't."""
        delays = [self.throttle.failed(f"place {n}", "alice") for n in range(USER_FREE + 10)]
        self.assertEqual(delays[0], 0.25)
        self.assertGreater(delays[-1], 10)
        self.assertEqual(self.throttle.wait("home", "alice"), 0)

    def test_success_ends_it_and_so_does_time(self) -> None:
        """A failure is forgotten after a while."""
        for _ in range(5):
            self.throttle.failed("here", "alice")
        self.throttle.succeeded("here", "alice")
        self.assertEqual(self.throttle.failed("here", "alice"), 0.25)
        for _ in range(5):
            self.throttle.failed("here", "bob")
        self.clock.advance(1000)
        self.assertEqual(self.throttle.failed("here", "bob"), 0.25)

    def test_what_is_kept_has_a_bound(self) -> None:
        """However many names and places there are."""
        for number in range(KNOWN):
            self.throttle.failed(f"place {number}", f"user {number}")
            self.throttle.succeeded(f"place {number}", f"other {number}")
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
        self.control.limits = access.AccessLimits(waiting=50, waiting_here=20)
        tries = self.guess(30)
        self.assertEqual(self.answered(tries), 10)
        self.network.cut()
        self.network.deliver()
        self.assertEqual(self.control._waiting, 0)
        self.assertEqual(self.control._waiting_at, {})

    def test_waiting_takes_no_thread(self) -> None:
        """Nothing runs in one while a guesser waits, and the others' logins do."""
        self.guess(50)
        self.assertEqual(self.network.threads, [])
        self.assertEqual(self.control._slots.free, self.control.limits.checks)

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
        self.assertEqual(self.control._waiting, 0)
        self.assertEqual(self.control._slots.free, self.control.limits.checks)
        self.failure(self.shop_for().invoke("buy"), Unauthenticated)
