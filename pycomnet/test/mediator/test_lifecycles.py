"""The mediator's lifecycles: each transition of the real thing."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet import error
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pycomnet.errors import PycomnetError
from pycomnet.gateways.lifecycle import IllegalTransition
from pycomnet.mediator.client.states import (
    LINK,
    STREAM,
    LinkEffect,
    LinkEvent,
    LinkState,
    StreamEffect,
    StreamEvent,
    StreamState,
)
from pycomnet.mediator.client.websocket import CLOSE_TIMEOUT, POST_FROM
from pycomnet.mediator.server import session as sessions
from pycomnet.mediator.server.states import SESSION, SessionEffect, SessionEvent, SessionState
from pycomnet.test.mediator.kit import JSONResponse, LinkCase, StreamCase
from pycomnet.test.mediator.server.test_session import ALICE, FakeChild, MediatorCase
from pycomnet.test.transitions import Transitions


class SessionTransitions(MediatorCase):
    """A subprocess on the server goes from state to state as the table says."""

    def make(self, events: list[SessionEvent]) -> None:
        """A session to which these events will happen."""
        self.clock = Clock()
        self.children = []
        self.events = events
        self.gone: list[Any] = []
        self.session = sessions.MediatorSession(
            "pid",
            ALICE,
            cast(Any, SimpleNamespace(id=None, python=None)),
            self.start_child,
            self.clock,
            lambda session: None,
            self.gone.append,
        )

    def start_child(self, spec: Any, name: str, protocol: Any, stderr: Any) -> FakeChild:
        """Launch, or fail to when that is among the events."""
        child = self.launch(spec, name, protocol, stderr)
        if SessionEvent.NOT_LAUNCHED in self.events:
            while self.events.pop(0) is not SessionEvent.NOT_LAUNCHED:
                self.happens(self.events[0])
            raise OSError
        return child

    def happens(self, event: SessionEvent) -> None:
        """Have it happen, as it does."""
        session = self.session
        if event is SessionEvent.LAUNCH:
            session.launch()
        elif event is SessionEvent.CLOSE:
            session.terminate("told")
        elif event is SessionEvent.TERM:
            session.terminate("told", signal.SIGTERM)
        elif event is SessionEvent.KILL:
            session.terminate("told", signal.SIGKILL)
        elif event is SessionEvent.TIMEOUT:
            self.clock.advance(max(sessions.GRACE, sessions.KILL_TIMEOUT))
        elif event is SessionEvent.OUTPUT_ENDED:
            session.connectionLost(Failure(error.ConnectionDone()))
        elif event is SessionEvent.PROCESS_ENDED:
            self.children[0].exit(3, output_ends=False)
        elif event is SessionEvent.FORGET:
            session.forget()

    def look(self) -> dict[SessionEffect, Any]:
        """What would show that each effect was."""
        child, now = self.children[0] if self.children else None, self.clock.seconds()
        signals = [] if child is None else child.signals
        waits = sorted(
            call.getTime() - now
            for call in self.clock.getDelayedCalls()
            if call.getTime() - now <= sessions.KILL_TIMEOUT
        )
        return {
            SessionEffect.CLOSE_INPUT: (child is not None and child.pipes.input_ended, waits),
            SessionEffect.SIGNAL: (signals.count(signal.SIGTERM), waits),
            SessionEffect.REPEAT: signals.count(signal.SIGTERM),
            SessionEffect.SIGKILL: signals.count(signal.SIGKILL),
            SessionEffect.AWAIT_STATUS: waits,
            SessionEffect.EXPIRE: (signals.count(signal.SIGTERM), waits),
            SessionEffect.DRAIN: waits,
            SessionEffect.CUT: child is not None and child.pipes.aborted,
            SessionEffect.FINISH: self.session.end,
            SessionEffect.FORGET: list(self.gone),
        }

    def test_each_transition_of_a_subprocess(self) -> None:
        """Each event in each state leads to the next state, and does what the table says."""
        expected = {
            SessionEffect.CLOSE_INPUT: (True, [sessions.GRACE]),
            SessionEffect.SIGNAL: (1, [sessions.KILL_TIMEOUT]),
            SessionEffect.REPEAT: 2,
            SessionEffect.SIGKILL: 1,
            SessionEffect.AWAIT_STATUS: [sessions.STATUS_TIMEOUT],
            SessionEffect.EXPIRE: (1, [sessions.KILL_TIMEOUT]),
            SessionEffect.DRAIN: [sessions.DRAIN_TIMEOUT],
            SessionEffect.CUT: True,
        }
        number = 0
        for events, state, after, effect in Transitions(SESSION, SessionState.NEW).each():
            where = f"{state.name}: {events[-1].name}"
            self.make(list(events))
            if SessionEvent.NOT_LAUNCHED in events:
                self.assertRaises(OSError, self.session.launch)
                for event in events[events.index(SessionEvent.NOT_LAUNCHED) + 1 :]:
                    before = self.look()
                    self.happens(event)
            else:
                for event in events[:-1]:
                    self.happens(event)
                self.assertIs(self.session.state, state, where)
                before = self.look()
                self.happens(events[-1])
            # What is cut ends, here at once.
            cut = effect is SessionEffect.CUT
            self.assertIs(self.session.state, SessionState.ENDED if cut else after, where)
            number += 1
            if effect is SessionEffect.EXPIRE:
                self.assertEqual(self.session.reason, "it closed its standard output")
            if effect is SessionEffect.FINISH:
                self.assertEqual(self.session.end and self.session.end.status, 3, where)
            elif effect is SessionEffect.FORGET:
                self.assertEqual(self.gone, [self.session], where)
            elif effect is SessionEffect.STOP:
                self.assertEqual(self.clock.getDelayedCalls(), [], where)
            elif effect is not None:
                self.assertEqual(self.look()[effect], expected[effect], where)
            elif SessionEvent.NOT_LAUNCHED not in events and SessionEvent.LAUNCH is not events[-1]:
                self.assertEqual(self.look(), before, where)
        self.assertEqual(number, sum(map(len, SESSION.values())))

    def test_illegal_event_is_an_error_and_changes_nothing(self) -> None:
        """What can't happen is an error that says in which state it did, and changes nothing."""
        self.make([])
        self.happens(SessionEvent.LAUNCH)
        problem = self.assertRaises(IllegalTransition, self.session.launch)
        self.assertEqual(str(problem), "SessionState: event LAUNCH can't happen in state RUNNING")
        self.assertRaises(IllegalTransition, self.session.forget)
        self.assertIs(self.session.state, SessionState.RUNNING)

    def test_paused_output_of_what_was_told_to_end(self) -> None:
        """Its reader may go on reading, and is waited for no longer than it is told to be."""
        for reads in (True, False):
            self.make([])
            self.happens(SessionEvent.LAUNCH)
            child = self.children[0]
            child.say(b"x" * 100)
            self.happens(SessionEvent.TERM)
            self.happens(SessionEvent.PROCESS_ENDED)
            self.clock.advance(sessions.GRACE - 1)
            if reads:
                self.session.confirm("stdout", 100)
                self.assertTrue(child.pipes.reading)
                child.say(b"more")
            self.clock.advance(1)
            self.assertEqual(child.pipes.aborted, not reads)
            self.clock.advance(sessions.DRAIN_TIMEOUT)
            self.assertTrue(child.pipes.aborted)
            self.assertEqual(self.session.streams["stdout"].end, 104 if reads else 100)

    def test_repeated_signal_does_not_put_off_the_last_one(self) -> None:
        """SIGTERM again and again: SIGKILL comes when it would have come after the first."""
        self.make([])
        self.happens(SessionEvent.LAUNCH)
        for _ in range(3):
            self.happens(SessionEvent.TERM)
            self.clock.advance(sessions.KILL_TIMEOUT / 3)
        self.assertEqual(self.children[0].signals, [signal.SIGTERM] * 3 + [signal.SIGKILL])


