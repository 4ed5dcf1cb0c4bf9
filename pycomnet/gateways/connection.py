"""The connection to one far side: starts it, finds out why it ended, and ends it."""

from __future__ import annotations

import contextlib
import signal
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorFromThreads

from pycomnet.channels.channel import ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.deferred import OneShot, deferred
from pycomnet.errors import (
    ConnectionLost,
    GatewayDied,
    GatewayNotStarted,
    PeerSilent,
    ProtocolViolation,
    PycomnetError,
)
from pycomnet.far.live import Live
from pycomnet.gateways.output import OutputCallback, OutputSink
from pycomnet.gateways.resumable import ResumableConnection
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transportend import StillRuns, TransportEnd
from pycomnet.gateways.transports.interface import (
    GatewayRequest,
    GatewayTransport,
    LeavableTransport,
)
from pycomnet.net.reactors import GatewayReactor
from pycomnet.text.printable import visible

if TYPE_CHECKING:
    from pycomnet.gateways.group import Group

#: Seconds within which a far side's hello has to come. A JVM on a busy machine takes ten.
START_TIMEOUT = 60.0
#: Seconds for ending a far side, by default.
END_TIMEOUT = 5.0
#: Seconds of that timeout that are reserved for far code that does not complete by itself: it gets
#: a KeyboardInterrupt, and is killed two seconds later (far/worker.py).
INTERRUPT_TIME = 2.5
#: Seconds for a program that turned out to be no far side to end by itself, and print why.
NO_FAR_SIDE_TIMEOUT = 0.5


