"""Which of several instances a call reaches."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import CertificateRefused, EndpointError, ServiceUnreachable
from pycomnet.services.client.race import Race


class Instance:
    """An instance whose connection the test decides about."""

    def __init__(self, outcome: Any = None) -> None:
        self.outcome = defer.Deferred() if outcome is None else outcome
        self.asked = 0
        self.silent = False

    def connect(self) -> Any:
        self.asked += 1
        return self.outcome

    def mark_silent(self) -> None:
        self.silent = True


class RaceTests(SynchronousTestCase):
    """:class:`Race`."""

    def race(self, *instances: Any) -> defer.Deferred[Any]:
        self.clock = Clock()
        return Race(self.clock, iter(instances), None).run()

    def test_instances_that_fail_in_a_row_end_nothing(self) -> None:
        """Later or at once, in any order: the first that is ready is it."""
        for at_once in (1, 2):
            later, good = Instance(), Instance(defer.succeed("connection"))
            wrong = [Instance(defer.fail(EndpointError("no"))) for _ in range(at_once)]
            ended = self.race(later, *wrong, good)
            self.assertNoResult(ended)
            later.outcome.errback(CertificateRefused("no"))
            self.assertEqual(self.successResultOf(ended), (good, "connection"))
            self.assertEqual([one.asked for one in wrong], [1] * at_once)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_all_that_fail_are_its_end(self) -> None:
        """With what may pass, if there is such a problem; whichever is the last to fail."""
        for order in ((0, 1), (1, 0)):
            both = Instance(), Instance()
            ended = self.race(*both, Instance(defer.fail(EndpointError("no"))))
            self.clock.advance(1)  # the first is silent, the second is asked; and then the third
            self.clock.advance(1)
            self.assertTrue(all(one.silent for one in both))
            for number, kind in zip(order, (ServiceUnreachable, CertificateRefused), strict=True):
                self.assertNoResult(ended)
                both[number].outcome.errback(kind("no"))
            self.failureResultOf(ended, ServiceUnreachable)
        self.failureResultOf(self.race(), ServiceUnreachable)
