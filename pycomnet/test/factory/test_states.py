"""The lifecycles of a kept far side: each transition of the tables with the real thing."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import ConnectionLost, GatewayNotStarted
from pycomnet.factory import programroute
from pycomnet.factory.handover import BACK, BEGIN, LEAVE
from pycomnet.factory.keptfarside import END_TIMEOUT
from pycomnet.factory.states import (
    KEPT,
    ROUTE,
    KeptEffect,
    KeptEvent,
    KeptState,
    RouteEffect,
    RouteEvent,
    RouteState,
)
from pycomnet.gateways.lifecycle import IllegalTransition
from pycomnet.test.factory.test_keptfarside import FarSideCase, GivenCase
from pycomnet.test.factory.test_programroute import HandingCase
from pycomnet.test.transitions import Transitions
from pycomnet.wire.frames import GOAWAY


class KeptTransitions(FarSideCase):
    """A far side whose programs use the relay."""

    #: far sides in whose life one of these happens are kept for no other program
    without = (KeptEvent.DETACH,)

    def begin(self, events: list[KeptEvent]) -> None:
        """One to which these events will happen."""
        self.gone.clear()
        keeps = events[-1] not in self.without or KeptEvent.LEAVE in events
        self.far = self.make("popen//id=x//linger=10" if keeps else "popen")
        self.starting = self.far.start()
        self.starting.addErrback(lambda _: None)
        self.told: list[Any] = []

    def reach(self) -> None:
        """It says hello."""
        transport = self.gateway_transport
        transport.near.makeConnection(transport.near_transport)
        transport.far.makeConnection(transport.far_transport)
        transport.near.dataReceived(transport.far_transport.take())

    def happens(self, event: KeptEvent) -> None:
        """Have it happen, as it does."""
        far, transport = self.far, self.gateway_transport
        if far.state is KeptState.GONE and event in (KeptEvent.LEAVE, KeptEvent.DETACH):
            self.happens(KeptEvent.ATTACH)
        if event is KeptEvent.START and transport.starting.called:
            far._happens(event)
        elif event is KeptEvent.START:
            if transport.near.transport is None and far.ended is None:
                self.reach()
            transport.starting.callback(None)
        elif event is KeptEvent.NOT_START:
            if not transport.starting.called:
                transport.starting.errback(GatewayNotStarted("no python there"))
        elif event is KeptEvent.ATTACH:
            self.raw, far_raw = self.pair.channel(raw=True)
            self.near, control = self.pair.channel()
            self.near.setcallback(self.told.append)
            far.attach(far_raw, control.core)
        elif event is KeptEvent.LEAVE:
            attachment = far.attachment
            assert attachment is not None
            if far.ended is None:
                attachment.connectionLost()
            else:
                attachment.connection.lost = ConnectionLost("killed")
                attachment.connectionLost()
                attachment.connection.lost = None
        elif event is KeptEvent.DETACH:
            if far.state is KeptState.ENDING:
                # That it says goodbye is found in the journal when it is gone already.
                far._happens(event)
            else:
                assert far.attachment is not None
                far.attachment.connectionLost()
        elif event is KeptEvent.END:
            far.end()
        elif event is KeptEvent.EXPIRE:
            self.clock.advance(10)
        elif event is KeptEvent.OVER:
            if transport.near.transport is None:
                self.reach()
            transport.near.connectionLost()
            transport.end(3)

    def done(self) -> dict[KeptEffect, Any]:
        """What would show that each effect was."""
        sent = self.gateway_transport.near_transport.value()
        return {
            KeptEffect.GIVE_UP: self.gateway_transport.signals == [15],
            KeptEffect.WAIT: self.far.left,
            KeptEffect.STOP: bytes([GOAWAY]) in sent,
            KeptEffect.TELL: self.far.attachment is None or self.far.ended is not None,
            KeptEffect.FORGET: self.gone.count(self.far) == 1,
        }

    def test_illegal_event_is_an_error_and_changes_nothing(self) -> None:
        """What can't happen is an error that says in which state it did, and changes nothing."""
        self.begin([KeptEvent.START])
        self.happens(KeptEvent.START)
        problem = self.assertRaises(IllegalTransition, self.happens, KeptEvent.START)
        self.assertIn("event START can't happen in state STARTED", str(problem))
        self.assertIs(self.far.state, KeptState.STARTED)

    def test_each_transition_of_a_kept_far_side(self) -> None:
        """Each event in each state leads to the next state, and does what the table says."""
        number = 0
        for events, state, after, effect in Transitions(KEPT, KeptState.STARTING).each():
            where = f"{[event.name for event in events]}"
            if events[:3] == [KeptEvent.START, KeptEvent.END, KeptEvent.OVER]:
                # If there is no program to be told, it is gone at once.
                events = [*events[:1], KeptEvent.ATTACH, *events[1:]]
            self.begin(events)
            for event in events[:-1]:
                self.happens(event)
            self.assertIs(self.far.state, state, where)
            self.happens(events[-1])
            if effect is KeptEffect.GIVE_UP:
                # What is given up is not started, at once.
                self.assertIs(self.far.state, KeptState.GONE, where)
            else:
                self.assertIs(self.far.state, after, where)
            number += 1
            done = self.done()
            if effect is KeptEffect.WAIT:
                self.assertEqual(done[effect], 10, where)
            elif effect is KeptEffect.STOP:
                self.assertTrue(done[effect], where)
                self.clock.advance(END_TIMEOUT)
                self.assertEqual(self.gateway_transport.signals, [15], where)
            elif effect is not None:
                self.assertTrue(done[effect], where)
            if after not in (KeptState.LINGERING, KeptState.LEFT):
                self.assertIsNone(self.far.left, where)
        self.assertEqual(number, sum(map(len, KEPT.values())))


