"""Round trips past the reactor's thread: a thread that waits for an answer reads it itself.

Between a ``send`` and the ``receive`` of its answer there are two changes of threads. Each of them
takes longer than the rest of the round trip. So the reactor *lends* the connection to a thread that
repeatedly sends a value and waits for the answer, while no other thread waits for anything (the
leader/followers pattern). This thread writes its short values to the pipe, and reads the pipe.
docs/architecture/execnet.rst has the rules.

Only the reactor's thread changes the state of the connection, since a Ctrl-C may interrupt another
thread between any two steps. The thread reads into a queue, and then looks into the queue. If it
finds exactly one short value for its channel, it takes this value and records the cost. Otherwise
the reactor gets everything that is in the queue.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime

from pycomnet.channels.connection import Connection
from pycomnet.channels.core import ChannelCore
from pycomnet.execnet.inbox import LENT, Inbox
from pycomnet.far.busypoll import BusyWait, poll_of
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.wire.frames import DATA, HEADER_SIZE, frame_cost, pack, unpack_from
from pycomnet.wire.values import InvalidValue, ValueNotReceivable

if TYPE_CHECKING:
    from pycomnet.execnet.outbox import Outbox
    from pycomnet.wire.mux import Stream

#: The longest value that is written or read past the reactor, in bytes of its encoding. With a
#: longer one the change of threads does not matter.
SHORT = 1024
#: Seconds that a thread waits for an answer itself. After that it waits for the reactor's thread,
#: as other threads do.
ANSWER_WAIT = 5e-3
#: Seconds between checks whether the connection was used; if not, the reactor takes it back. No
#: thread waits meanwhile, so only values that no thread waits for can be that late.
CHECK_INTERVAL = 10e-3
#: Credit that the reactor reserves for a thread that writes, in bytes: enough for one interval.
RESERVE = 1 << 17
#: How many answers in a row are needed before the connection is lent, at least and at most. The
#: number doubles each time that something other than an answer arrives.
FEWEST_ANSWERS = 2
MOST_ANSWERS = 128
#: A connection with more channels is not lent: each of them would have to be examined.
MOST_CHANNELS = 64
#: What :meth:`ReactorBypass.receive` returns if it has no value.
NOTHING = object()
#: The first bytes of the encodings of numbers, text, bytes, true, false and nil.
_PLAIN = frozenset(
    (*range(0x80), *range(0xA0, 0xC7), *range(0xCA, 0xD4), *range(0xD9, 0xDC), *range(0xE0, 0x100))
)
#: An encoding without any of these bytes has no extension, and so no channel in it.
_find_extension = re.compile(rb"[\xc1\xc7-\xc9\xd4-\xd8]").search


class ReactorBypass:
    """Lends a connection to one user thread at a time.

    :param reactor: the connection's reactor.
    :param connection: the connection.
    :param outbox: the queue of what threads send over the connection.
    :ivar core: the channel whose receiver has the connection; None if the connection is not lent.
    :ivar waiting: the ids of the threads that wait for something of this connection.
    """

    def __init__(
        self, reactor: IReactorFromThreads, connection: Connection, outbox: Outbox
    ) -> None:
        self.core: ChannelCore | None = None
        self._call_in_reactor: Callable[..., Any] = reactor.callFromThread
        self._time = IReactorTime(reactor)
        self._connection = connection
        self._outbox = outbox
        self._transport: ProcessTransport | None = None
        self._wait: BusyWait | None = None
        self._poll: Any = None
        #: the id of the reactor's thread: user code that runs in it must not write here
        self._thread = 0
        self._checking: IDelayedCall | None = None
        #: the channel on which the last value was sent, if nothing was received since then
        self._sent_on: ChannelCore | None = None
        #: the number of answers in a row, the id of their channel, and how many are needed
        self._answers = self._answered_on = 0
        self._answers_needed = FEWEST_ANSWERS
        #: whether it was used since the last check
        self._used = False
        #: whether the thread may write the next value: one between two answers
        self._may_send = False
        #: the costs of what was written and read, which the reactor charges later
        self._sent = 0
        self._received: deque[tuple[Stream, int]] = deque()
        #: reserved credit, in bytes
        self._reserved = 0
        self.waiting: dict[int, None] = {}

    # -- in the user's thread --------------------------------------------------------------------

    def send(self, core: ChannelCore, payload: bytes) -> bool:
        """Write a value's encoding to the pipe, if this thread may do that.

        :returns: whether it is written.
        """
        self._sent_on = core
        if core is not self.core or not self._may_send:
            return False
        self._may_send = False
        size = len(payload)
        stream = core.stream
        transport = self._transport
        if size > SHORT or transport is None or threading.get_ident() == self._thread:
            return False
        if not (self._outbox.is_idle() and self._is_idle(stream)):
            return False
        frame = pack(size, DATA, stream.id) + payload
        if transport.writing.overruled:
            return False  # a thread holds it, perhaps for long
        with transport.writing.held:
            # A CLOSE or END is written after `sending` has been set, and in the reactor's thread.
            if core is not self.core or not stream.sending:
                return False
            cost = frame_cost(size)
            if self._sent + cost > self._reserved:
                return False
            # Recorded first, as a Ctrl-C may interrupt this anywhere: then some credit is lost.
            self._sent += cost
            if transport.write_short(frame):
                return True
            if not transport.writing.overruled:
                self._sent -= cost
        return False

    def _is_idle(self, stream: Stream) -> bool:
        """Whether nothing that this thread has sent on a stream waits to be written."""
        connection = self._connection
        # In this order: a value moves from the first to the last.
        return not (stream.queue or connection.mux.has_data() or connection.flushing)

    def receive(self, core: ChannelCore, inbox: Inbox, timeout: float | None) -> Any:
        """Wait for the answer to the last value, for :data:`ANSWER_WAIT` seconds at most.

        :returns: the value; or :data:`NOTHING`, if the caller has to wait for it in the inbox.
        """
        if self.core is not None:
            if core is self.core and (timeout is None or timeout > ANSWER_WAIT):
                value = self._read(core, inbox)
                if value is not NOTHING:
                    return value
            # Also if it is lent to another channel: otherwise it would be lent and taken back all
            # the time for a thread that uses two channels in turn.
            self._answers_needed = min(2 * self._answers_needed, MOST_ANSWERS)
            self._answers = 0
            self.give_back()
        elif self._sent_on is core:
            if self._answered_on != core.stream.id:
                self._answered_on = core.stream.id
                self._answers = 0
            self._answers += 1
            if self._answers == self._answers_needed:
                self._outbox.put(core, lambda: self._lend(core))
            elif self._answers > self._answers_needed:
                self._answers = 0
        else:
            self._answers = 0
        self._sent_on = None
        return NOTHING

    def _read(self, core: ChannelCore, inbox: Inbox) -> Any:
        transport, wait = self._transport, self._wait
        if transport is None or wait is None:
            return NOTHING
        self._used = True
        try:
            if not wait.poll():
                ready = self._poll(ANSWER_WAIT * 1000)
                wait.came()
                if not ready:
                    return NOTHING
        except RuntimeError:
            return NOTHING  # two threads wait
        if transport.reading.overruled:
            return NOTHING
        with transport.reading.held:
            if core is not self.core or not inbox.queue.empty():
                return NOTHING
            data = transport.read_lent()
        size = len(data) - HEADER_SIZE
        if size <= 0 or size > SHORT or unpack_from(data) != (size, DATA, core.stream.id):
            return NOTHING
        payload = data[HEADER_SIZE:]
        if payload[0] not in _PLAIN and _find_extension(payload):
            return NOTHING
        try:
            value = self._connection.decode(payload)
        except (InvalidValue, ValueNotReceivable):
            return NOTHING  # the reactor decodes it again, and ends the channel or connection
        if not transport.drop_lent(data):
            return NOTHING
        # Recorded last: an interrupt before this loses some credit, and never grants it twice.
        self._received.append((core.stream, frame_cost(size)))
        self._may_send = True
        self._sent_on = None
        self._answers_needed = FEWEST_ANSWERS
        return value

    def give_back(self) -> None:
        """In any thread, before it waits for something else: let the reactor read again."""
        if self.core is not None:
            self._call_in_reactor(self.take_back)

    # -- in the reactor's thread -----------------------------------------------------------------

    def _lend(self, core: ChannelCore) -> None:
        """Lend the connection to the thread that receives from a channel, if that is allowed."""
        self._answers = 0
        connection = self._connection
        transport: Any = connection.transport
        if not isinstance(transport, ProcessTransport) or self.core is not None:
            return
        if len(self.waiting) > 1:
            return  # another thread than the one that asks for it
        stream = core.stream
        streams = connection.mux.streams
        if connection.lost is not None or len(streams) > MOST_CHANNELS or core.over is not None:
            return
        receiver = core.receiver
        if not isinstance(receiver, Inbox) or receiver.over:
            return
        if connection.mux.reader.is_within or stream.partial is not None:
            return  # a part of a value has come
        if stream.credit < 2 * RESERVE:
            return
        for other in streams.values():
            inbox = other.app.receiver if isinstance(other.app, ChannelCore) else None
            if isinstance(inbox, Inbox) and inbox.has_callback:
                return  # its values must not be late
        if self._wait is None or self._transport is not transport:
            self._transport = transport
            self._poll = poll_of(transport.read_fileno())
            if self._poll is None:
                return
            self._wait = BusyWait(self._poll)
        if not transport.lend():
            return
        self._thread = threading.get_ident()
        self._reserve_credit(core.stream)
        self._used = self._may_send = True
        self.core = core
        receiver.queue.put(LENT)  # the thread that waits there reads from now on
        self._checking = self._time.callLater(CHECK_INTERVAL, self._check)

    def _reserve_credit(self, stream: Stream) -> None:
        if stream.credit >= 2 * RESERVE:
            stream.credit -= RESERVE
            self._reserved = RESERVE

    def _check(self) -> None:
        """Take the connection back if it was not used since the last check."""
        self._checking = None
        core = self.core
        if core is None:
            return
        if not self._used:
            self.take_back()
            return
        self._used = False
        self._account(core.stream)
        self._reserve_credit(core.stream)
        self._checking = self._time.callLater(CHECK_INTERVAL, self._check)

    def take_back(self) -> None:
        """Read in the reactor again, first what the other thread has read and not used."""
        core = self.core
        if core is None:
            return
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        transport = cast(ProcessTransport, self._transport)
        with transport.writing, transport.reading:
            self.core = None
        transport.take_back()
        self._account(core.stream)

    def _account(self, stream: Stream) -> None:
        """Charge the costs of what was written and read."""
        transport = cast(ProcessTransport, self._transport)
        with transport.writing:
            reserved, self._reserved = self._reserved, 0
            sent, self._sent = self._sent, 0
        received: dict[Stream, int] = {}
        while self._received:
            one, cost = self._received.popleft()
            received[one] = received.get(one, 0) + cost
        connection = self._connection
        mux = connection.mux
        if connection.lost is not None or mux.failed is not None:
            return
        stream.credit += reserved - sent
        if stream.queue:
            mux.scheduler.enqueue(stream)  # it has waited for that credit
        for one, cost in received.items():
            one.window -= cost
            mux.consumed(one, cost)
        if received:
            connection.dataReceived(b"")  # for keepalive: the peer is alive
        if mux.has_data():
            connection.flush_soon()


__all__ = ["NOTHING", "ReactorBypass"]
