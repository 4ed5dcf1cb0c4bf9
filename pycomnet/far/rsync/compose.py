"""Puts a long file together, from what comes and from an old file."""

import os
import struct
import time as clock
import zlib

from .blocks import WHOLE_DIGEST, TreeDigest
from .entries import ABORT, COPY, END, HOLE, LITERAL, PACKED, PIECE
from .files import write_all

#: Bytes that are copied at a time.
COPIED = 1048576
SPARSE_COPIED = 65536
#: If bytes move by no multiple of this, the system takes a third longer to copy them from file to
#: file than a program that reads and writes them.
PAGE = 4096
#: Seconds after a change of a file in which another one may have the same time: where times have
#: parts of seconds, and where they have not.
YOUNG, YOUNG_COARSE = 0.1, 2.0
#: Whether the system copies from file to file.
HAS_COPY = hasattr(os, "copy_file_range") and hasattr(os, "fstat")
#: The most bytes of compressed content, in one message, before it was compressed.
UNPACKED = 16777216
#: The most bytes of a file with holes.
MOST = 1 << 44
#: Bytes of a hole whose digest is made at a time: that takes a moment.
HOLE_PART = 1 << 30


class ContentRefused(Exception):
    """A file's content does not have its digest, or its sender gave it up."""


class TooMuch(ValueError):
    """More bytes than may be written."""


class Pieces(object):
    """The bytes of a raw channel.

    :param channel: its ``receive`` returns some bytes.
    """

    def __init__(self, channel):
        self._channel = channel
        self._data = b""
        self._at = 0

    def some(self, most):
        """At least one byte, and at most so many."""
        if self._at >= len(self._data):
            self._data = self._channel.receive()
            self._at = 0
        begin = self._at
        self._at = min(len(self._data), begin + most)
        if not begin and self._at == len(self._data):
            return self._data
        return self._data[begin : self._at]

    def exactly(self, size):
        """So many bytes."""
        found = self.some(size)
        if len(found) == size:
            return found
        pieces = [found]
        size -= len(found)
        while size:
            pieces.append(self.some(size))
            size -= len(pieces[-1])
        return b"".join(pieces)


