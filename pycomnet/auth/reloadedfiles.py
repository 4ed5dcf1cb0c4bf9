"""Reads files again when they change."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from pycomnet.errors import TokenError
from pycomnet.text.logs import Logger

T = TypeVar("T")

log = Logger()

#: Seconds after which an empty file is assumed to be intended.
SETTLED = 3.0
#: Seconds after which files without any user are assumed to be intended. It is long, as what users
#: have started may end with it, and a program that writes its output to the file may be slow.
EMPTY_AFTER = 30.0


class FileStamp(NamedTuple):
    """A value that changes when a file changes. The times are in nanoseconds."""

    inode: int
    size: int
    mtime: int
    ctime: int


#: The stamps of files, by path.
Stamp = dict[str, FileStamp]


def stamp_of(files: tuple[str, ...]) -> Stamp:
    """A value that changes when one of the files changes.

    :raises OSError: one does not exist.
    """
    found = ((path, os.stat(path)) for path in files)
    return {
        path: FileStamp(one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns)
        for path, one in found
    }


class ReloadedFiles(Generic[T]):
    """Reads files when a server begins to use them, and again when they have changed.

    If a changed file is malformed or gone, the previous contents stay in force, and a critical
    message is logged once. If it is in order, but has no users any more, they stay in force for
    :data:`EMPTY_AFTER` seconds.

    :ivar version: has a new value after each reading.
    :ivar seconds: a clock.
    """

    version = 0

    def __init__(self) -> None:
        self.seconds: Callable[[], float] = time.monotonic
        self._current: T | None = None
        self._stamp: Stamp | None = None
        #: the error that was logged last
        self._logged = ""
        #: whether the last reading has failed
        self._failed = False
        #: when the changed files were first read without any user
        self._empty_since: float | None = None
        #: several threads may look for changes
        self._lock = threading.Lock()

    def files(self) -> tuple[str, ...]:
        """The files whose changes count."""
        raise NotImplementedError

    def read(self) -> T:
        """Read them.

        :raises PycomnetError: they can't be used.
        """
        raise NotImplementedError

    def is_empty(self, contents: T) -> bool:
        """Whether no user is left in these contents."""
        return False

    def open(self) -> None:
        """Read them for the first time.

        :raises PycomnetError: they can't be used.
        """
        with self._lock:
            if self._current is None:
                self._read()

    def _read(self) -> None:
        before = self._seen()
        empty_since, self._empty_since = self._empty_since, None
        contents = self.read()
        if self.is_empty(contents):
            self._check_empty(empty_since)
        self._current = contents
        self.version += 1
        after = self._seen()
        # It changed while it was read, or there are other files than before: the next poll reads it
        # again.
        self._stamp = after if before == after else None

    def _check_empty(self, since: float | None) -> None:
        """Check that files without users are intended.

        :param since: when they were first read without users; None if they had some until now.
        :raises TokenError: they are read for the first time, or may be about to be written.
        """
        problem = f"{self.files()[0]}: it has no section, so no token"
        if self._current is None:
            raise TokenError(problem)
        self._empty_since = self.seconds() if since is None else since
        if self.seconds() - self._empty_since < EMPTY_AFTER:
            raise TokenError(f"{problem}; in {EMPTY_AFTER:g} s all tokens are withdrawn")

    def _seen(self) -> Stamp | None:
        try:
            return stamp_of(self.files())
        except OSError:
            return None

    def current(self) -> T:
        """The current contents of the files. It may block, and several threads may call it.

        :raises PycomnetError: they were never read, and can't be used.
        """
        self.refresh()
        assert self._current is not None
        return self._current

    def latest(self) -> T | None:
        """The contents that were read last."""
        return self._current

    def is_unchanged(self, *paths: str) -> bool:
        """Whether these of the files are as they were when all were read last."""
        before = self._stamp
        if before is None:
            return False
        try:
            now = stamp_of(paths)
        except OSError:
            return False
        return all(before.get(path) == one for path, one in now.items())

    def refresh(self) -> None:
        """Read the files again if they have changed. It may block, as :meth:`current`."""
        with self._lock:
            if self._current is None:
                self._read()
                return
            seen = self._seen()
            if seen is not None and seen == self._stamp and not self._failed:
                return
            try:
                if seen is not None and self._is_being_written(seen):
                    return  # the next poll reads it
                self._read()
            except Exception as problem:  # whatever is wrong: it has to go on with what there is
                if str(problem) != self._logged:
                    self._logged = str(problem)
                    log.critical("what was read before stays in force: {problem}", problem=problem)
                # Also if the files do not change again: the fault may have been elsewhere, for
                # example a lack of descriptors.
                self._failed = True
                return
            self._logged = ""
            self._failed = False
            log.info("{files} was read again", files=", ".join(self.files()))

    def _is_being_written(self, seen: Stamp) -> bool:
        """Whether a file has just been emptied, and not replaced: it is written to in place."""
        before = self._stamp or {}
        return any(
            not now.size
            and path in before
            and now.inode == before[path].inode
            and abs(time.time() - now.mtime / 1e9) < SETTLED
            for path, now in seen.items()
        )
