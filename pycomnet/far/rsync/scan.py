"""Reads a tree: what is in it, in batches, in an order that both ends can follow.

A directory comes before what is in it, and its own entries together, in the order of their names'
bytes. Nothing is opened but directories.
"""

import errno
import os
import stat

from . import entries, names
from .entries import (
    DIRECTORY,
    FILE,
    HARD_LINK,
    INCOMPLETE,
    LAST,
    LEADER,
    LINK,
    LINK_INTO_TREE,
    SKIPPED,
)
from .files import is_temporary
from .finish import reason_of
from .tree import EARLIEST, LATEST, time_of

#: Entries in a batch, about: few enough that the other end has something to do soon.
BATCH = 1000
#: The entries of the first batches: they double, so that the other end begins at once.
FIRST_BATCH = 250
ODD_TIME = "its time can't be sent: the last change will be in the year %d"
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class Batch(object):
    """Some entries, in columns.

    :ivar first: the number of the first.
    :ivar directories: path, number of entries, flags (``LAST``, ``INCOMPLETE``) of each directory.
    :ivar skipped: number and reason of what is not sent.
    :ivar failed: path and reason of what can't be read.
    :ivar noted: number and reason of what is sent, but for a part of it: links that lead out of
        the tree, with where they lead; times that a list can't have.
    """

    def __init__(self, first):
        self.first = first
        self.directories = []
        self.names = []
        self.kinds = bytearray()
        self.modes = []
        self.sizes = []
        self.times = []
        self.texts = []
        self.firsts = []
        self.owners = []
        self.skipped = []
        self.failed = []
        self.noted = []

    def __len__(self):
        return len(self.names)

    @property
    def end(self):
        """The number after that of the last entry."""
        return self.first + len(self.names)

    def message(self):
        """Its form on the wire."""
        return entries.pack(
            self.first,
            [[entries.binary(path), count, flags] for path, count, flags in self.directories],
            self.names,
            self.kinds,
            self.modes,
            self.sizes,
            self.times,
            self.texts,
            self.firsts,
            self.owners,
        )

    def paths(self):
        """The paths of its entries, relative to the root."""
        found = []
        for directory, count, _ in self.directories:
            names = self.names[len(found) : len(found) + count]
            found += [directory + b"/" + name for name in names] if directory else names
        return found