class Basis(object):
    """What parts of a new file are taken from.

    :param read: reads what the other end means: offset, size -> bytes.
    :param old: the :class:`~.oldfiles.OldFiles`.
    :ivar digests: those of its blocks that are known, joined.
    :ivar is_in_place: whether what the other end means is read from the same offset.
    """

    is_in_place = True

    def __init__(self, read, old):
        self.read = read
        self._old = old
        self.digests = bytearray()
        #: whether the system copies from file to file
        self._copies = HAS_COPY
        self._print = self._now() if self._copies else None
        if self._copies and self._is_young():
            # It may be that it is changed between now and the copy, and its time is the same.
            self._copies = False

    def _is_young(self):
        for _, changed, status_changed in self._print:
            newest = max(changed, status_changed)
            age = clock.time() - newest / 1e9
            if age < (YOUNG if newest % 1000000000 else YOUNG_COARSE):
                return True
        return False

    def _now(self):
        found = [os.fstat(descriptor) for descriptor in self._old.descriptors]
        return [(each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found]

    def blocks(self, offset, size, block):
        """The digests of the blocks from an offset on, joined, as many as are known."""
        if not self._copies or offset % block:
            return b""
        first = offset // block
        return bytes(self.digests[first * WHOLE_DIGEST : (first + size // block) * WHOLE_DIGEST])

    def copy(self, output, offset, size, place):
        """Copy to the place where another file is written; by the system, if that is faster.

        :param place: the offset there.
        :returns: how many bytes; 0 if it can't.
        """
        try:
            if (place - offset) % PAGE:
                data = self.read(offset, size)
                return os.write(output, data) if data else 0
            return self._old.copy(output, offset, size)
        except OSError:
            self._copies = False  # another file system, or one that has no such thing
            return 0

    def is_as_before(self):
        """Whether it is still what the digests are of."""
        return self._print is None or self._now() == self._print

    def is_same_file(self, size):
        """Whether a file of that size is all of the old one, if all is copied to its own place."""
        return self.is_in_place and self._old.is_old and self._old.size == size

    def descriptor(self):
        """The descriptor of the old file."""
        return self._old.descriptors[-1]

    def close(self):
        """Close it."""
        self._old.close()


class Composer(object):
    """Puts a long file together, from what comes and from an old file.

    What is copied block by block is not read here: its digests are known.

    :param pieces: what comes: :class:`Pieces`.
    :param output: the new file's descriptor; None where what comes is only to be read to its end.
    :param basis: the old file, a :class:`Basis`, or None.
    :param block: the size of the blocks of its digest.
    :param is_sparse: whether zeros become holes.
    :param most: the most bytes that it may have.
    :param check: called again and again where it does not wait for what comes; may raise.
    """

    def __init__(
        self, pieces, output, basis, block, is_sparse=False, most=MOST, check=lambda: None
    ):
        self._pieces = pieces
        self.output = output
        self._basis = basis
        self._block = block
        self._digest = TreeDigest(block)
        self._is_sparse = is_sparse
        self._most = most
        self._check_run = check
        #: whether all so far is copied to the place that it had
        self._is_copy = basis is not None
        self.size = 0
        #: why it can't be written, if it can't: the rest is read all the same
        self.problem = None

    def run(self):
        """Read it to its end.

        :raises ContentRefused: it does not have its digest, or its sender gave it up.
        :raises OSError: it can't be written.
        :raises TooMuch: it is longer than it may be.
        """
        pieces = self._pieces
        while True:
            code = pieces.exactly(1)
            if code not in (COPY, END):
                self._is_copy = False
            if code == LITERAL:
                (left,) = struct.unpack(">I", pieces.exactly(4))
                _check_length(left)
                while left:
                    data = pieces.some(left)
                    left -= len(data)
                    self._write(data)
                self._digest.cut()
            elif code == PACKED:
                length, size = struct.unpack(">II", pieces.exactly(8))
                _check_length(max(length, size))
                self._write(unpack(pieces.exactly(length), size))
                self._digest.cut()
            elif code == COPY:
                self._copy(*struct.unpack(">QQ", pieces.exactly(16)))
                self._digest.cut()
            elif code == HOLE:
                self._hole(*struct.unpack(">Q", pieces.exactly(8)))
            elif code == END:
                return self._end(pieces.exactly(32))
            elif code == ABORT:
                # Sending it again does not help if it can't be written.
                raise self.problem or ContentRefused("it changed while it was read")
            else:
                raise ValueError("a piece of a file begins with %r" % (code,))

    @property
    def is_as_old(self):
        """Whether it is what the old file is."""
        return self._is_copy and self._basis.is_same_file(self.size)

    def _check(self, size):
        """So many bytes more are to be written."""
        if self.size + size > self._most:
            raise TooMuch("a file of %d bytes or more, at most %d" % (self.size + size, self._most))

    def _write(self, data):
        self._check(len(data))
        if self.problem is None:
            try:
                if self._is_sparse and not data.strip(b"\0"):
                    os.lseek(self.output, len(data), os.SEEK_CUR)
                else:
                    write_all(self.output, data)
                self._digest.update(data)
                self.size += len(data)
            except OSError as error:
                self.problem = error

    def _copy(self, offset, size):
        self._check(size)
        self._is_copy = self._is_copy and offset == self.size
        while size and self.problem is None:
            self._check_run()
            copied = self._copy_blocks(offset, min(size, COPIED))
            offset += copied
            size -= copied
            if copied:
                continue
            try:
                most = SPARSE_COPIED if self._is_sparse else COPIED
                data = self._basis.read(offset, min(size, most)) if self._basis else b""
            except OSError as error:
                self.problem = error
                return
            if not data:
                self.problem = ContentRefused("the old file became shorter meanwhile")
                return
            self._write(data)
            offset += len(data)
            size -= len(data)

    def _copy_blocks(self, offset, size):
        """Copy whole blocks of which the digests are known; return how many bytes, perhaps 0."""
        block = self._block
        if self._basis is None or self._is_sparse or self._digest.is_within_leaf:
            return 0
        known = self._basis.blocks(offset, size, block)
        size = len(known) // WHOLE_DIGEST * block
        done = 0
        while done < size:
            place = self.size + done
            copied = self._basis.copy(self.output, offset + done, size - done, place)
            if not copied:
                break
            done += copied
        whole = done // block
        if done % block:  # the system copied a part, and then nothing: this block is read again
            os.lseek(self.output, whole * block - done, os.SEEK_CUR)
        self._digest.add(known[: whole * WHOLE_DIGEST], whole * block)
        self.size += whole * block
        return whole * block

    def _hole(self, size):
        self._check(size)
        if self.problem is None:
            try:
                os.lseek(self.output, size, os.SEEK_CUR)
                while size:
                    self._check_run()
                    part = min(size, HOLE_PART)
                    self._digest.hole(part)
                    self.size += part
                    size -= part
            except OSError as error:
                self.problem = error

    def _end(self, digest):
        if self.problem is None:
            os.ftruncate(self.output, self.size)  # where it ends with a hole
            if self._digest.digest() != digest:
                self.problem = ContentRefused("its digest is another one")
            elif self._basis is not None and not self._basis.is_as_before():
                self.problem = ContentRefused("the old file was changed meanwhile")
        if self.problem is not None:
            raise self.problem


def unpack(data, size):
    """Unpack what was compressed, to a known size: no more memory is used than that.

    :raises ValueError: it is not a valid one.
    """
    if not 0 < size <= UNPACKED:  # for zlib, 0 is no limit
        raise ValueError("compressed content of %d bytes, at most %d" % (size, UNPACKED))
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, size)
    except zlib.error as error:
        raise ValueError("compressed content can't be unpacked: %s" % error)
    if len(found) != size:
        raise ValueError("compressed content has %d bytes, not %d" % (len(found), size))
    return found


def _check_length(length):
    if length > PIECE:
        raise ValueError("a piece of %d bytes, at most %d" % (length, PIECE))
