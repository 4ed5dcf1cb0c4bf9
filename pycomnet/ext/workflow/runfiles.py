"""The files of runs: blocks of binary data that steps returned.

Each run has a directory, which is named by the SHA-256 of the run's id and nonce. It has a file for
each block, named by the SHA-256 of its content, and a file ``run`` that says which run it is, and
of which store. A block is complete and on the disk before the record that refers to it is
committed. So a crash can leave a file to which no record refers, and never a record without its
file. All files of a run are removed together, after the run itself.

All methods of ``RunFiles`` block: they are called in threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet import defer

from pycomnet.ext.workflow.definition import all_steps
from pycomnet.ext.workflow.errors import (
    RunFileLost,
    RunFilesFull,
    RunStoreFailed,
    WorkflowConfigError,
)
from pycomnet.ext.workflow.records import UNREADABLE, WorkflowRun
from pycomnet.net import private
from pycomnet.services.binary import Binary
from pycomnet.services.threads import in_thread
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorThreads

    from pycomnet.interfaces import IRunFollower, IRunStore

log = Logger()

#: The most bytes of the files of all runs, if the configuration does not say.
MOST_FILES = 10 << 30
#: Bytes that are copied at a time.
PIECE = 1 << 20
#: Seconds after which files that belong to no run, and that nobody writes any more, are removed.
STALE = 3_600.0
#: The name of the file that says which run a directory is of; and the end of the names of files
#: that are being written.
OF, PART = "run", ".part"
#: The names of the directories of runs, and of the files in them. Other files are the user's.
_PLACE = re.compile("[0-9a-f]{64}")
_FILE = re.compile(rf"{OF}|[0-9a-f]{{64}}|({OF}-)?[0-9a-f]{{16}}{re.escape(PART)}")
#: Runs that are looked up in the store at a time.
ROWS = 500
#: How many users' requests have their files read and checked at a time.
READS = 2
#: The prefix of the names of marks by which a store knows its directories again: no schedule's.
OWNER = "files:"
#: After a sweep there is none for so many times as long as it took, if that is more than these
#: seconds: it looks at each run that has files.
REST, OFTEN = 20, 60.0
#: Seconds after which the bytes may be counted again when there seems to be no room.
RECOUNT = 10.0

#: A step's reference to a file: its SHA-256 as hex digits, its size in bytes, and the name that the
#: service gave it, or None.
Reference = tuple[str, int, Any]


@attrs.frozen
class WithFiles:
    """The result of a call whose blocks are kept.

    :ivar files: the references to its blocks.
    """

    value: Any
    files: Sequence[Reference]


class RunFiles:
    """Keeps the files of runs in a directory.

    :param path: of the directory, which is created if it does not exist. Services that share a
        store share it.
    :param most: the most bytes of all files.
    """

    def __init__(self, path: str, most: int = MOST_FILES) -> None:
        self.path = path
        #: the name of a mark of the store whose runs they are
        self.owner = ""
        self._most = most
        #: until when there is no sweep, by the monotonic clock
        self.rests_until = 0.0
        #: limits users' requests that read whole files; calls of steps do not wait for these
        self.asked = defer.DeferredSemaphore(READS)
        #: the bytes of complete files, and of those that are being written
        self._complete = self._writing = 0
        #: the bytes of all files that this service has written since it was started
        self._written = 0
        #: when they were counted
        self._counted = float("-inf")
        self._lock = threading.Lock()
        #: held while the bytes are counted because there seems to be no room
        self._counting = threading.Lock()

    def open(self) -> None:
        """Make the directory, and count what is in it.

        :raises RunStoreFailed: it can't be used.
        """
        try:
            private.check_directory(os.path.dirname(os.path.abspath(self.path)))
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
            private.check_directory(self.path)
            if os.stat(self.path).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                # What others create there would be removed, and could be a link to elsewhere then.
                raise private.NotPrivate(
                    f"{self.path}: other users may create files there: use a directory for the "
                    "files of runs alone"
                )
            os.scandir(self.path).close()
            self.count()
        except private.NotPrivate as problem:
            raise RunStoreFailed(str(problem)) from None
        except OSError as problem:
            text = f"{self.path}: can't keep files of runs: {problem.strerror}"
            raise RunStoreFailed(text) from problem

    def count(self) -> None:
        """Count the bytes, and remove what was left half-written by a crash."""
        with self._lock:
            before = self._written
        size = 0
        stale = time.time() - STALE
        for place in _places(self.path):
            for one in _files(place.path):
                with contextlib.suppress(FileNotFoundError):
                    found = one.stat(follow_symlinks=False)
                    if one.name.endswith(PART) and found.st_mtime < stale:
                        os.unlink(one.path)
                    else:
                        size += found.st_size
        with self._lock:
            # What was completed meanwhile may have come too late to be found.
            self._complete = size + self._written - before
            self._counted = time.monotonic()

    @property
    def size(self) -> int:
        """The bytes of all files, as far as this service knows. It is too large, but never too
        small, if files were written while they were counted."""
        return self._complete + self._writing

    def _place(self, run: str, nonce: str) -> str:
        name = hashlib.sha256(json.dumps([run, nonce]).encode()).hexdigest()
        return os.path.join(self.path, name)

    # -- keeping ---------------------------------------------------------------------------------

    def keep(self, run: str, nonce: str, blocks: Sequence[Any]) -> list[Reference]:
        """Keep the blocks of a result. They are on the disk when this returns.

        :param nonce: the run's.
        :param blocks: files that are open for reading; they are closed.
        :returns: the references to them, in their order.
        :raises RunFilesFull: there are too many bytes, or the disk is full.
        :raises OSError: they can't be written.
        """
        try:
            return self._keep(run, nonce, blocks)
        finally:
            for one in blocks:
                one.close()

    def _keep(self, run: str, nonce: str, blocks: Sequence[Any]) -> list[Reference]:
        size = sum(one.size for one in blocks)
        if not self._reserve(size):
            # Another service may have removed some.
            with self._counting:
                if time.monotonic() - self._counted >= RECOUNT:
                    self.count()
            if not self._reserve(size):
                text = f"the files of runs have {self.size} bytes of at most {self._most}"
                raise RunFilesFull(f"{text}: there is no room for {size} more")
        new = 0
        try:
            place, new = self._made(run, nonce)
            found = []
            for one in blocks:
                reference, more = _written(one, place)
                found.append(reference)
                new += more
            _sync(place)
            return found
        except OSError as problem:
            raise RunFilesFull(f"{self.path}: {problem.strerror}") from problem
        finally:
            with self._lock:
                self._writing -= size
                self._written += new
                self._complete += new

    def _reserve(self, size: int) -> bool:
        """Count bytes that are to be written, if there is room for them."""
        with self._lock:
            if self.size + size > self._most:
                return False
            self._writing += size
            return True

    def _made(self, run: str, nonce: str) -> tuple[str, int]:
        """The directory of a run, and the bytes that are new there."""
        place = self._place(run, nonce)
        new = 0
        if not os.path.exists(os.path.join(place, OF)):
            with contextlib.suppress(FileExistsError):
                os.mkdir(place, 0o700)
            part = os.path.join(place, f"{OF}-{os.urandom(8).hex()}{PART}")
            with _created(part) as file:
                new = file.write(json.dumps([run, nonce, self.owner]).encode())
                _sync_file(file)
            os.replace(part, os.path.join(place, OF))
            _sync(self.path)
        return place, new

    # -- using -----------------------------------------------------------------------------------

    def blocks(self, run: str, nonce: str, files: Sequence[Reference]) -> list[Binary]:
        """Open kept files, to send them. Each is read before, and compared with its hash.

        :raises RunFileLost: one of them is missing, or has changed.
        """
        place = self._place(run, nonce)
        return [_checked(place, *one) for one in files]

    # -- removing --------------------------------------------------------------------------------

    def runs(self, owners: Collection[str] = ("",)) -> list[tuple[str, str]]:
        """The runs that have a directory: id and nonce. Directories that a crash has left without
        the file that names their run are removed, once nobody writes them any more.

        A directory whose run can't be read now is left as it is: its run may go on.

        :param owners: only those of a store with these marks.
        """
        found = []
        for one in _places(self.path):
            try:
                with open(os.path.join(one.path, OF), "rb") as file:
                    run, nonce, owner = json.load(file)
            except FileNotFoundError:
                with contextlib.suppress(FileNotFoundError):
                    if one.stat(follow_symlinks=False).st_mtime < time.time() - STALE:
                        _remove(one.path)
            except (OSError, ValueError, TypeError, RecursionError) as problem:
                log.error(
                    "{path}: which run it is of is not known: {problem}",
                    path=one.path,
                    problem=problem,
                )
            else:
                if owner in owners and one.path == self._place(run, nonce):
                    found.append((run, nonce))
        return found

    def remove(self, run: str, nonce: str) -> None:
        """Remove all files of a run that is not in the store any more."""
        _remove(self._place(run, nonce))


def check_no_files(tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that no step's blocks are to be kept.

    :raises WorkflowConfigError: some are.
    """
    for name, task in tasks.items():
        if any(step.get("files") for step in all_steps(task["steps"])):
            text = "a step keeps files, and there is no directory for them: set 'files'"
            raise WorkflowConfigError([f"the task {name!r}: {text}"])


