"""The launcher in this process: memory for a network, and a clock that the test turns."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import defer
from twisted.internet.protocol import Factory
from twisted.logger import LogLevel, capturedLogs, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import (
    EndpointError,
    LaunchFailed,
    NameserverUnreachable,
    PycomnetError,
    ServiceNameTaken,
)
from pycomnet.ext import access
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.net import endpoints
from pycomnet.services.client.context import Context
from pycomnet.services.client.instances import addresses_of
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.launch import launcher
from pycomnet.services.launch.config import Entry, LaunchConfig
from pycomnet.services.launch.launcher import (
    Launcher,
    Loaded,
    advertised,
    all_advertised,
    generated_name,
    load_all,
)
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.services.names import Names
from pycomnet.test.services.network import Network

LISTEN = "tcp:4000:interface=127.0.0.1"


@interface("org.example.calc")
class Calc(Service):
    """Adds."""

    @method()
    def add(self, request: Any) -> int:
        """The sum."""
        return int(request.args["a"] + request.args["b"])


@interface("org.example.calc")
class OtherCalc(Service):
    """Has an interface that another here has."""


@interface("org.example.stock")
class Stock(Service):
    """Says what happens to it."""

    def __init__(self, events: list[str], starting: defer.Deferred[None] | None = None) -> None:
        self.events = events
        self.starting = starting

    def started(self, server: Any) -> Any:
        self.events.append("started")
        return self.starting

    def stopped(self) -> None:
        self.events.append("stopped")


@interface("org.example.slow")
class Slow(Service):
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[defer.Deferred[int]] = []

    @method()
    def wait(self, request: Any) -> defer.Deferred[int]:
        """How many were there before."""
        waiting: defer.Deferred[int] = defer.Deferred()
        self.waiting.append(waiting)
        return waiting

    def finish(self) -> None:
        """Answer all."""
        for number, waiting in enumerate(self.waiting, 1):
            waiting.callback(number)


class LauncherTests(SynchronousTestCase):
    """One launcher and one nameserver."""

    def setUp(self) -> None:
        self.reactor = Network()
        self.names = Names(self.reactor)
        self.failures: list[PycomnetError] = []
        self.resolved: list[str] = []

    def launcher(self, *loaded: Loaded, **settings: Any) -> Launcher:
        """A launcher that is not started."""
        loaded = loaded or (Loaded(Entry("shop.calc"), Calc()),)
        entries = tuple(one.entry for one in loaded)
        settings = {"listen": (LISTEN,), **settings}
        return Launcher(
            LaunchConfig(services=entries, **settings),
            list(loaded),
            self.reactor,
            self.failures.append,
            policy=lambda attempt: 1.0,
            nameserver=self.names,
            resolve=lambda host: self.resolved,
        )

    def started(self, *loaded: Loaded, **settings: Any) -> Launcher:
        """One that is, as twistd does it."""
        made = self.launcher(*loaded, **settings)
        made.privilegedStartService()
        made.startService()
        return made

    def pass_time(self, seconds: float) -> None:
        """Turn the clock, a quarter of a second at a time."""
        for _ in range(round(seconds * 4)):
            self.reactor.advance(0.25)

    def methods(self) -> list[str]:
        """What the nameserver has been asked."""
        return [method for _, method, _ in self.names.asked]

    def registered(self) -> dict[str, tuple[str, list[str]]]:
        """What the nameserver has: name -> address and interfaces."""
        return {
            record.service: (record.address, list(record.interfaces))
            for record in self.names.directory._index.names.values()
        }

    # -- who may call ----------------------------------------------------------------------------

    def refusal(self, *loaded: Loaded, **settings: Any) -> str:
        """Why a launcher does not start."""
        made = self.launcher(*loaded, **settings)
        return str(self.assertRaises(LaunchFailed, made.privilegedStartService))

    def test_service_for_all_does_not_start_where_others_reach_it(self) -> None:
        """Without TLS, without a rule, and without being told to; it says what to do."""
        for listen in ("tcp:2013", "tcp:2013:interface=192.0.2.1"):
            text = self.refusal(listen=(LISTEN, listen))
            self.assertIn("org.example.calc has no access rule", text)
            self.assertIn("--insecure", text)
        self.assertEqual(self.reactor.ports, {})
        self.started(listen=("tcp:2013",), insecure=True)
        self.assertEqual(list(self.reactor.ports), [2013])

    def test_service_with_a_rule_starts_there(self) -> None:
        """With a warning, as nobody can log in over what others can read."""

        @access.auth(access.PeerUsers())
        @interface("org.example.guarded")
        class Guarded(Service):
            @method()
            def call(self, request: Any) -> None:
                pass

        with capturedLogs() as events:
            self.started(Loaded(Entry("shop.guarded"), Guarded()), listen=("tcp:2013",))
        shown = [formatEvent(event) for event in events]
        self.assertTrue(any("nobody can log in" in text for text in shown), shown)

    # -- what is registered ----------------------------------------------------------------------

    def test_registers_its_address_while_it_runs(self) -> None:
        """What is listened on, under the given name, for as long as it runs."""
        made = self.started(name="calc-1")
        self.assertEqual(made.addresses, ["tcp:127.0.0.1:4000"])
        self.assertEqual(
            self.registered(), {"calc-1": ("tcp:127.0.0.1:4000", ["org.example.calc"])}
        )
        self.pass_time(60)
        self.assertIsNotNone(self.names.find("calc-1"))
        self.assertEqual(self.failures, [])

    def test_default_name_is_the_modules_and_unique(self) -> None:
        """Without a name it is the module's, with something that no other has."""
        first, second = (generated_name([Loaded(Entry("shop.calc:Calc"), Calc())]) for _ in "ab")
        self.assertRegex(first, r"^calc-[0-9a-f]{8}$")
        self.assertNotEqual(first, second)
        self.started()
        (name,) = self.registered()
        self.assertRegex(name, r"^calc-[0-9a-f]{8}$")

    def test_generated_name_is_taken(self) -> None:
        """Then it is another one."""
        names = iter(["calc-a", "calc-b"])
        self.patch(launcher, "generated_name", lambda services: next(names))
        self.names.take("calc-a", "tcp:other:1", 60.0)
        self.started()
        self.assertEqual(sorted(self.registered()), ["calc-a", "calc-b"])
        self.assertEqual(self.failures, [])

    def test_several_names_are_a_registration_each(self) -> None:
        """One registration for each name, with all that is offered under it."""
        self.started(
            Loaded(Entry("a", tags=("eu",), metadata={"version": 1}), Calc()),
            Loaded(Entry("b", name="stock", tags=("us",)), Stock([])),
            name="shop",
        )
        address = "tcp:127.0.0.1:4000"
        self.assertEqual(
            self.registered(),
            {"shop": (address, ["org.example.calc"]), "stock": (address, ["org.example.stock"])},
        )

    def test_one_waits_for_its_name_while_others_are_registered(self) -> None:
        """One whose name is taken waits for it; the others are registered meanwhile."""
        self.names.take("shop", "tcp:other:1", 20.0)
        self.started(
            Loaded(Entry("a"), Calc()),
            Loaded(Entry("b", name="stock"), Stock([])),
            name="shop",
            wait=True,
        )
        address = "tcp:127.0.0.1:4000"
        self.assertEqual(self.registered()["shop"], ("tcp:other:1", ["x"]))
        self.assertEqual(self.registered()["stock"], (address, ["org.example.stock"]))
        self.pass_time(21)
        self.assertEqual(self.registered()["shop"], (address, ["org.example.calc"]))

    def test_services_of_one_name_are_one_registration(self) -> None:
        """Services of one name are one registration: interfaces, tags and metadata of all."""
        self.started(
            Loaded(Entry("a", tags=("eu", "blue"), metadata={"a": 1}), Calc()),
            Loaded(Entry("b", tags=("eu",), metadata={"b": 2}), Stock([])),
            name="shop",
        )
        record = self.names.find("shop")
        assert record is not None
        found = record.as_map(0)
        self.assertEqual(found["interfaces"], ["org.example.calc", "org.example.stock"])
        self.assertEqual((found["tags"], found["metadata"]), (["eu", "blue"], {"a": 1, "b": 2}))

    def test_first_listeners_address_is_registered(self) -> None:
        """All are listened on, and the first one's address is registered."""
        made = self.started(listen=(LISTEN, "tcp:4001:interface=127.0.0.1"), name="calc")
        self.assertEqual(made.addresses, ["tcp:127.0.0.1:4000", "tcp:127.0.0.1:4001"])
        self.assertEqual(sorted(self.reactor.ports), [4000, 4001])
        self.assertEqual(self.registered()["calc"][0], "tcp:127.0.0.1:4000")

    def test_advertises_another_host_or_address(self) -> None:
        """Another host, an IPv6 one, or another address altogether."""
        self.assertEqual(advertised("tcp:10.0.0.1:1", None), "tcp:10.0.0.1:1")
        self.assertEqual(advertised("tcp:10.0.0.1:1", "h.org"), "tcp:h.org:1")
        self.assertEqual(advertised("tls:10.0.0.1:1", "h.org"), "tls:h.org:1")
        self.assertEqual(advertised("tcp:10.0.0.1:1", "fe80::1"), "tcp:fe80\\:\\:1:1")
        self.assertEqual(advertised("tcp:10.0.0.1:1", "tls:h.org:443"), "tls:h.org:443")
        self.assertEqual(advertised("tls:10.0.0.1:7", "tls:h.org:0"), "tls:h.org:7")
        self.assertEqual(advertised("unix:/run/a", "unix:/srv/a"), "unix:/srv/a")
        for listened, wrong in (
            ("unix:/run/a", "h.org"),
            ("tcp:10.0.0.1:1", "h org"),
            ("tcp:10.0.0.1:1", "tls:h.org"),
            ("tls:10.0.0.1:7", "tls:h.org:0:trustRoots=/ca.pem"),
            ("tls:10.0.0.1:7", "tls:h.org:0:host=x"),
            ("tcp:10.0.0.1:1", "unix:"),
        ):
            self.assertRaises(EndpointError, advertised, listened, wrong)
        self.started(name="calc", advertise="h.org")
        self.assertEqual(self.registered()["calc"][0], "tcp:h.org:4000")

    def test_nobody_is_asked_without_a_nameserver(self) -> None:
        """It listens, and asks nobody."""
        made = self.started(nameserver=None)
        self.assertEqual(made.addresses, ["tcp:127.0.0.1:4000"])
        self.pass_time(60)
        self.assertEqual((self.methods(), self.failures), ([], []))

    def test_log_has_the_address_for_others_if_no_nameserver_has_it(self) -> None:
        """What was given as ``advertise`` is for those who read the log."""
        with capturedLogs() as logged:
            self.started(nameserver=None, advertise="h.org")
        said = [formatEvent(event) for event in logged]
        self.assertTrue([one for one in said if one.endswith("at tcp:h.org:4000")], said)

    def test_service_that_takes_time(self) -> None:
        """It is neither reachable nor registered before its ``started`` is done."""
        starting: defer.Deferred[None] = defer.Deferred()
        events: list[str] = []
        self.started(Loaded(Entry("a"), Stock(events, starting)), name="a")
        self.assertEqual((events, self.reactor.ports), (["started"], {}))
        starting.callback(None)
        self.assertEqual(list(self.reactor.ports), [4000])
        self.assertIn("a", self.registered())

    # -- stopping --------------------------------------------------------------------------------

    def test_stop_unregisters_first_and_leaves_nothing(self) -> None:
        """It is taken out of the nameserver first, then it ends, and nothing is left."""
        events: list[str] = []
        made = self.started(Loaded(Entry("a"), Stock(events)), name="a")
        invoke = self.names.invoke

        def note(method: str, args: Any = None, timeout: float | None = None) -> Any:
            events.append(method)
            return invoke(method, args, timeout)

        self.names.invoke = note  # type: ignore[method-assign]
        self.successResultOf(made.stopService())
        self.assertEqual(events, ["started", "adjust", "unregister", "stopped"])
        self.assertEqual((self.registered(), self.reactor.ports), ({}, {}))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.failures, [])

    def slow(self, **settings: Any) -> tuple[Launcher, Any, Slow]:
        """A launcher, a client of its service, and the service."""
        slow = Slow()
        made = self.started(Loaded(Entry("a"), slow), name="a", **settings)
        self.reactor.deliver()
        context = Context(self.reactor)
        client = context.connect(made.addresses[0], "org.example.slow")
        self.reactor.deliver()
        self.addCleanup(self.reactor.cut)
        return made, self.successResultOf(client), slow

    def standing(self) -> Any:
        held = self.names.find("a")
        return None if held is None else held.standing

    def test_drains_before_it_is_unregistered(self) -> None:
        """It is listed as draining while a call is in flight, takes calls, and loses none."""
        made, client, slow = self.slow()
        first = client.invoke("wait")
        self.reactor.deliver()
        stopping = made.stopService()
        self.reactor.wait(1.0)
        self.assertTrue(self.standing().drains)
        second = client.invoke("wait")
        self.reactor.wait(1.0)
        slow.finish()
        self.reactor.deliver()
        self.assertEqual((self.successResultOf(first), self.successResultOf(second)), (1, 2))
        self.assertNoResult(stopping)
        self.reactor.wait(1.0)
        self.successResultOf(stopping)
        self.assertEqual(self.registered(), {})
        self.assertEqual(self.methods()[-2:], ["adjust", "unregister"])

    def test_drains_until_what_is_arriving_has_arrived(self) -> None:
        """A request of which a part has come when it is told to stop is taken, and answered."""
        made, client, slow = self.slow(drain=20.0)
        waiting = client.invoke("wait", bytes(500_000))
        self.reactor.advance(0)
        ((near, far),) = [one for one in self.reactor.wires if one[0].transport.value()]
        far.protocol.dataReceived(near.transport.take(200_000))
        self.assertEqual(slow.waiting, [])
        stopping = made.stopService()
        self.pass_time(5.0)
        self.assertNoResult(stopping)
        self.reactor.deliver()
        slow.finish()
        self.reactor.deliver()
        self.assertEqual(self.successResultOf(waiting), 1)
        self.reactor.wait(1.0)
        self.successResultOf(stopping)

    def test_what_never_arrives_holds_it_no_longer_than_a_drain_may_take(self) -> None:
        """A request of which the rest does not come."""
        made, client, _ = self.slow(drain=20.0)
        waiting = client.invoke("wait", bytes(500_000))
        self.reactor.advance(0)
        ((near, far),) = [one for one in self.reactor.wires if one[0].transport.value()]
        far.protocol.dataReceived(near.transport.take(200_000))
        stopping = made.stopService()
        self.pass_time(19.0)
        self.assertNoResult(stopping)
        self.pass_time(7.0)
        self.reactor.cut()
        self.successResultOf(stopping)
        self.failureResultOf(waiting)

    def test_answers_of_what_drains_send_callers_elsewhere(self) -> None:
        """The first answer says that it drains; then the client sets it aside."""
        made, client, slow = self.slow()
        waiting = client.invoke("wait")
        self.reactor.deliver()
        stopping = made.stopService()
        peer = client._route.pick()
        self.assertEqual(peer.aside_until, 0.0)
        slow.finish()
        self.reactor.deliver()
        self.assertEqual(self.successResultOf(waiting), 1)
        self.assertGreater(peer.aside_until, self.reactor.seconds())
        peer.mark_alive()  # a sign of life is no reason to call it again
        self.assertGreater(peer.aside_until, self.reactor.seconds())
        self.reactor.wait(1.0)
        self.successResultOf(stopping)

    def test_drains_for_as_long_as_it_may(self) -> None:
        """A call that does not end is ended, after the drain's time and a moment."""
        made, client, _ = self.slow(drain=20.0)
        waiting = client.invoke("wait")
        self.reactor.deliver()
        stopping = made.stopService()
        self.reactor.wait(19.0)
        self.assertTrue(self.standing().drains)
        self.assertNoResult(waiting)
        self.reactor.wait(3.0)
        self.failureResultOf(waiting)
        self.successResultOf(stopping)
        self.assertEqual(self.registered(), {})

    def test_second_signal_ends_it_at_once(self) -> None:
        """Hurried, it is unregistered and ends, whatever runs."""
        made, client, _ = self.slow(drain=3600.0)
        waiting = client.invoke("wait")
        self.reactor.deliver()
        stopping = made.stopService()
        self.reactor.wait(10.0)
        made.hurry()
        self.reactor.wait(0.5)
        self.failureResultOf(waiting)
        self.successResultOf(stopping)
        self.assertEqual(self.registered(), {})

    def test_does_not_drain_if_it_is_told_so(self) -> None:
        """With 0 it is unregistered at once."""
        made, _, _ = self.slow(drain=0.0)
        stopping = made.stopService()
        self.reactor.wait(0.5)
        self.successResultOf(stopping)
        self.assertNotIn("adjust", self.methods())

    def test_is_registered_with_its_weight(self) -> None:
        """The weight of its entry; 0 is one, too."""
        self.started(Loaded(Entry("a", weight=0), Slow()), name="a")
        self.assertEqual(self.standing().weight, 0)

    def test_stop_while_waiting(self) -> None:
        """A nameserver that isn't there does not keep it from ending."""
        self.names.gone = True
        made = self.started(wait=True)
        self.pass_time(5)
        self.successResultOf(made.stopService())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.failures, [])

    def test_stop_while_starting(self) -> None:
        """Nor does a service that takes its time."""
        made = self.started(Loaded(Entry("a"), Stock([], defer.Deferred())))
        self.successResultOf(made.stopService())
        self.assertEqual((self.failures, self.methods()), ([], []))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    # -- failing ---------------------------------------------------------------------------------

    def test_address_in_use(self) -> None:
        """It is raised before anything else is done, and says which and why."""
        self.reactor.listenTCP(4000, Factory())
        made = self.launcher()
        problem = self.assertRaises(EndpointError, made.privilegedStartService)
        self.assertEqual(str(problem), f"can't listen on {LISTEN}: in use")
        self.assertEqual(self.methods(), [])

    def test_endpoint_that_is_none_is_an_error(self) -> None:
        """So is an endpoint string that is none."""
        made = self.launcher(listen=("nowhere",))
        self.assertRaises(EndpointError, made.privilegedStartService)

    def test_taken_name_fails_with_its_holder(self) -> None:
        """It fails with who has it; the services are there to be stopped."""
        self.names.take("calc", "tcp:other:1")
        made = self.started(name="calc")
        (problem,) = self.failures
        self.assertIsInstance(problem, ServiceNameTaken)
        self.assertIn("tcp:other:1", str(problem))
        self.successResultOf(made.stopService())
        self.assertEqual(self.registered()["calc"][0], "tcp:other:1")

    def test_one_of_several_is_taken(self) -> None:
        """What was registered before it is taken out again."""
        self.names.take("stock", "tcp:other:1")
        made = self.started(
            Loaded(Entry("a", name="calc"), Calc()), Loaded(Entry("b", name="stock"), Stock([]))
        )
        self.assertEqual(len(self.failures), 1)
        self.successResultOf(made.stopService())
        self.assertEqual(list(self.registered()), ["stock"])

    def test_nameserver_is_not_there(self) -> None:
        """It fails once its time is over; with ``wait`` it never does."""
        self.names.gone = True
        self.started(patience=4.0)
        self.pass_time(3.75)
        self.assertEqual(self.failures, [])
        self.pass_time(1)
        (problem,) = self.failures
        self.assertIsInstance(problem, NameserverUnreachable)
        self.failures.clear()
        self.started(wait=True, listen=("tcp:4001:interface=127.0.0.1",))
        self.pass_time(1000)
        self.assertEqual(self.failures, [])

    def test_taken_while_it_runs(self) -> None:
        """Another has the name, as the lease ended while the nameserver was out of reach."""
        made = self.started(name="calc")
        self.names.gone = True
        self.pass_time(30)
        self.names.gone = False
        self.names.take("calc", "tcp:other:1", 600.0)
        self.pass_time(10)
        (problem,) = self.failures
        self.assertIn("the registration is lost", str(problem))
        self.assertIn("tcp:other:1", str(problem))
        self.successResultOf(made.stopService())
        self.assertEqual(self.registered()["calc"][0], "tcp:other:1")

    def test_service_cannot_start(self) -> None:
        """What ``started`` raises is told, with the traceback in the log."""
        starting: defer.Deferred[None] = defer.Deferred()
        self.started(Loaded(Entry("a"), Stock([], starting)))
        starting.errback(ValueError("no database"))
        (problem,) = self.failures
        self.assertEqual(str(problem), "no database")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_same_interface_twice(self) -> None:
        """One process can't have two of an interface; that is found before it listens."""
        name = f"{__name__}:Calc"
        self.assertEqual(len(load_all([Entry(name)])), 1)
        problem = self.assertRaises(LaunchFailed, load_all, [Entry(name), Entry(name)])
        self.assertIn(f"{name} is to be run twice", str(problem))
        other = f"{__name__}:OtherCalc"
        problem = self.assertRaises(LaunchFailed, load_all, [Entry(name), Entry(other)])
        self.assertIn(f"{name} and {other} both offer 'org.example.calc'", str(problem))

    # -- where it listens ------------------------------------------------------------------------

    def test_reachable_address_is_registered_first(self) -> None:
        """All that it listens on is registered, and first what others can reach."""
        listen = (LISTEN, "tcp:4001:interface=192.0.2.7")
        self.started(name="calc-1", listen=listen, insecure=True)
        self.assertEqual(self.registered()["calc-1"][0], "tcp:192.0.2.7:4001")
        both = ["tcp:192.0.2.7:4001", "tcp:127.0.0.1:4000"]
        record = self.names.find("calc-1")
        assert record is not None
        self.assertEqual(record.as_map(0)["metadata"], {"addresses": both})
        self.assertEqual(addresses_of(record.as_map(0)), both)
        for advertise, found in (
            (None, both),
            ("example.org", ["tcp:example.org:4001", "tcp:example.org:4000"]),
            ("tcp:example.org:0", ["tcp:example.org:4001"]),
        ):
            self.assertEqual(all_advertised(both, advertise), found)
        unix = ["unix:/run/calc", "tcp:127.0.0.1:4000"]
        self.assertEqual(all_advertised(unix, None), unix)

    def said(self, **settings: Any) -> list[str]:
        """What is said of the addresses."""
        found: list[Any] = []
        observe: Any = found.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.started(name="calc-1", **settings)
        self.reactor.run_threads()
        self.pass_time(1)
        return [
            formatEvent(event)
            for event in found
            if event.get("log_level") is not LogLevel.critical and "reach" in formatEvent(event)
        ]

    def test_out_of_reach(self) -> None:
        """An address that only this machine can reach is a warning, if the nameserver is not here;
        and a name of this machine that leads nowhere else.
        """
        far = "tcp:ns.example.org:2012"
        (said,) = self.said(nameserver=far)
        self.assertIn("only programs on this machine can reach tcp:127.0.0.1:4000", said)
        self.assertIn("--advertise", said)
        self.setUp()
        (said,) = self.said(nameserver="tcp:127.0.0.1:2012")
        self.assertNotIn("--advertise", said)
        self.setUp()
        self.assertEqual(self.said(nameserver=far, advertise="example.org"), [])
        host = socket.gethostname()
        for numbers, warned in ((["127.0.1.1"], True), (["192.0.2.1"], False), ([], True)):
            self.setUp()
            self.resolved = numbers
            self.patch(endpoints, "client_string", lambda *args: f"tcp:{host}:4000")
            self.assertEqual(len(self.said(nameserver=far)), warned, numbers)


