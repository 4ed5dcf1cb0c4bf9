"""What the multiplexer keeps of a channel; its limits, its events and its errors."""

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
EV_DATA = 0  # (EV_DATA, stream, payload, cost): a whole value's encoding, or raw bytes; or, where
# the value is long bytes, a memoryview whose ``obj`` is the value itself
EV_OPENED = 1  # (EV_OPENED, stream): the peer opened a channel
EV_END = 2  # (EV_END, stream): the peer sends no more on it
EV_CLOSED = 3  # (EV_CLOSED, stream, kind, payload): the peer closed it
EV_HELLO = 4  # (EV_HELLO, info): the peer's hello; channels can be opened now
EV_PONG = 5  # (EV_PONG, data)
EV_GOAWAY = 6  # (EV_GOAWAY, code, message)
EV_FAILED = 7  # (EV_FAILED, error): the last one
EV_RUN = 8  # (EV_RUN, stream, payloads, cost): several short values of a channel, cost in all
EV_CALL = 9  # (EV_CALL, id, payload): a unary call: the peer opened a channel with a whole first
# value and no more to come, for one of the purposes that the mux was told of; instead of OPENED,
# DATA and END
EV_REPLY = 10  # (EV_REPLY, app, payload): the result of a unary call of this end, when nothing else
# came on that channel; instead of CLOSED


class LocalError(Exception):
    """This end asked for something that the protocol does not allow, or not any more."""


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
    """What this end allows its peer, as its hello announces, and what it keeps to itself.

    :ivar window: bytes of credit that each channel begins with.
    :ivar frame: bytes of the longest payload that is accepted.
    :ivar channels: channels that the peer may have open at a time.
    :ivar value: bytes of the longest value that is put together from fragments.
    :ivar control: bytes of responses that wait for a peer that does not read them.
    :ivar items: elements, keys and values of a value, with those of what it holds. Whoever decodes
        counts them.
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
    """What the mux keeps of one channel. ``app`` is its user's."""

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
        self.raw = raw
        self.app = None
        #: True when this end opened it.
        self.local = local
        #: what this end may still send
        self.credit = credit
        #: values that wait for credit or their turn: [payload, offset, token, prefix]
        self.queue = deque()
        #: True while it is in the mux's round of senders
        self.ready = False
        #: what the peer may still send
        self.window = window
        #: what was consumed and not given back yet
        self.unacked = 0
        self.half = window // 2
        #: True while somebody waits for the value that comes next
        self.read_demand = False
        #: the fragments of a value that is not complete yet
        self.partial = None
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
        #: the size of the last short value and its frame's header, as many have the same
        self.head_size = -1
        self.head = b""

    def token_for_last(self, token):
        """Have this put into the scheduler's ``sent`` when the last queued value has gone."""
        self.queue[-1][2] = token

    def stop_receiving(self):
        """Take nothing more: what comes is dropped."""
        self.receiving = False
        self.partial = None
        self.partial_cost = 0

    def held(self, window):
        """Bytes that have come on it, each frame with its cost, and were not consumed yet.

        :param window: what the peer may send at first.
        """
        held = window - self.window - self.unacked
        if self.partial is not None:  # for which credit may have been given already
            held += self.partial.size - self.partial_cost
        return max(held, 0)

    def queued(self):
        """Bytes that wait here to be sent on it."""
        size = 0 if self.finish is None else len(self.finish[1])
        for item in self.queue:
            size += len(item[0]) - item[1]
        return size
