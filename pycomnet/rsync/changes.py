"""What of a source has changed: the part of it that a run has to compare."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable

import attrs

from pycomnet.far.rsync.files import is_temporary
from pycomnet.rsync.options import SyncOptions


@attrs.frozen
class Changes:
    """Directories of a source. Their paths are relative to it, as on the wire.

    It limits a :class:`~pycomnet.far.rsync.scan.Scan` to them, and to the entries through which
    they are reached.

    :ivar listed: those whose own entries are compared.
    :ivar whole: those that are compared with all that is below: new ones.
    """

    listed: frozenset[bytes] = frozenset()
    whole: frozenset[bytes] = frozenset()
    #: directory -> the names in it that lead to one of them
    _leads: dict[bytes, set[bytes]] = attrs.field(init=False, eq=False, repr=False)

    @_leads.default
    def _find_leads(self) -> dict[bytes, set[bytes]]:
        leads: dict[bytes, set[bytes]] = {}
        for path in self.listed | self.whole:
            while path:
                path, _, name = path.rpartition(b"/")
                leads.setdefault(path, set()).add(name)
        return leads

    @property
    def is_everything(self) -> bool:
        """Whether it limits nothing."""
        return b"" in self.whole

    def __bool__(self) -> bool:
        return bool(self.listed or self.whole)

    def __or__(self, other: Changes) -> Changes:
        if self.is_everything or other.is_everything:
            return EVERYTHING
        return Changes(self.listed | other.listed, self.whole | other.whole)

    def names(self, path: bytes) -> Collection[bytes] | None:
        """The names in a directory that are compared; None: all."""
        if path in self.listed or self._is_whole(path):
            return None
        return self._leads.get(path, ())

    def enters(self, path: bytes) -> bool:
        """Whether something in a directory is compared."""
        return path in self.listed or path in self._leads or self._is_whole(path)

    def _is_whole(self, path: bytes) -> bool:
        if self.is_everything or path in self.whole:
            return True
        if not self.whole:
            return False
        parts = path.split(b"/")
        return any(b"/".join(parts[:count]) in self.whole for count in range(1, len(parts)))


NOTHING = Changes()
EVERYTHING = Changes(whole=frozenset([b""]))


def changes_of(root: bytes, paths: Iterable[tuple[bytes, bool]], options: SyncOptions) -> Changes:
    """The directories that have to be compared, as something has happened to some paths.

    :param root: the source, absolute.
    :param paths: absolute paths, and whether each is new.
    """
    if options.hard_links or "copy" in (options.links, options.outside):
        # What has changed may be a part of the tree under other names, too.
        return EVERYTHING
    listed, whole = set(), set()
    for path, is_new in paths:
        relative = os.path.relpath(path, root)
        if relative == b".":
            listed.add(b"")
            continue
        is_directory = _is_directory(os.path.join(root, relative))
        if not _takes(options, relative, is_directory):
            continue
        listed.add(relative.rpartition(b"/")[0])
        if is_directory and is_new:
            whole.add(relative)
    return Changes(frozenset(listed), frozenset(whole))


def _is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _takes(options: SyncOptions, path: bytes, is_directory: bool) -> bool:
    """Whether the rules let a path take part; what was removed may be of any kind."""
    parts = path.split(b"/")
    if b".." in parts or (is_temporary(parts[-1]) and not is_directory):
        return False
    takes = options.filter
    if takes is None:
        return True
    above = (b"/".join(parts[:count]) + b"/" for count in range(1, len(parts)))
    return all(map(takes.takes, above)) and takes.takes(path + b"/" if is_directory else path)
