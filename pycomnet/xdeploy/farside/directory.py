"""The directory of environments on this machine: its parts, names and locks."""

import fcntl
import json
import os
import shutil
import stat

from .interpreter import VenvRefused

#: The file in an environment that says what it is made of.
ABOUT = "xdeploy.json"
PARTS = ("wheels", "built", "environments", "names", "locks", "new")


def default_root():
    """The directory that is used unless the near side names another."""
    data = os.environ.get("XDG_DATA_HOME")
    if not data or not os.path.isabs(data):
        data = os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(data, "pycomnet", "xdeploy")


class VenvDirectory(object):
    """The directory.

    :param root: its path; None for the default.
    :raises VenvRefused: it can't be made, or others may write to it.
    """

    def __init__(self, root=None):
        self.root = os.path.abspath(os.path.expanduser(root)) if root else default_root()
        try:
            for part in PARTS:
                os.makedirs(os.path.join(self.root, part), 0o755, exist_ok=True)
            found = os.stat(self.root)
        except OSError as problem:
            raise VenvRefused(
                "environments can't be kept in %s: %s" % (self.root, problem.strerror)
            )
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise VenvRefused(
                "environments can't be kept in %s: it has to belong to the user %d, and nobody "
                "else may write to it" % (self.root, os.geteuid())
            )

    def path(self, *parts):
        """A path in it."""
        return os.path.join(self.root, *parts)

    # -- locks -----------------------------------------------------------------------------------

    def lock(self, name, waits=None, shared=False):
        """Take a lock, and wait for it.

        :param name: the lock's name, which becomes a file's.
        :param waits: waits a moment, each time that another has the lock, and may raise; it is
            called with the process that has the lock, or None if that is not known.
        :param shared: whether others may have it at the same time, if they share it, too.
        """
        lock = Lock(self.path("locks", name), shared)
        while not lock.take(waits is None):
            try:
                waits(lock.holder())
            except BaseException:
                lock.release()
                raise
        return lock

    def try_lock(self, name):
        """Take a lock if nobody has it; else return None."""
        lock = Lock(self.path("locks", name), False)
        return lock if lock.take() else None

    # -- names -----------------------------------------------------------------------------------

    def read_name(self, name):
        """What a name points to: a map, or None."""
        return read_json(self.path("names", name + ".json"))

    def write_name(self, name, points):
        """Let a name point to something else, atomically."""
        write_json(self.path("names", name + ".json"), points)

    def remove_name(self, name):
        """Remove a name; return whether it was there."""
        try:
            os.remove(self.path("names", name + ".json"))
        except FileNotFoundError:
            return False
        return True

    def names(self):
        """Name -> what it points to, for all names."""
        found = {}
        for file_name in sorted(os.listdir(self.path("names"))):
            name, _, kind = file_name.rpartition(".")
            points = self.read_name(name) if kind == "json" else None
            if points is not None:
                found[name] = points
        return found

    # -- environments and wheels -----------------------------------------------------------------

    def environment(self, identity):
        """What an environment is made of: a map; None if there is none, or its Python is gone."""
        path = self.path("environments", identity)
        about = read_json(os.path.join(path, ABOUT))
        if about is None or not os.path.exists(os.path.join(path, "bin", "python")):
            return None
        return about

    def has_wheel(self, digest):
        """Whether the store has a wheel."""
        return os.path.exists(self.path("wheels", digest, "wheel.json"))

    def fresh(self, name):
        """An empty directory in ``new/``, without what an earlier one has left there.

        The caller has the lock of what it makes, so nobody else makes it.
        """
        path = self.path("new", name)
        remove_tree(path)
        os.makedirs(path)
        return path


class Lock(object):
    """A lock that ends with its holder.

    :param path: its file.
    """

    def __init__(self, path, shared):
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX

    def take(self, wait=False):
        """Take it; return False if another has it."""
        try:
            fcntl.flock(self._fd, self._kind if wait else self._kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except BaseException:
            self.release()
            raise
        if self._kind == fcntl.LOCK_EX:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d" % os.getpid(), 0)
        return True

    def holder(self):
        """The process that has it alone, if it is known; else None."""
        text = os.pread(self._fd, 20, 0)
        return int(text) if text.isdigit() else None

    def release(self):
        """Give it back."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.release()


def read_json(path):
    """A file's map, or None if there is no such file, or it is not one."""
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read().decode("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path, value):
    """Write a file atomically."""
    other = "%s.%d" % (path, os.getpid())
    try:
        with open(other, "wb") as file:
            file.write(json.dumps(value, sort_keys=True).encode("utf-8"))
        os.rename(other, path)
    except BaseException:
        remove_tree(other)
        raise


def remove_tree(path):
    """Remove a file, a link or a directory with all that is in it, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)
