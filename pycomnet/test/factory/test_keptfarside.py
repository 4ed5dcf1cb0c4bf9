"""A far side's life at the factory, on a test's clock: lingering, idling, ending, being in use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any, cast

import attrs
from twisted.internet import defer, main
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.channels.channel import Channel
from pycomnet.channels.connection import Connection
from pycomnet.deferred import OneShot
from pycomnet.errors import GatewayNotStarted, PycomnetError
from pycomnet.factory import attachment, programroute
from pycomnet.factory.keptfarside import KeptFarSide
from pycomnet.factory.service import FactoryConfiguration, FactoryService, Scope
from pycomnet.factory.settings import Settings
from pycomnet.far.lingering.relay import Relay
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transportend import DRAIN_TIMEOUT
from pycomnet.gateways.transports.interface import GatewayRequest
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.gateways.transports.routes import local_route, via_route
from pycomnet.net.descriptors import identity
from pycomnet.test.kit import MemoryTransport, Pair
from pycomnet.wire.frames import GOAWAY, WINDOW


class MemoryGatewayTransport:
    """Carries the connection to a far side in memory.

    :ivar far: the far side's end.
    """

    what = "its process"

    def __init__(self, request: Any) -> None:
        self.request = request
        self.status: int | None = None
        self.far = Connection(request.reactor, False, info={"python": "3"})
        self.far_transport = MemoryTransport()
        self.near_transport = MemoryTransport()
        self.signals: list[int] = []
        self._ended: OneShot[int | None] = OneShot()
        self.starting: defer.Deferred[None] = defer.Deferred()
        self.near: Any = None

    def connect(self, connection: Any) -> defer.Deferred[None]:
        self.near = connection
        return self.starting

    def begin(self) -> None:
        """It is reached."""
        self.near.makeConnection(self.near_transport)
        self.far.makeConnection(self.far_transport)
        self.starting.callback(None)

    def end(self, status: int) -> None:
        """The process ends."""
        self.status = status
        self._ended.fire(status)

    def when_ended(self) -> defer.Deferred[int | None]:
        return self._ended.when_fired()

    def kill(self, number: int) -> None:
        self.signals.append(number)
        if number == 9:
            self.end(-9)

    def describe_end(self, status: int | None) -> str:
        return "" if status is None else f"status {status}"

    def keep(self, text: str) -> None:
        """Nothing is printed here."""

    def stderr_tail(self) -> str:
        return "last words"


class FarSideCase(SynchronousTestCase):
    def setUp(self) -> None:
        # What is said between a program and the service.
        self.pair = Pair()
        self.clock = self.pair.clock
        self.gone: list[KeptFarSide] = []

    def make(self, spec: str, direct: bool = False, **settings: Any) -> KeptFarSide:
        """A far side that is starting.

        :param direct: whether its program takes its pipes.
        """
        parsed = Spec.parse(spec)
        self.gateway_transports: list[MemoryGatewayTransport] = []

        def make_transport(request: Any) -> Any:
            self.gateway_transports.append(MemoryGatewayTransport(request))
            return self.gateway_transports[-1]

        far = KeptFarSide(
            parsed,
            spec,
            parsed.id,
            "id",
            self,
            self.gone.append,
            cast(Any, self.clock),  # its transport is in memory
            Settings(**settings),
            make_transport,
            direct,
        )
        self.gateway_transport = self.gateway_transports[0]
        return far

    def started(self, spec: str, **settings: Any) -> KeptFarSide:
        """One that has said hello."""
        far = self.make(spec, **settings)
        started = far.start()
        self.gateway_transport.begin()
        self.successResultOf(started)
        self.move()
        return far

    def move(self) -> None:
        """Deliver what there is between the factory and the far side."""
        for _ in range(10):
            self.clock.advance(0)
            data = self.gateway_transport.near_transport.take()
            if data and not self.gateway_transport.far_transport.closed:
                self.gateway_transport.far.dataReceived(data)
            data = self.gateway_transport.far_transport.take()
            if data and self.gateway_transport.near.transport is not None:
                self.gateway_transport.near.dataReceived(data)
            self.pair.pump()

    def attach(self, far: KeptFarSide) -> tuple[Channel, Channel, list[Any]]:
        """A program comes: its raw channel, its control channel, and what it is told."""
        near_raw, far_raw = self.pair.channel(raw=True)
        near, control = self.pair.channel()
        far.attach(far_raw, control.core)
        told: list[Any] = []
        near.setcallback(told.append)
        self.move()
        return near_raw, near, told


class Lives(FarSideCase):
    """From its start to its end."""

    def test_lingering_far_side_is_ended_when_its_time_is_over(self) -> None:
        """It waits for another program as long as its spec says, and then is ended."""
        far = self.started("popen//id=x//linger=10")
        raw, _, told = self.attach(far)
        self.assertEqual(told[0]["state"], {"channels": [], "next": 1, "last": 0})
        self.assertIsNone(far.left)
        raw.close()
        self.move()
        self.assertEqual(far.left, 10)
        self.clock.advance(9)
        self.attach(far)[0].close()
        self.move()
        self.assertEqual(far.left, 10)
        self.clock.advance(10.5)
        self.assertIn(bytes([GOAWAY]), self.gateway_transport.near_transport.value())
        self.assertEqual(self.gone, [])
        self.gateway_transport.end(0)
        self.assertEqual(self.gone, [far])

    def test_factorys_bound_on_lingering_holds(self) -> None:
        """The factory's own bound on that holds."""
        far = self.started("popen//id=x//linger=1000", max_linger=5)
        self.attach(far)[0].close()
        self.move()
        self.assertEqual(far.left, 5)

    def test_far_side_without_linger_ends_with_its_program(self) -> None:
        """Without linger it is ended at once, and killed if it takes too long."""
        far = self.started("popen")
        self.attach(far)[0].close()
        self.move()
        self.assertIsNone(far.left)
        self.clock.advance(5)
        self.assertEqual(self.gateway_transport.signals, [15])
        self.clock.advance(6)
        self.assertEqual(self.gateway_transport.signals, [15, 9])
        self.assertEqual(self.gone, [far])

    def test_silent_far_side_is_ended_and_traffic_defers_that(self) -> None:
        """Where nothing was said for a time it is ended; traffic makes the time begin anew."""
        far = self.started("popen", idle_timeout=100)
        self.attach(far)
        self.clock.advance(99)
        self.gateway_transport.far.ping()
        self.move()
        self.clock.advance(99)
        self.assertEqual(self.gateway_transport.near_transport.value(), b"")
        self.clock.advance(2)
        self.gateway_transport.end(0)
        assert far.ended is not None
        self.assertEqual(far.ended.how, "nothing was done there for 100 seconds")

    def test_program_is_told_of_the_end_after_all_output(self) -> None:
        """The program is told how it ended, once all that it had said was delivered."""
        far = self.started("popen//id=x//linger=10")
        raw, _, told = self.attach(far)
        received: list[bytes] = []
        raw.setcallback(received.append)
        self.gateway_transport.near.dataReceived(self.gateway_transport.far_transport.take() or b"")
        self.gateway_transport.near.connectionLost()
        self.gateway_transport.end(3)
        self.move()
        self.assertEqual(
            told[-1]["ended"],
            {"status": 3, "what": "its process", "how": "status 3", "stderr": "last words"},
        )
        self.assertEqual(self.gone, [far])
        self.assertTrue(b"".join(received).startswith(b"\0\0"))

    def test_end_of_the_connection_and_its_reason_are_one_write(self) -> None:
        """A program that reads only the first would have to guess at the second."""
        far = self.started("popen//id=x")
        _, _, told = self.attach(far)
        self.move()
        writes = self.pair.far_transport.writes
        writes.clear()
        self.gateway_transport.near.connectionLost()
        self.gateway_transport.end(3)
        (written,) = [data for data in writes if b"status 3" in data]
        self.assertEqual(writes, [written])
        self.move()
        self.assertEqual(told[-1]["ended"]["how"], "status 3")
        self.assertEqual(self.gone, [far])

    def test_end_without_a_program_is_told_to_the_next(self) -> None:
        """Then it is kept for whoever comes, and they are told."""
        far = self.started("popen//id=x//linger=10")
        self.attach(far)[0].close()
        self.move()
        self.gateway_transport.near.connectionLost()
        self.gateway_transport.end(3)
        self.assertEqual(self.gone, [])
        _, _, told = self.attach(far)
        self.assertEqual(told[-1]["ended"]["status"], 3)
        self.assertEqual(self.gone, [far])

    def test_stderr_without_a_program_is_kept_up_to_a_bound(self) -> None:
        """What its process says while nobody is there is kept, up to a bound, and then waits."""
        far = self.started("popen//id=x//linger=10")
        self.attach(far)[0].close()
        self.move()
        say = self.gateway_transport.request.output
        self.assertIsNone(say("some words"))
        waiting = say("x" * 100_000)
        self.assertNoResult(waiting)
        _, _, told = self.attach(far)
        self.assertEqual(told[1]["stderr"], "some words" + "x" * 100_000)
        self.successResultOf(waiting)

    def test_far_side_is_read_again_when_its_full_program_goes(self) -> None:
        """A program that has taken nothing for long is gone: the far side is read again."""
        far = self.started("popen//id=x//linger=10")
        raw, _, _ = self.attach(far)
        for _ in range(2):
            opened = self.gateway_transport.far.open("test", raw=True)
            opened.send(bytes(WINDOW))
        self.move()
        self.assertEqual(self.gateway_transport.near_transport.producerState, "paused")
        raw.close()
        self.move()
        self.assertEqual(self.gateway_transport.near_transport.producerState, "producing")

    def test_failed_or_cancelled_start_ends_the_far_side(self) -> None:
        """What makes it impossible is told; giving up ends what was begun."""
        far = self.make("popen")
        starting = far.start()
        self.gateway_transport.starting.errback(GatewayNotStarted("no python there"))
        self.failureResultOf(starting, GatewayNotStarted)
        self.assertEqual(self.gone, [far])
        far = self.make("popen")
        starting = far.start()
        starting.cancel()
        self.failureResultOf(starting, defer.CancelledError)
        self.assertEqual(self.gateway_transport.signals, [15])
        self.assertEqual(self.gone[-1], far)

    def test_far_side_that_breaks_the_protocol_is_dropped_with_the_reason(self) -> None:
        """A far side that breaks the protocol is dropped, with the reason."""
        far = self.started("popen")
        _, _, told = self.attach(far)
        self.gateway_transport.near.dataReceived(b"\0\0\0\0\1\0\0\0\x63")
        self.gateway_transport.near.connectionLost()
        self.gateway_transport.end(1)
        self.move()
        self.assertIn("broke the wire protocol (channel)", told[-1]["ended"]["how"])


