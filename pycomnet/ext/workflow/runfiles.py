"""The files of runs: blocks of binary data that steps returned.

Each run has a directory, which is named by the SHA-256 of the run's id and nonce. It has a file for
each block, named by the SHA-256 of its content, and a file ``run`` that says which run it is. A
block is complete and on the disk before the record that refers to it is committed. So a crash can
leave a file to which no record refers, and never a record without its file. All files of a run are
removed together, after the run itself.

All methods of ``RunFiles`` block: they are called in threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

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

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorThreads

    from pycomnet.interfaces import IRunStore

#: The most bytes of the files of all runs, if the configuration does not say.
MOST_FILES = 10 << 30
#: Bytes that are copied at a time.
PIECE = 1 << 20
#: Seconds after which what no run has, and nobody writes any more, is removed.
STALE = 3_600.0
#: The name of the file that says which run a directory is of; and the end of the names of files
#: that are being written.
OF, PART = "run", ".part"

#: What a step's record has of a file: its SHA-256 as hex digits, its size in bytes, and the name
#: that the service gave it, or None.
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
        self._most = most
        #: the bytes of complete files, and of those that are being written
        self._complete = self._writing = 0
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the directory, and count what is in it.

        :raises RunStoreFailed: it can't be used.
        """
        try:
            private.check_directory(os.path.dirname(os.path.abspath(self.path)))
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
            private.check_directory(self.path)
            os.scandir(self.path).close()
            self.count()
        except private.NotPrivate as problem:
            raise RunStoreFailed(str(problem)) from None
        except OSError as problem:
            text = f"{self.path}: can't keep files of runs: {problem.strerror}"
            raise RunStoreFailed(text) from problem

    def count(self) -> None:
        """Count the bytes, and remove what was left half-written by a crash."""
        size = 0
        stale = time.time() - STALE
        for place in _entries(self.path):
            for one in _entries(place.path):
                with contextlib.suppress(FileNotFoundError):
                    found = one.stat(follow_symlinks=False)
                    if one.name.endswith(PART) and found.st_mtime < stale:
                        os.unlink(one.path)
                    else:
                        size += found.st_size
        with self._lock:
            self._complete = size

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
        size = sum(one.size for one in blocks)
        with self._lock:
            if self.size + size > self._most:
                text = f"the files of runs have {self.size} bytes of at most {self._most}"
                raise RunFilesFull(f"{text}: there is no room for {size} more")
            self._writing += size
        new = 0
        try:
            place = self._made(run, nonce)
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
                self._complete += new
            for one in blocks:
                one.close()

    def _made(self, run: str, nonce: str) -> str:
        """The directory of a run."""
        place = self._place(run, nonce)
        if not os.path.exists(os.path.join(place, OF)):
            with contextlib.suppress(FileExistsError):
                os.mkdir(place, 0o700)
            part = os.path.join(place, f"{OF}-{os.urandom(8).hex()}{PART}")
            with _created(part) as file:
                file.write(json.dumps([run, nonce]).encode())
                _sync_file(file)
            os.replace(part, os.path.join(place, OF))
            _sync(self.path)
        return place

    # -- using -----------------------------------------------------------------------------------

    def blocks(self, run: str, nonce: str, files: Sequence[Reference]) -> list[Binary]:
        """Kept files, to be sent. Each is read once before, and compared with its hash.

        :raises RunFileLost: one of them is not there any more, or is not what was kept.
        """
        place = self._place(run, nonce)
        return [_checked(place, *one) for one in files]

    # -- removing --------------------------------------------------------------------------------

    def runs(self) -> list[tuple[str, str]]:
        """The runs that have a directory: id and nonce. Directories that are of none are removed,
        once nobody writes them any more."""
        found = []
        for one in _entries(self.path):
            try:
                with open(os.path.join(one.path, OF), "rb") as file:
                    run, nonce = json.load(file)
            except (OSError, ValueError, TypeError):
                with contextlib.suppress(FileNotFoundError):
                    if one.stat().st_mtime < time.time() - STALE:
                        shutil.rmtree(one.path, ignore_errors=True)
            else:
                if one.path == self._place(run, nonce):
                    found.append((run, nonce))
        return found

    def remove(self, run: str, nonce: str) -> None:
        """Remove all files of a run that is not in the store any more."""
        # The file that says which run it is goes last: what a crash leaves is found again.
        place = self._place(run, nonce)
        for one in _entries(place):
            if one.name != OF:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(one.path)
        shutil.rmtree(place, ignore_errors=True)


def check_no_files(tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that no step's blocks are to be kept.

    :raises WorkflowConfigError: some are.
    """
    for name, task in tasks.items():
        if any(step.get("files") for step in all_steps(task["steps"])):
            text = "a step keeps files, and there is no directory for them: set 'files'"
            raise WorkflowConfigError([f"the task {name!r}: {text}"])


async def sweep(files: RunFiles, store: IRunStore, threads: IReactorThreads) -> None:
    """Remove the files of runs that are not in the store any more, and count the rest."""
    # First the directories: the run of each of them was in the store before it was made.
    for run, nonce in await in_thread(threads, files.runs):
        row = await store.row(run)
        found = None if row is None else WorkflowRun.seen(row)
        if found is None or (found.nonce != nonce and not _is_unreadable(found)):
            await in_thread(threads, files.remove, run, nonce)
    await in_thread(threads, files.count)


def _is_unreadable(run: WorkflowRun) -> bool:
    """Whether a run can't be read: then nobody knows its nonce."""
    return (run.error or {}).get("code") == UNREADABLE


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
        yield from entries


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
    """Write a block to a run's directory: the reference, and the bytes that are new there."""
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


__all__ = ["MOST_FILES", "Reference", "RunFiles", "WithFiles", "check_no_files", "sweep"]
