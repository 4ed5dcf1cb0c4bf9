"""Writes files: under a temporary name beside their place, and renamed when they are whole."""

import errno
import hashlib
import os
import random
import re
import time as clock

from .entries import DIGEST

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: A lock that is not waited for.
LOCK = 0 if fcntl is None else fcntl.LOCK_EX | fcntl.LOCK_NB
#: What temporary names begin with; then come 20 hexadecimal digits, and nothing else but what is
#: tried with them (:mod:`.folding`).
TEMPORARY = b".pycomnet-"
_is_temporary = re.compile(b"\\.pycomnet-[0-9a-f]{20}(A|\xc3\xa9)?\\Z").match
#: Seconds after which a file was left, where a system has no locks that could tell.
LEFT_AFTER = 86400.0


def is_temporary(name):
    """Whether a file of this name, as on the wire, is a temporary one."""
    return name[:1] == b"." and _is_temporary(name) is not None


def temporary_name(name):
    """The temporary name of a file: always the same one, so that another run goes on from it."""
    return TEMPORARY + hashlib.sha256(name).hexdigest()[:20].encode("ascii")


def other_temporary_name():
    """A temporary name that nobody else has."""
    number = random.SystemRandom().getrandbits(80)
    return TEMPORARY + ("%020x" % number).encode("ascii")


class TemporaryNames(object):
    """Temporary names that nobody else has, for short files: none goes on from what is in these."""

    def __init__(self):
        self._prefix = other_temporary_name()[:-8]
        self._number = 0

    def next(self):
        """The next one."""
        self._number += 1
        return self._prefix + ("%08x" % self._number).encode("ascii")


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
        lock(self.descriptor)

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
        else:
            if not can_lock(descriptor):
                self.close()  # Windows renames no open file
            if owner is not None:
                directory.chown(name, *owner)
            directory.utime(name, time)
            directory.chmod(name, mode)
        # It is locked until it has its name, so no other run has taken it for a left one.
        if self.descriptor is not None and not is_same(directory, name, descriptor):
            raise OSError(errno.ESTALE, "another run has taken its temporary file")
        directory.rename(name, self._native(self.name))
        self.close()

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


def write_short(directory, native, temporary, name, data, mode, time, owner=None):
    """Write a short file, whole.

    :param directory: where it is, open.
    :param native: makes the system's form of a name.
    :param temporary: the name that it has meanwhile; nothing has it.
    :param owner: user and group, or None.
    """
    if not directory_is_at(directory):
        new = NewFile(directory, native, name)
        try:
            if data:
                write_all(new.descriptor, data)
            new.commit(mode, time, owner)
        except BaseException:
            new.discard()
            raise
        return
    # What follows is most of the time that many files take.
    here = directory.descriptor
    descriptor = directory.create(temporary)
    try:
        try:
            lock(descriptor)
            if data:
                write_all(descriptor, data)
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            os.utime(descriptor, ns=(time, time))
            os.rename(temporary, name, src_dir_fd=here, dst_dir_fd=here)
        finally:
            os.close(descriptor)
    except BaseException:
        if directory.status(temporary) is not None:
            directory.remove(temporary)
        raise


def directory_is_at(directory):
    """Whether a directory is a descriptor, so that files have all that descriptors have."""
    return hasattr(directory, "descriptor")


def can_lock(descriptor):
    """Whether the system has locks for a file."""
    return fcntl is not None and type(descriptor) is int


def lock(descriptor):
    """Lock a file, without waiting.

    :returns: whether it is locked now; None where there are no locks: a file system, or a system,
        without them.
    """
    if not can_lock(descriptor):
        return None
    try:
        fcntl.flock(descriptor, LOCK)
    except (OSError, IOError) as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def is_left(descriptor):
    """Whether a file was left by a run that has ended: nobody has a lock on it.

    If it is, it is locked until it is closed.
    """
    locked = lock(descriptor)
    if locked is None and can_lock(descriptor):
        return os.fstat(descriptor).st_mtime < clock.time() - LEFT_AFTER
    return locked is not False


def is_same(directory, native, descriptor):
    """Whether a name is that of an open file, as far as the system can tell."""
    if not can_lock(descriptor):
        return True
    there, status = directory.status(native), os.fstat(descriptor)
    return there is not None and (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)


def remove_left(directory, native):
    """Remove a temporary file, unless another run is writing it; return whether it is gone."""
    try:
        descriptor = directory.open(native)
    except (OSError, IOError) as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK):
            return False
        directory.remove(native)  # a link that was not renamed
        return True
    try:
        if not is_left(descriptor) or not is_same(directory, native, descriptor):
            return False
        if can_lock(descriptor):
            directory.remove(native)
            return True
    finally:
        os.close(descriptor)
    directory.remove(native)  # closed, as Windows removes no open file
    return True