class GivenCase(FarSideCase):
    """A far side whose program may have its pipes."""

    def setUp(self) -> None:
        super().setUp()
        self.sent: list[tuple[int, ...]] = []
        self.patch(programroute, "passes_descriptors", lambda transport: True)
        self.patch(attachment, "send_descriptors", self.send)
        reactor: Any = MemoryReactorClock()
        # Both ends of both pipes: what the far side reads, and what it writes.
        (self.far_in, to_far), (from_far, self.far_out) = os.pipe(), os.pipe()
        self.fds = [self.far_in, to_far, from_far, self.far_out]
        self.addCleanup(self.close)
        self.make_transport = lambda protocol: ProcessTransport(to_far, from_far, protocol, reactor)

    def close(self) -> None:
        for fd in self.fds:
            with contextlib.suppress(OSError):  # a transport had it
                os.close(fd)

    def send(self, transport: Any, fds: tuple[int, ...], write: Callable[[], object]) -> None:
        self.sent.append(fds)
        write()

    def begun(self, **settings: Any) -> KeptFarSide:
        """One that was started; what it says first is still to come."""
        far = self.make("popen", True, **settings)
        self.starting = far.start()
        self.transport = self.make_transport(far)
        self.gateway_transport.starting.callback(None)
        return far

    def say(self, data: bytes) -> None:
        """The far side writes this, and it is read."""
        os.write(self.far_out, data)
        self.transport._read()

    def handed(self, **settings: Any) -> tuple[KeptFarSide, Channel, list[Any]]:
        """One whose program has its pipes."""
        far = self.begun(**settings)
        hello = self.gateway_transport.far.mux.data_to_send()
        self.say(hello[:20])
        self.assertNoResult(self.starting)
        self.say(hello[20:] + b"more")
        self.successResultOf(self.starting)
        raw, control, told = self.attach(far)
        self.assertEqual(self.sent, [tuple(self.fds[1:3])])
        # What it reads them with is known by what it is.
        pipes = [list(identity(fd)) for fd in self.fds[1:3]]
        self.assertEqual(told, [{"pipes": pipes, "first": hello + b"more"}])
        self.assertTrue(raw.isclosed())
        del told[:]
        return far, control, told


