"""Checks of a service's health, on a clock that the test turns."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.ranges import NumberRefused
from pycomnet.services.health import checks_of, health_check
from pycomnet.services.interface import Service, interface
from pycomnet.services.launch.config import Entry, LaunchConfig
from pycomnet.services.launch.health import HealthChecks
from pycomnet.services.launch.launcher import Launcher, Loaded
from pycomnet.test.services.names import Names
from pycomnet.test.services.network import Network


class Threads:
    """Threads that return when the test says so."""

    def __init__(self) -> None:
        self.running: list[tuple[Any, defer.Deferred[Any]]] = []

    def run(self, name: str, function: Any) -> defer.Deferred[Any]:
        waiting: defer.Deferred[Any] = defer.Deferred()
        self.running.append((function, waiting))
        return waiting

    def go(self) -> None:
        running, self.running = self.running, []
        for function, waiting in running:
            defer.maybeDeferred(function).chainDeferred(waiting)


@interface("org.example.shop")
class Shop(Service):
    """Its check gives what the test has set."""

    result: Any = None

    @health_check(interval=5.0, timeout=2.0, rise=2, fall=3)
    async def can_sell(self) -> Any:
        if isinstance(self.result, BaseException):
            raise self.result
        return await self.result if isinstance(self.result, defer.Deferred) else self.result


class Blocking(Service):
    """Its check may block."""

    @health_check(interval=5.0, timeout=2.0, rise=1, fall=1)
    def check(self) -> str:
        return "all\n\x1bwell"


class CheckTests(SynchronousTestCase):
    """One service's checks."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.threads = Threads()
        self.told: list[tuple[bool, str]] = []

    def checks(self, service: Service) -> HealthChecks:
        made = HealthChecks(
            "shop",
            checks_of(service),
            lambda *told: self.told.append(told),
            self.clock,
            self.threads,  # type: ignore[arg-type]
        )
        self.addCleanup(made.stop)
        return made

    def started(self, service: Service) -> HealthChecks:
        made = self.checks(service)
        self.successResultOf(made.first())
        made.start()
        return made

    def test_fails_and_passes_by_its_thresholds(self) -> None:
        shop = Shop()
        self.started(shop)
        shop.result = ValueError("no database")
        self.clock.pump([5, 5])
        self.assertEqual(self.told, [])
        self.clock.advance(5)
        self.assertEqual(self.told, [(True, "ValueError: no database")])
        shop.result = "12 open orders"
        self.clock.advance(5)
        shop.result = False
        self.clock.advance(5)
        shop.result = "12 open orders"
        self.clock.advance(5)
        self.assertEqual(len(self.told), 1)
        self.clock.advance(5)
        self.assertEqual(self.told[1:], [(False, "12 open orders")])

    def test_one_that_hangs_fails(self) -> None:
        shop = Shop()
        self.started(shop)
        cancelled: list[Any] = []
        shop.result = defer.Deferred(cancelled.append)
        for _ in range(3):
            self.clock.pump([5, 2])
            shop.result = defer.Deferred(cancelled.append)
        self.assertEqual(self.told, [(True, "the check takes more than 2 s")])
        self.assertEqual(len(cancelled), 3)

    def test_one_that_is_cancelled_by_itself_fails_and_is_called_again(self) -> None:
        for problem in (defer.CancelledError(), asyncio.CancelledError(), defer.TimeoutError()):
            self.told.clear()
            shop = Shop()
            made = self.started(shop)
            shop.result = problem
            self.clock.pump([5] * 3)
            ((failing, said),) = self.told
            self.assertTrue(failing and said.startswith(type(problem).__name__), said)
            shop.result = None
            self.clock.pump([5] * 2)
            self.assertEqual(self.told[1:], [(False, "")])
            made.stop()

    def test_one_that_can_not_be_cancelled_is_left_and_fails(self) -> None:
        class Stubborn(Service):
            calls = 0

            @health_check(interval=5.0, timeout=2.0, rise=1, fall=1)
            async def check(self) -> None:
                self.calls += 1
                while self.calls > 1:
                    with contextlib.suppress(defer.CancelledError):
                        await defer.Deferred()

        stubborn = Stubborn()
        made = self.started(stubborn)
        self.clock.pump([5, 2])
        self.assertEqual(self.told, [(True, "the check takes more than 2 s")])
        self.clock.advance(5)
        made.stop()
        self.assertEqual(stubborn.calls, 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_first_call_decides_at_once(self) -> None:
        shop = Shop()
        shop.result = False
        made = self.started(shop)
        self.assertTrue(made.failing)
        hanging = Shop()
        hanging.result = defer.Deferred()
        checks = self.checks(hanging)
        first = checks.first()
        self.assertNoResult(first)
        self.clock.advance(2)
        self.successResultOf(first)
        self.assertTrue(checks.failing)

    def test_plain_one_runs_in_a_thread_and_is_not_called_while_it_hangs_there(self) -> None:
        made = self.checks(Blocking())
        first = made.first()
        self.threads.go()
        self.successResultOf(first)
        self.assertEqual((made.failing, made.said), (False, "all ?well"))
        made.start()
        self.clock.pump([5, 2])
        self.assertEqual(self.told, [(True, "the check takes more than 2 s")])
        self.clock.pump([5] * 3)
        self.assertEqual(len(self.threads.running), 1)
        self.threads.go()
        self.clock.advance(5)
        self.threads.go()
        self.assertEqual(self.told[1:], [(False, "all ?well")])

    def test_stopped_it_is_not_called_any_more(self) -> None:
        made = self.started(Shop())
        made.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_numbers_are_checked(self) -> None:
        for wrong in ({"interval": 0}, {"timeout": -1}, {"rise": 0}, {"fall": 1.5}):
            self.assertRaises(NumberRefused, health_check, **wrong)


class LauncherHealthTests(SynchronousTestCase):
    """The launcher tells the nameserver."""

    def test_failing_is_registered_and_told(self) -> None:
        reactor = Network()
        names = Names(reactor)
        shop = Shop()
        shop.result = False
        config = LaunchConfig(
            services=(Entry("a"),), listen=("tcp:4000:interface=127.0.0.1",), name="a", ttl=600.0
        )
        loaded = [Loaded(Entry("a"), shop)]
        made = Launcher(config, loaded, reactor, self.fail, nameserver=names)
        made.privilegedStartService()
        made.startService()
        held = names.find("a")
        assert held is not None and held.standing is not None
        self.assertTrue(held.standing.failing)
        shop.result = None
        reactor.pump([5, 5])
        held = names.find("a")
        assert held is not None
        self.assertIsNone(held.standing)
        shop.result = ValueError("no database")
        reactor.pump([5, 5, 5])
        held = names.find("a")
        assert held is not None and held.standing is not None
        self.assertEqual(held.standing.said, "ValueError: no database")
        names.gone = True  # what it was not told then it is told later
        shop.result = None
        reactor.pump([5, 5])
        names.gone = False
        reactor.pump([5.0] * 60)
        held = names.find("a")
        assert held is not None
        self.assertIsNone(held.standing)
        self.successResultOf(made.stopService())
        self.assertEqual(reactor.getDelayedCalls(), [])
