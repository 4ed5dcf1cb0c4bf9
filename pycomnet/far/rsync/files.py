"""Writes files: under a temporary name beside their place, and renamed when they are whole."""

import errno
import hashlib
import os
import random
import struct
import zlib

from .blocks import TreeDigest
from .entries import ABORT, COPY, DIGEST, END, HOLE, LITERAL, PACKED, PIECE

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: What temporary names begin with.
TEMPORARY = b".pycomnet-"
#: Bytes that are copied at a time.
COPIED = 1048576
SPARSE_COPIED = 65536
#: The most bytes of compressed content, in one message, before it was compressed.
UNPACKED = 16777216
#: The most bytes of a file with holes.
MOST = 1 << 44


class ContentRefused(Exception):
    """A file's content that is not what its digest or its sender says."""


def temporary_name(name):
    """The temporary name of a file: always the same one, so that another run goes on from it."""
    return TEMPORARY + hashlib.sha256(name).hexdigest()[:20].encode("ascii")


def other_temporary_name():
    """A temporary name that nobody else has."""
    number = random.SystemRandom().getrandbits(80)
    return TEMPORARY + ("%020x" % number).encode("ascii")


def write_all(descriptor, data):
    """Write all of some bytes."""
    done = os.write(descriptor, data)
    while done < len(data):
        data = data[done:]
        done = os.write(descriptor, data)


def read_at(descriptor):
    """A function that reads from a file: offset, size -> bytes, fewer only at the file's end."""
    pread = getattr(os, "pread", None)

    def read(offset, size):
        if pread is None:
            os.lseek(descriptor, offset, os.SEEK_SET)
        pieces = []
        while size:
            data = pread(descriptor, size, offset) if pread else os.read(descriptor, size)
            if not data:
                break
            pieces.append(data)
            offset += len(data)
            size -= len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    return read


def digest_of(data):
    """The digest that decides whether a short file is equal."""
    return hashlib.sha256(data).digest()[:DIGEST]


class NewFile(object):
    """A file under its temporary name.

    :param directory: where it is, open.
    :param native: makes the system's form of a name.
    :param name: the name that it will have, as on the wire.
    :ivar descriptor: it is open to write.
    """

    def __init__(self, directory, native, name):
        self._directory = directory
        self._native = native
        self.name = name
        self.temporary = temporary_name(name)
        try:
            self.descriptor = directory.create(native(self.temporary))
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            # What an earlier run has left; or another run writes it just now.
            self.temporary = other_temporary_name()
            self.descriptor = directory.create(native(self.temporary))
        if fcntl is not None and type(self.descriptor) is int:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (OSError, IOError):
                pass

    def commit(self, mode, time, owner=None):
        """Set what it shall have, and rename it.

        :param owner: user and group, or None to leave them.
        """
        directory = self._directory
        name = self._native(self.temporary)
        descriptor = self.descriptor
        if directory_is_at(directory):
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.utime(descriptor, ns=(time, time))
            self.close()
        else:
            self.close()
            if owner is not None:
                directory.chown(name, *owner)
            directory.utime(name, time)
            directory.chmod(name, mode)
        directory.rename(name, self._native(self.name))

    def close(self):
        """Close it; it stays."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def discard(self):
        """Close and remove it."""
        self.close()
        try:
            self._directory.remove(self._native(self.temporary))
        except OSError:
            pass


def directory_is_at(directory):
    """Whether a directory is a descriptor, so that files have all that descriptors have."""
    return hasattr(directory, "descriptor")


def is_left(descriptor):
    """Whether a file was left by a run that has ended: nobody has a lock on it."""
    if fcntl is None or type(descriptor) is not int:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, IOError):
        return False
    return True


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


class Composer(object):
    """Puts a long file together, from what comes and from an old file.

    :param pieces: what comes: :class:`Pieces`.
    :param output: the new file's descriptor; None where what comes is only to be read to its end.
    :param basis: reads the old file, or None.
    :param block: the size of the blocks of its digest.
    :param is_sparse: whether zeros become holes.
    """

    def __init__(self, pieces, output, basis, block, is_sparse=False):
        self._pieces = pieces
        self.output = output
        self._basis = basis
        self._digest = TreeDigest(block)
        self._is_sparse = is_sparse
        self.size = 0
        #: why it can't be written, if it can't: the rest is read all the same
        self.problem = None

    def run(self):
        """Read it to its end.

        :raises ContentRefused: it is not what its digest says, or its sender gave it up.
        :raises OSError: it can't be written.
        """
        pieces = self._pieces
        while True:
            code = pieces.exactly(1)
            if code == LITERAL:
                (left,) = struct.unpack(">I", pieces.exactly(4))
                _check_length(left)
                while left:
                    data = pieces.some(left)
                    left -= len(data)
                    self._write(data)
            elif code == PACKED:
                length, size = struct.unpack(">II", pieces.exactly(8))
                _check_length(max(length, size))
                self._write(unpack(pieces.exactly(length), size))
            elif code == COPY:
                self._copy(*struct.unpack(">QQ", pieces.exactly(16)))
            elif code == HOLE:
                self._hole(*struct.unpack(">Q", pieces.exactly(8)))
            elif code == END:
                return self._end(pieces.exactly(32))
            elif code == ABORT:
                raise ContentRefused("it changed while it was read")
            else:
                raise ValueError("a piece of a file begins with %r" % (code,))

    def _write(self, data):
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
        while size and self.problem is None:
            try:
                most = SPARSE_COPIED if self._is_sparse else COPIED
                data = self._basis(offset, min(size, most)) if self._basis else b""
            except OSError as error:
                self.problem = error
                return
            if not data:
                self.problem = ContentRefused("the old file became shorter meanwhile")
                return
            self._write(data)
            offset += len(data)
            size -= len(data)

    def _hole(self, size):
        if self.size + size > MOST:
            raise ValueError("a file of %d bytes" % (self.size + size))
        if self.problem is None:
            try:
                os.lseek(self.output, size, os.SEEK_CUR)
                self._digest.hole(size)
                self.size += size
            except OSError as error:
                self.problem = error

    def _end(self, digest):
        if self.problem is None:
            os.ftruncate(self.output, self.size)  # where it ends with a hole
            if self._digest.digest() != digest:
                self.problem = ContentRefused("its digest is another one")
        if self.problem is not None:
            raise self.problem


def unpack(data, size):
    """Unpack what was compressed, to a known size: no more memory is used than that.

    :raises ValueError: it is no such thing.
    """
    if size > UNPACKED:
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