class Given(GivenCase):
    """One whose pipes are its program's."""

    def test_program_gets_the_pipes_and_what_was_read(self) -> None:
        """It gets them with what has been read, and nothing was written; here nobody has them."""
        self.handed()
        self.assertTrue(self.transport.disconnected)
        os.write(self.far_out, b"for the program")
        self.assertEqual(os.read(self.fds[2], 100), b"for the program")
        os.set_blocking(self.far_in, False)
        self.assertRaises(BlockingIOError, os.read, self.far_in, 100)

    def test_far_side_ends_with_its_programs_control_channel(self) -> None:
        """It ends with its program's control channel, and is killed if it takes too long."""
        far, control, _ = self.handed()
        control.close()
        self.move()
        self.assertIsNone(far.attachment)
        self.clock.advance(5)
        self.assertEqual(self.gateway_transport.signals, [15])
        self.gateway_transport.end(-15)
        self.assertEqual(self.gone, [far])

    def test_end_of_the_process_is_told_on_the_control_channel(self) -> None:
        """How it ended is told, once the process has."""
        far, control, told = self.handed()
        self.gateway_transport.end(3)
        self.move()
        self.assertEqual(told[0]["ended"]["how"], "status 3")
        self.assertTrue(control.isclosed())
        self.assertEqual(self.gone, [far])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_program_is_asked_to_end_its_far_side(self) -> None:
        """When it is ended here its program is asked to say goodbye to it."""
        far, _, told = self.handed()
        ending = far.end()
        self.move()
        self.assertEqual(told, [{"ask": "end"}])
        self.gateway_transport.end(0)
        self.move()
        self.successResultOf(ending)
        self.assertEqual(told[1]["ended"]["status"], 0)

    def test_program_is_asked_four_times_whether_its_far_side_is_idle(self) -> None:
        """Whether it is used its program knows, which is asked four times in the time."""
        far, control, told = self.handed(idle_timeout=100)
        for idle in (True, True, True, False, True, True, True):
            self.clock.advance(25)
            self.move()
            self.assertEqual(told, [{"ask": "idle"}])
            del told[:]
            control.send({"idle": idle})
            control.send({"idle": idle})  # once is enough
            self.move()
        self.clock.advance(25)
        self.move()
        control.send({"idle": True})
        self.move()
        self.assertEqual(told, [{"ask": "idle"}, {"ask": "end"}])
        self.gateway_transport.end(0)
        assert far.ended is not None
        self.assertEqual(far.ended.how, "nothing was done there for 100 seconds")

    def test_far_side_that_ends_before_its_hello_is_relayed(self) -> None:
        """One that ends before its hello is between, as ever, and its end is told."""
        far = self.begun()
        self.transport.connectionLost(Failure(main.CONNECTION_DONE))
        self.successResultOf(self.starting)
        _, _, told = self.attach(far)
        self.gateway_transport.end(1)
        self.move()
        self.assertEqual(told[-1]["ended"]["status"], 1)
        self.assertEqual(self.gone, [far])

    def test_start_ends_though_the_pipes_of_an_ended_process_stay_open(self) -> None:
        """Its process has ended before its hello, and what that left holds the pipes open."""
        self.begun()
        self.gateway_transport.end(1)
        self.assertNoResult(self.starting)
        self.clock.advance(DRAIN_TIMEOUT)
        self.successResultOf(self.starting)

    def test_cancelled_start_kills_the_process_and_closes_its_pipes(self) -> None:
        """Its program gives up before its hello: it is killed, and nothing stays open here."""
        self.begun()
        self.starting.cancel()
        self.failureResultOf(self.starting, defer.CancelledError)
        self.assertEqual(self.gateway_transport.signals, [15])
        self.assertTrue(self.transport.disconnected)

    def test_program_that_takes_no_descriptors_is_relayed(self) -> None:
        """To a program that can't be given them all goes on through here."""
        self.patch(programroute, "passes_descriptors", lambda transport: False)
        far = self.begun()
        hello = self.gateway_transport.far.mux.data_to_send()
        self.say(hello)
        self.successResultOf(self.starting)
        raw, _, told = self.attach(far)
        came: list[bytes] = []
        raw.setcallback(came.append)
        self.move()
        self.assertEqual(told[0]["state"]["channels"], [])
        self.assertEqual(b"".join(came), hello)
        self.assertEqual(os.read(self.far_in, 1000), Relay().to_far[0])


