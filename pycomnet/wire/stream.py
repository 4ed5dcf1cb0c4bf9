"""The multiplexer's state of a channel, and its limits, events and errors."""

try:
    from _collections import deque  # the package itself imports much more
except ImportError:
    from collections import deque

from .frames import (
    CHANNELS,
    CONTROL,
    FRAGMENT,
    MAX_CREDIT,
    MAX_VALUE,
    MIN_FRAME,
    MIN_WINDOW,
    WINDOW,
)
from .values import MAX_ITEMS

# The events. Each is a tuple that begins with one of these.
EV_DATA = 0  # (EV_DATA, stream, payload, cost): a whole value's encoding, or raw bytes; or, if the
# value is long bytes, a memoryview whose ``obj`` is the value itself
EV_OPENED = 1  # (EV_OPENED, stream): the peer opened a channel
EV_END = 2  # (EV_END, stream): the peer sends no more on it
EV_CLOSED = 3  # (EV_CLOSED, stream, kind, payload): the peer closed it
EV_HELLO = 4  # (EV_HELLO, settings): those of the peer's hello (hello.read_hello); channels can be
# opened now
EV_PONG = 5  # (EV_PONG, data)
EV_GOAWAY = 6  # (EV_GOAWAY, code, message)
EV_FAILED = 7  # (EV_FAILED, error): the last one
EV_RUN = 8  # (EV_RUN, stream, payloads, cost): several short values of a channel, cost in all
EV_CALL = 9  # (EV_CALL, id, payload): a unary call from the peer: it opened a channel with a whole
# first value and the end of sending, for a purpose given to expect_calls; instead of OPENED, DATA
# and END
EV_REPLY = 10  # (EV_REPLY, app, payload): the result of a unary call of this end, if nothing else
# came on that channel; instead of CLOSED


class LocalError(Exception):
    """This end asked for something that the protocol does not allow, or no longer allows."""


class ProtocolError(Exception):
    """The peer broke the protocol.

    :ivar code: the stable name of what it broke (docs/protocol.rst, "Ping, pong, goaway").
    :ivar message: what was expected and what came.
    """

    def __init__(self, code, message):
        Exception.__init__(self, "%s: %s" % (code, message))
        self.code = code
        self.message = message


class Limits(object):
    """What this end allows its peer: in its hello, and limits that it does not announce.

    :ivar window: bytes of credit that each channel begins with.
    :ivar frame: bytes of the longest payload that is accepted.
    :ivar channels: channels that the peer may have open at a time.
    :ivar value: bytes of the longest value that is put together from fragments.
    :ivar control: bytes of responses that wait for a peer that does not read them.
    :ivar items: elements, keys and values of a value, nested ones included. The decoder counts
        them.
    """

    def __init__(
        self,
        window=WINDOW,
        frame=FRAGMENT,
        channels=CHANNELS,
        value=MAX_VALUE,
        control=CONTROL,
        items=MAX_ITEMS,
    ):
        if not MIN_WINDOW <= window <= MAX_CREDIT:
            raise ValueError("window: %d to %d, not %r" % (MIN_WINDOW, MAX_CREDIT, window))
        if not MIN_FRAME <= frame <= MAX_CREDIT:
            raise ValueError("frame: %d to %d, not %r" % (MIN_FRAME, MAX_CREDIT, frame))
        if not 0 <= channels <= MAX_CREDIT:
            raise ValueError("channels: 0 to %d, not %r" % (MAX_CREDIT, channels))
        self.window = window
        self.frame = frame
        self.channels = channels
        self.value = value
        self.control = control
        self.items = items


class Stream(object):
    """The mux's state of one channel. ``app`` belongs to the mux's user."""

    __slots__ = (
        "id",
        "purpose",
        "raw",
        "app",
        "local",
        "credit",
        "queue",
        "ready",
        "window",
        "unacked",
        "half",
        "read_demand",
        "partial",
        "partial_cost",
        "sending",
        "receiving",
        "ended",
        "end_sent",
        "close_sent",
        "finish",
        "head_size",
        "head",
    )

    def __init__(self, id, purpose, raw, local, credit, window):
        self.id = id
        self.purpose = purpose
        #: True when it carries bytes, not values
        self.raw = raw
        self.app = None
        #: True when this end opened it.
        self.local = local
        #: bytes that this end may still send
        self.credit = credit
        #: values that wait for credit or their turn: [payload, offset, token, prefix]
        self.queue = deque()
        #: True while it is in the scheduler's queue
        self.ready = False
        #: bytes that the peer may still send
        self.window = window
        #: consumed credit that has not been given back yet
        self.unacked = 0
        #: half a window: credit is given back in portions of at least this
        self.half = window // 2
        #: True while a reader waits for the next value
        self.read_demand = False
        #: the fragments of a value that is not complete yet
        self.partial = None
        #: what those fragments cost, as far as that credit has not been given back
        self.partial_cost = 0
        #: False once this end's user has ended or closed it
        self.sending = True
        #: False once the peer has ended it, or this end closed it: then data is dropped
        self.receiving = True
        #: True once the peer has ended it: nothing more can come
        self.ended = False
        self.end_sent = False
        self.close_sent = False
        #: the type and payload of the END or CLOSE that follows what is queued
        self.finish = None
        #: the size of the last short value, and its frame's header: the next often has the same
        self.head_size = -1
        self.head = b""

    def token_for_last(self, token):
        """Put ``token`` into the scheduler's ``sent`` once the last queued value has been sent."""
        self.queue[-1][2] = token

    def stop_receiving(self):
        """Drop whatever arrives from now on."""
        self.receiving = False
        self.partial = None
        self.partial_cost = 0

    def held(self, window):
        """The cost of arrived values that were not consumed yet, in bytes.

        :param window: the window that it began with.
        """
        held = window - self.window - self.unacked
        if self.partial is not None:  # its credit may have been given back already
            held += self.partial.size - self.partial_cost
        return max(held, 0)

    def queued(self):
        """Bytes that are queued to be sent on it."""
        size = 0 if self.finish is None else len(self.finish[1])
        for item in self.queue:
            size += len(item[0]) - item[1]
        return size
