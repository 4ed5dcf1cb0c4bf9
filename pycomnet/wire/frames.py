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


def bin32(size):
    """What comes before the bytes of a value that is bytes, more than 65535 of them."""
    return BIN32 + U32.pack(size)


def name(ftype):
    """The name of a frame type, for messages."""
    if ftype < len(NAMES):
        return NAMES[ftype]
    return "type %d" % ftype