class Names(SynchronousTestCase):
    """Which far sides the service has, and finds."""

    def setUp(self) -> None:
        configuration = FactoryConfiguration(listen=("unix:x",), max_gateways=2)
        self.service = FactoryService(configuration, MemoryReactorClock(), lambda problem: None)
        self.scope = Scope(self.service.fork_servers)

    def test_names_are_unique_and_gateways_bounded(self) -> None:
        """Names are unique, lingering needs one, and there is a bound."""
        new = self.service.new
        with self.assertRaisesRegex(PycomnetError, "linger needs an id"):
            new(Spec.parse("popen//linger=1"), "gw0", "popen", self.scope)
        new(Spec.parse("popen//linger=1//id=a"), "a", "popen", self.scope)
        with self.assertRaisesRegex(PycomnetError, "has a gateway 'a' already"):
            new(Spec.parse("popen//linger=1//id=a"), "a", "popen", self.scope)
        new(Spec.parse("popen//id=a"), "a", "popen", self.scope)
        with self.assertRaisesRegex(PycomnetError, "2 gateways, its limit"):
            new(Spec.parse("popen"), "b", "popen", self.scope)

    def test_gateway_in_use_or_unknown_is_not_found(self) -> None:
        """One that is in use, or not there, is not found."""
        far = self.service.new(Spec.parse("popen//linger=1//id=a"), "a", "popen", self.scope)
        with self.assertRaisesRegex(PycomnetError, "in use"):
            self.service.find("a", far.spec)
        with self.assertRaisesRegex(PycomnetError, "no gateway 'b' to resume; there are: none"):
            self.service.find("b", far.spec)

    def test_via_starts_at_the_fork_server_of_its_master(self) -> None:
        """One can be started from another, where that one's fork server is; not from its worker."""
        master = self.service.new(Spec.parse("popen//id=a"), "a", "popen", self.scope)
        self.scope.far_sides["a"] = master
        spec = Spec.parse("popen//via=a//python=other")
        request = GatewayRequest(
            spec, "b", print, lambda: cast(Any, self.scope), MemoryReactorClock()
        )
        forked: Any = master.gateway_transport
        forked.route = local_route(attrs.evolve(request, spec=Spec()))
        route = via_route(request)
        self.assertEqual((route.master, route.first_hop), ("a", forked.route.first_hop))
        self.assertEqual(route.path[0].argv[0], "other")
        forked.route = None
        with self.assertRaisesRegex(PycomnetError, "has no fork server that could start"):
            via_route(request).first_hop.open(request, None)
