"""The http transport: each transition of a far side on a server, without one."""

from __future__ import annotations

import signal
from typing import Any, cast

from twisted.internet import defer
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.auth import tokens
from pycomnet.errors import GatewayNotStarted
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.interface import GatewayRequest
from pycomnet.mediator.client.gatewaytransport import KILL_TIMEOUT, HTTPGatewayTransport
from pycomnet.mediator.client.requests import MediatorClient, RequestRefused, refused
from pycomnet.mediator.client.states import FAR_SIDE, FarSideEffect, FarSideEvent, FarSideState
from pycomnet.test.mediator.kit import RecordingClient
from pycomnet.test.transitions import Transitions


class FarSideTransitions(SynchronousTestCase):
    """A far side on a server goes from state to state as the table says."""

    def make(self, token: str = "of-sixteen-letters", scheme: str = "http") -> None:
        self.clock = MemoryReactorClock()
        self.client = RecordingClient()
        text = f"{scheme}=server:80//websocket=yes" + (f"//token={token}" if token else "")
        request = GatewayRequest(
            Spec.parse(text), "gw1", lambda text: None, lambda: None, self.clock
        )
        self.connected: list[Any] = []
        self.far_side = HTTPGatewayTransport(
            request, lambda *args: cast(MediatorClient, self.client)
        )

    def makeConnection(self, transport: Any) -> None:
        """Called as the gateway's connection."""
        self.connected.append(transport)

    def connectionLost(self, reason: Any) -> None:
        """Called as the gateway's connection."""

    def happens(self, event: FarSideEvent) -> None:
        """Have it happen, as it does."""
        far_side, client = self.far_side, self.client
        if event is FarSideEvent.ASK:
            self.connecting = far_side.connect(cast(Any, self))
            self.connecting.addErrback(lambda failure: failure.value)
            self.ended = far_side.when_ended()
        elif event is FarSideEvent.STARTED:
            client.starting.callback({"pid": "1", "websocket": True})
        elif event is FarSideEvent.NOT_STARTED:
            client.starting.errback(RequestRefused("it is full", 503, {}))
        elif event is FarSideEvent.TERM:
            far_side.kill(signal.SIGTERM)
        elif event is FarSideEvent.KILL:
            far_side.kill(signal.SIGKILL)
        elif event is FarSideEvent.OVER:
            ask = [method for method, _ in client.asked].index("POST")
            client.answers[ask].errback(RequestRefused("it has ended", 410, {"exit_status": 3}))
        elif event is FarSideEvent.CLOSED:
            assert client.closing is not None
            client.closing.callback(None)

    def look(self) -> dict[str, Any]:
        return {
            "connected": len(self.connected),
            "signals": [
                query["signal"] for method, query in self.client.asked if "signal" in query
            ],
            "closing": self.client.closing is not None,
            "ended": self.ended.called,
        }

    def test_each_transition_of_a_far_side(self) -> None:
        """Each event in each state leads to the next state, and does what the table says."""
        expected: dict[FarSideEffect | None, dict[str, Any]] = {
            None: {},
            FarSideEffect.CONNECT: {"connected": 1},
            FarSideEffect.END: {"signals": ["TERM"]},
            FarSideEffect.TERMINATE: {"signals": ["TERM"]},
            FarSideEffect.KILL: {"signals": ["KILL"]},
            FarSideEffect.GIVE_UP: {"ended": True},
            FarSideEffect.CLOSE: {"closing": True},
            FarSideEffect.REPORT: {"ended": True},
        }
        for events, state, after, effect in Transitions(FAR_SIDE, FarSideState.NEW).each():
            where = f"{state.name}: {events[-1].name}"
            if FarSideEvent.CANNOT_ASK in events:
                continue  # the next test
            self.make()
            self.ended = self.far_side.when_ended() if len(events) > 1 else defer.Deferred()
            for event in events[:-1]:
                self.happens(event)
            self.assertIs(self.far_side.state, state, where)
            before = self.look()
            self.happens(events[-1])
            self.assertIs(self.far_side.state, after, where)
            self.assertEqual(self.look(), {**before, **expected[effect]}, where)

    def test_connect_without_a_token_fails(self) -> None:
        """Without a token nothing is asked: connecting fails, and it has ended."""
        self.patch(tokens, "find_token", lambda *args: None)
        self.make(token="")
        failure = self.failureResultOf(self.far_side.connect(cast(Any, self)), GatewayNotStarted)
        self.assertIn("a token is needed", str(failure.value))
        self.assertIs(self.far_side.state, FarSideState.ENDED)
        self.assertIsNone(self.successResultOf(self.far_side.when_ended()))
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.far_side.kill(number)
        self.assertIs(self.far_side.state, FarSideState.ENDED)

    def test_cancelled_start_fires_at_once_and_ends_what_was_started(self) -> None:
        """Who cancels the start is notified at once; what was started is ended when known."""
        self.make()
        self.happens(FarSideEvent.ASK)
        self.connecting.cancel()
        self.assertIsInstance(self.successResultOf(self.connecting), defer.CancelledError)
        self.assertIs(self.far_side.state, FarSideState.ABANDONED)
        self.happens(FarSideEvent.STARTED)
        self.assertEqual(self.look(), {**self.look(), "connected": 0, "signals": ["TERM"]})
        self.happens(FarSideEvent.OVER)
        self.happens(FarSideEvent.CLOSED)
        self.assertEqual(self.successResultOf(self.ended), 3)

    def test_ended_while_it_starts(self) -> None:
        """Who waits for the start of what was told to end gets an error when it has started."""
        self.make()
        self.happens(FarSideEvent.ASK)
        self.happens(FarSideEvent.TERM)
        self.assertNoResult(self.connecting)
        self.happens(FarSideEvent.STARTED)
        self.assertIn("it was ended while it started", str(self.successResultOf(self.connecting)))

    def test_far_side_reported_ended_is_ended_by_a_late_answer(self) -> None:
        """What was reported as ended, as the server did not answer, is ended when it has."""
        self.make()
        self.happens(FarSideEvent.ASK)
        self.happens(FarSideEvent.KILL)
        self.assertIsNone(self.successResultOf(self.ended))
        self.assertEqual(self.far_side.describe_end(None), "the server has not answered")
        self.happens(FarSideEvent.STARTED)
        self.assertEqual(self.look()["signals"], ["TERM"])
        self.happens(FarSideEvent.OVER)
        self.happens(FarSideEvent.CLOSED)
        self.assertEqual(self.far_side.describe_end(None), "the server has not answered")

    def test_silence_of_a_server_that_is_to_speak_tls_may_be_that_it_does_not(self) -> None:
        """It waits for the end of a line that a TLS client never sends."""
        self.make(scheme="https")
        self.happens(FarSideEvent.ASK)
        self.happens(FarSideEvent.KILL)
        self.assertIn("may speak no TLS", self.far_side.describe_end(None))

    def test_killed_and_never_reported(self) -> None:
        """If the server does not report the end of what it was told to kill, that is the end."""
        self.make()
        for event in (FarSideEvent.ASK, FarSideEvent.STARTED, FarSideEvent.KILL):
            self.happens(event)
        self.assertIsNone(self.successResultOf(self.connecting))
        self.clock.advance(KILL_TIMEOUT)
        self.happens(FarSideEvent.CLOSED)
        self.assertIsNone(self.successResultOf(self.ended))
        self.assertIn("has not reported that it has ended", self.far_side.describe_end(None))

    def test_answer_without_a_process(self) -> None:
        """A server that is no mediator: the error says so, and what came."""
        self.make()
        self.happens(FarSideEvent.ASK)
        self.client.starting.callback({"hello": "world"})
        self.assertIs(self.far_side.state, FarSideState.CLOSING)
        problem = self.successResultOf(self.connecting)
        self.assertIsInstance(problem, GatewayNotStarted)
        self.assertIn("does not describe a far side", str(problem))
        self.assertIn("{'hello': 'world'}", str(problem))


class RefusedTests(SynchronousTestCase):
    """What the error of an unexpected answer says."""

    def test_status_is_said_once(self) -> None:
        """Of an answer of another server there is only the status; the mediator says why."""
        foreign = "the answer was HTTP status 404, and not the mediator's"
        self.assertEqual(str(refused(404, {})), foreign)
        self.assertEqual(str(refused(503, {"message": "it is full"})), "it is full (503)")
