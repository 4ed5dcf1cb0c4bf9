"""A gateway on a transport that only exists here: what the seam between the two promises."""

from __future__ import annotations

import signal
from typing import Any, cast

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from pycomnet.deferred import OneShot
from pycomnet.errors import ConnectionLost, GatewayDied, GatewayNotStarted
from pycomnet.gateways.connection import GatewayConnection
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transportend import EXIT_TIMEOUT
from pycomnet.gateways.transports.interface import GatewayRequest
from pycomnet.test.kit import ThreadedClock
from pycomnet.wire.mux import Mux


class Wire(StringTransport):
    """A transport whose abort is seen by the protocol, as on a real one."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol

    def abortConnection(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(ConnectionLost("cut here")))


@implementer(IReactorFromThreads)
class ClockedReactor(MemoryReactor, ThreadedClock):
    """A reactor in memory, with a clock that the garbage collector may use."""

    def __init__(self) -> None:
        MemoryReactor.__init__(self)
        ThreadedClock.__init__(self)


class FakeGatewayTransport:
    """Does what the test says, and keeps what it is asked."""

    what = "the connection to nowhere"

    def __init__(self, request: GatewayRequest) -> None:
        self.request = request
        self.status: int | None = None
        self.connecting: defer.Deferred[None] = defer.Deferred(
            lambda d: self.asked.append("cancel")
        )
        self.ended: OneShot[int | None] = OneShot()
        self.asked: list[Any] = []
        self.ends_at_kill = True
        self.reason = ""

    def connect(self, connection: Any) -> defer.Deferred[None]:
        self.connection = connection
        return self.connecting

    def connected(self) -> None:
        self.transport = Wire(self.connection)
        self.connection.makeConnection(self.transport)
        self.connecting.callback(None)

    def hello(self) -> None:
        self.connection.dataReceived(Mux(False, None, {"python": "3"}).data_to_send())

    def when_ended(self) -> defer.Deferred[int | None]:
        return self.ended.when_fired()

    def end(self, status: int | None = None) -> None:
        self.status = status
        self.ended.fire(status)

    def kill(self, number: int) -> None:
        self.asked.append(number)
        if self.ends_at_kill or number == signal.SIGKILL:
            self.end()

    def describe_end(self, status: int | None) -> str:
        return self.reason if status is None else f"status {status}"

    def keep(self, text: str) -> None:
        self.asked.append(text)

    def stderr_tail(self) -> str:
        return ""


class Seam(SynchronousTestCase):
    """The link, with such a transport."""

    def setUp(self) -> None:
        self.clock = ClockedReactor()
        self.link = GatewayConnection(
            Spec(), "gw0", lambda o: None, cast(Any, Seam), self.clock, FakeGatewayTransport
        )
        assert isinstance(self.link.transport, FakeGatewayTransport)
        self.gateway_transport = self.link.transport

    def started(self) -> None:
        starting = self.link.start(10)
        self.assertNoResult(starting)
        self.gateway_transport.connected()
        self.assertNoResult(starting)
        self.gateway_transport.hello()
        self.assertEqual(self.successResultOf(starting)["info"]["python"], "3")

    def test_unknown_end_is_told_as_the_lost_connection(self) -> None:
        """Where the end can't be seen, the error has what is known of the connection."""
        self.started()
        waiting = self.link.connection.ping()
        self.gateway_transport.transport.loseConnection()
        self.gateway_transport.end(None)
        error = self.failureResultOf(waiting, GatewayDied).value
        self.assertEqual(
            str(error),
            "gateway gw0: the connection to nowhere is gone: the connection was lost: cut here",
        )
        self.assertEqual((error.exit_status, error.signal), (None, None))

    def test_known_exit_status_is_in_the_error(self) -> None:
        """Where it can be seen, the error has that."""
        self.started()
        waiting = self.link.connection.ping()
        self.gateway_transport.transport.loseConnection()
        self.assertNoResult(waiting)
        self.gateway_transport.end(4)
        error = self.failureResultOf(waiting, GatewayDied).value
        self.assertIn("is gone: status 4", str(error))
        self.assertEqual(error.exit_status, 4)

    def test_far_side_that_outlives_its_connection_is_terminated(self) -> None:
        """A connection that is cut while the far side goes on ends that."""
        self.started()
        waiting = self.link.connection.ping()
        self.gateway_transport.transport.loseConnection()
        self.clock.advance(60)
        error = self.failureResultOf(waiting, GatewayDied).value
        self.assertIn("cut here, and the connection to nowhere goes on", str(error))
        self.assertEqual(self.gateway_transport.asked, [signal.SIGTERM])

    def test_known_reason_is_told_though_the_process_goes_on(self) -> None:
        """The reason is told also when what was told to end takes too long for that."""
        self.started()
        waiting = self.link.connection.ping()
        self.gateway_transport.reason = "the gateway master is gone"
        self.gateway_transport.transport.loseConnection()
        self.clock.advance(60)
        error = self.failureResultOf(waiting, GatewayDied).value
        self.assertEqual(
            str(error), "gateway gw0: the connection to nowhere is gone: the gateway master is gone"
        )
        self.assertEqual(self.gateway_transport.asked, [signal.SIGTERM])

    def test_failed_connect_is_passed_on_and_all_is_ended(self) -> None:
        """What the transport says of why it can't connect is passed on; all is ended."""
        starting = self.link.start(10)
        self.gateway_transport.connecting.errback(
            self.gateway_transport.request.not_started("no way", 3, "no\nno")
        )
        self.clock.advance(0)
        error = self.failureResultOf(starting, GatewayNotStarted).value
        self.assertEqual(str(error), "gateway gw0 (popen): no way; its standard error:\nno\nno")
        self.assertEqual((error.exit_status, error.stderr), (3, "no\nno"))
        self.assertEqual(self.gateway_transport.asked, [signal.SIGTERM])

    def test_start_timeout_cancels_connecting(self) -> None:
        """The time to start in is for connecting, too; that is cancelled then."""
        starting = self.link.start(10)
        self.clock.advance(10)
        error = self.failureResultOf(starting, GatewayNotStarted).value
        self.assertIn("no hello in 10 seconds", str(error))
        self.assertEqual(self.gateway_transport.asked, ["cancel", signal.SIGTERM])

    def test_cancelled_start_gives_up_connecting(self) -> None:
        starting = self.link.start(10)
        starting.cancel()
        self.clock.advance(0)
        self.failureResultOf(starting, defer.CancelledError)
        self.assertEqual(self.gateway_transport.asked, ["cancel", signal.SIGTERM])

    def test_end_waits_then_sends_sigterm_then_sigkill(self) -> None:
        """Ending waits, then asks in two ways, then waits for what must come."""
        self.started()
        self.gateway_transport.ends_at_kill = False
        ending = self.link.end(1)
        self.clock.advance(1)
        self.assertEqual(self.gateway_transport.asked, [signal.SIGTERM])
        self.assertNoResult(ending)
        self.clock.advance(EXIT_TIMEOUT)
        self.assertEqual(self.gateway_transport.asked, [signal.SIGTERM, signal.SIGKILL])
        self.assertIsNone(self.successResultOf(ending))

    def test_abandoned_connection_is_cut_once(self) -> None:
        """What nobody holds any more is cut; what is over already is left alone."""
        self.started()
        self.link.abandon()
        self.clock.advance(0)
        self.assertIsNone(self.gateway_transport.transport.protocol)
        self.assertIsNotNone(self.link.connection.lost)
        self.link.abandon()
        self.assertEqual(self.gateway_transport.asked, [])
