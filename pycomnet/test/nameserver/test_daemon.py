"""The daemon: its options, its start and what keeps it from starting, and its end."""

from __future__ import annotations

import gc
import sys
from typing import Any

from twisted.internet import defer
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pycomnet.errors import EndpointError, PycomnetError, StoreFailed
from pycomnet.nameserver import daemon
from pycomnet.nameserver.daemon import NameserverService, loading_many
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.nameserver.stores.sqlite import SQLiteStore
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.tap import nameserver
from pycomnet.tap.nameserver import DEFAULT_LISTEN, DEFAULT_STORE, Options
from pycomnet.test.services.network import Network

LISTEN = "tcp:2012:interface=127.0.0.1"


class OptionTests(SynchronousTestCase):
    """The command line."""

    def parse(self, *args: str) -> Options:
        options = Options()
        options.parseOptions(list(args))
        return options

    def test_defaults_are_loopback_and_a_file(self) -> None:
        """Without options it is for this machine, and keeps registrations in a file."""
        options = self.parse()
        self.assertEqual(options["listen"], [DEFAULT_LISTEN])
        self.assertEqual(options["store"], DEFAULT_STORE)

    def test_it_is_not_open_to_others_by_accident(self) -> None:
        """Without TLS and rules; loopback and unix sockets are this machine's."""
        for listen in ("tcp:2012", "tcp:2012:interface=192.0.2.1"):
            problem = self.assertRaises(usage.UsageError, self.parse, "--listen", listen)
            self.assertIn("--insecure", str(problem))
            self.parse("--listen", listen, "--insecure")
        for listen in ("unix:/x", LISTEN, "tls:2012:privateKey=a:clientCAs=b"):
            self.parse("--listen", listen)

    def test_several_listeners_and_limits(self) -> None:
        """Several listeners; limits."""
        options = self.parse(
            *("--insecure", "--listen", "tcp:1", "-l", "unix:/x", "--store", "memory:"),
            *("--max-services", "9", "--max-ttl", "20", "--history", "5", "--max-per-client", "3"),
        )
        self.assertEqual(options["listen"], ["tcp:1", "unix:/x"])
        limits = options["limits"]
        self.assertEqual((limits.services, limits.max_ttl, limits.ttl), (9, 20.0, 20.0))
        self.assertEqual((options["history"], limits.client_services), (5, 3))

    def test_mass_expiry_guard_unless_told_otherwise(self) -> None:
        """Most leases ending at once are doubted, unless an option says that they are not."""
        made: list[bool] = []
        self.patch(daemon, "NameService", lambda *_, **given: made.append(given["guard"]))
        # These are for a process of its own.
        self.patch(nameserver, "use_monotonic_clock", lambda reactor: None)
        self.patch(sys, "setswitchinterval", lambda seconds: None)
        nameserver.makeService(self.parse("--store", "memory:"))
        nameserver.makeService(self.parse("--store", "memory:", "--no-mass-expiry-guard"))
        self.assertEqual(made, [True, False])

    def test_mistake_is_a_usage_error(self) -> None:
        """What can't be is a usage error that says so."""
        for args in (
            ("--listen", "nonsense"),
            ("--store", "redis:x"),
            ("--store", "sqlite:"),
            ("--max-services", "0"),
            ("--max-services", "many"),
            ("--max-per-client", "0"),
            ("--max-ttl", "0.1"),
            ("--max-ttl", "inf"),
            ("surplus",),
        ):
            self.assertRaises(usage.UsageError, self.parse, *args)

    def test_help_has_examples(self) -> None:
        """The help teaches."""
        text = str(self.parse())
        for word in ("sqlite:PATH", "memory:", DEFAULT_LISTEN, "Examples", "--history"):
            self.assertIn(word, text)


