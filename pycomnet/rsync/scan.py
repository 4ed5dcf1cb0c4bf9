"""Reads a tree: what is in it, in batches, in an order that both ends can follow.

A directory comes before what is in it, and its own entries together, in the order of their names'
bytes. Nothing is opened but directories.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

import attrs

from pycomnet.far.rsync import entries
from pycomnet.far.rsync.entries import (
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
from pycomnet.far.rsync.files import TEMPORARY
from pycomnet.rsync.options import SyncOptions

#: Entries in a batch, about: few enough that the other end has something to do soon.
BATCH = 2000
#: The entries of the first batches: they double, so that the other end begins at once.
FIRST_BATCH = 250
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


@attrs.define
class Batch:
    """Some entries, in columns.

    :ivar first: the number of the first.
    :ivar directories: path, number of entries, flags (``LAST``, ``INCOMPLETE``) of each directory.
    :ivar skipped: number and reason of what is not sent.
    :ivar failed: path and reason of what can't be read.
    :ivar noted: number of links that lead out of the tree, and are kept, with where they lead.
    """

    first: int
    directories: list[list[Any]] = attrs.field(factory=list)
    names: list[bytes] = attrs.field(factory=list)
    kinds: bytearray = attrs.field(factory=bytearray)
    modes: list[int] = attrs.field(factory=list)
    sizes: list[int] = attrs.field(factory=list)
    times: list[int] = attrs.field(factory=list)
    texts: list[bytes] = attrs.field(factory=list)
    firsts: list[int] = attrs.field(factory=list)
    owners: list[int] = attrs.field(factory=list)
    skipped: list[tuple[int, str]] = attrs.field(factory=list)
    failed: list[tuple[bytes, str]] = attrs.field(factory=list)
    noted: list[tuple[int, str]] = attrs.field(factory=list)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def end(self) -> int:
        """The number after that of the last entry."""
        return self.first + len(self.names)

    def message(self) -> list[object]:
        """Its form on the wire."""
        return entries.pack(
            self.first,
            self.directories,
            self.names,
            self.kinds,
            self.modes,
            self.sizes,
            self.times,
            self.texts,
            self.firsts,
            self.owners,
        )

    def paths(self) -> list[bytes]:
        """The paths of its entries, relative to the root."""
        found: list[bytes] = []
        for directory, count, _ in self.directories:
            names = self.names[len(found) : len(found) + count]
            found += [directory + b"/" + name for name in names] if directory else names
        return found


class Scan:
    """A walk through a tree.

    :param root: its path.
    :ivar clean: whether everything could be read so far.
    """

    def __init__(self, root: str | bytes | os.PathLike[str], options: SyncOptions) -> None:
        self.root = os.path.abspath(os.fsencode(root))
        self.clean = True
        self._real_root = os.path.realpath(self.root)
        self._options = options
        self._filter = options.filter()
        #: (device, inode) of files with several names -> number
        self._leaders: dict[tuple[int, int], int] = {}
        self._batch = Batch(0)
        self._size = FIRST_BATCH
        self._within = b""

    def batches(self) -> Iterator[Batch]:
        """All batches; an empty tree has one."""
        found: list[bytes] = [b""]
        while found:
            path = found.pop()
            below: list[bytes] = []
            yield from self._directory(path, below)
            found.extend(reversed(below))
        yield self._batch

    def _full(self) -> Batch:
        made = self._batch
        self._batch = Batch(made.end)
        self._size = min(self._size * 2, BATCH)
        return made

    def _directory(self, path: bytes, below: list[bytes]) -> Iterator[Batch]:
        """Read one directory; ``below`` gets the directories in it."""
        whole = os.path.join(self.root, path) if path else self.root
        record: list[Any] = [path, 0, 0]
        self._batch.directories.append(record)
        incomplete = 0
        try:
            with os.scandir(whole) as iterator:
                found = sorted(iterator, key=lambda entry: entry.name)
        except OSError as problem:
            self._failed(path or b".", problem)
            incomplete = INCOMPLETE
            found = []
        prefix = path + b"/" if path else b""
        count = 0
        for entry in found:
            if self._entry(entry, prefix, below):
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

    def _failed(self, path: bytes, problem: OSError) -> None:
        self.clean = False
        self._batch.failed.append((path, problem.strerror or str(problem)))

    def _entry(self, entry: os.DirEntry[bytes], prefix: bytes, below: list[bytes]) -> bool:
        """Add an entry to the batch; False if it takes no part."""
        name = entry.name
        path = prefix + name
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return False  # it has gone since the directory was read
        except OSError as problem:
            self._failed(path, problem)
            self._add(name, SKIPPED)
            return True
        mode = status.st_mode
        kind = stat.S_IFMT(mode)
        if name.startswith(TEMPORARY):
            return False
        if self._filter is not None and not self._filter.takes(
            path + b"/" if kind == stat.S_IFDIR else path
        ):
            return False
        if self._options.takes is not None and not self._options.takes(os.fsdecode(path)):
            self._add(name, SKIPPED)
            return True
        if kind == stat.S_IFLNK:
            return self._link(name, path, status, below)
        return self._other(name, path, status, below)

    def _other(self, name: bytes, path: bytes, status: os.stat_result, below: list[bytes]) -> bool:
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
            self._skip(name, f"it is {_KINDS.get(kind, 'of a kind that is not sent')}")
        return True

    def _several_names(self, name: bytes, status: os.stat_result) -> None:
        key = status.st_dev, status.st_ino
        first = self._leaders.get(key)
        if first is None:
            self._leaders[key] = self._batch.end
            self._add(name, LEADER, status, status.st_size)
        else:
            self._batch.firsts.append(first)
            self._add(name, HARD_LINK, status)

    def _add(
        self, name: bytes, kind: int, status: os.stat_result | None = None, size: int = 0
    ) -> None:
        batch = self._batch
        batch.names.append(name)
        batch.kinds.append(kind)
        batch.sizes.append(size)
        if status is None:
            batch.modes.append(0)
            batch.times.append(0)
        else:
            batch.modes.append(status.st_mode & 0o7777)
            batch.times.append(status.st_mtime_ns)
        if self._options.owners:
            batch.owners += (0, 0) if status is None else (status.st_uid, status.st_gid)

    def _skip(self, name: bytes, reason: str) -> None:
        self._batch.skipped.append((self._batch.end, reason))
        self._add(name, SKIPPED)

    # -- links -----------------------------------------------------------------------------------

    def _link(self, name: bytes, path: bytes, status: os.stat_result, below: list[bytes]) -> bool:
        whole = os.path.join(self.root, path)
        try:
            text = os.readlink(whole)
        except OSError as problem:
            self._failed(path, problem)
            self._add(name, SKIPPED)
            return True
        outside = self._leads_outside(whole)
        policy = self._options.links if outside is None else self._options.outside
        shown = os.fsdecode(text)
        if policy == "keep":
            if outside is not None:
                self._batch.noted.append((self._batch.end, f"it points to {shown}, {outside}"))
            inside = self._into_tree(text)
            self._batch.texts.append(text if inside is None else inside)
            self._add(name, LINK if inside is None else LINK_INTO_TREE, status)
        elif policy == "skip":
            self._skip(name, f"it is a link to {shown}")
        elif policy == "error":
            where = f", {outside}" if outside is not None else ""
            self._batch.failed.append((path, f"it is a link to {shown}{where}"))
            self._add(name, SKIPPED)
        else:
            self._copy(name, path, whole, shown, below)
        return True

    def _copy(self, name: bytes, path: bytes, whole: bytes, shown: str, below: list[bytes]) -> None:
        """Add what a link points to, in the link's place."""
        try:
            status = os.stat(whole)
        except OSError as problem:
            reason = f"it is a link to {shown}, which can't be copied: {problem.strerror}"
            self._batch.failed.append((path, reason))
            self._add(name, SKIPPED)
            return
        if stat.S_ISDIR(status.st_mode) and self._is_above(whole, path):
            reason = f"it is a link to {shown}, a directory that it is in itself"
            self._batch.failed.append((path, reason))
            self._add(name, SKIPPED)
            return
        self._other(name, path, status, below)

    def _is_above(self, whole: bytes, path: bytes) -> bool:
        """Whether a link leads to one of the directories through which it was reached."""
        real = os.path.realpath(whole)
        parts = path.split(b"/")[:-1]
        above = [self.root, *(os.path.join(self.root, *parts[: n + 1]) for n in range(len(parts)))]
        return any(os.path.realpath(each) == real for each in above)

    def _into_tree(self, text: bytes) -> bytes | None:
        """Where an absolute link leads to, relative to the root; None for all other links."""
        if not os.path.isabs(text):
            return None
        plain = os.path.normpath(text)
        for root in (self.root, self._real_root):
            if plain == root:
                return b""
            if plain.startswith(root.rstrip(b"/") + b"/"):
                return plain[len(root.rstrip(b"/")) + 1 :]
        return None

    def _leads_outside(self, whole: bytes) -> str | None:
        """Whether a link leads out of the tree, or nowhere, in words; None if it doesn't."""
        real = os.path.realpath(whole)
        if real != self._real_root and not real.startswith(self._real_root.rstrip(b"/") + b"/"):
            return "which is outside the tree" if os.path.lexists(real) else "which is not there"
        return None if os.path.exists(whole) else "which is not there"
