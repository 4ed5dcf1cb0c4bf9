"""A far side that the factory keeps: the process, the relay, and the program that uses it."""

from __future__ import annotations

import signal
import weakref
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.channels.core import NO_ENDMARKER
from pycomnet.channels.transport import ChannelTransport
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import ConnectionLost, GatewayNotStarted
from pycomnet.factory.attachment import Attachment, DirectAttachment, Ended, Flow
from pycomnet.factory.framing import frame
from pycomnet.factory.relay import MAX_KEPT, Relay
from pycomnet.gateways import transports
from pycomnet.gateways.ending import StillRuns, TransportEnd
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.process import ProcessTransport
from pycomnet.net import eager
from pycomnet.net.descriptors import passes_descriptors
from pycomnet.net.reactors import GatewayReactor
from pycomnet.ranges import check_fields
from pycomnet.text.logs import Logger
from pycomnet.wire.frames import GOAWAY
from pycomnet.wire.mux import ProtocolError
from pycomnet.wire.values import PureCodec

log = Logger("pycomnet.factory")

#: Seconds in which a gateway that has no program, no running code and no traffic is ended.
IDLE_TIMEOUT = 3600.0
#: How often in that time a program that has the far side's pipes is asked whether it used them.
IDLE_LOOKS = 4
#: Characters of a far side's standard error that wait for a program.
MAX_SAID = 1 << 16
#: Seconds that a far side has to end by itself.
END_TIMEOUT = 5.0

_GOODBYE = PureCodec().encode({"code": "exit", "message": ""})


@attrs.frozen
class Settings:
    """What the factory allows each of its far sides.

    :ivar idle_timeout: seconds after which one that does nothing is ended; 0: never.
    :ivar max_linger: the most seconds that one may stay without a program.
    :ivar max_kept: bytes of values longer than a window that are kept for another program.
    """

    idle_timeout: float = IDLE_TIMEOUT
    max_linger: float = 7 * 86400.0
    max_kept: int = MAX_KEPT

    def __attrs_post_init__(self) -> None:
        check_fields(self)


