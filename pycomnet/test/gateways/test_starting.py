"""Many gateways at once: how many are being started at a time, and in which order."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet.gateways.concurrentstart import Progress, start_all
from pycomnet.gateways.gateway import Gateway
from pycomnet.gateways.spec import Spec


class Made:
    """A gateway that was made."""

    def __init__(self, id: str | None) -> None:
        self.id = id


class Starting(SynchronousTestCase):
    def setUp(self) -> None:
        #: what is being started, in order
        self.begun: list[tuple[Spec, defer.Deferred[Gateway]]] = []
        self.cancelled: list[str | None] = []
        self.told: list[Progress] = []

    def make(self, spec: Spec, timeout: float) -> defer.Deferred[Gateway]:
        """Begin to make one."""
        made: defer.Deferred[Gateway] = defer.Deferred(lambda _: self.cancelled.append(spec.id))
        self.begun.append((spec, made))
        return made

    def start(self, parallel: int, *specs: str) -> defer.Deferred[list[Gateway]]:
        """Begin with all of them."""
        parsed = [Spec.parse(spec) for spec in specs]
        return defer.Deferred.fromCoroutine(
            start_all(self.make, parsed, parallel, self.told.append, 1.0)
        )

    def ids(self) -> list[str | None]:
        """What is being started."""
        return [spec.id for spec, _ in self.begun]

    def done(self, id: str, error: Exception | None = None) -> None:
        """One is there, or has failed."""
        [found] = [pair for pair in self.begun if pair[0].id == id]
        self.begun.remove(found)
        if error is not None:
            found[1].errback(error)
        else:
            found[1].callback(cast(Any, Made(id)))

    def test_no_more_than_parallel_are_started_at_a_time(self) -> None:
        """No more than so many at a time, also of those that have waited for another one."""
        followers = [f"popen//via=m//id=f{n}" for n in range(4)]
        result = self.start(2, "popen//id=m", *followers, "popen//id=a", "popen//id=b")
        self.assertEqual(self.ids(), ["m", "a"])
        self.done("a")
        self.assertEqual(self.ids(), ["m", "b"])
        self.done("m")
        self.assertEqual(self.ids(), ["b", "f0"])
        for ended, next in (("b", "f1"), ("f0", "f2"), ("f2", "f3")):
            self.done(ended)
            self.assertEqual(len(self.begun), 2)
            self.assertEqual(self.ids()[-1], next)
        self.done("f3")
        self.assertNoResult(result)
        self.done("f1")
        made = self.successResultOf(result)
        self.assertEqual([gateway.id for gateway in made], ["m", "f0", "f1", "f2", "f3", "a", "b"])
        self.assertEqual([progress.done for progress in self.told], list(range(1, 8)))

    def test_failed_start_makes_room_for_the_next(self) -> None:
        """One that fails makes room for the next, and the rest goes on."""
        result = self.start(1, "popen//id=a", "popen//id=b")
        self.done("a", pycomnet.GatewayNotStarted("no such host"))
        self.done("b")
        problem = self.failureResultOf(result, pycomnet.GatewaysNotStarted).value
        self.assertEqual([gateway and gateway.id for gateway in problem.gateways], [None, "b"])

    def test_cancelling_gives_up_started_and_begins_no_other(self) -> None:
        """Cancelling gives up those that are being started, and begins with no other."""
        result = self.start(2, *(f"popen//id={id}" for id in "abcd"))
        result.cancel()
        self.failureResultOf(result, defer.CancelledError)
        self.assertEqual(sorted(cast(Any, self.cancelled)), ["a", "b"])
        self.assertEqual(self.ids(), ["a", "b"])

    def test_unexpected_error_of_a_master_does_not_stop_its_followers(self) -> None:
        """A follower is tried, and so fails for itself, whatever became of its master."""
        result = self.start(2, "popen//id=m", "popen//via=m//id=f")
        self.done("m", OSError("a fault of the transport"))
        self.assertEqual(self.ids(), ["f"])
        self.done("f", pycomnet.GatewayNotStarted("there is no gateway 'm'"))
        self.failureResultOf(result, OSError)

    def test_gateways_that_would_wait_for_each_other_are_refused(self) -> None:
        """Nothing is started, and the error names them."""
        for specs in (("b", "a"), ("b", "c", "a"), ("b", "c", "b")):
            ids = "abc"
            chosen = [f"popen//via={via}//id={id}" for id, via in zip(ids, specs, strict=False)]
            problem = self.failureResultOf(self.start(2, *chosen), pycomnet.SpecError).value
            self.assertIn("b", str(problem))
            self.assertEqual(self.begun, [])

    def test_gateway_that_names_itself_as_its_master_is_tried(self) -> None:
        """It waits for nothing; making it says what is wrong."""
        result = self.start(1, "popen//via=a//id=a")
        self.done("a", pycomnet.GatewayNotStarted("there is no gateway 'a'"))
        self.failureResultOf(result, pycomnet.GatewaysNotStarted)

    def test_no_specs_make_no_gateways(self) -> None:
        """There may be none."""
        self.assertEqual(self.successResultOf(self.start(1)), [])
        self.failureResultOf(self.start(0, "popen"), ValueError)