class RecordingLink:
    """Carries nothing, and knows what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def wake(self) -> None:
        self.told.append("wake")

    def confirm(self, ask: bool = False) -> None:
        self.told.append("ask" if ask else "confirm")

    def stop(self) -> None:
        self.told.append("stop")


class StreamTransitions(StreamCase):
    """A transport over HTTP goes from state to state as the table says."""

    def make(self) -> None:
        self.make_stream()
        self.link = RecordingLink()
        self.stream.carried_by(self.link)
        self.stream.write(b"data")
        self.link.told.clear()

    def happens(self, event: StreamEvent) -> None:
        """Have it happen, as it does."""
        stream = self.stream
        if event is StreamEvent.LOSE:
            stream.loseConnection()
        elif event is StreamEvent.ABORT:
            stream.abortConnection()
        elif event is StreamEvent.WRITTEN:
            stream.confirmed(4)
        elif event is StreamEvent.END:
            stream.ended({"exit_status": 3})

    def look(self) -> dict[str, Any]:
        return {
            "lost": list(self.protocol.lost),
            "told": list(self.link.told),
            "asked": list(self.client.asked),
            "over": self.stream.when_over().called,
        }

    def test_each_transition_of_a_transport(self) -> None:
        """Each event in each state leads to the next state, and does what the table says."""
        done, aborted = error.ConnectionDone, error.ConnectionAborted
        expected: dict[StreamEffect | None, dict[str, Any]] = {
            None: {},
            StreamEffect.ASK: {"told": ["ask"]},
            StreamEffect.CLOSE: {"lost": [done], "told": ["ask", "wake"]},
            StreamEffect.ABORT: {"lost": [aborted], "asked": [("DELETE", {"signal": None})]},
        }
        for events, state, after, effect in Transitions(STREAM, StreamState.OPEN).each():
            where = f"{state.name}: {events[-1].name}"
            self.make()
            for event in events[:-1]:
                self.happens(event)
            self.assertIs(self.stream.state, state, where)
            before = self.look()
            self.happens(events[-1])
            self.assertIs(self.stream.state, after, where)
            if effect is StreamEffect.FINISH:
                self.assertEqual(self.successResultOf(self.stream.when_over()), (3, ""), where)
                self.assertEqual(self.link.told[-1], "stop", where)
                self.assertEqual(self.protocol.lost, before["lost"] or [done], where)
            else:
                self.assertEqual(self.look(), {**before, **expected[effect]}, where)

    def test_written_while_it_closes(self) -> None:
        """What is written between closing and the end of that is sent, and waited for."""
        self.make_stream()
        self.stream.loseConnection()
        self.stream.write(b"late")
        self.clock.advance(0)
        self.assertIs(self.stream.state, StreamState.CLOSING)
        self.assertEqual(self.protocol.lost, [])
        self.stream.confirmed(4)
        self.assertIs(self.stream.state, StreamState.CLOSED)
        self.assertEqual(self.protocol.lost, [error.ConnectionDone])
        self.stream.write(b"more")
        self.assertEqual(self.stream.out.end, 4)

    def test_nothing_was_written(self) -> None:
        """Its protocol is told later, as with any transport, that it is closed."""
        self.make_stream()
        self.stream.loseConnection()
        self.assertEqual(self.protocol.lost, [])
        self.clock.advance(0)
        self.assertEqual(self.protocol.lost, [error.ConnectionDone])


class LinkTransitions(LinkCase):
    """A WebSocket goes from state to state as the table says."""

    def happens(self, event: LinkEvent) -> None:
        """Have it happen, as it does."""
        stream, requests = self.stream, self.client.requests
        if event is LinkEvent.RECEIVED:
            self.say({"received": stream.out.base})
        elif event is LinkEvent.MUCH:
            stream.write(b"first")
            stream.write(bytes(POST_FROM))
        elif event is LinkEvent.MUCH_ALONE:
            stream.write(bytes(POST_FROM))
        elif event is LinkEvent.POSTED:
            requests[-1].callback(JSONResponse({"received": stream.out.end}))
        elif event is LinkEvent.NOT_POSTED:
            requests[-1].errback(ValueError())
        elif event is LinkEvent.ENDED:
            self.say({"ended": {"exit_status": 3}})
        elif event is LinkEvent.LOSE:
            self.wire.connectionLost(Failure(error.ConnectionDone()))

    def test_each_transition_of_a_websocket(self) -> None:
        """Each event in each state leads to the next state, and does what the table says."""
        for events, state, after, effect in Transitions(LINK, LinkState.OPENING).each():
            where = f"{state.name}: {events[-1].name}"
            self.make_link()
            if state is LinkState.ENDING and events[-1] in (LinkEvent.POSTED, LinkEvent.NOT_POSTED):
                events = [LinkEvent.RECEIVED, LinkEvent.MUCH_ALONE, LinkEvent.ENDED, events[-1]]
            for event in events[:-1]:
                self.happens(event)
            self.assertIs(self.link.state, state, where)
            if effect is LinkEffect.SEND and state is LinkState.SENDING:
                # Not before it is asked: what was written while nothing could be is sent.
                self.stream.out.append(b"waits")
            if effect is LinkEffect.BEGIN:
                self.stream.write(b"waits")
            self.heard()
            self.happens(events[-1])
            told, frames = self.heard()
            # In ASKING more is waiting than what the server now has: it is asked again.
            again = state is LinkState.ASKING and effect is LinkEffect.SEND
            self.assertIs(self.link.state, LinkState.ASKING if again else after, where)
            if again:
                self.assertEqual([message.get("ask") for message in told], [True], where)
            elif effect in (LinkEffect.BEGIN, LinkEffect.SEND) and state is not LinkState.POSTING:
                self.assertEqual(frames, [(0, 0, 5)], where)
            elif effect is LinkEffect.ASK:
                self.assertEqual([message.get("ask") for message in told], [True], where)
            elif effect is LinkEffect.POST:
                self.assertEqual(len(self.client.requests), 1, where)
            elif effect is LinkEffect.DROP:
                self.assertTrue(self.transport.disconnected, where)
            elif effect is LinkEffect.CONFIRM:
                self.assertEqual(told, [{"received": 0, "stderr_received": 0}], where)
                self.clock.advance(CLOSE_TIMEOUT)
                self.assertTrue(self.transport.disconnected, where)
            elif effect is LinkEffect.FINISH:
                self.successResultOf(self.link.closed)
                ended = state is LinkState.ENDING
                self.assertIs(self.stream.state is StreamState.OVER, ended, where)
                self.assertRaises(PycomnetError, self.link.check)
            elif effect is None:
                self.assertEqual((told, frames), ([], []), where)

    def test_after_asking_it_posts(self) -> None:
        """Once the server has all that went over the WebSocket, what waits goes in a POST."""
        self.make_link()
        self.happens(LinkEvent.RECEIVED)
        self.happens(LinkEvent.MUCH)
        self.assertIs(self.link.state, LinkState.ASKING)
        self.say({"received": 5})
        self.assertIs(self.link.state, LinkState.POSTING)
        self.happens(LinkEvent.POSTED)
        self.assertIs(self.link.state, LinkState.SENDING)
        self.heard()
        self.stream.write(b"last")
        self.assertEqual(self.heard()[1], [(0, 5 + POST_FROM, 4)])
