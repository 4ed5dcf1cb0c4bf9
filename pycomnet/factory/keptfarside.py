"""A far side that the factory keeps: the process, the relay, and the program that uses it."""

from __future__ import annotations

import signal
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet import defer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.channels.core import NO_ENDMARKER
from pycomnet.channels.transport import ChannelTransport
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import ConnectionLost, GatewayNotStarted
from pycomnet.factory.attachment import (
    Attachment,
    DirectAttachment,
    Ended,
    Flow,
    HandedAttachment,
)
from pycomnet.factory.idlewatch import IdleWatch
from pycomnet.factory.keptoutput import KeptOutput
from pycomnet.factory.programroute import ProgramRoute
from pycomnet.factory.settings import Settings
from pycomnet.factory.states import (
    KEPT,
    KeptEffect,
    KeptEvent,
    KeptState,
    RouteEvent,
    RouteState,
)
from pycomnet.far.lingering.framing import frame
from pycomnet.far.lingering.relay import Relay
from pycomnet.gateways import transports
from pycomnet.gateways.lifecycle import step
from pycomnet.gateways.output import shown
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transportend import StillRuns, TransportEnd
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.net import eager
from pycomnet.net.reactors import GatewayReactor
from pycomnet.text.logs import Logger
from pycomnet.wire.frames import GOAWAY
from pycomnet.wire.mux import ProtocolError
from pycomnet.wire.values import PureCodec

log = Logger("pycomnet.factory")

#: Seconds for a far side to end by itself.
END_TIMEOUT = 5.0
#: The states in which it was told to end, or has ended.
_OVER = (KeptState.ENDING, KeptState.PARTING, KeptState.GONE)

_GOODBYE = PureCodec().encode({"code": "exit", "message": ""})


