"""The frames: their header, their types, and the limits that both ends keep.

docs/protocol.rst is the specification. This is stdlib only and in the common subset of Python 2.7
and 3, as is all that a bare far side is sent.
"""

import struct

MAGIC = b"PYCOMNET"
VERSION = 1
#: What a far side says on standard output before anything else of ours.
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

#: A value longer than this is cut into fragments of this size, and channels take turns. 64 KiB is a
#: fraction of a millisecond on any local transport, which is what a ping may have to wait, and
#: large enough that the work per frame doesn't show.
FRAGMENT = 65536
#: Bytes on a raw channel go in frames of up to this size to a peer whose hello allows that: it does
#: between supervisors of places, which carry on what is cut into fragments already.
RAW_FRAGMENT = 262144
#: The longest hello: before it nothing is known of the peer, so little is kept for it.
MAX_HELLO = 65536
#: What a frame costs in credit beside its payload: about what a queued bytes object takes here.
FRAME_COST = 64
#: What a channel may hold for each direction. Enough for a round trip of 10 ms at 100 MB/s, and
#: small enough that nobody minds a few that are full.
WINDOW = 1048576
#: The same through other processes and networks, where more is under way at a time.
WIDE_WINDOW = 4194304
#: The smallest window and frame limit that a hello may announce: a fragment must fit.
MIN_WINDOW = 1024
MIN_FRAME = 1024
#: Credit is a signed 32 bit number for any peer that wants it so.
MAX_CREDIT = 0x7FFFFFFF
#: A fragment is not sent smaller than this when more of the value is left: a peer that gives its
#: credit in crumbs is made to wait for a whole loaf.
MIN_FRAGMENT = 256
#: Channels that the peer may have open at a time. Each takes about a kilobyte.
CHANNELS = 16384
#: The longest value that is put together from fragments: MessagePack's own limit.
MAX_VALUE = 0xFFFFFFFF
#: Bytes of answers (PONG, CLOSE, CREDIT) that wait for a peer that does not read.
CONTROL = 1048576
#: Values up to this are given to the user as a run when several of a channel come together, ...
RUN_VALUE = 1024
#: ... and so many bytes of them at the most: a run is decoded as a whole.
RUN = 32768
#: The highest channel id.
MAX_CHANNEL = 0xFFFFFFFF


#: Bytes of the longest frame whose likes right behind it are taken apart together.
LIKE = 256
#: whether this Python takes records of one layout apart by one call
ITERATES = hasattr(HEADER, "iter_unpack")
#: what frames are taken apart with that have one size and begin alike
_layouts = {}


def frame_cost(size):
    """What a frame with so many bytes of payload costs in credit."""
    return size + FRAME_COST


def frame_room(credit):
    """Bytes of the longest payload for so much credit; negative when there is not enough."""
    return credit - FRAME_COST


def frame_costs(payloads):
    """The same for each of some payloads: one call for all."""
    return [len(payload) + FRAME_COST for payload in payloads]


def run_cost(size, count):
    """What so many frames cost that take ``size`` bytes in all, their headers included."""
    return size + count * (FRAME_COST - HEADER_SIZE)


def _layout(kind, size):
    layout = _layouts.get((kind, size))
    if layout is None:
        rest = size - HEADER_SIZE - struct.calcsize(kind)
        layout = struct.Struct("%s%s%ds" % (">IBI", kind, rest))
        if size <= LIKE and len(_layouts) < 4 * LIKE:
            _layouts[kind, size] = layout
    return layout


def frames_alike(kind, data, position, stop):
    """The frame between two positions and as many of its size as follow, as tuples.

    :param kind: the format of what their payloads begin with.
    :returns: for each length, type, id, what the payload begins with, and the rest of that; those
        of another length or type have to be told by that.
    """
    size = stop - position
    count = (len(data) - position) // size if size <= LIKE and ITERATES else 1
    layout = _layout(kind, size)
    if count > 1:
        return layout.iter_unpack(memoryview(data)[position : position + count * size])
    return (layout.unpack_from(data, position),)


def bin32(size):
    """What comes before the bytes of a value that is bytes, more than 65535 of them."""
    return BIN32 + U32.pack(size)


def name(ftype):
    """The name of a frame type, for messages."""
    if ftype < len(NAMES):
        return NAMES[ftype]
    return "type %d" % ftype
