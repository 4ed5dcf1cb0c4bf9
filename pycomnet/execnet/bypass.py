"""Round trips past the reactor's thread: a thread that waits for an answer reads it itself.

Between a ``send`` and the ``receive`` of its answer there are two changes of threads. Each of them
takes longer than the rest of the round trip. So the reactor *lends* the connection to a thread
that asks and waits for the answer, again and again, while no other thread waits for anything
(leader/followers). This thread writes its short values to the pipe, and reads the pipe.
docs/architecture/execnet.rst has the rules.

Only the reactor's thread changes the state of the connection, since a Ctrl-C may end what another
thread does anywhere. The thread reads into a queue, and looks at what is in the queue. If that is
exactly one short value for its channel, the thread takes this value, and notes the cost. Otherwise
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
#: Seconds that a thread waits for an answer itself. After that it is woken by the reactor's thread,
#: as everybody is.
PATIENCE = 5e-3
#: Seconds after which the reactor takes the connection back if it was not used. Nobody waits
#: meanwhile, so only what nobody waits for can come so late.
TICK = 10e-3
#: Credit that the reactor sets aside for a thread that writes, in bytes: enough for one tick.
ROOM = 1 << 17
#: How many answers in a row let it be lent, at least and at most. The number doubles each time that
#: something else than an answer comes.
LEAST_ANSWERS = 2
MOST_ANSWERS = 128
#: So many channels of a connection are looked at before it is lent.
MOST_CHANNELS = 64
#: What :meth:`Bypass.receive` returns if it has no value.
NOTHING = object()
#: The first bytes of an encoding that is of one number, text or bytes, true, false or none.
_PLAIN = frozenset(
    (*range(0x80), *range(0xA0, 0xC7), *range(0xCA, 0xD4), *range(0xD9, 0xDC), *range(0xE0, 0x100))
)
#: Whatever has none of these has no extension, and so no channel in it.
_find_extension = re.compile(rb"[\xc1\xc7-\xc9\xd4-\xd8]").search


class Bypass:
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
        #: the reactor's thread: where code of others runs in that, it may be amid anything
        self._thread = 0
        self._tick: IDelayedCall | None = None
        #: the channel on which the last value was sent, if nothing was received since then
        self._asked: ChannelCore | None = None
        #: the answers in a row, and the id of the channel that they came on; how many are needed
        self._answers = self._answered = 0
        self._needed = LEAST_ANSWERS
        #: whether it was used since the last tick
        self._used = False
        #: whether the next value may be written here: one between two answers
        self._may_send = False
        #: what costs what was written and read; the reactor takes note of it later
        self._sent = 0
        self._received: deque[tuple[Stream, int]] = deque()
        #: credit that is set aside
        self._room = 0
        self.waiting: dict[int, None] = {}

    # -- in the user's thread --------------------------------------------------------------------

    def send(self, core: ChannelCore, payload: bytes) -> bool:
        """Write a value's encoding to the pipe, if that may be done here.

        :returns: whether it is written.
        """
        self._asked = core
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
            return False  # another thread holds it, for who knows how long
        with transport.writing.held:
            # A CLOSE or END is written after `sending` has been set, and in the reactor's thread.
            if core is not self.core or not stream.sending:
                return False
            cost = frame_cost(size)
            if self._sent + cost > self._room:
                return False
            # Noted first, as a Ctrl-C may end this anywhere: then some credit is never used.
            self._sent += cost
            if transport.write_short(frame):
                return True
            if not transport.writing.overruled:
                self._sent -= cost
        return False

    def _is_idle(self, stream: Stream) -> bool:
        """Whether nothing that this thread has sent on a stream waits to be written."""
        connection = self._connection
        # In this order, as that is the order of its ways.
        return not (stream.queue or connection.mux.has_data() or connection.flushing)

    def receive(self, core: ChannelCore, inbox: Inbox, timeout: float | None) -> Any:
        """Wait a little for a value that answers what was sent last.

        :returns: the value, or :data:`NOTHING`: it has to be waited for in the inbox.
        """
        if self.core is not None:
            if core is self.core and (timeout is None or timeout > PATIENCE):
                value = self._read(core, inbox)
                if value is not NOTHING:
                    return value
            # Also if it is lent to another channel: who uses two in turn would have it lent and
            # taken back all the time.
            self._needed = min(2 * self._needed, MOST_ANSWERS)
            self._answers = 0
            self.give_back()
        elif self._asked is core:
            if self._answered != core.stream.id:
                self._answered = core.stream.id
                self._answers = 0
            self._answers += 1
            if self._answers == self._needed:
                self._outbox.put(core, lambda: self._lend(core))
            elif self._answers > self._needed:
                self._answers = 0
        else:
            self._answers = 0
        self._asked = None
        return NOTHING

    def _read(self, core: ChannelCore, inbox: Inbox) -> Any:
        transport, wait = self._transport, self._wait
        if transport is None or wait is None:
            return NOTHING
        self._used = True
        try:
            if not wait.poll():
                ready = self._poll(PATIENCE * 1000)
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
            return NOTHING  # the reactor finds out, too, and ends the channel or connection
        if not transport.drop_lent(data):
            return NOTHING
        # Noted last: an interrupt before this loses some credit, and never grants it twice.
        self._received.append((core.stream, frame_cost(size)))
        self._may_send = True
        self._asked = None
        self._needed = LEAST_ANSWERS
        return value

    def give_back(self) -> None:
        """In any thread: somebody waits for something else, so let the reactor read."""
        if self.core is not None:
            self._call_in_reactor(self.take_back)

    # -- in the reactor's thread -----------------------------------------------------------------

    def _lend(self, core: ChannelCore) -> None:
        """Lend it to the thread that receives from a channel, if that can be."""
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
        if stream.credit < 2 * ROOM:
            return
        for other in streams.values():
            inbox = other.app.receiver if isinstance(other.app, ChannelCore) else None
            if isinstance(inbox, Inbox) and inbox.has_callback:
                return  # what comes for it must not come late
        if self._wait is None or self._transport is not transport:
            self._transport = transport
            self._poll = poll_of(transport.read_fileno())
            if self._poll is None:
                return
            self._wait = BusyWait(self._poll)
        if not transport.lend():
            return
        self._thread = threading.get_ident()
        self._set_aside(core.stream)
        self._used = self._may_send = True
        self.core = core
        receiver.queue.put(LENT)  # who waits there is the one to read
        self._tick = self._time.callLater(TICK, self._check)

    def _set_aside(self, stream: Stream) -> None:
        if stream.credit >= 2 * ROOM:
            stream.credit -= ROOM
            self._room = ROOM

    def _check(self) -> None:
        """Take it back if nobody has used it since the last time."""
        self._tick = None
        core = self.core
        if core is None:
            return
        if not self._used:
            self.take_back()
            return
        self._used = False
        self._settle(core.stream)
        self._set_aside(core.stream)
        self._tick = self._time.callLater(TICK, self._check)

    def take_back(self) -> None:
        """Read in the reactor again. What the other thread has read and not used comes first."""
        core = self.core
        if core is None:
            return
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        transport = cast(ProcessTransport, self._transport)
        with transport.writing, transport.reading:
            self.core = None
        transport.take_back()
        self._settle(core.stream)

    def _settle(self, stream: Stream) -> None:
        """Take note of what was written and read."""
        transport = cast(ProcessTransport, self._transport)
        with transport.writing:
            room, self._room = self._room, 0
            sent, self._sent = self._sent, 0
        received: dict[Stream, int] = {}
        while self._received:
            one, cost = self._received.popleft()
            received[one] = received.get(one, 0) + cost
        connection = self._connection
        mux = connection.mux
        if connection.lost is not None or mux.failed is not None:
            return
        stream.credit += room - sent
        if stream.queue:
            mux.scheduler.enqueue(stream)  # it has waited for that credit
        for one, cost in received.items():
            one.window -= cost
            mux.consumed(one, cost)
        if received:
            connection.dataReceived(b"")  # it is alive
        if mux.has_data():
            connection.flush_soon()


__all__ = ["NOTHING", "Bypass"]
