"""The Twisted protocol around the multiplexer: one connection and its channels."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet import defer, error
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet import forks
from pycomnet.channels.channel import ChannelCore
from pycomnet.channels.memory import COUNT_EVERY, MemoryAccount
from pycomnet.deferred import OneShot
from pycomnet.errors import (
    CertificateRefused,
    ChannelClosed,
    ConnectionLost,
    PeerSilent,
    ProtocolViolation,
    PycomnetError,
)
from pycomnet.far.live import Live
from pycomnet.net import eager
from pycomnet.net.eager import BULK_SIZE, SMALL_SIZE
from pycomnet.net.reactorpoll import BusyPoll
from pycomnet.ranges import optional_real
from pycomnet.text.logs import Logger
from pycomnet.wire import mux as wire
from pycomnet.wire.codec import make_codec
from pycomnet.wire.frames import ERROR

#: The C library keeps up to twice this many bytes of freed memory for reuse: :func:`keep_memory`.
KEPT_MEMORY = 8 << 20
#: The replies in a turn (or requests that follow replies) that are written together, while others
#: are still being made: so both ends of many short calls work at the same time, and not in turns.
EAGER = 32
#: The most bytes kept of channels that the peer opened, sent to and closed before this end received
#: the value that holds them. Above that, the oldest are forgotten.
MAX_UNACCEPTED = 16 << 20
#: The least cost of each such channel, in bytes.
UNACCEPTED_COST = 1024
#: Seconds that a closing connection has to write what is left. Then it is dropped, as the peer may
#: never read.
LINGER = 5.0

make_codec()  # imports the fast codec now, not while a connection is being made


def keep_memory() -> None:
    """Let values of some megabytes reuse memory.

    By default glibc returns each large block to the system when it is freed, and gets a new one for
    the next value. That takes twenty times as long as copying the value, as every page is mapped,
    cleared and unmapped. The size from which a block is large adapts to freed blocks (mallopt(3),
    M_MMAP_THRESHOLD). So this frees a block of that size; nothing was written to it, so it costs
    nothing. With other C libraries this has no effect.
    """
    bytearray(KEPT_MEMORY)


keep_memory()


@implementer(IPushProducer)
class Connection(Live, Protocol):
    """One end of a connection.

    Its transport is a socket, a pair of pipes, or another connection's raw channel. If that is a
    plain descriptor with an empty write buffer, frames are written at once; Twisted itself would
    wait for its next turn.

    :param reactor: for delayed calls.
    :param initiator: True at the end that made the connection.
    :param limits: the peer's limits.
    :param info: the ``info`` of this end's hello.
    :param credential: for a listener that requires one.
    :param keepalive: seconds of silence after which the peer is pinged; if it stays silent for as
        long again, the connection is given up. None: never.
    """

    log = Logger()
    #: the most bytes of one read: while there is much, and otherwise
    bulk_size = BULK_SIZE
    small_size = SMALL_SIZE

    def __init__(
        self,
        reactor: IReactorTime,
        initiator: bool = True,
        limits: wire.Limits | None = None,
        info: dict[str, Any] | None = None,
        credential: bytes | None = None,
        keepalive: float | None = None,
    ) -> None:
        self.mux = wire.Mux(initiator, limits, info, credential)
        codec = make_codec(
            ChannelCore.handle_types,
            self._dump_channel,
            self._load_channel,
            max_items=self.mux.limits.items,
        )
        self.encode: Callable[[object], bytes] = codec.encode
        #: encodes most values faster than :attr:`encode`; its second and third argument follow: see
        #: :attr:`pycomnet.wire.values.PureCodec.packing`
        self.pack: Callable[[object, Any, Any], bytes]
        self.hook: Any
        self.options: Any
        self.pack, self.hook, self.options = codec.packing or (
            lambda value, hook, options: codec.encode(value),
            None,
            None,
        )
        self.decode: Callable[[bytes], Any] = codec.decode
        self.decode_run: Callable[[list[bytes]], list[Any] | None] = codec.decode_run
        #: purpose -> the function that is called with a channel that the peer opens
        self.purposes: dict[str, Callable[[ChannelCore], object]] = {}
        #: purpose -> the function that is called with the stream of a channel that the peer opens;
        #: it sets and returns the stream's ``app``, for purposes that need no core
        self.acceptors: dict[str, Callable[[wire.Stream], Any]] = {}
        #: makes the user's object of a core; the owner of the connection sets it
        self.make_handle: Callable[[ChannelCore], object] = lambda core: core
        #: called when the connection is over, to find out why
        self.explain: Callable[[ConnectionLost], defer.Deferred[ConnectionLost]] = defer.succeed
        #: called with the transport's failure when it is closed; :attr:`explain` may wait for this
        self.when_closed: list[Callable[[Failure], object]] = []
        #: counts the memory that is held for this peer and others
        self.account: MemoryAccount | None = None
        self._uncounted = COUNT_EVERY
        #: set when anything arrives; a user resets it, and later checks whether it was set again
        self.heard = False
        #: whether the peer has broken the protocol: then its further bytes are ignored
        self.broken = False
        #: why it is over, once it is
        self.lost: ConnectionLost | None = None
        self.reactor = reactor
        self._keepalive = optional_real("keepalive", keepalive)
        self._keepalive_call: Any = None
        self._heard = False
        self._asked = False
        self._ready: OneShot[dict[str, Any]] = OneShot()
        self._pongs: dict[bytes, tuple[float, defer.Deferred[float]]] = {}
        self._ping_number = 0
        #: whether writing is delayed; the code that sets this flushes later
        self.corked = True
        #: whether what waits has been taken from the multiplexer, and is being written
        self.flushing = False
        self._descriptor: FileDescriptor | None = None
        self._write_now: Callable[[eager.Pieces], None] = eager.nowhere
        self._busy_poll: BusyPoll | None = None
        self._reason: ConnectionLost | None = None
        #: channels that the peer opened and no user has received yet; the cost of the closed ones
        self._unaccepted: dict[int, ChannelCore] = {}
        self._unaccepted_costs: dict[int, int] = {}
        self._unaccepted_cost = 0
        #: channels that the peer has closed and that still hold values for their users
        self._over: weakref.WeakSet[ChannelCore] = weakref.WeakSet()
        self._turn: Any = None
        #: the delayed call that aborts a closing connection
        self._disconnecting: Any = None
        forks.watch(self)

    # -- for users -------------------------------------------------------------------------------

    def when_ready(self) -> defer.Deferred[dict[str, Any]]:
        """Wait for the peer's hello; from then on channels can be opened.

        :returns: fires with the contents of that hello; fails with :class:`ConnectionLost`.
            Cancelling it changes nothing.
        """
        if self.lost is not None:
            return defer.fail(self.lost)
        if self.mux.peer is not None:
            return defer.succeed(self.mux.peer)
        return self._ready.when_fired()

    def open(
        self, purpose: str, first: bytes | None = None, raw: bool = False, end: bool = False
    ) -> ChannelCore:
        """Open a channel.

        :param first: the encoding of its first value.
        :param end: this end sends nothing after that.
        :raises ConnectionLost: the connection is over.
        :raises PycomnetError: it is not ready, or has as many channels as the peer allows.
        """
        if self.lost is not None:
            raise self.lost.with_traceback(None)
        try:
            stream = self.mux.open(purpose, first, raw, end)
        except wire.LocalError as problem:
            if self._reason is not None:
                raise self._reason.with_traceback(None) from None
            raise PycomnetError(str(problem)) from None
        core = ChannelCore(self, stream)
        self.flush_soon()
        return core

    def call(self, purpose: str, first: bytes, app: Any) -> int:
        """Make a unary call: open a channel for one value of this end, without a core.

        :param app: its ``replied`` is called with the result, if nothing else comes; otherwise
            ``arrived``, ``ended``, ``closed`` and ``connection_lost``, as those of a
            :class:`~pycomnet.channels.core.ChannelCore`.
        :returns: the channel's id.
        :raises ConnectionLost: as :meth:`open`.
        """
        if self.lost is not None:
            raise self.lost.with_traceback(None)
        try:
            id: int = self.mux.call(purpose, first, app)
        except wire.LocalError as problem:
            if self._reason is not None:
                raise self._reason.with_traceback(None) from None
            raise PycomnetError(str(problem)) from None
        if not self.corked:
            self.flush_soon()
        return id

    def ping(self) -> defer.Deferred[float]:
        """Ping the peer.

        :returns: fires with the seconds until its pong came; fails with :class:`ConnectionLost`.
            Cancelling it ignores the pong.
        """
        if self.lost is not None:
            return defer.fail(self.lost)
        if self.mux.peer is None:
            return self.when_ready().addCallback(lambda _: self.ping())
        self._ping_number += 1
        data = self._ping_number.to_bytes(8, "big")

        def cancel(_: object) -> None:
            self._pongs.pop(data, None)

        deferred: defer.Deferred[float] = defer.Deferred(cancel)
        self._pongs[data] = (self.reactor.seconds(), deferred)
        self.mux.ping(data)
        self.flush_soon()
        return deferred

    def goodbye(self, code: str = "exit", message: str = "") -> None:
        """Send the peer a GOAWAY, and close the connection once that is written.

        Operations that wait fail when it is closed: after :data:`LINGER` at the latest.
        """
        if self._reason is None:
            self._reason = ConnectionLost("the connection was closed here")
        if self._disconnecting is None and self.transport is not None:
            self.mux.goaway(code, message)
            self._lose_connection()

    def _lose_connection(self) -> None:
        """Write all queued frames, even if the transport is congested, and close."""
        transport: Any = self.transport
        self._disconnecting = self.reactor.callLater(LINGER, self._abort)
        parts = self.mux.parts_to_send(BULK_SIZE)
        if parts:
            self._write(parts)
        self.mux.scheduler.congested = True
        transport.unregisterProducer()  # some wait for this
        transport.loseConnection()

    def abort(self, reason: ConnectionLost) -> None:
        """Drop the connection at once."""
        if self._reason is None:
            self._reason = reason
        if self.transport is not None:
            self._abort()

    def _abort(self) -> None:
        transport: Any = self.transport
        abort = getattr(transport, "abortConnection", transport.loseConnection)
        abort()

    def violated(self, code: str, message: str) -> ProtocolViolation:
        """The peer broke the protocol: tell it, drop the connection, return the error."""
        problem = ProtocolViolation(
            f"the other end broke the wire protocol ({code}): {message}", code
        )
        if self._reason is None:
            self._reason = problem
        self.broken = True
        self.goodbye(code, message)
        return problem

    # -- writing ---------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """Write what waits: at once, or with whatever else is sent in this reactor turn."""
        if not self.corked:
            self.flush()
            # What follows in the same turn is collected.
            self.corked = True
            self._turn = self.reactor.callLater(0, self._uncork)

    def _uncork(self) -> None:
        self._turn = None
        self.corked = False
        if self.lost is None and self.mux.has_data():
            self.flush()
        if self.lost is None and self._busy_poll is not None:
            self._busy_poll.poll()

    def send_together(self, send: Callable[[], object]) -> None:
        """Call a function that sends, and write all of that at once."""
        corked = self.corked
        self.corked = True
        try:
            send()
        finally:
            if self._turn is None and self.transport is not None:
                self.corked = corked
            if self.mux.has_data():
                self.flush()

    def flush(self) -> None:
        """Write what waits now, as far as the transport takes it."""
        if self.flushing:
            return
        self.flushing = True
        scheduler = self.mux.scheduler
        try:
            while (scheduler.out or scheduler.ready) and not scheduler.congested:
                parts = scheduler.parts_to_send(BULK_SIZE)
                if not parts:
                    break
                self._write(parts)
                if scheduler.sent:
                    sent, scheduler.sent = scheduler.sent, []
                    for deferred in sent:
                        if not deferred.called:
                            deferred.callback(None)
                        if len(scheduler.out) >= EAGER and not scheduler.congested:
                            # Each may send as much as it has credit for: now others may not.
                            self._write(scheduler.take_out())
        finally:
            self.flushing = False

    def _write(self, parts: list[bytes | memoryview]) -> None:
        if self._busy_poll is not None:
            self._busy_poll.wrote = True
        self._write_now(parts)

    def pauseProducing(self) -> None:
        self.mux.scheduler.congested = True

    def resumeProducing(self) -> None:
        if self._disconnecting is None:
            self.mux.scheduler.congested = False
            self.flush()

    def stopProducing(self) -> None:
        self.mux.scheduler.congested = True

    # -- what Twisted calls ----------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._write_now = eager.writer(transport)
        if eager.is_plain(transport):
            self._descriptor = transport
            transport.bufferSize = self.small_size
            self._busy_poll = BusyPoll.of(transport)
        transport.registerProducer(self, True)
        self.corked = False
        self.flush()
        if self._keepalive:
            self._keepalive_call = self.reactor.callLater(self._keepalive, self._check_alive)

    def dataReceived(self, data: bytes) -> None:
        self._heard = self.heard = True
        self._uncounted -= len(data)
        descriptor = self._descriptor
        if descriptor is not None:
            size = self.bulk_size if len(data) >= self.small_size else self.small_size
            if size != descriptor.bufferSize:
                descriptor.bufferSize = size
        mux = self.mux
        scheduler = mux.scheduler
        corked = self.corked
        self.corked = True
        try:
            for event in mux.receive_data(data):
                if event[0] == 0:  # EV_DATA
                    event[1].app.arrived(event[2], event[3])
                elif event[0] == 10:  # EV_REPLY
                    event[1].replied(event[2])
                    if len(scheduler.out) >= EAGER:
                        self.flush()
                elif event[0] == 9:  # EV_CALL
                    self.call_received(event[1], event[2])
                    if len(scheduler.out) >= EAGER:
                        self.flush()
                elif event[0] == 3:  # EV_CLOSED
                    self._peer_closed(event[1], event[2], event[3])
                    if len(scheduler.out) >= EAGER:
                        self.flush()
                elif event[0] == 8:  # EV_RUN
                    event[1].app.run_arrived(event[2], event[3])
                    if scheduler.out:
                        self.flush()  # the peer may wait for this credit
                else:
                    self._event(event)
        finally:
            if self._turn is None:
                self.corked = corked
        if self._uncounted < 0:
            self.keeps(0)
        if scheduler.out or scheduler.ready:
            self.flush()
        if len(data) >= self.small_size < SMALL_SIZE and self._busy_poll is not None:
            self._busy_poll.wrote = False  # there is more, but others have their turn first

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        lost = self._reason
        if lost is None:
            if reason.check(error.ConnectionDone):
                lost = ConnectionLost("the other end closed the connection")
            elif isinstance(reason.value, CertificateRefused):
                lost = reason.value
            else:
                lost = ConnectionLost(f"the connection was lost: {reason.getErrorMessage()}")
        self.corked = True
        self.mux.scheduler.congested = True
        for core in self._unaccepted.values():
            core.queue.clear()
        if self.account is not None:
            self.account.gone(self)
        for call in (self._turn, self._keepalive_call, self._disconnecting):
            if call is not None and call.active():
                call.cancel()
        self._reason = lost
        self.transport = None
        self._write_now = eager.nowhere
        if self._busy_poll is not None:
            self._busy_poll.stop()

        def unexplained(failure: Failure) -> ConnectionLost:
            self.log.failure("can't find out why the connection is over", failure)
            return lost

        defer.maybeDeferred(self.explain, lost).addErrback(unexplained).addCallback(self._is_lost)
        closed, self.when_closed = self.when_closed, []
        for tell in closed:
            tell(reason)

    def _is_lost(self, lost: ConnectionLost) -> None:
        self.lost = lost
        for app in list(self.mux.calls.pending.values()):
            app.connection_lost(lost)
        for stream in list(self.mux.streams.values()):
            if stream.app is not None:
                stream.app.connection_lost(lost)
        self._ready.fail(lost)
        pongs, self._pongs = self._pongs, {}
        for _, pong in pongs.values():
            if not pong.called:  # an earlier callback may have cancelled it
                pong.errback(Failure(lost))
        self._unaccepted.clear()
        self._unaccepted_costs.clear()

    def forked(self) -> None:
        """In a forked child: the connection belongs to the parent, and goes on there.

        No waiter is notified, as all waiters are the parent's, and nothing is written. The child's
        copies of its descriptors are closed, so that the peer sees when the parent ends.
        """
        transport: Any = self.transport
        if transport is None or not forks.runs(self.reactor):
            return
        self.transport = None
        self._write_now = eager.nowhere
        self.corked = self.mux.scheduler.congested = True
        self._reason = self.lost = lost = forks.used("the connection")
        for stream in self.mux.streams.values():
            stream.sending = False
            if isinstance(stream.app, ChannelCore):
                stream.app.forked(lost)
        forks.keep((self._ready, self._pongs, dict(self.mux.calls.pending)))
        self._ready, self._pongs = OneShot(), {}
        self._unaccepted.clear()
        eager.close_copies(transport)

    # -- what the peer sends ---------------------------------------------------------------------

    def call_received(self, id: int, payload: bytes) -> None:
        """A whole unary call has come, on a channel that has no stream yet."""
        stream: Any = self.mux.stream_of(id)
        self.acceptors[stream.purpose](stream).arrived(payload, 0)

    def _peer_closed(self, stream: wire.Stream, kind: int, payload: bytes) -> None:
        core = stream.app
        if core is None:
            return  # the call got its reply before the peer cancelled it
        core.closed(kind, payload)
        if stream.id in self._unaccepted:
            self._keep_unaccepted(core)
        elif self.account is not None and isinstance(core, ChannelCore) and core.queue:
            self._over.add(core)

    def _event(self, event: tuple[Any, ...]) -> None:
        kind = event[0]
        if kind == wire.EV_END:
            event[1].app.ended()
        elif kind == wire.EV_OPENED:
            self._opened(event[1])
        elif kind == wire.EV_HELLO:
            self._ready.fire(event[1])
        elif kind == wire.EV_PONG:
            self._pong(event[1])
        elif kind == wire.EV_GOAWAY:
            code, message = event[1:]
            if self._reason is None:
                if code == "exit":
                    self._reason = ConnectionLost("the other end said goodbye")
                elif code in ("credential", "limit", "start"):
                    self._reason = ProtocolViolation(
                        f"this program was not let in: {message}", code
                    )
                else:
                    self._reason = ProtocolViolation(
                        f"the other end refused what this end sent ({code}): {message}", code
                    )
            if self._disconnecting is None:
                self._lose_connection()
        elif kind == wire.EV_FAILED:
            problem = event[1]
            self.violated(problem.code, problem.message)

    def _opened(self, stream: wire.Stream) -> None:
        acceptor = self.acceptors.get(stream.purpose)
        if acceptor is not None:
            acceptor(stream)
            return
        core = ChannelCore(self, stream)
        if stream.purpose == "channel":
            self._unaccepted[stream.id] = core
            return
        accept = self.purposes.get(stream.purpose)
        if accept is None:
            message = f"unknown purpose {stream.purpose!r}"
            payload = self.encode({"code": "purpose", "message": message})
            self.mux.close(stream, ERROR, payload)
        else:
            try:
                accept(core)
            except Exception as problem:
                self.log.failure("channels for {purpose!r} can't be taken", purpose=stream.purpose)
                core.close(problem)

    def held_bytes(self) -> int:
        """Bytes that have come on channels and wait for users, and that the peer does not read."""
        window = self.mux.limits.window
        held = self._unaccepted_cost
        for stream in self.mux.streams.values():
            if isinstance(stream.app, ChannelCore):
                held += stream.held(window)
            if stream.queue or stream.finish is not None:
                held += stream.queued()
        for core in self._over:
            held += sum(cost for _, cost in core.queue)
        return held

    def keeps(self, size: int) -> None:
        """``size`` more bytes are held for the peer: count all if they may exceed the limit."""
        self._uncounted -= size
        if self._uncounted < 0:
            self._uncounted = COUNT_EVERY
            if self.account is not None and not self.broken:
                self.account.count(self)

    def unaccepted(self) -> dict[ChannelCore, int]:
        """The unaccepted channels that the peer opened, with the bytes that each holds."""
        window = self.mux.limits.window
        return {core: core.stream.held(window) for core in self._unaccepted.values()}

    def shed(self, size: int, problem: PycomnetError) -> int:
        """Close unaccepted channels, the largest first.

        :param size: bytes to release; all, if there are fewer.
        :param problem: the error that the peer gets.
        :returns: the number of released bytes.
        """
        held = self.unaccepted()
        released = 0
        for core in sorted(held, key=held.__getitem__, reverse=True):
            if released >= size or not held[core]:
                break
            released += held[core]
            self._take_unaccepted(core.stream.id)
            core.stream.partial = None
            core.close(problem)
            core.queue.clear()
        return released

    def _keep_unaccepted(self, core: ChannelCore) -> None:
        costs = self._unaccepted_costs
        cost = UNACCEPTED_COST + sum(cost for _, cost in core.queue)
        costs[core.stream.id] = cost
        self._unaccepted_cost += cost
        while self._unaccepted_cost > MAX_UNACCEPTED and len(costs) > 1:
            self._take_unaccepted(next(iter(costs)))

    def _take_unaccepted(self, id: int) -> ChannelCore | None:
        self._unaccepted_cost -= self._unaccepted_costs.pop(id, 0)
        core = self._unaccepted.pop(id, None)
        if core is not None and core.over is not None and core.queue:
            self._over.add(core)
        return core

    def _dump_channel(self, handle: Any) -> int:
        core: ChannelCore = handle.core
        if core.connection is not self:
            raise ValueError("it belongs to another connection")
        if core.over is not None or not core.stream.sending:
            raise ValueError("it is closed")
        return core.stream.id

    def _load_channel(self, id: int) -> object:
        core = self._take_unaccepted(id)
        if core is None:
            stream = self.mux.streams.get(id)
            if stream is not None:
                core = stream.app
            elif self.mux.was_opened(id):
                core = self._closed_core(id)
        if core is None:
            raise ValueError(f"channel {id} was never opened")
        handle = None if core.handle is None else core.handle()
        return self.make_handle(core) if handle is None else handle

    def _closed_core(self, id: int) -> ChannelCore:
        """A core for a channel that was over before the value that holds it was received."""
        stream = wire.Stream(id, "channel", False, False, 0, 0)
        stream.sending = stream.receiving = False
        core = ChannelCore(self, stream)
        core.over = ChannelClosed(f"channel {id} was over before it was received")
        return core

    def _pong(self, data: bytes) -> None:
        pong = self._pongs.pop(data, None)
        if pong is not None:
            asked, deferred = pong
            deferred.callback(self.reactor.seconds() - asked)

    def _check_alive(self, last: bool = False) -> None:
        assert self._keepalive is not None
        if self._heard:
            self._heard = self._asked = False
        elif last:
            reason = f"the other end was silent for {2 * self._keepalive:g} seconds"
            self.abort(PeerSilent(reason))
            return
        elif self._asked:
            # This end may have been busy itself: first read what has come in the meantime.
            self._keepalive_call = self.reactor.callLater(0, self._check_alive, True)
            return
        else:
            self._asked = True
            if self.mux.peer is not None:  # before the peer's hello nothing may be sent
                self.mux.ping(bytes(8))
                self.flush_soon()
        self._keepalive_call = self.reactor.callLater(self._keepalive, self._check_alive)
