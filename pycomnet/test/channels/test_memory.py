"""The account of what a server holds for its peers, and who loses."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.channels.memory import TRIM_DELAY, WORTH, MemoryAccount
from pycomnet.errors import MemoryExceeded


class Holder:
    """A connection with channels that nobody has accepted, and others."""

    def __init__(self, *unaccepted: int, accepted: int = 0) -> None:
        self.channels: dict[Any, int] = dict(enumerate(unaccepted))
        self.accepted = accepted
        self.problems: list[str] = []
        self.closed: str | None = None

    def held_bytes(self) -> int:
        """All of it."""
        return self.accepted + sum(self.channels.values())

    def unaccepted(self) -> dict[Any, int]:
        """By channel."""
        return self.channels

    def shed(self, size: int, problem: MemoryExceeded) -> int:
        """The largest first."""
        released = 0
        while self.channels and released < size:
            largest = max(self.channels, key=self.channels.__getitem__)
            released += self.channels.pop(largest)
            self.problems.append(problem.code)
        return released

    def violated(self, code: str, message: str) -> None:
        """It is closed."""
        self.closed = code


class AccountTests(SynchronousTestCase):
    """An account of 100 bytes, and 40 for each."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.trims: list[float] = []
        self.account = MemoryAccount(
            self.clock, 40, 100, lambda: self.trims.append(self.clock.seconds())
        )

    def test_memory_within_the_bounds_is_only_counted(self) -> None:
        one, two = Holder(10, 20), Holder(30, accepted=40)
        for each in (one, two, one):
            self.account.count(each)
        self.assertEqual(self.account.as_map(), {"held": 100, "most": 100, "largest": 70} | self.no)
        self.assertEqual((one.problems, two.problems), ([], []))

    no = {"refused": 0}

    def test_connection_over_its_share_loses_its_largest_channels(self) -> None:
        """A connection over its share loses the channels that hold most, and no more of them."""
        one = Holder(5, 30, 20)
        self.account.count(one)
        self.assertEqual(
            (one.channels, one.problems, one.closed), ({0: 5, 2: 20}, ["memory"], None)
        )
        self.assertEqual(self.account.size, 25)

    def test_accepted_values_are_not_of_the_share(self) -> None:
        """What somebody has accepted is not of a connection's share."""
        one = Holder(5, accepted=90)
        self.account.count(one)
        self.assertEqual((one.problems, one.closed), ([], None))

    def test_connection_that_holds_most_is_closed(self) -> None:
        """When all hold too much, it is the one that holds most that loses, whoever is counted."""
        small, large = Holder(20, accepted=10), Holder(10, 10, accepted=55)
        self.account.count(large)
        self.account.count(small)
        self.assertEqual((small.problems, small.closed), ([], None))
        self.assertEqual((large.problems, large.closed), (["memory"], None))
        small.accepted += 50
        large.accepted += 30
        self.account.count(large)
        self.account.count(small)
        self.assertEqual((small.closed, large.closed), (None, "memory"))
        self.assertEqual(self.account.size, small.held_bytes())

    def test_memory_is_given_back_once_after_a_delay(self) -> None:
        """What was held is given back once, a little after it was released."""
        account = MemoryAccount(self.clock, 4 * WORTH, 9 * WORTH, self.account._trim)
        one, two = Holder(WORTH), Holder(WORTH)
        for each in (one, two):
            account.count(each)
        account.gone(one)
        account.gone(two)
        self.assertEqual(self.trims, [])
        self.clock.advance(TRIM_DELAY)
        self.assertEqual(self.trims, [TRIM_DELAY])
        self.clock.advance(10)
        self.assertEqual((len(self.trims), account.size), (1, 0))
        account.gone(one)
        self.assertEqual(self.clock.getDelayedCalls(), [])
