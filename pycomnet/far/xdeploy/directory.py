"""The directory of environments on this machine: its parts, names and locks."""

import errno
import json
import os
import shutil
import tempfile

from .interpreter import VenvRefused, check
from .lookup import (
    ABOUT,
    Lock,
    absolute,
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


def not_private(root):
    """The refusal of a directory that others may write to."""
    return VenvRefused(
        "environments can't be kept in %s: it and what is in it have to belong to the user %d, and "
        "nobody else may write to them or replace them, nor to the directories that it is in; "
        "directory= names another place" % (root, os.geteuid())
    )


class VenvDirectory(object):
    """The directory.

    :param root: its path; None for the default.
    :raises VenvRefused: it can't be made, or others may write to it.
    """

    def __init__(self, root=None):
        self.root = absolute(root)
        try:
            private = all(make_directory(self.root, part) for part in PARTS)
        except OSError as problem:
            raise VenvRefused(
                "environments can't be kept in %s: %s; directory= names another place"
                % (self.root, problem.strerror)
            )
        if not private:
            raise not_private(self.root)

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
        data = record.encode("utf-8", "surrogateescape")
        write_file(name_path(self.root, name), data, self.path("new"))

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
            record = None if name.startswith(".") else read_record(name_path(self.root, name))
            kept = None if record is None else as_map(record[5])
            if record is not None and kept is not None:
                found[name] = (record[4], kept)
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
        return read_json(self.path("wheels", digest, "wheel.json")) is not None

    def fresh(self, name):
        """An empty directory in ``new/``, without what an earlier one has left there.

        The caller has the lock of what it makes, so nobody else makes it.
        """
        path = self.path("new", name)
        remove_tree(path)
        os.makedirs(path)
        return path

    def scratch(self):
        """An empty directory in ``new/`` that nobody else has. The caller has the lock "making"."""
        return tempfile.mkdtemp(dir=self.path("new"))

    def take_away(self, path):
        """Move something out of its place; return where it is now, to be removed there."""
        place = self.scratch()
        os.rename(path, os.path.join(place, "it"))
        return place

    def put(self, place, *parts):
        """Give what is complete its place. What is broken there goes."""
        path = self.path(*parts)
        if os.path.lexists(path):
            clear(self.take_away(path))
        os.rename(place, path)

    def write(self, value, *parts):
        """Write a file of the directory atomically. The caller has the lock "making"."""
        write_json(self.path(*parts), value, self.path("new"))


def read_json(path):
    """A file's map, or None if there is no such file, or it is not one."""
    try:
        with open(path, "rb") as file:
            return as_map(file.read().decode("utf-8"))
    except (OSError, ValueError):
        return None


def as_map(text):
    """The map of a JSON text, or None if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RuntimeError):  # a RuntimeError if it is nested too deeply
        return None
    return value if isinstance(value, dict) else None


def write_json(path, value, new=None):
    """Write a file atomically.

    :param new: as for :func:`write_file`.
    """
    write_file(path, json.dumps(value, sort_keys=True).encode("utf-8"), new)


def write_file(path, data, new=None):
    """Write a file atomically. Others may write the same one at the same time.

    :param new: a directory of the same file system, for what is not complete yet; by default the
        file's.
    """
    fd, other = tempfile.mkstemp(dir=new or os.path.dirname(path))
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.rename(other, path)
    except BaseException:
        clear(other)
        raise


def remove_tree(path):
    """Remove a file, a link or a directory with all that is in it, if it is there.

    What a build or an archive has made read-only is removed as well.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        try:
            shutil.rmtree(path)
        except OSError:
            _make_writable(path)
            for place, names, _ in os.walk(path):
                for name in names:
                    _make_writable(os.path.join(place, name))
            if os.path.lexists(path):
                shutil.rmtree(path)
    else:
        try:
            os.remove(path)
        except OSError as problem:
            if problem.errno != errno.ENOENT:
                raise


def _make_writable(path):
    try:
        if not os.path.islink(path):
            os.chmod(path, 0o700)
    except OSError:
        pass  # then its removal says why


def clear(path):
    """Remove what is not needed any more, as well as that can be done.

    It is called when something else has failed, which matters more than what stays: :func:`fresh`
    and ``prune`` remove that.
    """
    try:
        remove_tree(path)
    except OSError:
        pass
