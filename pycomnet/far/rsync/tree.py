"""The directories of a destination: each operation takes a name in an open directory.

Where the system can, a directory is a descriptor, and was reached from the root step by step
without following a link. So whoever swaps a parent for a link while this runs can't lead it
elsewhere.
"""

import contextlib
import errno
import os
import stat
from collections import OrderedDict

from .changedfiles import NamedFile, OpenFile

#: Flags to open a directory, where they are there.
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)
#: Flags to make a file that was not there.
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | _CLOEXEC
#: Whether directories are descriptors.
AT = all(
    function in getattr(os, "supports_dir_fd", ())
    for function in (os.open, os.stat, os.mkdir, os.rename, os.unlink, os.rmdir, os.utime)
) and os.listdir in getattr(os, "supports_fd", ())
#: The first and the last time that a list can have, in nanoseconds: in the years 1677 and 2262.
EARLIEST, LATEST = -(1 << 63), (1 << 63) - 1
#: Directories that are kept open.
KEPT = 32
#: What the failure of one entry raises; the others go on. OverflowError: a time or an owner that
#: the system's C types can't have.
ENTRY_ERRORS = (OSError, IOError, OverflowError)
#: The descriptor of a directory that was closed: a number that no open file has. (With -1 or None
#: some functions take the current directory.)
CLOSED = 0x7FFFFFFF


def time_of(status):
    """The time of the last change, in nanoseconds; the nearest one that a list can have."""
    found = getattr(status, "st_mtime_ns", None)
    if found is None:
        found = int(status.st_mtime * 1000000 + 0.5) * 1000
    if EARLIEST <= found <= LATEST:
        return found
    return LATEST if found > 0 else EARLIEST


def is_directory(flavour, status):
    """Whether it is a directory, and no link or junction to one."""
    return stat.S_ISDIR(status.st_mode) and not flavour.is_link(status)


