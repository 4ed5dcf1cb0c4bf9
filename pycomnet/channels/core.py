"""The connection's part of a channel: its queues, its waiters, and its end."""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet import forks
from pycomnet.channels.callbacks import caller, pending_result, tell
from pycomnet.deferred import done
from pycomnet.errors import (
    ChannelClosed,
    ConnectionLost,
    MemoryExceeded,
    PycomnetError,
    RemoteError,
    message_of,
)
from pycomnet.far.live import Live
from pycomnet.text.logs import Logger
from pycomnet.wire import mux as wire
from pycomnet.wire.frames import ERROR, NORMAL, RESULT, frame_costs
from pycomnet.wire.values import InvalidValue, ValueNotReceivable, ValueNotSendable, type_name

if TYPE_CHECKING:
    from pycomnet.channels.connection import Connection
    from pycomnet.channels.transport import ChannelTransport

log = Logger()


class _NoEndmarker:
    def __repr__(self) -> str:
        return "<no endmarker>"


#: The default of ``setcallback``: no endmarker.
NO_ENDMARKER = _NoEndmarker()


class ChannelCore(Live):
    """The connection's part of a channel. Users have a :class:`Channel`.

    They are two objects so that the connection, which the reactor keeps alive, does not keep alive
    what only users refer to: a gateway that is unreachable is ended.
    """

    __slots__ = (
        "__weakref__",
        "busy",
        "callback",
        "close_waiters",
        "connection",
        "endmarker",
        "errback",
        "half",
        "handle",
        "late",
        "over",
        "own_waiters",
        "patient",
        "queue",
        "receiver",
        "seen",
        "sends",
        "stream",
        "taker",
        "telling",
        "told",
        "waiters",
    )

    #: the classes whose objects can be sent over a channel as channels
    handle_types: tuple[type, ...] = ()

    def __init__(self, connection: Connection, stream: wire.Stream) -> None:
        self.connection = connection
        self.stream = stream
        stream.app = self
        #: the user's object
        self.handle: weakref.ref[Any] | None = None
        #: values that have not been received yet: (payload, cost)
        self.queue: deque[tuple[bytes | memoryview, int]] = deque()
        self.waiters: deque[defer.Deferred[Any]] = deque()
        self.close_waiters: list[defer.Deferred[None]] = []
        #: Deferreds of sends that wait for credit
        self.sends: dict[defer.Deferred[None], None] = {}
        #: why no more values come
        self.over: Exception | None = None
        #: True if that is only because the peer has ended sending
        self.half = False
        #: whether a user has received ``over``, if it is an error
        self.seen = False
        self.callback: Callable[[Any], Any] | None = None
        self.errback: Callable[[Failure], Any] | None = None
        #: whose callback that is, if another handle of the channel may go on with it
        self.receiver: object | None = None
        self.endmarker: object = NO_ENDMARKER
        #: True while nothing may be given to the callback or taker: it is running, or paused, or
        #: has got the last value
        self.busy = False
        #: whether the callback was called for the end
        self.told = False
        #: True while the errback or the callback runs for the end
        self.telling = False
        #: a failure to report after that
        self.late: Failure | None = None
        #: those of the close_waiters for which the callback itself waits
        self.own_waiters: tuple[defer.Deferred[None], ...] = ()
        #: whether the close_waiters also wait for the callback
        self.patient = True
        #: a Twisted transport that gets the raw bytes instead of a callback
        self.taker: ChannelTransport | None = None

    # -- sending ---------------------------------------------------------------------------------

    def send(self, payload: bytes, prefix: bytes = b"") -> defer.Deferred[None]:
        deferred: defer.Deferred[None]
        connection = self.connection
        stream = self.stream
        if connection.lost is not None or not stream.sending:
            return defer.fail(self.send_error())
        try:
            on_its_way = connection.mux.send(stream, payload, None, prefix)
        except wire.LocalError as problem:
            return defer.fail(ValueNotSendable(f"value: {problem}"))
        if on_its_way:
            if not connection.corked:
                connection.flush_soon()
            return done()
        deferred = defer.Deferred(self._cancel_send)
        stream.token_for_last(deferred)
        self.sends[deferred] = None
        deferred.addBoth(self._sent, deferred)
        connection.flush_soon()
        return deferred

    def _sent(self, result: Any, deferred: defer.Deferred[None]) -> Any:
        self.sends.pop(deferred, None)
        if not self.sends and self.half:
            self._tell_closed()  # an END that waited behind it may have been sent
        return result

    def _cancel_send(self, deferred: defer.Deferred[None]) -> None:
        if self.connection.mux.unsend(self.stream, deferred):
            # What waited behind it may be sent now.
            self.connection.flush_soon()
            return
        # A part of it has been sent already, so the rest has to follow.
        for item in self.stream.queue:
            if item[2] is deferred:
                item[2] = None

    def send_error(self) -> Exception:
        if self.connection.lost is not None:
            return self.connection.lost
        if isinstance(self.over, RemoteError):
            self.seen = True
            return self.over
        return ChannelClosed(f"channel {self.stream.id} is closed for sending")

    def end(self) -> None:
        self.connection.mux.end(self.stream)
        self.connection.flush_soon()
        self._tell_closed()

    def close(self, error: Exception | None = None) -> None:
        connection = self.connection
        if connection.lost is None:
            if error is None:
                connection.mux.close(self.stream, NORMAL)
            else:
                connection.mux.close(self.stream, ERROR, connection.encode(_error_map(error)))
            connection.flush_soon()
        over = ChannelClosed(f"channel {self.stream.id} was closed here")
        if error is not None:
            self._fail_sends(over)
        if self.callback is not None:
            self.queue.clear()
        elif self.taker is not None:
            self.queue.clear()
            self.busy = False
            self.taker.disconnecting = True
        if self.half:
            self._whole(over)
        elif self.over is None:
            self._finish(over)
        else:
            self._end_taker(self.over)

    def _why(self) -> str:
        """A hint for the error: what else a CLOSE of the other end may mean."""
        plain = self.stream.purpose == "channel"
        return ", or no code there holds it any more" if plain else ""

    def is_held(self) -> bool:
        """Whether a user has a reference to it."""
        return self.handle is not None and self.handle() is not None

    def abandon(self) -> None:
        """No user has a reference to the channel any more."""
        if self.callback is not None or self.taker is not None:
            return
        if self.is_held():
            return  # it came back over a channel in the meantime
        if self.stream.purpose != "exec":
            self.close()
        elif self.over is None or self.half or not self.seen:
            # The code runs on, and sees that sending has ended here. Its values are dropped, and
            # its error is logged.
            self.end()
            self.set_callback(_ignore, _log_unhandled, NO_ENDMARKER)

    def forked(self, lost: ConnectionLost) -> None:
        """In a forked child: the channel belongs to the parent. No waiter is notified."""
        self.stream.sending = False
        self.over = lost
        self.half = False
        self.queue.clear()
        forks.keep((self.waiters, self.close_waiters, self.sends, self.callback, self.errback))
        self.waiters, self.close_waiters, self.sends = deque(), [], {}
        self.callback = self.errback = self.taker = self.receiver = None

    # -- receiving -------------------------------------------------------------------------------

    def receive(
        self, cancel: Callable[[defer.Deferred[Any]], None] | None = None
    ) -> defer.Deferred[Any]:
        """Receive the next value.

        :param cancel: :meth:`cancel_receive`, or a function that calls it and keeps more alive.
        """
        if self.callback is not None or self.taker is not None:
            what = "a callback" if self.callback is not None else "a protocol"
            return defer.fail(PycomnetError(f"channel {self.stream.id} has {what}"))
        if self.queue and not self.waiters:
            payload, cost = self.queue.popleft()
            deferred: defer.Deferred[Any] = defer.Deferred()
            self._give(deferred, payload, cost)
            self.connection.flush_soon()
            return deferred
        if self.over is not None:
            self.seen = True
            return defer.fail(self.over)
        deferred = defer.Deferred(cancel or self.cancel_receive)
        self.waiters.append(deferred)
        stream = self.stream
        stream.read_demand = True
        if stream.partial_cost:
            self.connection.mux.demand_read(stream)
            self.connection.flush_soon()
        return deferred

    def cancel_receive(self, deferred: defer.Deferred[Any]) -> None:
        with contextlib.suppress(ValueError):
            self.waiters.remove(deferred)
        self.stream.read_demand = bool(self.waiters)

    def _give(self, deferred: defer.Deferred[Any], payload: bytes | memoryview, cost: int) -> None:
        connection = self.connection
        if cost:
            connection.mux.consumed(self.stream, cost)
        if self.stream.raw:
            deferred.callback(payload)
            return
        if isinstance(payload, memoryview):
            deferred.callback(payload.obj)
            return
        try:
            value = connection.decode(payload)
        except InvalidValue as problem:
            deferred.errback(Failure(connection.violated("value", str(problem))))
        except ValueNotReceivable:
            deferred.errback(Failure())  # the channel goes on
        else:
            deferred.callback(value)

    def arrived(self, payload: bytes | memoryview, cost: int) -> None:
        """Handle a value's encoding, or raw bytes, from the peer."""
        if self.callback is not None and not self.busy:  # so nothing is queued
            self._call_back(payload, cost)
            if self.over is not None or self.queue:
                self._drain()
        elif self.waiters:
            deferred = self.waiters.popleft()
            if not self.waiters:
                self.stream.read_demand = False
            elif not self.stream.read_demand:
                self.connection.mux.demand_read(self.stream)
            self._give(deferred, payload, cost)
        elif self.taker is not None and not self.busy:
            self.connection.mux.consumed(self.stream, cost)
            self.taker.data_received(bytes(payload))
        elif self.over is None:
            self.queue.append((payload, cost))

    def run_arrived(self, payloads: list[bytes], cost: int) -> None:
        """Handle several short values, or raw bytes, from the peer; ``cost`` is their sum."""
        values = None
        if self.callback is not None and not self.busy and not self.stream.raw:
            values = self.connection.decode_run(payloads)
        if values is None:
            for payload, cost in zip(payloads, frame_costs(payloads), strict=True):
                if self.connection.broken:
                    break  # one of them was not a value
                self.arrived(payload, cost)
            return
        callback = self.callback
        pending = None
        self.busy = True
        left = iter(values)
        try:
            for value in left:
                result = callback(value)  # type: ignore[misc]
                if result is not None:
                    pending = pending_result(result, self)
                    if pending is not None:
                        break
                if self.over is not None:
                    break
        except BaseException:
            self._callback_failed(Failure())
            return
        taken = len(payloads) - len(list(left))
        if taken < len(payloads) and self.over is None:
            costs = frame_costs(payloads[taken:])
            cost -= sum(costs)
            self.queue.extend(zip(payloads[taken:], costs, strict=True))
        self.connection.mux.consumed(self.stream, cost)
        self._called_back(pending)
        if self.over is not None or self.queue:
            self._drain()

    def _call_back(self, payload: bytes | memoryview, cost: int) -> None:
        connection = self.connection
        if cost:
            connection.mux.consumed(self.stream, cost)
        if self.stream.raw:
            value: Any = payload
        elif isinstance(payload, memoryview):
            value = payload.obj
        else:
            try:
                value = connection.decode(payload)
            except InvalidValue as problem:
                connection.violated("value", str(problem))
                return
            except ValueNotReceivable:
                self._callback_failed(Failure())
                return
        self.busy = True
        try:
            result = self.callback(value)  # type: ignore[misc]
        except BaseException:
            self._callback_failed(Failure())
            return
        self._called_back(None if result is None else pending_result(result, self))

    def _called_back(self, pending: defer.Deferred[Any] | None) -> None:
        """The callback has returned: it can get the next value now, or when ``pending`` fires."""
        if pending is not None:
            self.stream.read_demand = False
            if pending in self.close_waiters:
                self._waits_itself(pending)
            pending.addCallbacks(self._callback_done, self._callback_failed)
            return
        self.busy = False
        if not self.stream.read_demand and self.over is None and self.connection.lost is None:
            self.connection.mux.demand_read(self.stream)

    def _callback_done(self, _: object) -> None:
        self.busy = False
        self._drain()
        self.connection.flush_soon()

    def _callback_failed(self, failure: Failure) -> None:
        """The user's callback raised: end this channel, and nothing else."""
        errback, self.errback = self.errback, None
        self.callback, self.endmarker = _ignore, NO_ENDMARKER
        self.told = self.telling = self.seen = True
        self.close(failure.value if isinstance(failure.value, Exception) else None)
        self._told_after(tell(errback, failure, self))

    def set_callback(
        self,
        callback: Callable[[Any], Any],
        errback: Callable[[Failure], Any] | None,
        endmarker: object,
        patient: bool = True,
    ) -> None:
        """As :meth:`Channel.setcallback <pycomnet.Channel.setcallback>`.

        :param patient: whether ``wait_close`` waits for the callbacks as well.
        """
        if self.callback is not None or self.taker is not None or self.waiters:
            raise PycomnetError(
                f"channel {self.stream.id} has a callback, a protocol or a waiting receive already"
            )
        self.callback, self.errback, self.endmarker = callback, errback, endmarker
        self.patient = patient
        self._drain()
        self.connection.flush_soon()

    def _drain(self) -> None:
        """Call back with the values that have come in the meantime, and with the end if it has."""
        while self.queue and not self.busy:
            self._call_back(*self.queue.popleft())
        if self.busy:
            return
        if self.over is not None:
            self._call_end()
        else:
            self.connection.mux.demand_read(self.stream)

    def _call_end(self) -> None:
        """Report the end to errback and callback, once: first the error."""
        self.busy = self.told = self.telling = True
        errback = self.errback
        if isinstance(self.over, ChannelClosed):
            if not self.half:
                self.errback = None
            self._call_endmarker(errback)
            return
        self.seen = True
        self.errback = None
        assert self.over is not None
        pending = tell(errback, Failure(self.over), self)
        if pending is None:
            self._call_endmarker(None)
        else:
            pending.addCallback(lambda _: self._call_endmarker(None))

    def _call_endmarker(self, errback: Callable[[Failure], Any] | None) -> None:
        callback, self.callback = self.callback, _ignore
        endmarker, self.endmarker = self.endmarker, NO_ENDMARKER
        pending = None
        if endmarker is not NO_ENDMARKER and callback is not None:
            try:
                pending = pending_result(callback(endmarker), self)
            except BaseException:
                pending = self._callback_failed_at_end(Failure(), errback)
            else:
                if pending is not None:
                    if pending in self.close_waiters:
                        self._waits_itself(pending)
                    pending.addErrback(self._callback_failed_at_end, errback)
        self._told_after(pending)

    def _callback_failed_at_end(
        self, failure: Failure, errback: Callable[[Failure], Any] | None
    ) -> defer.Deferred[Any] | None:
        self.errback = None
        self.close(failure.value if isinstance(failure.value, Exception) else None)
        return tell(errback, failure, self)

    def _told_after(self, pending: defer.Deferred[Any] | None) -> None:
        """The end has been reported once ``pending`` has fired."""
        if pending is None:
            self._all_told()
        else:
            pending.addBoth(self._all_told)

    def _all_told(self, _: object = None) -> None:
        self.telling = False
        late, self.late = self.late, None
        if late is not None:
            errback, self.errback = self.errback, None
            self.telling = True
            self._told_after(tell(errback, late, self))
            return
        self._tell_closed()

    # -- a protocol on a raw channel -------------------------------------------------------------

    def set_taker(self, taker: ChannelTransport) -> None:
        """Pass arriving bytes to a transport, from the call of :meth:`resume` on."""
        if not self.stream.raw:
            raise PycomnetError(f"channel {self.stream.id} is not raw: it carries values")
        if self.callback is not None or self.taker is not None or self.waiters:
            raise PycomnetError(
                f"channel {self.stream.id} has a callback, a protocol or a waiting receive already"
            )
        self.taker = taker
        self.busy = True

    def pause(self) -> None:
        self.busy = True

    def resume(self) -> None:
        taker = self.taker
        if taker is None:
            return
        self.busy = False
        while self.queue and not self.busy:
            payload, cost = self.queue.popleft()
            self.connection.mux.consumed(self.stream, cost)
            taker.data_received(bytes(payload))
        if self.over is not None and not self.busy:
            self._end_taker(self.over)
        self.connection.flush_soon()

    def _end_taker(self, over: Exception) -> None:
        taker = self.taker
        if taker is not None:
            self.seen = True
            if self.half and taker.half_ended():
                return  # the protocol goes on sending
            if self.taker is not None:
                self.taker = None
                taker.ended(over)

    # -- the end ---------------------------------------------------------------------------------

    def ended(self) -> None:
        """The peer has ended sending."""
        self.half = self.over is None
        self._finish(ChannelClosed(f"channel {self.stream.id}: the other end sends no more"))

    def closed(self, kind: int, payload: bytes) -> None:
        """The peer has closed it."""
        if kind == RESULT:
            self.arrived(payload, 0)
        over: Exception = ChannelClosed(
            f"channel {self.stream.id}: the other end closed it{self._why()}"
        )
        if kind == ERROR:
            try:
                error = self.connection.decode(payload)
            except InvalidValue as problem:
                over = self.connection.violated("value", str(problem))
            except ValueNotReceivable as problem:
                over = RemoteError("", f"an error that can't be shown: {problem}")
            else:
                over = RemoteError.from_map(error if isinstance(error, dict) else {})
        self._fail_sends(over)
        if self.half:
            self._whole(over)
        else:
            self._finish(over)

    def connection_lost(self, lost: ConnectionLost) -> None:
        self.stream.sending = False
        self._fail_sends(lost)
        if self.half:
            self._whole(lost)
        else:
            self._finish(lost)

    def _fail_sends(self, over: Exception) -> None:
        sends, self.sends = self.sends, {}
        for deferred in sends:
            if not deferred.called:
                deferred.errback(Failure(over))

    def _finish(self, over: Exception) -> None:
        """No more values come: notify the waiters."""
        if self.over is not None:
            return
        self.over = over
        waiters, self.waiters = self.waiters, deque()
        if waiters or self.close_waiters:
            self.seen = True
        for waiter in waiters:
            if not waiter.called:
                waiter.errback(Failure(over))
        self._tell_closed()
        if not self.busy and not self.queue:
            if self.taker is not None:
                self._end_taker(over)
            elif self.callback is not None:
                self._call_end()

    def _whole(self, over: Exception) -> None:
        """The peer had ended sending; now all is over. An error replaces the normal end."""
        self.half = False
        if isinstance(over, RemoteError):
            self.over = over
            self.seen = self.told or bool(self.close_waiters)
            if self.telling:
                self.late = Failure(over)
            elif self.told:
                errback, self.errback = self.errback, None
                self.telling = True
                self._told_after(tell(errback, Failure(over), self))
        elif isinstance(over, ConnectionLost) and self.close_waiters:
            self.over = over  # they wait for the code, whose end nobody will know
        if self.told and self.late is None:
            self.errback = None
        self._tell_closed()
        if not self.busy and not self.queue:
            self._end_taker(over)

    def wait_close(
        self, cancel: Callable[[defer.Deferred[None]], None] | None = None
    ) -> defer.Deferred[None]:
        """Wait for the end; ``cancel`` as for :meth:`receive`."""
        deferred: defer.Deferred[None] = defer.Deferred(cancel or self.cancel_close)
        if self.over is not None:
            self.seen = True
        self.close_waiters.append(deferred)
        if caller.get() is self:
            self._waits_itself(deferred)
        else:
            self._tell_closed()
        return deferred

    def _waits_itself(self, waiting: defer.Deferred[None]) -> None:
        """The callback itself waits for the end, so this waiter must not wait for the callback."""
        self.own_waiters += (waiting,)
        self._tell_closed()

    def _tell_closed(self) -> None:
        """Notify those who wait for the end, if it has come and the callback has been told."""
        if self.over is None or not self.close_waiters:
            return
        if self.half and self.stream.purpose == "exec" and not self.stream.end_sent:
            # The code still runs, and may raise. (Once both ends have ended no CLOSE comes.)
            return
        firing, self.close_waiters = self.close_waiters, []
        if self.patient and self.callback is not None and (self.telling or not self.told):
            own = self.own_waiters
            self.close_waiters = [waiting for waiting in firing if waiting not in own]
            firing = list(own)
        self.own_waiters = ()
        for closing in firing:
            if not closing.called:
                self._fire_close(closing)

    def cancel_close(self, deferred: defer.Deferred[None]) -> None:
        with contextlib.suppress(ValueError):
            self.close_waiters.remove(deferred)
        self.own_waiters = tuple(own for own in self.own_waiters if own is not deferred)

    def _fire_close(self, deferred: defer.Deferred[None]) -> None:
        if self.over is None or isinstance(self.over, ChannelClosed):
            deferred.callback(None)
        else:
            deferred.errback(Failure(self.over))


def _ignore(_: object) -> None:
    """The callback of a channel whose end has been reported."""


def _log_unhandled(failure: Failure) -> None:
    # An EOFError is no fault of code that reads to the end of a dropped channel.
    if isinstance(failure.value, RemoteError) and failure.value.type != "EOFError":
        log.error("unhandled error in remote code:\n{error}", error=failure.getErrorMessage())


def _error_map(error: Exception) -> dict[str, str]:
    if isinstance(error, RemoteError):
        return error.as_map()
    if isinstance(error, MemoryExceeded):
        return {"code": error.code, "message": str(error)}
    return {"code": "remote", "type": type_name(type(error)), "message": message_of(error)}
