"""Watches a tree for changes, in a thread, with watchfiles."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Event, Thread
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorFromThreads

from pycomnet.rsync.changes import EVERYTHING, NOTHING, Changes, changes_of
from pycomnet.rsync.options import SyncError, SyncOptions

#: Changes are reported after so many milliseconds without another one, or in all.
QUIET, MOST = 50, 500
#: Milliseconds between checks that the source itself is still there.
LOOK = 200
#: More changes at a time than these: the system may have dropped some, as its queue is bounded.
MANY = 1000
#: Seconds until it is watched again after something that watchfiles can't report: at first, and at
#: most. Reading causes reports, too, so a comparison may be the reason for the next one.
PAUSE, LONGEST_PAUSE = 0.5, 30.0


class Watcher(Protocol):
    """Something that reports changes until it is stopped."""

    def stop(self) -> None:
        """Report no more changes."""


#: Starts a watcher: the source, the options, what is called with changes, and with a failure; and
#: the reactor. Both are called in the reactor's thread. The first changes are everything, once it
#: watches.
StartWatcher = Callable[
    [
        bytes,
        SyncOptions,
        Callable[[Changes], object],
        Callable[[Exception], object],
        IReactorFromThreads,
    ],
    Watcher,
]


class FileWatcher:
    """Reports changes in a tree.

    :param root: the tree.
    :param changed: called with :class:`Changes`; first with everything, once it is watched, and
        again where changes may have been missed.
    :param failed: called with the reason why it can't be watched any more.
    :param reactor: has the thread in which both are called.
    :raises SyncError: watchfiles is not installed, or has no name for the tree.
    """

    def __init__(
        self,
        root: bytes,
        options: SyncOptions,
        changed: Callable[[Changes], object],
        failed: Callable[[Exception], object],
        reactor: IReactorFromThreads,
    ) -> None:
        self._watchfiles = load_watchfiles()
        self._given = root
        #: where that is now, if it is a link
        self._root = real_path(root)
        self._options = options
        self._changed = changed
        self._failed = failed
        self._reactor = reactor
        self._stopped = Event()
        self._pause = PAUSE
        Thread(target=self._run, name="pycomnet watch", daemon=True).start()

    def stop(self) -> None:
        """Report no more changes. The thread ends soon."""
        self._stopped.set()

    # -- in its thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._watch()
        except OSError as problem:
            self._tell(self._failed, SyncError(f"the source can't be watched: {problem}"))
        except SyncError as problem:
            self._tell(self._failed, problem)
        except BaseException as problem:  # what is wrong in Rust may be no Exception
            self._tell(self._failed, SyncError(f"the source can't be watched: {problem!r}"))

    def _watch(self) -> None:
        """Watch until it is stopped, or has to begin anew."""
        identity = self._identity()
        self._root = real_path(self._given)
        is_first = True
        changes = self._watchfiles.watch(
            self._root.decode("utf-8"),
            watch_filter=None,
            debounce=MOST,
            step=QUIET,
            stop_event=self._stopped,
            rust_timeout=LOOK,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
        try:
            for found in changes:
                if self._identity() != identity:
                    return  # another directory has this name now
                told = EVERYTHING if is_first else self._changes(found)
                if told:
                    if not is_first:
                        self._pause = PAUSE
                    self._tell(self._changed, told)
                is_first = False
        except RuntimeError:
            # It can't tell something, such as a name that is not UTF-8. So it begins anew, and
            # everything is compared.
            if is_first:  # that it has begun was not told yet
                self._tell(self._changed, EVERYTHING)
            self._stopped.wait(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _identity(self) -> tuple[int, int]:
        status = os.stat(self._given)
        return status.st_dev, status.st_ino

    def _changes(self, found: set[tuple[Any, str]]) -> Changes:
        if not found:
            return NOTHING
        if len(found) > MANY:
            return EVERYTHING
        added = self._watchfiles.Change.added
        paths = ((os.fsencode(path), change == added) for change, path in found)
        return changes_of(self._root, paths, self._options)

    def _tell(self, function: Callable[[Any], object], argument: Any) -> None:
        self._reactor.callFromThread(self._call, function, argument)

    # -- in the reactor's thread -----------------------------------------------------------------

    def _call(self, function: Callable[[Any], object], argument: Any) -> None:
        if not self._stopped.is_set():
            function(argument)


def real_path(root: bytes) -> bytes:
    """The path of a tree without links.

    :raises SyncError: it is not UTF-8, and nothing else can be watched.
    """
    path = os.path.realpath(root)
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        raise SyncError(f"{os.fsdecode(path)!r} can't be watched: it is not UTF-8") from None
    return path


def load_watchfiles() -> Any:
    """The module watchfiles.

    :raises SyncError: it is not installed.
    """
    try:
        import watchfiles
    except ImportError as problem:
        raise SyncError(
            "watching needs the package watchfiles: pip install 'pycomnet[watch]'"
        ) from problem
    return watchfiles
