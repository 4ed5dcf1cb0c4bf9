"""The multiplexer: bytes in, events out; channels, fragments, credit and closing, without I/O.

One :class:`Mux` is one end of a connection. Its user does the I/O: it passes in what arrives
(:meth:`Mux.receive_data`), handles the events, and writes what ``Mux.data_to_send`` returns.
The mux is not thread-safe: its user locks.

There are two classes of error. :class:`LocalError` is raised when this end's user asks for
something impossible. A peer that breaks the protocol raises nothing: the last event is ``FAILED``
with a :class:`ProtocolError`, and the last frame to send is a GOAWAY with the reason.

Each part has one job: :mod:`~.reader` cuts bytes into frames, :mod:`~.flow` keeps the windows,
:mod:`~.scheduler` decides what is written next, :mod:`~.lifecycle` opens and closes channels,
:mod:`~.calls` does the unary calls that need no stream, and :mod:`~.table` knows which ids are in
use.
"""

from .calls import UnaryCalls
from .flow import FlowControl
from .frames import (
    CLOSE,
    CREDIT,
    DATA,
    FRAGMENT,
    GOAWAY,
    HELLO,
    MORE,
    OPEN,
    PING,
    PONG,
    RAW_FRAGMENT,
    frame_name,
    pack,
)
from .hello import INTS, PLAIN, STRS, hello_frame, read_hello, read_map
from .lifecycle import Lifecycle
from .reader import FrameReader
from .scheduler import Scheduler
from .stream import (
    EV_CALL,
    EV_CLOSED,
    EV_DATA,
    EV_END,
    EV_FAILED,
    EV_GOAWAY,
    EV_HELLO,
    EV_OPENED,
    EV_PONG,
    EV_REPLY,
    EV_RUN,
    Limits,
    LocalError,
    ProtocolError,
    Stream,
)
from .table import ChannelTable


