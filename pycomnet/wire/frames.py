"""Frames: their header, their types, and the limits that both ends keep.

docs/protocol.rst is the specification. Like all source that is sent to a bare far side, this is
stdlib only and in the common subset of Python 2.7 and 3.
"""

import struct

MAGIC = b"PYCOMNET"
VERSION = 1
#: The line that a far side prints on standard output before its hello.
MARKER = b"\nPYCOMNET-FAR-SIDE-1\n"

HELLO = 0
DATA = 1
MORE = 2
CREDIT = 3
OPEN = 4
END = 5
CLOSE = 6
PING = 7
PONG = 8
GOAWAY = 9

#: The names, for messages.
NAMES = ("HELLO", "DATA", "MORE", "CREDIT", "OPEN", "END", "CLOSE", "PING", "PONG", "GOAWAY")

# OPEN's flags.
RAW = 0x01
FIRST = 0x02
FIRST_MORE = 0x04
OPEN_END = 0x08

# CLOSE's kinds.
NORMAL = 0
ERROR = 1
RESULT = 2

#: length u32, type u8, channel u32
HEADER = struct.Struct(">IBI")
HEADER_SIZE = HEADER.size
pack = HEADER.pack
unpack_from = HEADER.unpack_from
U32 = struct.Struct(">I")
#: The first byte of a value that is bytes, more than 65535 of them.
BIN32 = b"\xc6"
U16 = struct.Struct(">H")

#: A value longer than this is cut into fragments of this size, and channels take turns. A ping may
#: have to wait for one: 64 KiB take a fraction of a millisecond on any local transport. And they
#: are large enough that the work per frame does not show.
FRAGMENT = 65536
#: Frames of a raw channel have up to this size if the peer's hello allows it. Fork servers allow it
#: to each other: the bytes that they forward are frames that have been cut already.
RAW_FRAGMENT = 262144
#: The longest hello. Before it the peer is unknown, so this end buffers little for it.
MAX_HELLO = 65536
#: The credit that a frame costs beside its payload: about the memory of a queued bytes object.
FRAME_COST = 64
#: The bytes that a channel may buffer in each direction. Enough for a round trip of 10 ms at 100
#: MB/s, and small enough that a few full ones do no harm.
WINDOW = 1048576
#: The window for far sides on other machines: enough for 80 MB/s and a round trip of 200 ms.
WIDE_WINDOW = 16777216
#: The window between fork servers, for all frames of a gateway over one hop. It is smaller: where
#: the next hop is slower, a fork server holds this much, and short messages wait behind it.
HOP_WINDOW = 8388608
#: The window for far sides behind an http mediator: enough for 40 MB/s and a round trip of 100 ms.
#: With a wider window, more of the bytes in flight leave the processor's cache: if all processes
#: run on one machine, bulk by requests takes up to a quarter longer.
MEDIATED_WINDOW = 4194304
#: The smallest window and frame limit that a hello may announce: a fragment must fit.
MIN_WINDOW = 1024
MIN_FRAME = 1024
#: The most credit, in bytes: it fits in a signed 32 bit number.
MAX_CREDIT = 0x7FFFFFFF
#: A fragment is not sent smaller than this when more of the value is left: this avoids
#: silly-window syndrome with a peer that gives its credit in tiny amounts.
MIN_FRAGMENT = 256
#: Channels that the peer may have open at a time. Each takes about a kilobyte.
CHANNELS = 16384
#: The longest value that is put together from fragments: MessagePack's own limit.
MAX_VALUE = 0xFFFFFFFF
#: Bytes of responses (PONG, CLOSE, CREDIT) that may wait for a peer that does not read.
CONTROL = 1048576
#: Values up to this size that arrive together on a channel become one event, a run.
RUN_VALUE = 1024
#: The most bytes of a run: it is decoded as a whole.
RUN = 32768
#: The highest channel id.
MAX_CHANNEL = 0xFFFFFFFF


#: The longest frame, in bytes, that is unpacked with one call together with those of the same size
#: behind it (:func:`frames_alike`).
MAX_ALIKE = 256
#: whether this Python can unpack many records of one layout with one call
HAS_ITER_UNPACK = hasattr(HEADER, "iter_unpack")
#: (format of the start of the payload, size of the frame) -> the struct that unpacks such a frame
_layouts = {}


def frame_cost(size):
    """The cost in credit of a frame with a payload of ``size`` bytes."""
    return size + FRAME_COST


def frame_room(credit):
    """The longest payload, in bytes, that the credit allows; negative if there is not enough."""
    return credit - FRAME_COST


def frame_costs(payloads):
    """The cost in credit of a frame with each of these payloads, as a list."""
    return [len(payload) + FRAME_COST for payload in payloads]


def run_cost(size, count):
    """The cost in credit of ``count`` frames of ``size`` bytes in all, headers included."""
    return size + count * (FRAME_COST - HEADER_SIZE)


def _layout(kind, size):
    layout = _layouts.get((kind, size))
    if layout is None:
        rest = size - HEADER_SIZE - struct.calcsize(kind)
        layout = struct.Struct("%s%s%ds" % (">IBI", kind, rest))
        if size <= MAX_ALIKE and len(_layouts) < 4 * MAX_ALIKE:
            _layouts[kind, size] = layout
    return layout


def frames_alike(kind, data, position, stop):
    """Unpack the frame between two positions, and the bytes behind it in pieces of its size.

    :param kind: the struct format of the start of their payloads.
    :returns: an iterable of tuples: length, type, id, the start of the payload, and its rest. The
        caller has to check length and type, as the later pieces may not be frames.
    """
    size = stop - position
    count = (len(data) - position) // size if size <= MAX_ALIKE and HAS_ITER_UNPACK else 1
    layout = _layout(kind, size)
    if count > 1:
        return layout.iter_unpack(memoryview(data)[position : position + count * size])
    return (layout.unpack_from(data, position),)


def bin32(size):
    """The header of a value that is bytes, more than 65535 of them."""
    return BIN32 + U32.pack(size)


def frame_name(ftype):
    """The name of a frame type, for messages."""
    if ftype < len(NAMES):
        return NAMES[ftype]
    return "type %d" % ftype
