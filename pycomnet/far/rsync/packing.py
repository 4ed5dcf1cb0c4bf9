"""Whether content is compressed: always, never, or where the line is slower than that."""

import zlib

from .compose import UNPACKED

#: Bytes a second of a line that is slower than zlib: what it carries is compressed.
SLOW = 20000000
#: Compressed content that has more than this part of its size is not worth it.
WORTH = 0.9
#: Pieces that are sent as they are, after one that was not worth it.
PAUSE = 4
#: Bytes after which the line's speed is known.
MEASURED = 2097152
#: Content shorter than this is sent as it is.
LEAST = 512
LEVEL = 1


class Packing(object):
    """Compresses what one end sends.

    :param compress: True and False: always and never; None: where the line is slow.
    """

    def __init__(self, compress=None):
        self._compress = compress
        self._sent = 0
        self._took = 0.0
        self._pause = 0

    def wants(self, size):
        """Whether content of a size is to be compressed."""
        if not LEAST <= size <= UNPACKED:
            return False
        if self._compress is not None:
            return self._compress
        if self._pause:
            self._pause -= 1
            return False
        return self._sent >= MEASURED and self._took > 0 and self._sent / self._took < SLOW

    def pack(self, data):
        """Compress content; None if that is not worth it."""
        packed = zlib.compress(data, LEVEL)
        if len(packed) > len(data) * WORTH:
            self._pause = PAUSE
            return None
        return packed

    def measure(self, size, seconds):
        """Bytes were sent; the line took so long until there was room for them."""
        self._sent += size
        self._took += seconds
        if self._sent > 4 * MEASURED:  # what is long ago counts less
            self._sent //= 2
            self._took /= 2