class GatewayConnection(Live):
    """A gateway's connection to its far side, and its transport.

    The reactor keeps this object alive. It does not refer to the gateway, so that an unreachable
    gateway can be detected and ended.

    :param make_transport: makes the gateway transport.
    :param connection: the connection, if it is to be a special one.
    :ivar call_from_thread: the reactor's ``callFromThread``.
    :ivar ending: whether the far side is being ended, or left, from here.
    :ivar prefix: the start of the error's text when the far side is gone.
    """

    def __init__(
        self,
        spec: Spec,
        id: str,
        output: OutputCallback,
        group: Group,
        reactor: GatewayReactor,
        make_transport: Callable[[GatewayRequest], GatewayTransport],
        connection: Connection | None = None,
    ) -> None:
        self.spec = spec
        self.id = id
        self.reactor = reactor
        self.call_from_thread = IReactorFromThreads(reactor).callFromThread
        self.sink = OutputSink(id, output)
        self.prefix = f"gateway {id}: "
        self.connection = connection or Connection(reactor)
        self.connection.purposes["output"] = self.sink.accept
        self.connection.explain = self._explain
        self.ending = False
        self._request = GatewayRequest(spec, id, self.sink.stderr, weakref.ref(group), reactor)
        self.transport = make_transport(self._request)
        self.sink.keep = self.transport.keep
        self._over = False
        self._transport_end = TransportEnd(self.transport, self._abort, reactor)

    @deferred
    async def start(self, timeout: float) -> dict[str, Any]:
        """Reach the far side; fires with its hello."""
        ready = self.connection.when_ready()
        reaching: defer.Deferred[Any] = self.transport.connect(self.connection)
        reaching.addCallback(self._reached, ready)
        reaching.addTimeout(timeout, self.reactor)
        try:
            hello: dict[str, Any] = await reaching
            if "python" not in hello["info"]:
                await self._refused()
            return hello
        except defer.TimeoutError:
            await self.end(0)
            words = f"no hello in {timeout:g} seconds"
            how = self.transport.describe_end(None)  # what it printed instead
            raise self._not_started(f"{words}: {how}" if how else words) from None
        except ConnectionLost as lost:
            await self.end(NO_FAR_SIDE_TIMEOUT)
            if isinstance(lost, ProtocolViolation) and lost.code in (
                "credential",
                "limit",
                "start",
            ):
                raise self._not_started(lost.reason) from None
            if isinstance(lost, ProtocolViolation):
                raise self._not_started("what it started is not a far side", lost) from None
            what = self.transport.what
            raise self._not_started(f"{what} ended before it said hello", lost) from None
        except BaseException:
            await self.end(0)
            raise

    async def _refused(self) -> None:
        """It sent a hello, but is no far side: it may send the reason for a refusal next."""
        answer = self.connection.ping()
        answer.addTimeout(NO_FAR_SIDE_TIMEOUT, self.reactor)
        with contextlib.suppress(defer.TimeoutError):
            await answer
        raise ProtocolViolation("its hello is not that of a far side", "hello")

    def _reached(self, _: object, ready: defer.Deferred[Any]) -> defer.Deferred[Any]:
        self.transport.when_ended().addCallback(self._process_ended)
        return ready

    def _not_started(self, what: str, lost: ConnectionLost | None = None) -> GatewayNotStarted:
        status, stderr = self.transport.status, self.transport.stderr_tail()
        if isinstance(lost, ProtocolViolation):
            what += f": {lost.reason}"
        elif isinstance(lost, GatewayDied):
            how = self.transport.describe_end(status)
            what += f": {how}" if how else ""
        return self._request.not_started(what, status, stderr)

    def _process_ended(self, _: object) -> None:
        if not self._over and not self.ending:
            self._transport_end.process_ended()

    def _abort(self) -> None:
        how = "the gateway was ended" if self.ending else f"{self.transport.what} has ended"
        self.connection.abort(ConnectionLost(how))

    @deferred
    async def _explain(self, lost: ConnectionLost) -> ConnectionLost:
        """Find out how the far side ended, as the reason for the connection's end."""
        self._over = True
        self._transport_end.stop()
        transport = self.transport
        if isinstance(lost, ProtocolViolation) and lost.code == "value" and not self.ending:
            words = f"{self.prefix}{lost.reason} (the limits are max_value and max_items)"
            return ProtocolViolation(words, lost.code)
        if self.ending or isinstance(lost, ProtocolViolation):
            return lost
        if isinstance(lost, PeerSilent):
            # The transport's own end tells nothing.
            transport.kill(signal.SIGKILL)
            words = f"{self.prefix}{transport.what} is gone: {lost.reason}"
            return GatewayDied(words, None, None, transport.stderr_tail())
        try:
            status = await self._transport_end.find_status()
        except StillRuns:
            how = transport.describe_end(None)  # the reason, if that is known before the status
            words = (
                f"{transport.what} is gone: {how}"
                if how
                else (f"{lost.reason}, and {transport.what} goes on")
            )
            return GatewayDied(f"{self.prefix}{words}", None, None, transport.stderr_tail())
        self.sink.flush()
        stderr = transport.stderr_tail()
        how = transport.describe_end(status) or lost.reason
        words = f"{self.prefix}{transport.what} is gone: {how}"
        if stderr:
            words += f"; its standard error ended with:\n{visible(stderr)}"
        if status is None:
            return GatewayDied(words, None, None, stderr)
        code = status if status >= 0 else None
        return GatewayDied(words, code, -status if status < 0 else None, stderr)

    def _end_channels(self) -> None:
        """Far code gets no more values from here: a ``receive`` there sees the end at once."""
        connection = self.connection
        for stream in list(connection.mux.streams.values()):
            core = stream.app
            if isinstance(core, ChannelCore) and core.is_held() and not stream.raw:
                core.end()

    async def _answered(self, purpose: str, seconds: float) -> None:
        """Wait until the far side has done something, or has ended, but not longer."""
        # The connection may be lost meanwhile, or have the most channels that the far side allows.
        with contextlib.suppress(defer.TimeoutError, PycomnetError):
            answer = self.connection.open(purpose, end=True).receive()
            answer.addTimeout(seconds, self.reactor)
            await answer

    @deferred
    async def end(self, timeout: float, grace: float = 0.0, patience: float = 0.0) -> int | None:
        """End the far side.

        :param timeout: seconds until it is killed; the supervisor's own grace comes first.
        :param grace: seconds for running code to complete before that.
        :param patience: seconds after that for interrupted code and for exit functions, while the
            connection goes on.
        :returns: fires with its status, if that can be known, once it is gone.
        """
        if isinstance(self.connection, ResumableConnection):
            patience = 0.0  # a factory may resume the gateway of a connection that ends
        if grace + patience > 0 and self.connection.lost is None:
            self._end_channels()
            if grace > 0:
                await self._answered("idle", grace)
            if patience > 0:
                self.ending = True
                await self._answered("finish", patience)
        self.ending = True
        self.connection.goodbye()
        # Do not wait for the transport's write buffer: the peer may not read.
        status = await self._transport_end.end(timeout)
        self.sink.flush()
        return status

    @deferred
    async def leave(self) -> None:
        """Leave the far side to the factory; fires when the factory has noticed it."""
        connection, transport = self.connection, self.transport
        assert isinstance(connection, ResumableConnection)
        assert isinstance(transport, LeavableTransport)
        self.ending = True
        if connection.transport is not None:
            closed: OneShot[None] = OneShot()
            connection.when_closed.append(lambda _: closed.fire(None))
            connection.leave()
            await closed.when_fired()
        await transport.left()

    def abandon(self) -> None:
        """The gateway is unreachable: end it. Called from any thread."""
        if self.connection.lost is None:
            self.ending = True
            lost = ConnectionLost("nobody holds the gateway any more")
            self.call_from_thread(self.connection.abort, lost)