async def open_with(
    files: RunFiles | None, store: IRunStore, follower: IRunFollower, threads: IReactorThreads
) -> None:
    """Open the files of runs, and the store of these runs. If one fails, neither stays open."""
    if files is not None:
        await in_thread(threads, files.open)
    await store.open(follower)
    if files is None:
        return
    try:
        owners = _owners(await store.marks())
        if not owners:
            owners = [f"{OWNER}{os.urandom(16).hex()}"]
            await store.mark(owners[0], time.time())
    except BaseException:
        await store.close()
        raise
    files.owner = owners[0]


def _owners(marks: Mapping[str, float]) -> list[str]:
    """Those of a store's marks that are in its directories. They are several if several services
    have begun to use it at the same time."""
    return sorted(one for one in marks if one.startswith(OWNER))


async def sweep(files: RunFiles, store: IRunStore, threads: IReactorThreads) -> bool:
    """Remove the files of runs that are not in the store any more, and count the rest.

    :returns: whether that was done; if not, it is too early after the last time.
    """
    began = time.monotonic()
    if began < files.rests_until:
        return False
    owners = _owners(await store.marks())
    # First the directories: the run of each of them was in the store before it was made.
    found = await in_thread(threads, files.runs, owners)
    for at in range(0, len(found), ROWS):
        some = found[at : at + ROWS]
        # Together: the store reads them in one transaction.
        asked = [store.row(run) for run, _ in some]
        try:
            rows = await defer.gatherResults(asked, consumeErrors=True)
        except defer.FirstError as first:
            first.subFailure.raiseException()
        for (run, nonce), row in zip(some, rows, strict=True):
            kept = None if row is None else WorkflowRun.seen(row)
            if kept is None or (kept.nonce != nonce and not _is_unreadable(kept)):
                await in_thread(threads, files.remove, run, nonce)
    await in_thread(threads, files.count)
    ended = time.monotonic()
    rest = (ended - began) * REST
    files.rests_until = ended + rest if rest > OFTEN else 0.0
    return True