class Mux(object):
    """One end of a connection.

    The parts' methods that a user needs are attributes here, and not methods that forward to the
    parts: those would cost each value another call.

    :param initiator: True at the end that made the connection.
    :param limits: a :class:`Limits`.
    :param info: a map for the hello's ``info``.
    :param credential: bytes for the hello, or None.
    """

    def __init__(self, initiator, limits=None, info=None, credential=None):
        self.limits = limits = limits or Limits()
        #: the settings of the peer's hello; None until it has come
        self.peer = None
        #: the highest id of this end's channels that the peer handled before its GOAWAY; None
        #: before a GOAWAY, or if it does not say
        self.last_taken = None
        self._goaway_sent = False
        #: events that the next :meth:`receive_data` returns: a failure in a call of the user's
        self._unreported = []
        self.table = table = ChannelTable(initiator)
        self.streams = table.streams
        self.was_opened = table.was_opened
        self.scheduler = scheduler = Scheduler(table, limits.control)
        self.send = scheduler.send
        self.send_now = scheduler.send_now
        self.immediate = scheduler.immediate
        self.unsend = scheduler.unsend
        self.has_data = scheduler.has_data
        self.data_to_send = scheduler.data_to_send
        self.parts_to_send = scheduler.parts_to_send
        self.flow = flow = FlowControl(limits, scheduler, self._fail_later)
        self.consumed = flow.consumed
        self.demand_read = flow.demand_read
        self.lifecycle = lifecycle = Lifecycle(limits, table, scheduler, flow)
        self.open = lifecycle.open
        self.end = lifecycle.end
        self.close = lifecycle.close
        self.resume = lifecycle.resume
        self.restore = lifecycle.restore
        self.calls = calls = UnaryCalls(limits, table, scheduler, lifecycle)
        self.expect_calls = calls.expect_calls
        self.call = calls.call
        self.cancel_call = calls.cancel_call
        self.reply = calls.reply
        self.reply_on = calls.reply_on
        self.stream_of = calls.stream_of
        self.reader = reader = FrameReader(table, flow, calls, self._frame)
        self.lacking = reader.lacking
        self._first = hello_frame(limits, info, credential)
        scheduler.out.append(self._first)

    @property
    def failed(self):
        """Why the connection is over: a ProtocolError, also for a GOAWAY of either end."""
        return self.scheduler.failed

    def ping(self, data):
        """Ask the peer for a pong with the same eight bytes."""
        if len(data) != 8:
            raise LocalError("a ping has 8 bytes, not %d" % len(data))
        if self.failed is None:
            self.scheduler.out.append(pack(8, PING, 0) + data)

    def goaway(self, code, message):
        """End the connection: queue a GOAWAY with the reason as the last frame."""
        if self._goaway_sent:
            return
        self._goaway_sent = True
        scheduler = self.scheduler
        # Characters: of four bytes each, they fit in the peer's shortest frame.
        most = 4096 if scheduler.fragment == FRAGMENT else 128
        goodbye = {"code": code, "message": message[:most]}
        if code == "exit":
            goodbye["last"] = self.table.last_peer_id
        payload = PLAIN.encode(goodbye)
        scheduler.out.append(pack(len(payload), GOAWAY, 0) + payload)
        self._over(ProtocolError(code, message))

    # -- what arrives ----------------------------------------------------------------------------

    def receive_data(self, data):
        """Handle bytes that have arrived.

        :param data: bytes, cut anywhere.
        :returns: a list of events; none once the connection is over.
        """
        events = []
        calls, reader = self.calls, self.reader
        if calls.closed_early:
            calls.closed_early = {}
        if reader.is_stopped:
            events, self._unreported = self._unreported, events
            return events
        try:
            position = 0
            if reader.is_within:
                position = reader.read_rest(data, events)
                if position < 0 or reader.is_stopped:
                    return events
            reader.read(data, position, events)
        except ProtocolError as error:
            events.append(self._fail(error))
        return events

    def _frame(self, ftype, id, payload, events):
        """Handle a frame that the reader does not turn into an event itself."""
        if ftype == OPEN:
            self.lifecycle.opened(id, payload, events)
        elif ftype == HELLO:
            self._hello(id, payload, events)
        elif ftype == PING or ftype == PONG:
            self._ping(ftype, id, payload, events)
        elif ftype == GOAWAY:
            self._goaway(id, payload, events)
        else:
            stream = self.calls.stream_for_frame(id)
            if stream is not None:
                self._channel_frame(ftype, stream, payload, events)
            elif ftype == DATA or ftype == MORE or not self.was_opened(id):
                what = "is over" if self.was_opened(id) else "was never opened"
                raise ProtocolError(
                    "channel", "%s for channel %d, which %s" % (frame_name(ftype), id, what)
                )

    def _channel_frame(self, ftype, stream, payload, events):
        if ftype == CLOSE:
            self.lifecycle.closed(stream, payload, events)
        elif ftype == CREDIT:
            self.flow.credit_received(stream, payload)
        elif ftype == MORE:
            self.flow.more(stream, payload)
        elif ftype == DATA:
            self.flow.data(stream, payload, events)
        else:
            self.lifecycle.ended(stream, payload, events)

    def _hello(self, id, payload, events):
        if self.peer is not None:
            raise ProtocolError("hello", "a second hello")
        self.peer = peer = read_hello(id, payload)
        scheduler = self.scheduler
        scheduler.fragment = min(FRAGMENT, peer["frame"])
        scheduler.raw_fragment = min(RAW_FRAGMENT, peer["frame"])
        scheduler.started = True
        self.table.local_limit = peer["channels"]
        self.lifecycle.peer_window = peer["window"]
        self.reader.max_frame = self.limits.frame
        events.append((EV_HELLO, peer))

    def _ping(self, ftype, id, payload, events):
        if id or len(payload) != 8:
            raise ProtocolError("frame", "%s is 8 bytes on channel 0" % frame_name(ftype))
        if ftype == PING:
            self.scheduler.respond(pack(8, PONG, 0) + payload)
        else:
            events.append((EV_PONG, payload))

    def _goaway(self, id, payload, events):
        reason = read_map(payload, "frame", "GOAWAY")
        code, message = reason.get("code"), reason.get("message")
        if id or not isinstance(code, STRS) or not isinstance(message, STRS):
            raise ProtocolError("frame", "GOAWAY is a code and a message on channel 0")
        last = reason.get("last")
        if type(last) in INTS:
            self.last_taken = last
        events.append((EV_GOAWAY, code, message))
        self._over(ProtocolError(code, message))

    # -- the end ---------------------------------------------------------------------------------

    def _fail(self, error):
        """The peer broke the protocol: return the event for that."""
        # An unsent hello goes before the GOAWAY; nothing else is sent.
        scheduler = self.scheduler
        scheduler.out = [part for part in scheduler.out[:1] if part is self._first]
        self._over(error)
        self.goaway(error.code, error.message)
        return (EV_FAILED, error)

    def _fail_later(self, error):
        """The same in a call of this end's user: :meth:`receive_data` returns the event."""
        self._unreported.append(self._fail(error))

    def _over(self, error):
        """Send and read nothing more, except what is already in ``out``."""
        self.reader.stop()
        self.scheduler.stop(error)
        for stream in self.streams.values():
            stream.credit = 0
            stream.stop_receiving()


__all__ = [
    "EV_CALL",
    "EV_CLOSED",
    "EV_DATA",
    "EV_END",
    "EV_FAILED",
    "EV_GOAWAY",
    "EV_HELLO",
    "EV_OPENED",
    "EV_PONG",
    "EV_REPLY",
    "EV_RUN",
    "Limits",
    "LocalError",
    "Mux",
    "ProtocolError",
    "Stream",
]