class RealNameserverTests(SynchronousTestCase):
    """The launcher and the nameserver's own service, on a network in memory."""

    def setUp(self) -> None:
        self.network = Network()
        self.failures: list[PycomnetError] = []
        self.nameserver: ServiceServer | None = None

    def start_nameserver(self) -> None:
        """Start one that knows nothing."""
        self.nameserver = ServiceServer(self.network)
        names = NameService(MemoryStore(), self.network, seconds=self.network.seconds)
        self.successResultOf(self.nameserver.add(names))
        self.successResultOf(self.nameserver.listen("tcp:2012:interface=127.0.0.1"))

    def stop_nameserver(self) -> None:
        """End it; what it knew is gone."""
        assert self.nameserver is not None
        closing = self.nameserver.close()
        self.network.wait(6)
        self.successResultOf(closing)

    def launch(self, name: str, port: int, **settings: Any) -> Launcher:
        """Start a launcher."""
        entry = Entry("calc")
        config = LaunchConfig(
            services=(entry,), name=name, listen=(f"tcp:{port}:interface=127.0.0.1",), **settings
        )
        made = Launcher(config, [Loaded(entry, Calc())], self.network, self.failures.append)
        made.privilegedStartService()
        made.startService()
        self.network.wait(2)
        return made

    def located(self) -> list[str]:
        """The addresses that a client finds."""
        context = Context(self.network, nameserver="tcp:127.0.0.1:2012")
        asked = self.successResultOf(context.nameserver()).invoke("list_services", {})
        self.network.deliver()
        found = self.successResultOf(asked)
        records = found["services"] if isinstance(found, dict) else found
        closing = context.close()
        self.network.wait(0.25)
        self.successResultOf(closing)
        return [record["address"] for record in records]

    def test_registers_renews_and_unregisters(self) -> None:
        """Registered, renewed, registered again after a restart, taken out."""
        self.start_nameserver()
        made = self.launch("calc", 4000)
        self.assertEqual(self.located(), ["tcp:127.0.0.1:4000"])
        self.network.wait(100)
        self.assertEqual(self.located(), ["tcp:127.0.0.1:4000"])
        self.stop_nameserver()
        self.network.wait(30)
        self.start_nameserver()
        self.network.wait(15)
        self.assertEqual(self.located(), ["tcp:127.0.0.1:4000"])
        stopping = made.stopService()
        self.network.wait(1)
        self.successResultOf(stopping)
        self.assertEqual(self.located(), [])
        self.assertEqual(self.failures, [])

    def test_taken_name_is_refused_or_waited_for(self) -> None:
        """A name that is taken is refused, and waited for by a stand-by."""
        self.start_nameserver()
        first = self.launch("calc", 4000)
        self.launch("calc", 4001)
        (problem,) = self.failures
        self.assertIsInstance(problem, ServiceNameTaken)
        self.launch("calc", 4002, wait=True)
        self.network.wait(30)
        self.assertEqual(self.located(), ["tcp:127.0.0.1:4000"])
        stopping = first.stopService()
        self.network.wait(20)
        self.successResultOf(stopping)
        self.assertEqual(self.located(), ["tcp:127.0.0.1:4002"])
        self.assertEqual(len(self.failures), 1)
