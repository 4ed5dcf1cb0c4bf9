"""Writes files: under a temporary name beside their place, and renamed when they are whole."""

import errno
import hashlib
import os
import random
import re
import stat

from .entries import DIGEST
from .tree import NEW_FILE

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: Whether the system has these functions. This is looked up once: where a module does not have a
#: name, Jython searches for a Java class each time.
HAS_PREAD, HAS_GETEUID = hasattr(os, "pread"), hasattr(os, "geteuid")
#: A lock that is not waited for.
LOCK = 0 if fcntl is None else fcntl.LOCK_EX | fcntl.LOCK_NB
#: How often a temporary file is made anew if another run removes it as one that was left.
TRIES = 10
#: Errors if another run has locked the file, or removed it.
TAKEN = (errno.ENOENT, errno.EAGAIN, errno.EWOULDBLOCK)
#: What Jython's error says, which has EBADF for any failure to write.
UNWRITTEN = "it can't be written: the disk may be full"
#: What temporary names begin with.
TEMPORARY = b".pycomnet-"
#: A temporary name: 20 digits; those of the probes for names that fold have one of four endings.
_TEMPORARY_NAME = re.compile(b"\\.pycomnet-[0-9a-f]{20}(?:[Aa]|\xc3\xa9|e\xcc\x81)?\\Z")


def temporary_names(name):
    """The temporary names of a file.

    They are always the same two: another run takes parts from what was left under one of them, and
    writes under the other.
    """
    return [temporary_name(name), temporary_name(name + b"/")]


def temporary_name(name):
    """The first of a file's temporary names."""
    return TEMPORARY + hashlib.sha256(name).hexdigest()[:20].encode("ascii")


def other_temporary_name():
    """A temporary name that nobody else has."""
    number = random.SystemRandom().getrandbits(80)
    return TEMPORARY + ("%020x" % number).encode("ascii")


def is_temporary(name):
    """Whether a name has the form of the temporary ones. A user's may have it, too."""
    return name.startswith(TEMPORARY) and _TEMPORARY_NAME.match(name) is not None


def write_all(descriptor, data):
    """Write all of some bytes."""
    try:
        done = os.write(descriptor, data)
        while done < len(data):
            data = data[done:]
            done = os.write(descriptor, data)
    except (OSError, IOError) as error:
        if error.errno == errno.EBADF and type(descriptor) is not int:
            raise OSError(None, UNWRITTEN)
        raise


def read_at(descriptor):
    """A function that reads from a file: offset, size -> bytes, fewer only at the file's end."""

    def read(offset, size):
        if not HAS_PREAD:
            os.lseek(descriptor, offset, os.SEEK_SET)
        pieces = []
        while size:
            data = os.pread(descriptor, size, offset) if HAS_PREAD else os.read(descriptor, size)
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
        for self.temporary in temporary_names(name):
            self.descriptor = self._create()
            if self.descriptor is None and self._remove_left():
                self.descriptor = self._create()
            if self.descriptor is not None:
                return
        for _ in range(TRIES):
            self.temporary = other_temporary_name()
            self.descriptor = self._create()
            if self.descriptor is not None:
                return
        raise OSError(errno.EEXIST, "no temporary file can be made and locked")

    def _remove_left(self):
        """Remove what has the name, if a run has left it; what is a basis is locked."""
        try:
            return remove_left(self._directory, self._native(self.temporary), must_lock=True)
        except (OSError, IOError):
            return False

    def _create(self):
        """Make and lock it; return its descriptor; None if another run has the name, or took it."""
        try:
            descriptor = self._directory.create(self._native(self.temporary))
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
            return None  # what an earlier run has left; or another run writes it just now
        if lock(descriptor):
            return descriptor
        os.close(descriptor)
        return None

    def commit(self, mode, time, owner=None):
        """Set owner, mode and time, and rename it to its final name.

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
            if descriptor is not None and not can_lock(descriptor):
                self.close()  # what is open can't be renamed on Windows
            if owner is not None:
                directory.chown(name, *owner)
            directory.utime(name, time)
            directory.chmod(name, mode)
        # It is locked until it has its name: else another run could put its own file in its place.
        if self.descriptor is not None:
            os.close(os.dup(descriptor))  # some file systems tell only here that a write has failed
            if not is_at(directory, name, descriptor):
                raise OSError(None, "another run has replaced its temporary file")
        directory.rename(name, self._native(self.name))
        self.close()

    def close(self):
        """Close it; it stays."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def discard(self):
        """Remove it, if it still has its temporary name, and close it."""
        name, descriptor = self._native(self.temporary), self.descriptor
        try:
            if descriptor is not None and not can_lock(descriptor):
                self.close()
            if self.descriptor is None or is_at(self._directory, name, descriptor):
                self._directory.remove(name)
        except OSError:
            pass
        finally:
            self.close()