class KeptFarSide(Protocol):
    """A far side, which outlives the programs that use it. It is what its transport connects.

    :param spec: how it is started.
    :param shown: the spec as its first program wrote it.
    :param name: what it is resumed by; None when it ends with its program.
    :param id: how it is called at the service.
    :param scope: what stands for the group that it is in.
    :param gone: called when it is gone, and need not be kept.
    :param direct: whether its program takes its pipes, if it has such.
    :ivar since: when it was started, by the reactor's clock.
    :ivar attachment: the program that uses it, if there is one.
    :ivar ended: how it ended, once it has.
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
        self._reactor = reactor
        self._transport_end = TransportEnd(self.gateway_transport, self._abort, reactor)
        self._gone = gone
        self._starting: defer.Deferred[None] | None = None
        self._ending = False
        self._reason = ""
        self._used = self.since
        self._vanished: OneShot[None] = OneShot()
        self._text = ""
        self._room: defer.Deferred[None] | None = None
        self._linger_call: Any = None
        self._write_now: Callable[[eager.Pieces], None] = eager.nowhere
        self._idle_call: Any = None
        #: whether its pipes may yet be its program's; what has come from them until that is known
        self._direct = direct
        self._first = b""
        #: whether they are; how often its program was asked in vain whether it used them
        self._given = False
        self._unused = 0
        #: fires when it has said hello, or will not, or nobody has to wait for that
        self._begun: OneShot[None] = OneShot()

    def set_linger(self, linger: float) -> None:
        """Seconds that it stays when its program is gone."""
        self.linger = min(linger, self.settings.max_linger)

    # -- its start -------------------------------------------------------------------------------

    @deferred
    async def start(self) -> None:
        """Start it; fails with :class:`GatewayNotStarted`. Cancelling it gives up."""
        self._starting = self.gateway_transport.connect(self)  # type: ignore[arg-type]
        try:
            await self._starting
            self.gateway_transport.when_ended().addCallback(self._process_ended)
            if self._direct:
                self._starting = self._begun.when_fired()
                await self._starting
        except GatewayNotStarted:
            self._vanish()
            raise
        except BaseException as problem:
            self.gateway_transport.kill(signal.SIGTERM)
            self._vanish()
            self._abort()
            if not isinstance(problem, Exception) or isinstance(problem, defer.CancelledError):
                raise
            raise GatewayNotStarted(str(problem) or type(problem).__name__) from problem
        finally:
            self._starting = None
        if self.settings.idle_timeout:
            self._idle_call = self._reactor.callLater(self.settings.idle_timeout, self._check_idle)

    def _process_ended(self, status: int | None) -> None:
        """What it said last is still on its way; what it left may hold the connection open."""
        if self._given and not self._ending:
            self._over(self._how_it_ended(status))
        elif self.transport is not None:
            self._transport_end.process_ended()

    # -- its connection --------------------------------------------------------------------------

    def connectionMade(self) -> None:
        # Whose its pipes are is found out when it has said hello: until then nothing is written.
        if not (self._direct and isinstance(self.transport, ProcessTransport)):
            self._be_between()

    def _be_between(self) -> None:
        """Have all that it says, and is told, come through here."""
        self._direct = False
        transport: Any = self.transport
        transport.registerProducer(
            Flow(lambda: self.attachment and self.attachment.transport), True
        )
        self._write_now = eager.writer(transport)
        self._pump()
        self._begun.fire(None)

    def dataReceived(self, data: bytes) -> None:
        self._used = self._reactor.seconds()
        try:
            self.relay.from_far(data)
        except ProtocolError as problem:
            self._reason = f"it broke the wire protocol ({problem.code}): {problem.message}"
            self._abort()
        if not self._direct:
            self._pump()
            return
        self._first += data
        transport: Any = self.transport
        if self.relay.far is not None and transport is not None:
            transport.pauseProducing()  # the rest is for whoever gets the pipes
            self._begun.fire(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport = None
        self._write_now = eager.nowhere
        self._direct = False
        self._begun.fire(None)
        if not self._ending:
            self._find_out(reason)

    def abort(self, reason: ConnectionLost) -> None:
        """Drop the connection; as a gateway transport may do with any."""
        self._reason = self._reason or reason.reason
        self._abort()

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            abort = getattr(transport, "abortConnection", transport.loseConnection)
            abort()

    @deferred
    async def _find_out(self, reason: Failure) -> None:
        """Why the connection is over: how the process ended."""
        status = None
        how = self._reason
        try:
            status = await self._transport_end.find_status()
            how = how or self.gateway_transport.describe_end(status)
        except StillRuns:
            how = how or self.gateway_transport.describe_end(None)
            how = how or "its connection is over, and it goes on"
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
        attachment = self.attachment
        if attachment is None:
            if self._linger_call is None:
                self._vanish()
        elif attachment.transport is None:
            self.detach(attachment)
        else:
            attachment.finish()

    def _stop_waiting(self) -> None:
        self._transport_end.stop()
        if self._idle_call is not None and self._idle_call.active():
            self._idle_call.cancel()

    # -- programs --------------------------------------------------------------------------------

    def attach(self, channel: Channel, control: ChannelCore) -> None:
        """A program comes.

        :param channel: the raw channel that carries its connection.
        :param control: the one on which everything else is said.
        """
        if self._linger_call is not None:
            self._linger_call.cancel()
            self._linger_call = None
        self._used = self._reactor.seconds()
        pipes = self._release(control.connection)
        self.attachment = attachment = (Attachment if pipes is None else DirectAttachment)(
            self, control
        )
        control.set_callback(
            lambda value: self._told(attachment, value), lambda _: None, NO_ENDMARKER
        )
        if pipes is None:
            attachment.tell({"state": self.relay.attach()})
            ChannelTransport(channel, attachment).start()
        else:
            assert isinstance(attachment, DirectAttachment)
            first, self._first = self._first, b""
            attachment.hand_over(pipes, first)
            channel.close()
        if self._text:
            text, self._text = self._text, ""
            attachment.tell({"stderr": text})
        if self._room is not None:
            room, self._room = self._room, None
            room.callback(None)
        self._pump()
        if self.ended is not None:
            attachment.finish()

    def _release(self, connection: Connection) -> tuple[int, int] | None:
        """Its pipes, which are its program's from now on; None when they can't be."""
        transport: Any = self.transport
        if not self._direct or transport is None:
            return None
        pipes: tuple[int, int] | None = None
        if passes_descriptors(connection.transport):
            pipes = transport.release()
        if pipes is None:
            transport.resumeProducing()
            self._be_between()
            return None
        self._direct, self._given = False, True
        self.transport = None
        if self._idle_call is not None:
            self._idle_call.reset(self.settings.idle_timeout / IDLE_LOOKS)
        return pipes

    def from_program(self, attachment: Attachment, data: bytes) -> None:
        """Bytes from the program."""
        if attachment is not self.attachment:
            return
        self._used = self._reactor.seconds()
        try:
            self.relay.from_program(data)
        except ProtocolError as problem:
            attachment.refuse(problem)
            return
        self._pump()
        attachment.asked(getattr(self.transport, "look", None))
        if self.relay.goodbye and not self._ending:
            self.end()

    def _told(self, attachment: Attachment, value: Any) -> None:
        """What the program says beside its connection."""
        if attachment is not self.attachment or not isinstance(value, dict):
            return
        if "taken" in value or "done" in value:
            self.relay.confirm(value.get("taken", {}), value.get("done", ()))
        if "idle" in value:
            self._told_idle(value["idle"] is True)
        if "kill" in value:
            self.end()
            self.gateway_transport.kill(value["kill"])

    def detach(self, attachment: Attachment) -> None:
        """The program is gone, or has been told all there was to tell."""
        if attachment is not self.attachment:
            return
        if self._ending and self.ended is None:
            return  # it is told when that is done
        self.attachment = None
        self.relay.detach()
        attachment.close(self.ended)
        self._pump()
        stays = self.linger and self.relay.far is not None and not self._ending
        if stays and (self.ended is None or attachment.lost):
            # Also when it has ended by itself: what it said last may not have been taken.
            self._linger_call = self._reactor.callLater(self.linger, self._linger_over)
        elif self.ended is not None:
            self._vanish()
        else:
            self.end()

    def _linger_over(self) -> None:
        self._linger_call = None
        log.info("gateway {name}: no program came in time: it is ended", name=self.id)
        if self.ended is not None:
            self._vanish()
        else:
            self.end()

    @property
    def used_by(self) -> Connection | None:
        """The connection of the program that uses it, if there is one."""
        return None if self.attachment is None else self.attachment.connection

    @property
    def left(self) -> float | None:
        """Seconds until it is ended, when no program uses it; else None."""
        if self._linger_call is None:
            return None
        left: float = self._linger_call.getTime() - self._reactor.seconds()
        return max(left, 0.0)

    def _check_idle(self) -> None:
        if self._given:
            if self.attachment is not None:
                self.attachment.tell({"ask": "idle"})
            return
        now = self._reactor.seconds()
        due = self._used + self.settings.idle_timeout
        busy = any(
            record.near and not record.over and record.purpose in ("exec", "call")
            for record in self.relay.records.values()
        )
        if busy or due > now:
            later = self.settings.idle_timeout if busy else due - now
            self._idle_call = self._reactor.callLater(later, self._check_idle)
            return
        self._idle_out()

    def _told_idle(self, idle: bool) -> None:
        """What its program says that has its pipes."""
        call = self._idle_call
        if not self._given or self._ending or call is None or call.active():
            return
        self._unused = self._unused + 1 if idle else 0
        if self._unused < IDLE_LOOKS:
            later = self.settings.idle_timeout / IDLE_LOOKS
            self._idle_call = self._reactor.callLater(later, self._check_idle)
        else:
            self._idle_out()

    def _idle_out(self) -> None:
        self._reason = f"nothing was done there for {self.settings.idle_timeout:g} seconds"
        self.end()

    # -- between the two -------------------------------------------------------------------------

    def _pump(self) -> None:
        relay = self.relay
        if relay.to_far and self.transport is not None:
            data, relay.to_far = b"".join(relay.to_far), []
            self._write_now((data,))
        if relay.to_program and self.attachment is not None:
            data, relay.to_program = b"".join(relay.to_program), []
            self.attachment.write(data)

    def _said(self, text: str) -> defer.Deferred[None] | None:
        """What its process writes to standard error by itself."""
        if self.attachment is not None:
            return self.attachment.tell({"stderr": text})
        self._text += text
        if len(self._text) < MAX_SAID:
            return None
        if self._room is None:
            self._room = defer.Deferred()
        return self._room

    # -- its end ---------------------------------------------------------------------------------

    def end(self, timeout: float = END_TIMEOUT) -> defer.Deferred[None]:
        """End it; fires when it is gone."""
        if not self._ending:
            self._ending = True
            self._end(timeout)
        if self.ended is not None:
            return defer.succeed(None)
        return self._vanished.when_fired()

    @deferred
    async def _end(self, timeout: float) -> None:
        if self._linger_call is not None:
            self._linger_call.cancel()
            self._linger_call = None
        if self._starting is not None:
            self._starting.cancel()
            return
        if self._given and self.attachment is not None:
            self.attachment.tell({"ask": "end"})
        if self.transport is not None:
            if not self.relay.goodbye and not self._direct:
                self.transport.write(frame(GOAWAY, 0, _GOODBYE))
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.loseConnection()
        self._over(self._how_it_ended(await self._transport_end.end(timeout)))

    def _vanish(self) -> None:
        self._ending = True
        if self.ended is None:
            self.ended = Ended(
                None, self.gateway_transport.what, self._reason or "it was not started", ""
            )
        self._stop_waiting()
        self._vanished.fire(None)
        self._gone(self)


__all__ = ["KeptFarSide", "Settings"]
