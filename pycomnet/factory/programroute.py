"""The route between a kept far side and its program: the relay, or pipes of the program's own.

docs/protocol.rst, "The factory", has the messages; docs/architecture/factory.rst, why. The states
are in :mod:`pycomnet.factory.states`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet import defer
from twisted.internet.protocol import Protocol

from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.deferred import OneShot, deferred
from pycomnet.factory.attachment import Attachment, Ended, HandedAttachment
from pycomnet.factory.handover import (
    BACK,
    BEGIN,
    LEAVE,
    READ,
    Handover,
    ProgramBroke,
    says_yes,
)
from pycomnet.factory.idlewatch import IdleWatch
from pycomnet.factory.states import (
    ROUTE,
    KeptState,
    RouteEffect,
    RouteEvent,
    RouteState,
)
from pycomnet.far.lingering.journal import ATOMIC
from pycomnet.far.lingering.relay import Relay
from pycomnet.gateways.lifecycle import step
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.net.descriptors import passes_descriptors
from pycomnet.text.logs import Logger
from pycomnet.wire.mux import ProtocolError

log = Logger("pycomnet.factory")

#: Seconds for a far side to open the pipes. If it is stopped, or runs code that holds the
#: interpreter's lock, its program uses the relay.
PREPARE_TIMEOUT = 1.0
#: Seconds for a far side that has opened the pipes to begin to use them. Until it answers, nothing
#: may be written to it, not even by the relay; so after this time its program is refused. It has
#: answered the request before just now, so it takes this long only if it was stopped since.
TAKE_TIMEOUT = 20.0


class ProgramRoute(Protocol):
    """A far side's route to its program. :class:`~.keptfarside.KeptFarSide` is the rest of it.

    :param route: the first state.
    :ivar route: the state in the table of :mod:`pycomnet.factory.states`.
    """

    id: str
    spec: Spec
    relay: Relay
    state: KeptState
    attachment: Attachment | None
    ended: Ended | None
    idle: IdleWatch
    _reactor: Any
    _write_now: Any

    def __init__(self, route: RouteState) -> None:
        self.route = route
        #: the pipes and the journal of the current program, if it has pipes of its own
        self._handover: Handover | None = None
        #: fires when the next program can have the far side
        self._away: OneShot[None] | None = None
        #: requests to the far side: the channel's id -> the Deferred that waits for the answer
        self._asking: dict[int, defer.Deferred[bytes | None]] = {}
        #: fires when its hello has come, or it is gone
        self._heard: OneShot[None] = OneShot()

    # -- what the subclass does ------------------------------------------------------------------

    def detach(self, attachment: Attachment) -> None:
        """Detach the program: it is gone, or was sent everything."""
        raise NotImplementedError

    def end(self) -> defer.Deferred[None]:
        """End the far side."""
        raise NotImplementedError

    def _pass_through(self, channel: Channel, control: ChannelCore) -> None:
        raise NotImplementedError

    def _attached(self, attachment: Attachment) -> None:
        raise NotImplementedError

    def _broke(self, problem: ProtocolError) -> None:
        raise NotImplementedError

    def _keep_pipes(self) -> None:
        raise NotImplementedError

    # -- its own pipes ---------------------------------------------------------------------------

    def _release(self, connection: Connection) -> tuple[int, int] | None:
        """Take the far side's pipes out of its transport, for its program; None if the program
        can't have them."""
        transport: Any = self.transport
        if self.route is not RouteState.OPEN or transport is None:
            return None
        pipes: tuple[int, int] | None = None
        if passes_descriptors(connection.transport):
            pipes = transport.release()
        if pipes is None:
            transport.resumeProducing()
            self._keep_pipes()
            return None
        self._route_happens(RouteEvent.GIVE)
        self.transport = None
        self.idle.ask_from_now_on()
        return pipes

    # -- the states ------------------------------------------------------------------------------

    def _route_happens(self, event: RouteEvent) -> None:
        self.route, effect = step(ROUTE, self.route, event)
        if effect is not None:
            self._route_effects[effect](self)

    def _begin(self) -> None:
        """Have the far side begin, and give the program its pipes: both wait for that."""
        handover, attachment = self._handover, self.attachment
        assert handover is not None and isinstance(attachment, HandedAttachment)
        state, first = handover.begin()
        self._write_now((BEGIN,))
        try:
            attachment.hand_over(handover.give(), state, first)
        except Exception:
            log.failure("gateway {name}: its program can't be given pipes", name=self.id)
            attachment.closed = True
            self._route_happens(RouteEvent.RECALL)

    def _leave(self) -> None:
        self._write_now((LEAVE,))

    def _use_relay(self) -> None:
        self._close_handover()
        attachment = self.attachment
        if isinstance(attachment, HandedAttachment):
            self._pass_through(attachment.channel, attachment.control)
        self._pump()
        self._free()

    def _dismiss(self) -> None:
        self._write_now((LEAVE,))
        self._use_relay()

    def _welcome(self) -> None:
        self._close_handover()
        self.relay.detach()
        attachment = self.attachment
        if isinstance(attachment, HandedAttachment) and attachment.closed:
            self.detach(attachment)
        # Otherwise the far side has closed the pipes, and the program waits for the reason.
        self._pump()
        self._free()

    def _free(self) -> None:
        if self._away is not None:
            back, self._away = self._away, None
            back.fire(None)

    def _close_handover(self) -> None:
        handover, self._handover = self._handover, None
        if handover is not None:
            handover.close()

    #: the function for each effect in the table of states
    _route_effects: ClassVar[dict[RouteEffect, Callable[[ProgramRoute], None]]] = {
        RouteEffect.BEGIN: _begin,
        RouteEffect.LEAVE: _leave,
        RouteEffect.RELAY: _use_relay,
        RouteEffect.DISMISS: _dismiss,
        RouteEffect.WELCOME: _welcome,
    }

    @property
    def is_handed(self) -> bool:
        """Whether a program has pipes of its own to it. Then its connection carries only
        signals."""
        return self.route in (RouteState.HANDED, RouteState.RECALLED)

    @property
    def is_away(self) -> bool:
        """Whether the last program may still use it through pipes, so that the next has to wait."""
        return self._away is not None

    def when_back(self) -> defer.Deferred[None]:
        """Fires when another program can have it."""
        return defer.succeed(None) if self._away is None else self._away.when_fired()

    # -- to pipes of a program's own -------------------------------------------------------------

    def _may_have_pipes(self, connection: Connection) -> bool:
        """Whether a program can be given pipes of its own to it."""
        spec = self.spec
        return (
            self.relay.keeps
            and self.ended is None
            and ATOMIC
            and hasattr(os, "memfd_create")
            and (spec.transport, spec.via) == ("popen", None)
            and isinstance(self.transport, ProcessTransport)
            and passes_descriptors(connection.transport)
        )

    @deferred
    async def _hand_over(self, attachment: HandedAttachment) -> None:
        self._away = OneShot()
        self._route_happens(RouteEvent.ASK)
        try:
            event = await self._ask_for_pipes(attachment)
        except Exception:
            log.failure("gateway {name}: its program can't have pipes of its own", name=self.id)
            event = RouteEvent.REFUSE
        if self.route not in (RouteState.ASKED, RouteState.TURNING):
            return  # it has ended, and was let go, in the meantime
        self._route_happens(event)
        if event is RouteEvent.TURN:
            self._attached(attachment)

    async def _ask_for_pipes(self, attachment: HandedAttachment) -> RouteEvent:
        """Ask the far side to open the pipes, and to use them."""
        await self._heard.when_fired()
        if self.transport is None or not self._waits(attachment):
            return RouteEvent.REFUSE
        try:
            self._handover = handover = Handover(self.relay)
        except OSError:
            return RouteEvent.REFUSE
        opened = self._ask("pipes", handover.request())
        opened.addTimeout(PREPARE_TIMEOUT, self._reactor)
        try:
            if not says_yes(await opened) or not self._waits(attachment):
                return RouteEvent.REFUSE
        except defer.TimeoutError:
            return RouteEvent.REFUSE
        if self.route is not RouteState.ASKED:
            return RouteEvent.LOSE
        used = self._ask("take", None)
        self._route_happens(RouteEvent.ACCEPT)
        late = self._reactor.callLater(TAKE_TIMEOUT, self._too_late, attachment)
        turned = says_yes(await used)
        if late.active():
            late.cancel()
        if not turned or self.transport is None:
            return RouteEvent.REFUSE
        # The far side waits for the next message.
        return RouteEvent.TURN if self._waits(attachment) else RouteEvent.MISS

    def _waits(self, attachment: HandedAttachment) -> bool:
        """Whether a program still waits for its pipes, and the far side is not ending."""
        return attachment is self.attachment and self.state is not KeptState.ENDING

    def _too_late(self, attachment: HandedAttachment) -> None:
        """The far side does not use the pipes. Whenever it does, it is told to leave."""
        if attachment is self.attachment:
            log.warn("gateway {name}: it does not answer", name=self.id)
            attachment.fail(
                f"the gateway {self.id!r} has not answered for {TAKE_TIMEOUT:g} seconds: its "
                f"process is stopped, or runs code that lets no other thread run. It is kept: try "
                f"again with resume=yes"
            )
            self.detach(attachment)

    def _ask(self, purpose: str, value: Any) -> defer.Deferred[bytes | None]:
        """Send a request to the far side; fires with the encoded answer, or None if it is gone."""
        id = self.relay.ask(purpose, value)

        def forget(_: object) -> None:
            del self._asking[id]

        asked: defer.Deferred[bytes | None] = defer.Deferred(forget)
        self._asking[id] = asked
        self._pump()
        return asked

    def _find_answers(self) -> None:
        answers = self.relay.answers
        for id in [id for id, answer in answers.items() if answer is not None]:
            answer = answers.pop(id)
            asked = self._asking.pop(id, None)
            if asked is not None:
                asked.callback(answer)

    def _pump(self) -> None:
        """Write what the relay has."""
        if self.is_handed or self.route is RouteState.TURNING:
            return
        relay = self.relay
        if relay.to_far and self.transport is not None:
            data, relay.to_far = b"".join(relay.to_far), []
            self._write_now((data,))
        if relay.to_program and self.attachment is not None:
            data, relay.to_program = b"".join(relay.to_program), []
            self.attachment.write(data)

    # -- while a program has it by pipes, and back -----------------------------------------------

    def _read_signals(self, handover: Handover, data: bytes) -> None:
        """Process what the far side writes to its connection while a program has its pipes."""
        while data.startswith(READ):
            self._catch_up(handover)
            data = data[1:]
        if data.startswith(BACK):
            self._catch_up(handover)
            self._route_happens(RouteEvent.RECALL)  # it waits for LEAVE, if that was not written
            self._route_happens(RouteEvent.RETURN)
            data = data[1:]
            if data:
                self.dataReceived(data)
        elif data:
            try:
                handover.last_words(data)
            except ProtocolError as problem:
                log.warn("gateway {name}: its last message: {why}", name=self.id, why=str(problem))

    def _catch_up(self, handover: Handover) -> None:
        """Read the journal's new entries, and end the far side if one says that it has to."""
        try:
            if handover.read():
                self.idle.used = self._reactor.seconds()
        except ProgramBroke as problem:
            log.warn("gateway {name}: its program: {why}", name=self.id, why=str(problem))
            if isinstance(self.attachment, HandedAttachment):
                self.attachment.closed = True
            self._route_happens(RouteEvent.RECALL)
        except ProtocolError as problem:
            self._broke(problem)
        if self.relay.goodbye and self.ended is None:
            self.end()

    def _told_of_pipes(self, attachment: HandedAttachment, value: dict[str, Any]) -> bool:
        """Process a message about pipes. Returns False if the message is about something else."""
        handover = self._handover if self.is_handed else None
        if value.get("closed") is True:
            attachment.closed = True
            if handover is not None:
                return False  # the far side comes back by itself
            self.detach(attachment)
            return True
        if value.get("left") is True:
            attachment.left = True
            self.detach(attachment)
            return True
        if handover is None:
            return False
        if "got" in value and self.ended is not None:
            attachment.tell({"rest": handover.not_come(int(value["got"]))})
            self.detach(attachment)
            return True
        self._catch_up(handover)  # the journal may have values that the program has taken
        return False