class ShortFiles(object):
    """Writes short files, whole. Most of the time that many files take is spent here.

    Each has a temporary name for a moment, one after the other the same, which nobody else has. It
    is not locked: if another run takes it for one that was left, and removes it, it is written
    again.

    :param native: makes the system's form of a name.
    """

    def __init__(self, native):
        self._native = native
        self._temporary = native(other_temporary_name())
        self._directory = None
        self._write = None
        #: mode -> whether a file of the directory has it if it is made with it
        self._exact = {}

    def enter(self, directory):
        """The next files are in this directory, which is open."""
        self._directory = directory
        self._write = self._write_at if directory_is_at(directory) else self._write_by_path
        self._exact = {}  # some have ACLs for what is made in them

    def write(self, name, data, mode, time, owner=None):
        """Write a file.

        :param owner: user and group, or None.
        """
        tries = TRIES
        while True:
            try:
                return self._write(name, data, mode, time, owner)
            except (OSError, IOError) as error:
                tries -= 1
                if error.errno not in (errno.ENOENT, errno.EEXIST) or not tries:
                    raise
                # Another run has removed it; or what has its name could not be removed.
                self._temporary = self._native(other_temporary_name())

    def _write_at(self, name, data, mode, time, owner):
        here, temporary = self._directory.descriptor, self._temporary
        # Until it has its owner it is for this user only. What is left has to be readable: only
        # then another run finds that nobody has it, and removes it.
        made = 0o600 if owner is not None or mode & ~0o777 or not mode & 0o400 else mode
        descriptor = os.open(temporary, NEW_FILE, made, dir_fd=here)
        try:
            try:
                if data:
                    done = os.write(descriptor, data)
                    if done < len(data):
                        write_all(descriptor, data[done:])
                if owner is not None:
                    os.fchown(descriptor, *owner)
                is_exact = self._exact.get(made)
                if is_exact is None:
                    is_exact = stat.S_IMODE(os.fstat(descriptor).st_mode) == made
                    self._exact[made] = is_exact
                if made != mode or not is_exact:
                    os.fchmod(descriptor, mode)
                os.utime(descriptor, ns=(time, time))
            finally:
                os.close(descriptor)
            os.rename(temporary, name, src_dir_fd=here, dst_dir_fd=here)
        except BaseException as error:
            if getattr(error, "errno", None) != errno.ENOENT:
                try:
                    os.unlink(temporary, dir_fd=here)
                except OSError:
                    pass  # another run has taken it for one that was left; what failed is told
            raise

    def _write_by_path(self, name, data, mode, time, owner):
        directory, temporary = self._directory, self._temporary
        native = self._native(name)
        descriptor = directory.create(temporary)
        try:
            try:
                if data:
                    write_all(descriptor, data)
            finally:
                os.close(descriptor)
            directory.finish(temporary, native, mode, time, owner)
        except BaseException as error:
            if getattr(error, "errno", None) != errno.ENOENT:
                try:
                    directory.remove(temporary)
                except OSError:
                    pass  # as above
            raise


def directory_is_at(directory):
    """Whether a directory is a descriptor, so that files are changed by their descriptors."""
    return hasattr(directory, "descriptor")


def remove_left(directory, name, dry_run=False, must_lock=False):
    """Remove a temporary file that an ended run has left.

    :param directory: where it is, open.
    :param name: its name, in the system's form.
    :param dry_run: only say whether it would be removed.
    :param must_lock: leave it where this system can't lock files, so that it may be in use.
    :returns: whether it was: it stays if it is not a regular file, is another user's, or is in use.
    """
    status = directory.status(name)
    if status is None or not stat.S_ISREG(status.st_mode):
        return False
    if HAS_GETEUID and status.st_uid != os.geteuid():
        return False
    try:
        descriptor = directory.open(name)
    except (OSError, IOError):
        return False
    try:
        if not is_left(descriptor) or (must_lock and not can_lock(descriptor)):
            return False
        if can_lock(descriptor) and not is_at(directory, name, descriptor):
            return False  # it has just been finished, or removed
        if not dry_run and can_lock(descriptor):
            return _removed(directory, name)  # while it is locked: nobody else takes the name
    finally:
        os.close(descriptor)
    return dry_run or _removed(directory, name)


def _removed(directory, name):
    try:
        directory.remove(name)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True


def lock(descriptor):
    """Lock a file that was just made; False if another run takes it for one that was left."""
    if not can_lock(descriptor):
        return True
    try:
        _lock_if_possible(descriptor)
    except (OSError, IOError):
        return False
    return os.fstat(descriptor).st_nlink > 0


def _lock_if_possible(descriptor):
    """Lock a file, if its file system has locks; raise an error of :data:`TAKEN` if another has."""
    try:
        fcntl.flock(descriptor, LOCK)
    except (OSError, IOError) as error:
        if error.errno in TAKEN:
            raise


def can_lock(descriptor):
    """Whether this system locks files."""
    return fcntl is not None and type(descriptor) is int


def is_at(directory, name, descriptor):
    """Whether the file that is open has that name."""
    status, own = directory.status(name), os.fstat(descriptor)
    return status is not None and (status.st_dev, status.st_ino) == (own.st_dev, own.st_ino)


def is_left(descriptor):
    """Whether a file was left by a run that has ended: nobody has a lock on it."""
    if not can_lock(descriptor):
        return True
    try:
        fcntl.flock(descriptor, LOCK)
    except (OSError, IOError):
        return False
    return True