class AtDirectory(object):
    """A directory as a descriptor."""

    def __init__(self, descriptor):
        self.descriptor = descriptor

    def close(self):
        """Close it: whoever uses it afterwards gets an error."""
        descriptor, self.descriptor = self.descriptor, CLOSED
        if descriptor != CLOSED:
            os.close(descriptor)

    def child(self, name):
        """Open a directory in it.

        :raises OSError: it is none; a link to one neither.
        """
        return AtDirectory(os.open(name, _DIRECTORY | _CLOEXEC, dir_fd=self.descriptor))

    def names(self):
        """The names in it."""
        return [os.fsencode(name) for name in os.listdir(self.descriptor)]

    def status(self, name):
        """As ``lstat``; None if there is nothing of that name."""
        try:
            return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def own_status(self):
        """The directory's own."""
        return os.fstat(self.descriptor)

    def mkdir(self, name):
        """Make a directory that only its owner can use."""
        os.mkdir(name, 0o700, dir_fd=self.descriptor)

    def symlink(self, text, name):
        """Make a link."""
        os.symlink(text, name, dir_fd=self.descriptor)

    def readlink(self, name):
        """A link's text."""
        return os.readlink(name, dir_fd=self.descriptor)

    def link(self, source, source_name, name):
        """Make a hard link to a file of another directory."""
        given = {"src_dir_fd": source.descriptor, "dst_dir_fd": self.descriptor}
        try:
            os.link(source_name, name, follow_symlinks=False, **given)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            os.link(source_name, name, **given)  # PyPy; the source was looked at, and is no link

    def create(self, name):
        """Make a file that was not there, for its owner only; return its descriptor."""
        return os.open(name, NEW_FILE, 0o600, dir_fd=self.descriptor)

    def open(self, name):
        """Open a file to read it; return its descriptor."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | _CLOEXEC
        return os.open(name, flags, dir_fd=self.descriptor)

    def rename(self, name, other):
        """Rename within the directory; what had the other name is replaced."""
        os.rename(name, other, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def remove(self, name):
        """Remove what is no directory."""
        os.unlink(name, dir_fd=self.descriptor)

    def rmdir(self, name):
        """Remove an empty directory."""
        os.rmdir(name, dir_fd=self.descriptor)

    def file(self, name):
        """A file or directory whose attributes are to be set, open; the caller closes it.

        :raises OSError: it is a link, or not there.
        """
        try:
            descriptor = self.open(name)
            return OpenFile(descriptor, descriptor)
        except OSError as error:
            if error.errno != errno.EACCES:
                raise
        if not hasattr(os, "O_PATH"):
            return NamedFile(self, name, self._chmod_by_name)
        flags = os.O_PATH | os.O_NOFOLLOW | _CLOEXEC
        descriptor = os.open(name, flags, dir_fd=self.descriptor)
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return OpenFile(descriptor, "/proc/self/fd/%d" % descriptor)

    def chmod(self, name, mode):
        """Set the mode of what is no link.

        :raises OSError: it is a link.
        """
        file = self.file(name)
        try:
            file.chmod(mode)
        finally:
            file.close()

    def _chmod_by_name(self, name, mode):
        """Set the mode; of a link its own, on the systems where it has one."""
        os.chmod(name, mode, dir_fd=self.descriptor, follow_symlinks=False)

    def chown(self, name, owner, group):
        """Set owner and group, of a link its own."""
        os.chown(name, owner, group, dir_fd=self.descriptor, follow_symlinks=False)

    def utime(self, name, time):
        """Set the time of the last change, in nanoseconds; of a link its own."""
        os.utime(name, ns=(time, time), dir_fd=self.descriptor, follow_symlinks=False)


class PathFunctions(object):
    """The functions of an ``os`` module that takes paths.

    They are looked up once: where a module does not have a name, Jython searches for a Java class
    each time, which takes as long as writing a file.

    :param system: the module.
    :ivar replace: renames, and replaces what has the other name.
    :ivar symlink: None where there is none.
    :ivar nonblock: the flag to open a file without waiting, or 0.
    :ivar times_of_links: whether a link's own time can be set.
    :ivar nanoseconds: whether times are set in nanoseconds.
    """

    def __init__(self, system):
        self.os = system
        self.join = system.path.join
        self.replace = getattr(system, "replace", None) or getattr(system, "rename", None)
        self.symlink = getattr(system, "symlink", None)
        self.nonblock = getattr(system, "O_NONBLOCK", 0)
        follow = getattr(system, "supports_follow_symlinks", None)
        self.nanoseconds = follow is not None
        self.times_of_links = self.nanoseconds and system.utime in follow


class PathDirectory(object):
    """A directory by its path: Python 2, Jython, Windows.

    :param path: in the system's form.
    :param flavour: of :mod:`.names`.
    :param functions: :class:`PathFunctions`; by default those of ``os``.
    """

    def __init__(self, path, flavour, functions=None):
        self.path = path
        self._flavour = flavour
        self._functions = functions = functions or PathFunctions(os)
        self._os = functions.os
        self._join = functions.join
        self._long = flavour.long
        #: with a separator at its end
        self._prefix = functions.join(path, path[:0])

    def _at(self, name):
        return self._long(self._prefix + name)

    def close(self):
        """Nothing to do."""

    def child(self, name):
        """A directory in it."""
        status = self.status(name)
        if status is None or not is_directory(self._flavour, status):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return PathDirectory(self._join(self.path, name), self._flavour, self._functions)

    def names(self):
        """The names in it, in the wire's form."""
        wire = self._flavour.wire
        return [wire(name) for name in self._os.listdir(self._flavour.long(self.path))]

    def status(self, name):
        """As ``lstat``; None if there is nothing of that name."""
        try:
            return self._os.lstat(self._at(name))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def own_status(self):
        """The directory's own."""
        return self._os.stat(self._flavour.long(self.path))

    def mkdir(self, name):
        """Make a directory that only its owner can use."""
        self._os.mkdir(self._at(name), 0o700)

    def symlink(self, text, name):
        """Make a link."""
        symlink = self._functions.symlink
        if symlink is None:
            raise OSError(errno.ENOSYS, "this Python can't make links: links='copy' copies")
        # Windows has to know beforehand whether a link is one to a directory.
        if self._flavour.name == "nt":
            target = self._join(self.path, text)
            symlink(text, self._at(name), self._os.path.isdir(target))
        else:
            symlink(text, self._at(name))

    def readlink(self, name):
        """A link's text."""
        return self._os.readlink(self._at(name))

    def link(self, source, source_name, name):
        """Make a hard link to a file of another directory."""
        self._os.link(source._at(source_name), self._at(name))  # noqa: SLF001 - of this class

    def create(self, name):
        """Make a file that was not there, for its owner only; return its descriptor."""
        system = self._os
        flags = system.O_RDWR | system.O_CREAT | system.O_EXCL | _BINARY
        return system.open(self._at(name), flags, 0o600)

    def open(self, name):
        """Open a file to read it; return its descriptor."""
        flags = self._os.O_RDONLY | _BINARY | self._functions.nonblock
        return self._os.open(self._at(name), flags)

    def rename(self, name, other):
        """Rename within the directory; what had the other name is replaced."""
        self._functions.replace(self._at(name), self._at(other))

    def finish(self, name, other, mode, time, owner):
        """Set owner, time and mode of a file that was just made, and rename it.

        :param owner: user and group, or None.
        """
        path = self._at(name)
        if owner is not None:
            self._os.lchown(path, *owner)
        self._set_time(path, time)
        if self._flavour.modes:
            self._os.chmod(path, mode)
        self._functions.replace(path, self._at(other))

    def remove(self, name):
        """Remove what is no directory; a junction is not one either."""
        path = self._at(name)
        status = self._os.lstat(path)
        if self._flavour.name == "nt" and stat.S_ISDIR(status.st_mode):
            self._os.rmdir(path)  # the junction, or the link to a directory, itself
        else:
            self._os.remove(path)

    def rmdir(self, name):
        """Remove an empty directory."""
        self._os.rmdir(self._at(name))

    def file(self, name):
        """A file or directory whose attributes are to be set."""
        return NamedFile(self, name, self.chmod)

    def chmod(self, name, mode):
        """Set the mode of what is no link.

        :raises OSError: it is a link.
        """
        path = self._at(name)
        if self._flavour.is_link(self._os.lstat(path)):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if (
            self._flavour.modes
        ):  # on Windows it could only become read-only, and then not be replaced
            self._os.chmod(path, mode)

    def chown(self, name, owner, group):
        """Set owner and group, of a link its own."""
        self._os.lchown(self._at(name), owner, group)

    def utime(self, name, time):
        """Set the time of the last change; of a link, where the system can."""
        path = self._at(name)
        if self._functions.times_of_links:
            self._os.utime(path, ns=(time, time), follow_symlinks=False)
        elif not self._flavour.is_link(self._os.lstat(path)):
            self._set_time(path, time)

    def _set_time(self, path, time):
        if self._functions.nanoseconds:
            self._os.utime(path, ns=(time, time))
        else:
            seconds = time / 1e9
            self._os.utime(path, (seconds, seconds))


