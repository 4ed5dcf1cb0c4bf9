"""The sums of a file's blocks, and the digest that a whole file is checked by.

A file is cut into blocks of one size. The sum of a block is the beginning of its SHA-256, and an
*anchor*: the place in the block behind the first occurrence of a short marker, and the bytes there.
Markers can be found at the speed of C at any position, so the other end finds a block that has
moved by its anchor, and nobody rolls a checksum. A marker is chosen for each file, so that blocks
have a few of them.
"""

import hashlib
import struct
from array import array
from collections import Counter

SMALLEST_BLOCK = 4096
LARGEST_BLOCK = 131072
#: Bytes of a block's digest in its sum, and of what follows the marker.
STRONG = 12
FOLLOWING = 8
#: A sum: the digest, the offset behind the marker (none: NO_ANCHOR), and the bytes there.
SUM = struct.Struct(">%dsI%ds" % (STRONG, FOLLOWING))
NO_ANCHOR = 0xFFFFFFFF
#: Bytes that are read at a time: a multiple of all block sizes.
READ = 1048576
#: Sums in a message, at most; and bytes of a file after which those are sent that there are: the
#: other end begins meanwhile.
PART, PART_BYTES = 2048, 16777216
#: Blocks of an old file whose whole digests are kept, and the size of one.
DIGESTS, WHOLE_DIGEST = 262144, 32
#: Blocks of a hole that are hashed at a time.
HOLE_BLOCKS = 1024
#: Places of a file that are looked at for its marker, and the most bytes at each.
_SAMPLES, _SAMPLE = 16, 4096
#: What occurs less often in the samples may not be as frequent elsewhere.
SEEN = 8


def block_size(size):
    """The size of the blocks of a file: a power of two near its size's square root."""
    block = SMALLEST_BLOCK
    while block < LARGEST_BLOCK and block * block < size:
        block *= 2
    return block


def check_block(block):
    """Refuse a size that no block has.

    :raises ValueError: it is refused.
    """
    if not SMALLEST_BLOCK <= block <= LARGEST_BLOCK or block & (block - 1):
        raise ValueError("blocks of %r bytes" % (block,))


def choose_marker(read_at, size, block):
    """Choose one or two bytes that occur at least twice in most blocks, and not much more often.

    :param read_at: called with an offset and a size, returns bytes.
    """
    length = max(256, min(_SAMPLE, size // 2048 * 2))
    if size > _SAMPLES * length:
        step = (size - length) // (_SAMPLES - 1)
        sample = b"".join([read_at(step * each, length) for each in range(_SAMPLES)])
    else:
        sample = read_at(0, _SAMPLES * length)
    sample = sample[: len(sample) // 2 * 2]
    pairs = array("H")
    getattr(pairs, "frombytes", getattr(pairs, "fromstring", None))(sample)
    best = None
    # All pairs at even offsets are half of all pairs.
    for values, share in ((pairs, 2), (bytearray(sample), 1)):
        for value, count in Counter(values).items():
            if count < SEEN and share == 2:
                continue
            often = float(count) * share * block / max(1, len(sample))
            rank = (0, often) if often >= 2 and count >= SEEN else (1, -often)
            if best is None or rank < best[0]:
                best = rank, struct.pack("=H" if share == 2 else "=B", value)
    return best[1] if best is not None else b"\n"


def sums(read_at, size, block, marker, digests=None):
    """Yield the sums of a file's blocks, joined, :data:`PART` of them at a time.

    The last block may be shorter. If the file ends early, so do the sums.

    :param digests: a bytearray that gets the whole digests of the first :data:`DIGESTS` blocks.
    """
    part = []
    left = 0 if digests is None else min(DIGESTS, size // block)
    sha = hashlib.sha256
    pack = SUM.pack
    mark = len(marker)
    empty = b"\0" * FOLLOWING
    for begin in range(0, size, READ):
        data = read_at(begin, min(READ, size - begin))
        view = view_of(data)
        for at in range(0, len(data), block):
            end = min(at + block, len(data))
            strong = sha(view[at:end]).digest()
            if left:
                digests += strong
                left -= 1
            strong = strong[:STRONG]
            place = data.find(marker, at, end) + mark
            if place < mark or place + FOLLOWING > end:
                part.append(pack(strong, NO_ANCHOR, empty))
            else:
                part.append(pack(strong, place - at, data[place : place + FOLLOWING]))
        if len(part) >= PART or (part and not (begin + READ) % PART_BYTES):
            yield b"".join(part)
            part = []
        if len(data) < min(READ, size - begin):
            break
    yield b"".join(part)


def view_of(data):
    """Bytes in a form whose slices are no copies; Python 2 has none that can be hashed."""
    return data if bytes is str else memoryview(data)


class TreeDigest(object):
    """The digest of a whole file: the SHA-256 of the SHA-256 of its leaves, and of its size.

    A leaf is a block, counted from the beginning of the piece of the file that it comes in; the
    last of a piece may be shorter. So a block that was found somewhere else in the old file is a
    leaf of the new one, and is hashed once at each end.

    :param block: the size of a block.
    """

    def __init__(self, block):
        self._block = block
        self._all = hashlib.sha256()
        self._one = hashlib.sha256()
        self._filled = 0
        self._size = 0
        self._zeros = None

    def update(self, data):
        """The next bytes."""
        size = len(data)
        data = view_of(data)
        self._size += size
        at = 0
        block = self._block
        sha = hashlib.sha256
        if self._filled:
            at = min(block - self._filled, size)
            self._one.update(data[:at])
            self._filled += at
            if self._filled < block:
                return
            self._all.update(self._one.digest())
            self._filled = 0
        while size - at >= block:
            self._all.update(sha(data[at : at + block]).digest())
            at += block
        self._one = sha(data[at:])
        self._filled = size - at

    def cut(self):
        """A piece ends here: what follows is another leaf."""
        if self._filled:
            self._all.update(self._one.digest())
            self._filled = 0

    @property
    def is_within_leaf(self):
        """Whether a leaf has begun, and is not full."""
        return self._filled > 0

    def add(self, digests, size):
        """The next leaves, by their own digests, joined."""
        self.cut()
        self._all.update(digests)
        self._size += size

    def hole(self, size):
        """The next piece is so many zeros."""
        self.cut()
        block = self._block
        while size:
            if size >= block:
                if self._zeros is None:
                    self._zeros = hashlib.sha256(b"\0" * block).digest()
                count = min(size // block, HOLE_BLOCKS)
                self._all.update(self._zeros * count)
                self._size += count * block
                size -= count * block
            else:
                self.update(b"\0" * size)
                self.cut()
                size = 0

    def digest(self):
        """The digest, 32 bytes; no more bytes may follow."""
        self.cut()
        self._all.update(struct.pack(">Q", self._size))
        return self._all.digest()