class StartTests(SynchronousTestCase):
    """On a network in memory."""

    def setUp(self) -> None:
        self.network = Network()
        self.failures: list[PycomnetError] = []

    def make(self, store: Any = None, listen: tuple[str, ...] = (LISTEN,), **options: Any) -> Any:
        return NameserverService(
            store or MemoryStore(), listen, self.network, self.failures.append, **options
        )

    def test_answers_and_leaves_nothing_when_stopped(self) -> None:
        """It answers at its address, and nothing of it is left once it is stopped."""
        nameserver = self.make(version="7")
        nameserver.startService()
        self.assertEqual(nameserver.addresses, ["tcp:127.0.0.1:2012"])
        client = Context(self.network).at(nameserver.addresses[0], NAMESERVER)
        asked = client.invoke("stat")
        self.network.deliver()
        self.assertEqual(self.successResultOf(asked)["version"], "7")
        watching = client.stream("watch", {})
        self.network.deliver()
        stopping = nameserver.stopService()
        self.network.deliver()
        self.successResultOf(stopping)
        self.assertEqual(self.network.ports, {})
        watching.close()
        self.assertEqual(self.failures, [])

    def test_address_in_use(self) -> None:
        """It says which; the store is closed again."""
        store = MemoryStore()
        self.make().startService()
        second = self.make(store)
        second.startService()
        (problem,) = self.failures
        self.assertIsInstance(problem, EndpointError)
        self.assertIn(LISTEN, str(problem))
        self.successResultOf(second.stopService())
        self.assertIsNone(store._decisions)

    def test_failing_store_means_it_does_not_listen(self) -> None:
        """A store that can't be opened is why it fails, and it does not listen."""

        class Broken(MemoryStore):
            def open(self, follower: Any) -> defer.Deferred[None]:
                return defer.fail(StoreFailed("no such disk"))

        nameserver = self.make(Broken())
        nameserver.startService()
        self.assertEqual([str(one) for one in self.failures], ["no such disk"])
        self.assertEqual(self.network.ports, {})
        self.successResultOf(nameserver.stopService())

    def test_garbage_collector_is_off_while_loading(self) -> None:
        """While much is loaded the garbage collector keeps away, and then comes back."""
        seen: list[bool] = []

        class Slow(MemoryStore):
            def open(self, follower: Any) -> defer.Deferred[None]:
                seen.append(gc.isenabled())
                return super().open(follower)

        self.make(Slow(), loading=loading_many).startService()
        self.assertEqual(seen, [False])
        self.assertTrue(gc.isenabled())


class RestartTests(TestCase):
    """With a file, over a restart."""

    timeout = 120

    async def test_restart_keeps_registrations_and_their_time(self) -> None:
        """Registrations are there again, with the time that they had left and not more; leases
        and secrets are as they were."""
        from twisted.internet import reactor

        path, now = self.mktemp(), [1000.0]
        found: list[PycomnetError] = []

        async def start() -> tuple[NameserverService, Any, Context]:
            nameserver = NameserverService(
                SQLiteStore(path, reactor),
                ["tcp:0:interface=127.0.0.1"],
                reactor,
                found.append,
                seconds=lambda: now[0],
            )
            nameserver.startService()
            assert nameserver._starting is not None
            await nameserver._starting
            context = Context(reactor)
            return nameserver, context.at(nameserver.addresses[0], NAMESERVER), context

        nameserver, client, context = await start()
        args = {"service": "a", "interfaces": ["x"], "address": "tcp:h:1", "metadata": {"v": 2}}
        held = await client.invoke("register", {**args, "ttl": 30})
        await client.invoke("register", {**args, "service": "b", "ttl": 30})
        now[0] += 20.0
        await client.invoke("renew", {"lease": held["lease"], "secret": held["secret"]})
        now[0] += 4.0
        before = await client.invoke("list_services")
        await context.close()
        await nameserver.stopService()
        now[0] = 5.0  # another boot's clock
        nameserver, client, context = await start()
        self.assertEqual(await client.invoke("list_services"), before)
        self.assertEqual([one["ttl"] for one in before], [26.0, 6.0])
        now[0] += 7.0
        left = await client.invoke("list_services")
        self.assertEqual([one["service"] for one in left], ["a"])
        await client.invoke("renew", {"lease": held["lease"], "secret": held["secret"]})
        again = await client.invoke("register", {**args, "service": "b", "ttl": 30})
        self.assertGreater(again["fence"], max(one["fence"] for one in before))
        await context.close()
        await nameserver.stopService()
        self.assertEqual(found, [])