class Tree(object):
    """The directories below a root; the last used ones are kept open.

    :param root: the root, open.
    :param flavour: of :mod:`.names`.
    """

    def __init__(self, root, flavour):
        self.root = root
        self._native = flavour.native
        #: path -> directory; the last used one is the last
        self._open = OrderedDict()
        #: path -> how often it is held
        self._held = {}

    def directory(self, path):
        """The directory of a path, relative to the root, as on the wire.

        It may be closed by the next call: who needs it longer asks again, or holds it.

        :raises OSError: there is none; links are not followed.
        """
        if not path:
            return self.root
        opened = self._open.pop(path, None)
        if opened is not None:
            self._open[path] = opened
            return opened
        missing = []
        above = path
        while above and above not in self._open:
            above, _, name = above.rpartition(b"/")
            missing.append(name)
        opened = self._open[above] if above else self.root
        while missing:
            name = missing.pop()
            opened = opened.child(self._native(name))
            above = above + b"/" + name if above else name
            self._open[above] = opened
            self._close_oldest(above)
        return opened

    def _close_oldest(self, last):
        """Close the one that was not used for longest, if there are too many.

        :param last: the path of the one that is in use now.
        """
        if len(self._open) > KEPT:
            for path in self._open:
                if path != last and path not in self._held:
                    self._open.pop(path).close()
                    return

    @contextlib.contextmanager
    def hold(self, path):
        """The directory of a path; it stays open as long as the ``with`` statement runs.

        :raises OSError: there is none; links are not followed.
        """
        opened = self.directory(path)
        self._held[path] = self._held.get(path, 0) + 1
        try:
            yield opened
        finally:
            self._held[path] -= 1
            if not self._held[path]:
                del self._held[path]

    def forget(self, path):
        """A directory is being removed: close it, and what is below it."""
        for each in list(self._open):
            if each == path or each.startswith(path + b"/"):
                self._open.pop(each).close()

    def close(self):
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()
        self.root.close()


def open_tree(path, flavour, make=False, system=os):
    """Open a destination.

    :param path: the path of its root, in the system's form.
    :param make: whether it is made, with its parents, if it is not there.
    :returns: a :class:`Tree`, or None if there is none and none is made.
    """
    whole = system.path.abspath(path)
    long_form = flavour.long(whole)
    if not system.path.isdir(long_form):
        if system.path.lexists(long_form) and not system.path.isdir(long_form):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not make:
            return None
        try:
            system.makedirs(long_form)
        except OSError as error:
            # Another run may make it as well: one that was cancelled, and has not seen that yet.
            if error.errno != errno.EEXIST or not system.path.isdir(long_form):
                raise
    if AT and system is os and flavour.name == "posix":
        # The root itself may be a link: the user has named it.
        descriptor = os.open(whole, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
        return Tree(AtDirectory(descriptor), flavour)
    return Tree(PathDirectory(whole, flavour, PathFunctions(system)), flavour)