class Scan(object):
    """A walk through a tree.

    :param root: its path, as on the wire.
    :param options: ``filter`` and ``takes``, or None; ``links``, ``outside``, ``hard_links``,
        ``owners``: as in :class:`pycomnet.RSync`.
    :param part: limits it to a part of the tree, or is None. Its ``names`` returns the names in a
        directory that are looked at, or None for all; its ``enters``, whether a directory is read.
    :ivar clean: whether everything could be read so far.
    """

    def __init__(self, root, options, flavour=None, part=None):
        self._part = part
        self._flavour = flavour or names.of_this_system()
        self.root = os.path.abspath(os.path.expanduser(self._flavour.root(root)))
        self.clean = True
        self._real_root = os.path.realpath(self.root)
        self._options = options
        self._filter = options.filter
        self._has_scandir = hasattr(os, "scandir") and self._flavour.name == "posix"
        #: whether all regular files take part, and nothing is asked about them but what all have
        self._is_plain = (
            self._has_scandir
            and options.filter is None
            and options.takes is None
            and not options.hard_links
            and not options.owners
        )
        #: (device, inode) of files with several names -> number
        self._leaders = {}
        self._batch = Batch(0)
        self._size = FIRST_BATCH

    def path(self, path):
        """The path of an entry for this system's functions."""
        return os.path.join(self.root, self._flavour.native(path)) if path else self.root

    def batches(self):
        """All batches; an empty tree has one."""
        found = [b""]
        while found:
            path = found.pop()
            below = []
            for batch in self._directory(path, below):
                yield batch
            if self._part is not None:
                below = [each for each in below if self._part.enters(each)]
            found.extend(reversed(below))
        yield self._batch

    def _full(self):
        made = self._batch
        self._batch = Batch(made.end)
        self._size = min(self._size * 2, BATCH)
        return made

    def _read(self, path):
        """What is in a directory: name, as on the wire, and a function that returns its status."""
        whole = self.path(path)
        if self._has_scandir:
            with os.scandir(whole) as iterator:
                return sorted((entry.name, entry) for entry in iterator)
        wire = self._flavour.wire
        return sorted((wire(name), None) for name in os.listdir(whole))

    def _directory(self, path, below):
        """Read one directory; ``below`` gets the directories in it."""
        record = [path, 0, 0]
        self._batch.directories.append(record)
        incomplete = 0
        try:
            found = self._read(path)
        except (OSError, IOError) as error:
            self._failed(path or b".", error)
            incomplete = INCOMPLETE
            found = []
        chosen = None if self._part is None else self._part.names(path)
        if chosen is not None:
            incomplete = INCOMPLETE  # so nothing is deleted in it
            found = [each for each in found if each[0] in chosen]
        prefix = path + b"/" if path else b""
        count = 0
        add_file = self._add_file
        is_plain = self._is_plain
        for name, entry in found:
            added = is_plain and add_file(name, entry)
            if added or self._entry(name, entry, prefix + name, below):
                count += 1
                if len(self._batch) >= self._size:
                    record[1] = count
                    yield self._full()
                    record = [path, 0, 0]
                    self._batch.directories.append(record)
                    count = 0
        record[1] = count
        record[2] = LAST | incomplete
        if len(self._batch) >= self._size or len(self._batch.directories) >= self._size:
            yield self._full()

    def _failed(self, path, error):
        self.clean = False
        self._batch.failed.append((path, reason_of(error)))

    def _add_file(self, name, entry):
        """Add a regular file, fast; False if :meth:`_entry` has to look at this entry."""
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return False
        mode = status.st_mode
        if mode & 0o170000 != 0o100000 or (name[:1] == b"." and is_temporary(name)):
            return False
        time = status.st_mtime_ns
        if not EARLIEST < time < LATEST:
            return False
        batch = self._batch
        batch.names.append(name)
        batch.kinds.append(FILE)
        batch.modes.append(mode & 0o7777)
        batch.sizes.append(status.st_size)
        batch.times.append(time)
        return True

    def _entry(self, name, entry, path, below):
        """Add an entry to the batch; False if it takes no part."""
        try:
            if entry is not None:
                status = entry.stat(follow_symlinks=False)
            else:
                status = os.lstat(self.path(path))
        except names.NameRefused as error:
            self._failed(path, error)
            return False
        except (OSError, IOError) as error:
            if error.errno == errno.ENOENT:
                return False  # it has gone since the directory was read
            self._failed(path, error)
            self._add(name, SKIPPED)
            return True
        kind = stat.S_IFMT(status.st_mode)
        if self._filter is not None and not self._filter.takes(
            path + b"/" if kind == stat.S_IFDIR else path
        ):
            return False
        if self._options.takes is not None and not self._options.takes(path):
            self._add(name, SKIPPED)
            return True
        if is_temporary(name) and kind in (stat.S_IFREG, stat.S_IFLNK):
            self._skip(name, "its name is one of the temporary files of such runs")
            return True
        if self._flavour.is_link(status):
            return self._link(name, path, status, below)
        return self._other(name, path, status, below)

    def _other(self, name, path, status, below):
        """Add what is no link."""
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            if self._options.hard_links and status.st_nlink > 1:
                self._several_names(name, status)
            else:
                self._add(name, FILE, status, status.st_size)
        elif kind == stat.S_IFDIR:
            self._add(name, DIRECTORY, status)
            below.append(path)
        else:
            self._skip(name, "it is %s" % _KINDS.get(kind, "of a kind that is not sent"))
        return True

    def _several_names(self, name, status):
        key = status.st_dev, status.st_ino
        first = self._leaders.get(key)
        if first is None:
            self._leaders[key] = self._batch.end
            self._add(name, LEADER, status, status.st_size)
        else:
            self._batch.firsts.append(first)
            self._add(name, HARD_LINK, status)

    def _add(self, name, kind, status=None, size=0):
        batch = self._batch
        time = 0 if status is None else time_of(status)
        if time in (EARLIEST, LATEST):
            batch.noted.append((batch.end, ODD_TIME % (1677 if time < 0 else 2262)))
        batch.names.append(name)
        batch.kinds.append(kind)
        batch.sizes.append(size)
        batch.modes.append(0 if status is None else status.st_mode & 0o7777)
        batch.times.append(time)
        if self._options.owners:
            batch.owners += (0, 0) if status is None else (status.st_uid, status.st_gid)

    def _skip(self, name, reason):
        self._batch.skipped.append((self._batch.end, reason))
        self._add(name, SKIPPED)

    # -- links -----------------------------------------------------------------------------------

    def _link(self, name, path, status, below):
        whole = self.path(path)
        try:
            text = self._flavour.text_of(os.readlink(whole))
        except (OSError, IOError) as error:
            self._failed(path, error)
            self._add(name, SKIPPED)
            return True
        outside = self._leads_outside(whole)
        policy = self._options.links if outside is None else self._options.outside
        shown = text.decode("utf-8", "replace")
        if policy == "keep":
            if outside is not None:
                reason = "it points to %s, %s" % (shown, outside)
                self._batch.noted.append((self._batch.end, reason))
            inside = self._into_tree(text)
            self._batch.texts.append(text if inside is None else inside)
            self._add(name, LINK if inside is None else LINK_INTO_TREE, status)
        elif policy == "skip":
            self._skip(name, "it is a link to %s" % shown)
        elif policy == "error":
            where = ", %s" % outside if outside is not None else ""
            self._batch.failed.append((path, "it is a link to %s%s" % (shown, where)))
            self._add(name, SKIPPED)
        else:
            return self._copy(name, path, whole, shown, below)
        return True

    def _copy(self, name, path, whole, shown, below):
        """Add what a link points to, in the link's place; False if it takes no part."""
        problem = None
        try:
            status = os.stat(whole)
        except (OSError, IOError) as error:
            problem = "which can't be copied: %s" % reason_of(error)
        else:
            if stat.S_ISDIR(status.st_mode):
                if self._filter is not None and not self._filter.takes(path + b"/"):
                    return False  # the rules for directories go for it, too
                if self._is_above(whole, path):
                    problem = "a directory that it is in itself"
        if problem is None:
            return self._other(name, path, status, below)
        self._batch.failed.append((path, "it is a link to %s, %s" % (shown, problem)))
        self._add(name, SKIPPED)
        return True

    def _is_above(self, whole, path):
        """Whether a link leads to one of the directories through which it was reached."""
        real = os.path.realpath(whole)
        parts = path.split(b"/")[:-1]
        above = [self.path(b"/".join(parts[:count])) for count in range(len(parts) + 1)]
        return any([os.path.realpath(each) == real for each in above])

    def _into_tree(self, text):
        """Where an absolute link leads to, relative to the root; None for all other links."""
        if not os.path.isabs(text):
            return None
        plain = os.path.normpath(text)
        for root in (self.root, self._real_root):
            root = self._flavour.text_of(root).rstrip(b"/")
            if plain == root:
                return b""
            if plain.startswith(root + b"/"):
                return plain[len(root) + 1 :]
        return None

    def _leads_outside(self, whole):
        """Whether a link leads out of the tree, or nowhere, in words; None if it doesn't."""
        real = os.path.realpath(whole)
        root = self._real_root
        if real != root and not real.startswith(os.path.join(root, root[:0])):
            return "which is outside the tree" if os.path.lexists(real) else "which is not there"
        return None if os.path.exists(whole) else "which is not there"