class KeptFarSide(ProgramRoute):
    """A far side that outlives the programs that use it: the protocol of its own connection.

    :param spec: how it is started.
    :param shown: the spec as its first program wrote it.
    :param name: the id by which it is resumed; None if it ends with its program.
    :param id: its name at the service.
    :param scope: takes the place of the gateway's group.
    :param gone: called when it need not be kept any more.
    :param direct: whether its program is given its pipes, if it has pipes.
    :ivar state: the state in the table of :mod:`pycomnet.factory.states`.
    :ivar since: when it was started, by the reactor's clock.
    :ivar attachment: the program that uses it, or None.
    :ivar ended: how it ended, or None.
    """

    def __init__(
        self,
        spec: Spec,
        shown: str,
        name: str | None,
        id: str,
        scope: Any,
        gone: Callable[[KeptFarSide], object],
        reactor: GatewayReactor,
        settings: Settings | None = None,
        make_transport: Callable[[GatewayRequest], GatewayTransport] = transports.gateway_transport,
        direct: bool = False,
    ) -> None:
        super().__init__(RouteState.OPEN if direct else RouteState.RELAYED)
        self.state = KeptState.STARTING
        self.spec = spec
        self.shown = shown
        self.name = name
        self.id = id
        self.settings = settings or Settings()
        self.linger = 0.0
        self.set_linger(spec.linger or 0.0)
        self.relay = Relay(self.settings.max_kept, keeps=spec.linger is not None)
        self.since = reactor.seconds()
        self.attachment: Attachment | None = None
        self.ended: Ended | None = None
        self.gateway_transport = make_transport(
            GatewayRequest(spec, id, self._said, weakref.ref(scope), reactor)
        )
        self.idle = IdleWatch(
            self.settings.idle_timeout, self._is_busy, self._ask_idle, self._idle_out, reactor
        )
        self._reactor = reactor
        self._transport_end = TransportEnd(self.gateway_transport, self._abort, reactor)
        self._gone = gone
        self._starting: defer.Deferred[None] | None = None
        self._end_timeout = END_TIMEOUT
        self._reason = ""
        self._vanished: OneShot[None] = OneShot()
        self._output = KeptOutput()
        self._linger_call: Any = None
        self._write_now: Callable[[eager.Pieces], None] = eager.nowhere
        #: bytes that were read from pipes before these were given to the program
        self._first = b""
        #: fires when its hello has come, when none can come, or when none is waited for
        self._begun: OneShot[None] = OneShot()

    def set_linger(self, linger: float) -> None:
        """Set the seconds for which it is kept without a program."""
        self.linger = min(linger, self.settings.max_linger)

    # -- the states ------------------------------------------------------------------------------

    def _happens(self, event: KeptEvent) -> None:
        self.state, effect = step(KEPT, self.state, event)
        if self._linger_call is not None and self.state not in (
            KeptState.LINGERING,
            KeptState.LEFT,
        ):
            call, self._linger_call = self._linger_call, None
            if call.active():
                call.cancel()
        if effect is not None:
            self._effects[effect](self)

    def _give_up(self) -> None:
        if self._starting is not None:
            self._starting.cancel()

    def _wait(self) -> None:
        self._linger_call = self._reactor.callLater(self.linger, self._expired)

    def _expired(self) -> None:
        log.info("gateway {name}: no program came in time: it is ended", name=self.id)
        self._happens(KeptEvent.EXPIRE)

    def _tell(self) -> None:
        if self.attachment is not None:
            self.attachment.finish()
        else:
            self._happens(KeptEvent.DETACH)

    def _forget(self) -> None:
        if self.ended is None:
            self.ended = Ended(
                None, self.gateway_transport.what, self._reason or "it was not started", ""
            )
        self._stop_waiting()
        self._gone(self)
        self._route_happens(RouteEvent.LOSE)
        self._vanished.fire(None)

    # -- its start -------------------------------------------------------------------------------

    @deferred
    async def start(self) -> None:
        """Start it. Fails with :class:`GatewayNotStarted`. Cancelling it stops the attempt."""
        self._starting = self.gateway_transport.connect(self)  # type: ignore[arg-type]
        try:
            await self._starting
            self.gateway_transport.when_ended().addCallback(self._process_ended)
            if self.route is RouteState.OPEN:
                self._starting = self._begun.when_fired()
                await self._starting
        except GatewayNotStarted:
            self._happens(KeptEvent.NOT_START)
            raise
        except BaseException as problem:
            self.gateway_transport.kill(signal.SIGTERM)
            self._happens(KeptEvent.NOT_START)
            self._abort()
            if not isinstance(problem, Exception) or isinstance(problem, defer.CancelledError):
                raise
            raise GatewayNotStarted(str(problem) or type(problem).__name__) from problem
        finally:
            self._starting = None
        self._happens(KeptEvent.START)
        if self.ended is None:
            self.idle.start()

    def _process_ended(self, status: int | None) -> None:
        """Its process has ended. The last bytes that it sent are still to be read; processes that
        it has started may hold its pipes open."""
        if self.route is RouteState.GIVEN and self.state is not KeptState.ENDING:
            self._over(self._how_it_ended(status))
        elif self.transport is not None:
            self._transport_end.process_ended()

    # -- its connection --------------------------------------------------------------------------

    def connectionMade(self) -> None:
        # Whether its program gets the pipes is decided when its hello has come. Until then nothing
        # is written.
        if self.route is not RouteState.OPEN:
            self._use_connection()
        elif not isinstance(self.transport, ProcessTransport):
            self._keep_pipes()

    def _keep_pipes(self) -> None:
        self._route_happens(RouteEvent.RELAY)
        self._use_connection()

    def _use_connection(self) -> None:
        """Read and write its connection here."""
        transport: Any = self.transport
        transport.registerProducer(
            Flow(lambda: self.attachment and self.attachment.transport), True
        )
        self._write_now = eager.writer(transport)
        self._pump()
        self._begun.fire(None)

    def dataReceived(self, data: bytes) -> None:
        if self.is_handed:
            assert self._handover is not None
            self._read_signals(self._handover, data)
            return
        self.idle.used = self._reactor.seconds()
        try:
            self.relay.from_far(data)
        except ProtocolError as problem:
            self._broke(problem)
        if self.relay.far is not None and not self._heard.fired:
            self._heard.fire(None)
        if self._asking:
            self._find_answers()
        if self.route is not RouteState.OPEN:
            self._pump()
            return
        self._first += data
        transport: Any = self.transport
        if self.relay.far is not None and transport is not None:
            transport.pauseProducing()  # the rest is for the process that gets the pipes
            self._begun.fire(None)

    def _broke(self, problem: ProtocolError) -> None:
        self._reason = f"it broke the wire protocol ({problem.code}): {problem.message}"
        self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport = None
        self._write_now = eager.nowhere
        if self.is_handed:
            assert self._handover is not None
            self._catch_up(self._handover)
        asking, self._asking = self._asking, {}
        for waiting in asking.values():
            waiting.callback(None)
        self._heard.fire(None)
        if self.route is RouteState.OPEN:
            self._route_happens(RouteEvent.LOSE)
        self._begun.fire(None)
        if self.ended is None and self.state is not KeptState.ENDING:
            self._find_out(reason)

    def abort(self, reason: ConnectionLost) -> None:
        """Abort the connection. A gateway transport may call this on any connection."""
        self._reason = self._reason or reason.reason
        self._abort()

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            abort = getattr(transport, "abortConnection", transport.loseConnection)
            abort()

    @deferred
    async def _find_out(self, reason: Failure) -> None:
        """Find out how the process ended, after its connection was lost."""
        status, unknown = None, ""
        how = self._reason
        try:
            status = await self._transport_end.find_status()
        except StillRuns:
            unknown = "its connection is over, and it goes on"
        how = how or self.gateway_transport.describe_end(status) or unknown
        self._reason = how or reason.getErrorMessage()
        self._over(self._how_it_ended(status))

    def _how_it_ended(self, status: int | None) -> Ended:
        gateway_transport = self.gateway_transport
        how = self._reason or gateway_transport.describe_end(status) or "it was ended"
        return Ended(status, gateway_transport.what, how, gateway_transport.stderr_tail())

    def _over(self, ended: Ended) -> None:
        if self.ended is not None:
            return
        self.ended = ended
        self._stop_waiting()
        self._happens(KeptEvent.OVER)
        if self.attachment is None:
            if self.state is KeptState.LEFT and self.relay.goodbye:
                self._happens(KeptEvent.EXPIRE)
            self._route_happens(RouteEvent.LOSE)

    def _stop_waiting(self) -> None:
        self._transport_end.stop()
        self.idle.stop()

    # -- programs --------------------------------------------------------------------------------

    def attach(self, channel: Channel, control: ChannelCore, takes_pipes: bool = False) -> None:
        """Attach a program.

        :param channel: the raw channel that carries its connection.
        :param control: the channel for all other messages.
        :param takes_pipes: whether it can use pipes instead of the raw channel.
        """
        self._happens(KeptEvent.ATTACH)
        self.idle.used = self._reactor.seconds()
        control.set_callback(lambda value: self._told(control, value), lambda _: None, NO_ENDMARKER)
        pipes = self._release(control.connection)
        if pipes is not None:
            self.attachment = attachment = DirectAttachment(self, control)
            first, self._first = self._first, b""
            attachment.hand_over(pipes, first)
            channel.close()
            self._attached(attachment)
        elif takes_pipes and self._may_have_pipes(control.connection):
            self.attachment = handed = HandedAttachment(self, control, channel)
            self._hand_over(handed)
        else:
            self._pass_through(channel, control)

    def _pass_through(self, channel: Channel, control: ChannelCore) -> None:
        """Connect a program to the relay."""
        self.attachment = attachment = Attachment(self, control)
        attachment.tell({"state": self.relay.attach()})
        ChannelTransport(channel, attachment).start()
        self._attached(attachment)

    def _attached(self, attachment: Attachment) -> None:
        self._output.give(lambda text: attachment.tell({"stderr": text}))
        self._pump()
        if self.ended is not None:
            attachment.finish()

    def from_program(self, attachment: Attachment, data: bytes) -> None:
        """Process bytes from the program."""
        if attachment is not self.attachment:
            return
        self.idle.used = self._reactor.seconds()
        try:
            self.relay.from_program(data)
        except ProtocolError as problem:
            attachment.refuse(problem)
            return
        self._pump()
        attachment.asked(getattr(self.transport, "look", None))
        if self.relay.goodbye and self.state not in _OVER:
            self.end()

    def _told(self, control: ChannelCore, value: Any) -> None:
        """Process a message of the program on its control channel."""
        attachment = self.attachment
        if attachment is None or attachment.control is not control or not isinstance(value, dict):
            return
        if isinstance(attachment, HandedAttachment) and self._told_of_pipes(attachment, value):
            return
        if "taken" in value or "done" in value:
            self.relay.confirm(value.get("taken", {}), value.get("done", ()))
        if "idle" in value and self.state not in _OVER:
            self.idle.told(value["idle"] is True)
        if "kill" in value:
            self.end()
            self.gateway_transport.kill(value["kill"])

    def detach(self, attachment: Attachment) -> None:
        """Detach the program: it is gone, or was sent everything."""
        if attachment is not self.attachment:
            return
        if self.state is KeptState.ENDING:
            return  # the program is told when it has ended
        transport: Any = self.transport
        if transport is not None and self.state not in _OVER:
            transport.resumeProducing()  # it is paused if the program was slow
        self.attachment = None
        if self.is_handed:
            assert self._handover is not None
            self._catch_up(self._handover)
            self._route_happens(RouteEvent.RECALL)
        else:
            self.relay.detach()
        attachment.close(self.ended)
        self._pump()
        # If it has ended by itself, its last values are kept when its program was lost, since that
        # may not have taken them.
        stays = self.linger and self.relay.far is not None and not self.relay.goodbye
        if stays and (self.ended is None or attachment.lost):
            self._happens(KeptEvent.LEAVE)
        else:
            self._happens(KeptEvent.DETACH)
        if self.ended is not None:
            self._route_happens(RouteEvent.LOSE)

    @property
    def used_by(self) -> Connection | None:
        """The connection of the program that uses it, or None."""
        return None if self.attachment is None else self.attachment.connection

    @property
    def left(self) -> float | None:
        """Seconds until it is ended if no program uses it; else None."""
        if self._linger_call is None:
            return None
        left: float = self._linger_call.getTime() - self._reactor.seconds()
        return max(left, 0.0)

    # -- whether it is used ----------------------------------------------------------------------

    def _is_busy(self) -> bool:
        """Whether code runs at the far side."""
        if self.is_handed:
            assert self._handover is not None
            self._catch_up(self._handover)
        return any(
            record.near and not record.is_over and record.purpose in ("exec", "call")
            for record in self.relay.records.values()
        )

    def _ask_idle(self) -> None:
        if self.attachment is not None:
            self.attachment.tell({"ask": "idle"})

    def _idle_out(self) -> None:
        self._reason = f"nothing was done there for {self.settings.idle_timeout:g} seconds"
        self.end()

    def _said(self, text: str) -> defer.Deferred[None] | None:
        """Pass text that its process has written to standard error to the program, or keep it."""
        text = shown(text)  # the wire carries only valid text
        if self.attachment is not None:
            return self.attachment.tell({"stderr": text})
        return self._output.keep(text)

    # -- its end ---------------------------------------------------------------------------------

    def end(self, timeout: float = END_TIMEOUT) -> defer.Deferred[None]:
        """End it; fires when it is gone.

        :param timeout: seconds for it to end by itself.
        """
        self._end_timeout = timeout
        self._happens(KeptEvent.END)
        if self.ended is not None:
            return defer.succeed(None)
        return self._vanished.when_fired()

    @deferred
    async def _stop(self) -> None:
        self.idle.stop()
        timeout, self._end_timeout = self._end_timeout, END_TIMEOUT
        apart = self.is_handed or self.route is RouteState.GIVEN
        if apart and self.attachment is not None:
            self.attachment.tell({"ask": "end"})
        if self.transport is not None:
            unwritten = self.route in (RouteState.OPEN, RouteState.TURNING)
            if not (self.relay.goodbye or apart or unwritten):
                self.transport.write(frame(GOAWAY, 0, _GOODBYE))
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.loseConnection()
        self._over(self._how_it_ended(await self._transport_end.end(timeout)))

    #: the function for each effect in the table of states
    _effects: ClassVar[dict[KeptEffect, Callable[[KeptFarSide], object]]] = {
        KeptEffect.GIVE_UP: _give_up,
        KeptEffect.WAIT: _wait,
        KeptEffect.STOP: _stop,
        KeptEffect.TELL: _tell,
        KeptEffect.FORGET: _forget,
    }
