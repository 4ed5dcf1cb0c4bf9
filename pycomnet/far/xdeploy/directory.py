"""The directory of environments on this machine: its parts, names and locks."""

import json
import os
import shutil

from .interpreter import VenvRefused, check
from .lookup import (
    ABOUT,
    Lock,
    absolute,
    is_private,
    lock_path,
    make_directory,
    name_path,
    read_record,
)

PARTS = ("wheels", "built", "environments", "names", "locks", "new")


def prepare(root):
    """Make the directory.

    :raises VenvRefused: no environment can be made here.
    """
    check()
    VenvDirectory(root)


class VenvDirectory(object):
    """The directory.

    :param root: its path; None for the default.
    :raises VenvRefused: it can't be made, or others may write to it.
    """

    def __init__(self, root=None):
        self.root = absolute(root)
        try:
            for part in PARTS:
                make_directory(self.root, part)
            private = is_private(self.root)
        except OSError as problem:
            raise VenvRefused(
                "environments can't be kept in %s: %s" % (self.root, problem.strerror)
            )
        if not private:
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
        :param waits: called with the lock when another has it; it returns when that may be over,
            and may raise.
        :param shared: whether others may have it at the same time, if they share it, too.
        """
        lock = Lock(lock_path(self.root, name), shared)
        while not lock.take(waits is None):
            try:
                waits(lock)
            except BaseException:
                lock.release()
                raise
        return lock

    def try_lock(self, name):
        """Take a lock if nobody has it; else return None."""
        lock = Lock(lock_path(self.root, name), False)
        return lock if lock.take() else None

    # -- names -----------------------------------------------------------------------------------

    def write_name(self, name, record):
        """Let a name point to something else, atomically.

        :param record: the text of its file.
        """
        write_file(name_path(self.root, name), record.encode("utf-8", "surrogateescape"))

    def remove_name(self, name):
        """Remove a name; return the identity that it pointed to, or None if there was none."""
        record = read_record(name_path(self.root, name))
        if record is None:
            return None
        os.remove(name_path(self.root, name))
        return record[4]

    def names(self):
        """Name -> the identity that it points to, and what is kept with it, for all names."""
        found = {}
        for name in sorted(os.listdir(self.path("names"))):
            record = read_record(name_path(self.root, name))
            if record is not None:
                found[name] = (record[4], json.loads(record[5]))
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
    write_file(path, json.dumps(value, sort_keys=True).encode("utf-8"))


def write_file(path, data):
    """Write a file atomically."""
    other = os.path.join(os.path.dirname(path), ".%d" % os.getpid())
    try:
        with open(other, "wb") as file:
            file.write(data)
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