def _is_unreadable(run: WorkflowRun) -> bool:
    """Whether a run can't be read: then nobody knows its nonce."""
    return (run.error or {}).get("code") == UNREADABLE


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
        yield from entries


def _places(path: str) -> Iterator[os.DirEntry[str]]:
    """The directories of runs."""
    for one in _entries(path):
        if _PLACE.fullmatch(one.name) and one.is_dir(follow_symlinks=False):
            yield one


def _files(place: str) -> Iterator[os.DirEntry[str]]:
    """What is in the directory of a run, and was made here."""
    return (one for one in _entries(place) if _FILE.fullmatch(one.name))


def _remove(place: str) -> None:
    """Remove the directory of a run; it stays if there is anything else in it."""
    # The file that names the run goes last: after a crash the directory is found again.
    for one in sorted(_files(place), key=lambda one: one.name == OF):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(one.path)
    with contextlib.suppress(OSError):
        os.rmdir(place)


def _created(path: str) -> Any:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _sync_file(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(directory: str) -> None:
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _written(block: Any, place: str) -> tuple[Reference, int]:
    """Write a block to a run's directory; return its reference, and the number of new bytes."""
    part = os.path.join(place, f"{os.urandom(8).hex()}{PART}")
    try:
        digest = hashlib.sha256()
        size = 0
        block.seek(0)
        with _created(part) as file:
            while data := block.read(PIECE):
                digest.update(data)
                size += len(data)
                file.write(data)
            _sync_file(file)
        path = os.path.join(place, digest.hexdigest())
        there = os.path.exists(path)  # of an earlier attempt of the step, or of another step
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    return (digest.hexdigest(), size, block.filename), 0 if there else size


def _checked(place: str, hash: str, size: int, name: Any) -> Binary:
    path = os.path.join(place, hash)
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while data := file.read(PIECE):
                digest.update(data)
    except OSError as problem:
        raise RunFileLost(f"{path}: it can't be read: {problem.strerror}") from problem
    if digest.hexdigest() != hash:
        raise RunFileLost(f"{path}: its content is not what was kept")
    return Binary(path, name)
