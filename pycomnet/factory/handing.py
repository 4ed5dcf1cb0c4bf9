"""How a far side that lingers is handed to a program by pipes of its own, and comes back.

docs/protocol.rst, "The factory", has what is said; docs/architecture.rst, why.
"""

from __future__ import annotations

import os
from typing import Any

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
from pycomnet.far.lingering.relay import Relay
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.process import ProcessTransport
from pycomnet.net.descriptors import passes_descriptors
from pycomnet.text.logs import Logger
from pycomnet.wire.mux import ProtocolError

log = Logger("pycomnet.factory")

#: Seconds that a far side has to answer that it can have pipes for a program. If it stands still,
#: or runs what lets no other thread run, that program goes through here.
PREPARE_TIMEOUT = 1.0


class Handing(Protocol):
    """What a far side of the factory's has of that; the rest is :class:`~.farside.KeptFarSide`."""

    id: str
    spec: Spec
    relay: Relay
    attachment: Attachment | None
    ended: Ended | None
    _reactor: Any
    _ending: bool
    _reason: str
    _used: float
    _write_now: Any

    def __init__(self) -> None:
        #: while a program has it by pipes of their own: what is found out of that, and whether the
        #: far side was told to come back; fires when it is back
        self._handover: Handover | None = None
        self._called_back = False
        self._away: OneShot[None] | None = None
        self._trying = False
        #: whether it was asked to use the pipes: nothing is written until it has answered
        self._turning = False
        #: what the far side was asked: the channel's id, and what waits for the answer
        self._asking: dict[int, defer.Deferred[bytes | None]] = {}
        #: fires when it has said hello, or is gone
        self._heard: OneShot[None] = OneShot()

    # -- the rest --------------------------------------------------------------------------------

    def detach(self, attachment: Attachment) -> None:
        """The program is gone, or has been told all there was to tell."""
        raise NotImplementedError

    def end(self) -> defer.Deferred[None]:
        """End it."""
        raise NotImplementedError

    def _pass_through(self, channel: Channel, control: ChannelCore) -> None:
        raise NotImplementedError

    def _attached(self, attachment: Attachment) -> None:
        raise NotImplementedError

    def _broke(self, problem: ProtocolError) -> None:
        raise NotImplementedError

    def _pump(self) -> None:
        raise NotImplementedError

    # -- pipes of a program's own ----------------------------------------------------------------

    def _may_have_pipes(self, connection: Connection) -> bool:
        """Whether a program may have one that lingers without its being in between."""
        spec = self.spec
        return (
            self.relay.keeps
            and self.ended is None
            and hasattr(os, "memfd_create")
            and (spec.transport, spec.via) == ("popen", None)
            and isinstance(self.transport, ProcessTransport)
            and passes_descriptors(connection.transport)
        )

    @deferred
    async def _hand_over(self, attachment: HandedAttachment) -> None:
        self._trying = True
        try:
            given = await self._try_to_hand_over(attachment)
        except Exception:
            log.failure("gateway {name}: its program can't have pipes of its own", name=self.id)
            given = False
        self._trying = False
        if given:
            self._attached(attachment)
            return
        if self.attachment is attachment:
            self._pass_through(attachment.channel, attachment.control)
        self._pump()
        self._now_back()

    async def _try_to_hand_over(self, attachment: HandedAttachment) -> bool:
        await self._heard.when_fired()
        if self.transport is None or attachment is not self.attachment:
            return False
        try:
            handover = Handover(self.relay)
        except OSError:
            return False
        try:
            waiting = self._ask("pipes", handover.asked())
            waiting.addTimeout(PREPARE_TIMEOUT, self._reactor)
            prepared = says_yes(await waiting)
        except defer.TimeoutError:
            prepared = False
        if not prepared or self.attachment is not attachment or self._ending:
            handover.close()
            return False
        waiting = self._ask("take", None)
        self._turning = True
        turned = says_yes(await waiting)
        self._turning = False
        if not turned or self.transport is None:
            handover.close()
            return False
        # From here on in the same turn: the far side waits for what is said now.
        if self.attachment is not attachment or self._ending:
            self._write_now((LEAVE,))
            handover.close()
            return False
        state, first = handover.begin()
        self._handover, self._called_back = handover, False
        self._write_now((BEGIN,))
        attachment.hand_over(handover.give(), state, first)
        return True

    def _ask(self, purpose: str, value: Any) -> defer.Deferred[bytes | None]:
        """Ask the far side something."""
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

    def _now_back(self) -> None:
        if self._away is not None:
            back, self._away = self._away, None
            back.fire(None)

    @property
    def is_away(self) -> bool:
        """Whether the last program had pipes of its own, and it has not come back yet."""
        return self._away is not None

    def when_back(self) -> defer.Deferred[None]:
        """Fires when another program can have it: at once, unless the last one had pipes."""
        return defer.succeed(None) if self._away is None else self._away.when_fired()

    def _read_signals(self, handover: Handover, data: bytes) -> None:
        """What the far side says here while a program has it."""
        while data.startswith(READ):
            self._catch_up(handover)
            data = data[1:]
        if data.startswith(BACK):
            self._catch_up(handover)
            self._come_back(handover)
            data = data[1:]
            if data:
                self.dataReceived(data)
        elif data:
            try:
                handover.last_words(data)
            except (ProtocolError, ProgramBroke) as problem:
                log.warn("gateway {name}: what it said last: {why}", name=self.id, why=str(problem))

    def _catch_up(self, handover: Handover) -> None:
        """Find out what was said between it and its program."""
        try:
            if handover.read():
                self._used = self._reactor.seconds()
        except ProgramBroke as problem:
            log.warn("gateway {name}: its program: {why}", name=self.id, why=str(problem))
            if isinstance(self.attachment, HandedAttachment):
                self.attachment.closed = True
            self._call_back()
        except ProtocolError as problem:
            self._broke(problem)
        if self.relay.goodbye and not self._ending and self.ended is None:
            self.end()

    def _call_back(self) -> None:
        """Have the far side come back."""
        if self._handover is not None and not self._called_back:
            self._called_back = True
            self._write_now((LEAVE,))

    def _come_back(self, handover: Handover) -> None:
        """The far side is back."""
        self._call_back()  # it waits for that
        attachment = self.attachment
        self._finish_handover(handover)
        if isinstance(attachment, HandedAttachment) and attachment.closed:
            self.detach(attachment)
        # Else its pipes are closed, and it has still to say why.
        self._pump()
        self._now_back()

    def _finish_handover(self, handover: Handover) -> None:
        self._handover = None
        handover.close()
        self.relay.detach()

    def _told_of_pipes(self, attachment: HandedAttachment, value: dict[str, Any]) -> bool:
        """What the program says that has pipes; whether that is all."""
        handover = self._handover
        if handover is None and value.get("closed") is True:
            self.detach(attachment)
            return True
        if value.get("closed") is True:
            attachment.closed = True
        elif value.get("left") is True:
            attachment.left = True
            self.detach(attachment)
            return True
        elif handover is None:
            return False
        elif "got" in value and self.ended is not None:
            attachment.tell({"rest": handover.not_come(int(value["got"]))})
            self.detach(attachment)
            return True
        else:
            self._catch_up(handover)  # what was taken may not have been known here yet
        return False

    def _let_go(self) -> bool:
        """The program is gone; whether it had pipes."""
        handover = self._handover
        if handover is None:
            return False
        self._catch_up(handover)
        if self.ended is not None:
            self._finish_handover(handover)
        self._call_back()
        return True