class RouteTransitions(HandingCase):
    """The route between a far side that lingers and its programs, by their own pipes and back."""

    def begin(self) -> None:
        """Make one that is relayed."""
        self.setUp()
        self.asks: list[Any] = []

    def happens(self, event: RouteEvent) -> None:
        """Have it happen, as it does."""
        route = self.far.route
        if event is RouteEvent.ASK:
            self.user = self.program()
            self.question = self.is_asked("pipes")
        elif event is RouteEvent.REFUSE:
            self.answer(self.question, False)
        elif event is RouteEvent.ACCEPT:
            self.answer(self.question)
            self.question = self.is_asked("take")
        elif event is RouteEvent.TURN:
            self.answer(self.question)
        elif event is RouteEvent.MISS:
            self.user[0].close()
            self.pump()
            self.answer(self.question)
        elif event is RouteEvent.RECALL and route is RouteState.HANDED:
            self.left(self.user)
        elif event is RouteEvent.RECALL:
            self.far._route_happens(event)  # as it does just before RETURN
        elif event is RouteEvent.RETURN:
            self.say(BACK)
        elif event is RouteEvent.LOSE:
            if route is not RouteState.RELAYED:
                self.user[0].close()
                self.pump()
            self.far.end()
            self.gateway_transport.end(0)  # before its connection is seen to be over

    def test_each_transition_of_a_route_by_own_pipes(self) -> None:
        """Each event in each state leads to the next state, and does what the table says."""
        table = {
            state: row
            for state, row in ROUTE.items()
            if state not in (RouteState.OPEN, RouteState.GIVEN)
        }
        number = 0
        for events, state, after, effect in Transitions(table, RouteState.RELAYED).each():
            where = f"{[event.name for event in events]}"
            self.begin()
            for event in events[:-1]:
                self.happens(event)
            self.assertIs(self.far.route, state, where)
            heard = self.heard()
            if state is RouteState.RELAYED:
                self.connection.dataReceived(heard)
            waiting = self.far.when_back()
            self.happens(events[-1])
            self.assertIs(self.far.route, after, where)
            number += 1
            away = after not in (RouteState.RELAYED, RouteState.OPEN, RouteState.GIVEN)
            self.assertEqual(self.far.is_away, away, where)
            heard = self.heard()
            if effect is RouteEffect.BEGIN:
                self.assertEqual(heard, BEGIN, where)
                self.assertEqual(len(self.user[1][0]["pipes"]), 3, where)
            elif effect is RouteEffect.LEAVE or effect is RouteEffect.DISMISS:
                self.assertEqual(heard, LEAVE, where)
            elif effect is RouteEffect.RELAY and events[-1] is RouteEvent.REFUSE:
                self.assertEqual([list(value) for value in self.user[1]], [["state"]], where)
            if effect in (RouteEffect.RELAY, RouteEffect.DISMISS, RouteEffect.WELCOME):
                self.successResultOf(waiting)
                self.assertIsNone(self.far._handover, where)
            self.close()
        self.assertEqual(number, sum(map(len, table.values())))


class GivenTransitions(GivenCase):
    """The route of a far side that does not linger: it may be given to its program."""

    def test_each_transition_of_a_route_that_may_be_given(self) -> None:
        """Its pipes are given, or can't be, or it ends before that is known."""
        found = set()
        far, _, _ = self.handed()
        found.add((RouteState.OPEN, RouteEvent.GIVE, far.route))
        self.gateway_transport.end(3)
        self.assertEqual(self.gone, [far])
        found.add((RouteState.GIVEN, RouteEvent.LOSE, far.route))
        for event in (RouteEvent.RELAY, RouteEvent.LOSE):
            self.setUp()
            self.patch_passes(event is RouteEvent.LOSE)
            far = self.begun()
            self.assertIs(far.route, RouteState.OPEN)
            if event is RouteEvent.LOSE:
                self.transport.abortConnection()
            else:
                self.say(self.gateway_transport.far.mux.data_to_send())
                self.attach(far)
            found.add((RouteState.OPEN, event, far.route))
        expected = {
            (state, event, after)
            for state in (RouteState.OPEN, RouteState.GIVEN)
            for event, (after, _) in ROUTE[state].items()
        }
        self.assertEqual(found, expected)

    def patch_passes(self, passes: bool) -> None:
        """Whether a program can be given descriptors."""
        self.patch(programroute, "passes_descriptors", lambda transport: passes)
