"""Old content that parts of a new file are taken from: what a run has left, and the old file."""

import os

from .blocks import block_size
from .files import read_at


class OldFiles(object):
    """Open files, as if one followed the other.

    Each begins where a block does: so all but the last are cut to whole blocks.

    :param files: size and descriptor of each.
    :param is_old: whether the only one is the file that is to be replaced.
    :ivar block: the size of the blocks.
    :ivar size: the size of all.
    :ivar read: reads: offset, size -> bytes, fewer only at the end.
    """

    def __init__(self, files, is_old=False):
        self.is_old = is_old
        self.block = block_size(sum([size for size, _ in files]))
        self.size = 0
        self.descriptors = [descriptor for _, descriptor in files]
        #: where it begins, its size, its descriptor, and what reads it
        self._files = []
        for size, descriptor in files:
            if len(self._files) < len(files) - 1:
                size -= size % self.block
            self._files.append((self.size, size, descriptor, read_at(descriptor)))
            self.size += size
        self.read = self._files[0][3] if len(files) == 1 else self._read

    def _read(self, offset, size):
        pieces = []
        for begin, length, _, read in self._files:
            at = offset - begin
            if size and 0 <= at < length:
                pieces.append(read(at, min(size, length - at)))
                offset += len(pieces[-1])
                size -= len(pieces[-1])
        return b"".join(pieces)

    def copy(self, output, offset, size):
        """Let the system copy to the place where another file is written.

        :returns: how many bytes: perhaps fewer, as it is one file that is copied from.
        :raises OSError: it can't.
        """
        for begin, length, descriptor, _ in reversed(self._files):
            if begin <= offset:
                at = offset - begin
                return os.copy_file_range(descriptor, output, min(size, length - at), at)
        return 0

    def close(self):
        """Close them."""
        for descriptor in self.descriptors:
            os.close(descriptor)
