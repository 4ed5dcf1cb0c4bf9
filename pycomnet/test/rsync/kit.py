"""What the tests of rsync share: a sending end without a gateway, trees, and a Windows."""

from __future__ import annotations

import errno
import ntpath
import os
import posixpath
import stat
import struct
from collections import deque
from types import SimpleNamespace
from typing import Any

from pycomnet.far.rsync import names
from pycomnet.far.rsync.blocks import TreeDigest, block_size
from pycomnet.far.rsync.compare import SHORT
from pycomnet.far.rsync.entries import (
    COPY,
    DELTA,
    DIGEST,
    END,
    LITERAL,
    PIECE,
    UNLESS_EQUAL,
    numbers_from,
    numbers_of,
)
from pycomnet.far.rsync.files import digest_of
from pycomnet.far.rsync.nested import place_of
from pycomnet.far.rsync.receive import Receiver
from pycomnet.far.rsync.scan import Batch, Scan
from pycomnet.far.rsync.tree import time_of
from pycomnet.rsync.matching import Copy, Literal, Matcher, Sums
from pycomnet.rsync.options import SyncOptions, make_options


def tree_of(root: str | bytes) -> dict[bytes, tuple[Any, ...]]:
    """What is in a tree: path -> kind, mode, time, content or text, and the file's first name."""
    root = os.fsencode(root)
    found: dict[bytes, tuple[Any, ...]] = {}
    first: dict[tuple[int, int], bytes] = {}
    for directory, directories, files in os.walk(root):
        for name in sorted(directories) + sorted(files):
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, root)
            status = os.lstat(path)
            kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
            if stat.S_ISLNK(status.st_mode):
                owner = status.st_uid, status.st_gid
                found[relative] = ("link", os.readlink(path), status.st_mtime_ns, *owner)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
                other = first.setdefault((status.st_dev, status.st_ino), relative)
                found[relative] = ("file", mode, status.st_mtime_ns, content, other)
            elif stat.S_ISDIR(status.st_mode):
                found[relative] = ("directory", mode, status.st_mtime_ns)
            else:
                found[relative] = (kind,)
    return found


def write(path: str | bytes, content: bytes = b"", time: int | None = None) -> None:
    """Write a file, with its directories."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
    if time is not None:
        os.utime(path, ns=(time, time))


class CutOff(EOFError):
    """The connection is lost."""


class Sender:
    """The sending end of one run, without a gateway: it runs in turns with the receiver.

    :param cut: bytes of raw content after which the connection is lost.
    :param lists_first: after so many lists what was asked for is sent before the next one; None:
        all lists are sent first.
    :ivar outcome: kind -> paths: ``sent``, ``made``, ``changed``, ``equal``, ``deleted``; for
        ``failed``, ``skipped`` and ``noted`` a dict of paths to reasons.
    :ivar literal: bytes of content that were sent.
    """

    def __init__(
        self,
        source: str | bytes,
        cut: int | None = None,
        scan: Any = None,
        lists_first: int | None = None,
        **options: Any,
    ) -> None:
        self.options: SyncOptions = make_options(**options)
        self.scan = scan or Scan(os.fsencode(source), self.options)
        self.raw = RawSide(cut)
        self.literal = 0
        self.done = False
        self.outcome: dict[str, Any] = {
            "sent": [],
            "made": [],
            "changed": [],
            "equal": [],
            "deleted": [],
            "failed": {},
            "skipped": {},
            "noted": {},
        }
        self._lists_first = lists_first
        self._lists: deque[list[Any]] = deque()
        self._messages: deque[list[Any]] = deque()
        self._batches: list[Batch] = []
        self._sums: dict[int, Sums] = {}

    def run(
        self, destination: str | bytes, flavour: Any = None, system: Any = os
    ) -> dict[str, Any]:
        """Send it all to a receiver here."""
        for batch in self.scan.batches():
            self._batches.append(batch)
            self._lists.append(batch.message())
            for number, reason in batch.skipped:
                self.outcome["skipped"][self._path(number)] = reason
            for number, reason in batch.noted:
                self.outcome["noted"][self._path(number)] = reason
            for path, reason in batch.failed:
                self.outcome["failed"][path] = reason
        self._lists.append(["end", self.scan.clean])
        status = os.stat(self.scan.root)
        options = {
            "root": os.fsencode(destination),
            "mode": status.st_mode & 0o7777,
            "time": time_of(status),
            "place": place_of(self.scan.root),
            "rules": self.options.rules,
            "delete": self.options.delete,
            "dry_run": self.options.dry_run,
            "checksum": self.options.checksum,
            "owners": self.options.owners,
        }
        Receiver(self, self.raw, options, flavour, system).run()
        assert self.done
        return self.outcome

    def _path(self, number: int) -> bytes:
        batch = next(b for b in self._batches if b.first <= number < b.end)
        return batch.paths()[number - batch.first]

    def _read(self, number: int) -> tuple[bytes, os.stat_result]:
        path = os.path.join(self.scan.root, self._path(number))
        with open(path, "rb") as file:
            return file.read(), os.fstat(file.fileno())

    # -- as the receiver's channel ---------------------------------------------------------------

    def receive(self) -> list[Any]:
        """The next message to the receiver."""
        if self._lists and (self._lists_first != 0 or not self._messages):
            if self._lists_first:
                self._lists_first -= 1
            return self._lists.popleft()
        if not self._messages:
            raise CutOff("nothing more comes")
        return self._messages.popleft()

    def send(self, message: list[Any]) -> None:
        """A message of the receiver."""
        kind, *rest = message
        getattr(self, f"_got_{kind}")(*rest)

    def _got_need(
        self, first: int, count: int, numbers: bytes, kinds: bytes, digests: bytes,
        done: bytes, what: bytes,
    ) -> None:  # fmt: skip
        for number, each in zip(numbers_from("Q", done), what, strict=True):
            self.outcome["made" if each == 1 else "changed"].append(self._path(number))
        at = 0
        for number, each in zip(numbers_from("Q", numbers), kinds, strict=True):
            digest = b""
            if each == UNLESS_EQUAL:
                digest = digests[at : at + DIGEST]
                at += DIGEST
            if self.options.dry_run:
                self.outcome["sent"].append(self._path(number))
            elif each == DELTA:
                self._messages.append(["sums", number])
            else:
                self._content(number, digest)

    def _content(self, number: int, digest: bytes = b"") -> None:
        try:
            data, status = self._read(number)
        except OSError as problem:
            self.outcome["failed"][self._path(number)] = problem.strerror
            self._messages.append(["unreadable", numbers_of("Q", [number])])
            return
        if digest and digest_of(data) == digest:
            self._messages.append(["equal", numbers_of("Q", [number])])
            return
        self.literal += len(data)
        mode, time = status.st_mode & 0o7777, time_of(status)
        if len(data) <= SHORT:
            self._messages.append([
                "short", numbers_of("Q", [number]), numbers_of("I", [len(data)]),
                numbers_of("q", [time]), numbers_of("I", [mode]), data, 0,
            ])  # fmt: skip
            return
        block = block_size(len(data))
        tree = TreeDigest(block)
        self._messages.append(["long", number, block, time, mode, False])
        for at in range(0, len(data), PIECE):
            piece = data[at : at + PIECE]
            tree.update(piece)
            tree.cut()
            self.raw.put(LITERAL + struct.pack(">I", len(piece)) + piece)
        self.raw.put(END + tree.digest())

    def _got_sums(
        self, number: int, size: int, block: int, marker: bytes, part: bytes, complete: bool
    ) -> None:
        if not block:
            self._content(number)
            return
        sums = self._sums.setdefault(number, Sums(size, block, marker))
        sums.add(part)
        sums.complete = complete
        if not complete:
            return
        data, status = self._read(number)
        matcher = Matcher(lambda offset, most: data[offset : offset + most], len(data), sums)
        mode, time = status.st_mode & 0o7777, status.st_mtime_ns
        self._messages.append(["long", number, block, time, mode, False])
        for step in matcher.steps():
            if isinstance(step, Literal):
                self.literal += len(step.data)
                self.raw.put(LITERAL + struct.pack(">I", len(step.data)) + step.data)
            elif isinstance(step, Copy):
                self.raw.put(COPY + struct.pack(">QQ", step.offset, step.size))
        self.raw.put(END + matcher.digest)

    def _got_written(self, numbers: bytes) -> None:
        self.outcome["sent"] += map(self._path, numbers_from("Q", numbers))

    def _got_same(self, numbers: bytes) -> None:
        self.outcome["equal"] += map(self._path, numbers_from("Q", numbers))

    def _got_failed(self, failures: list[Any]) -> None:
        for which, reason in failures:
            path = which if isinstance(which, bytes) else self._path(which)
            self.outcome["failed"][path] = reason

    def _got_deleted(self, paths: list[bytes]) -> None:
        self.outcome["deleted"] += paths

    def _got_again(self, number: int, reason: str) -> None:
        self._content(number)

    def _got_done(self) -> None:
        self.done = True


class RawSide:
    """The raw channel to the receiver."""

    def __init__(self, cut: int | None = None) -> None:
        self._pieces: deque[bytes] = deque()
        self._left = cut

    def put(self, data: bytes) -> None:
        """Send bytes."""
        self._pieces.extend(data[at : at + 65536] for at in range(0, len(data), 65536))

    def receive(self) -> bytes:
        """The next bytes."""
        piece = self._pieces.popleft()
        if self._left is not None:
            self._left -= len(piece)
            if self._left < 0:
                raise CutOff("the connection is lost")
        return piece


def sync(source: Any, destination: Any, **options: Any) -> dict[str, Any]:
    """Send a tree here, and return what was done."""
    return Sender(source, **options).run(destination)


class WindowsError314(OSError):
    """As an OSError of Windows."""

    def __init__(self, code: int, winerror: int, text: str) -> None:
        super().__init__(code, text)
        self.winerror = winerror


class FakeWindows:
    """The ``os`` of a Windows whose files are in a directory here.

    Names fold case, some can't be had, paths have backslashes and up to 260 characters unless they
    have the prefix; links need a privilege; there are junctions.

    :param root: the directory here that ``C:\\`` is.
    :ivar may_link: whether the user has the privilege.
    :ivar has_tags: whether the Python tells the kind of a reparse point, as from 3.8 on.
    :ivar junctions: the paths here that are junctions: directories that are links here.
    """

    O_RDONLY, O_RDWR, O_CREAT, O_EXCL = os.O_RDONLY, os.O_RDWR, os.O_CREAT, os.O_EXCL
    REFUSED = '<>:"|?*'

    def __init__(self, root: str, may_link: bool = True) -> None:
        self._root = root
        self.may_link = may_link
        self.junctions: set[str] = set()
        self.has_tags = True
        self.supports_follow_symlinks: set[Any] = set()
        self.path = SimpleNamespace(
            join=ntpath.join,
            abspath=ntpath.normpath,
            expanduser=lambda path: path,
            isdir=lambda path: self._is(posixpath.isdir, path),
            lexists=lambda path: self._is(posixpath.lexists, path),
        )

    def _is(self, test: Any, path: str) -> bool:
        try:
            return bool(test(self.here(path)))
        except OSError:
            return False

    def here(self, path: str) -> str:
        """The path here of one there."""
        if path.startswith("\\\\?\\"):
            path = path[4:]
        elif len(path) > 260:
            raise OSError(errno.ENOENT, "the path is too long")
        drive, rest = ntpath.splitdrive(path)
        assert drive == "C:", path
        found = self._root
        for name in rest.split("\\"):
            if not name:
                continue
            if set(name) & set(self.REFUSED) or name[-1] in ". " or len(name) > 255:
                raise OSError(errno.EINVAL, "the name is invalid")
            if ntpath.splitext(name)[0].upper() in ("NUL", "CON", "AUX", "PRN"):
                raise OSError(errno.EINVAL, "that is a device")
            there = os.listdir(found) if os.path.isdir(found) else []
            same = [each for each in there if each.lower() == name.lower()]
            found = posixpath.join(found, same[0] if same else name)
        return found

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        return os.open(self.here(path), flags, mode)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(self.here(path))

    def stat(self, path: str) -> os.stat_result:
        return os.stat(self.here(path))

    def lstat(self, path: str) -> Any:
        here = self.here(path)
        status = os.lstat(here)
        if here in self.junctions:
            target = os.stat(here)
            found = SimpleNamespace(
                st_mode=target.st_mode, st_file_attributes=names.NT_REPARSE_POINT | 0x10,
                st_dev=status.st_dev, st_ino=status.st_ino, st_mtime_ns=status.st_mtime_ns,
                st_size=0,
            )  # fmt: skip
            if self.has_tags:
                found.st_reparse_tag = names.NT_JUNCTION
            return found
        return status

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(self.here(path), mode)

    def makedirs(self, path: str) -> None:
        os.makedirs(self.here(path))

    def symlink(self, text: str, path: str, is_directory: bool = False) -> None:
        if not self.may_link:
            raise WindowsError314(errno.EINVAL, 1314, "A required privilege is not held")
        os.symlink(text, self.here(path))

    def readlink(self, path: str) -> str:
        text = os.readlink(self.here(path))
        return text if not ntpath.isabs(text) else "\\\\?\\" + text

    def replace(self, path: str, other: str) -> None:
        self._check_writable(other)
        os.replace(self.here(path), self.here(other))

    def _check_writable(self, path: str) -> None:
        here = self.here(path)
        if os.path.isfile(here) and not os.stat(here).st_mode & 0o200:
            raise PermissionError(errno.EACCES, "Access is denied")

    rename = replace

    def remove(self, path: str) -> None:
        self._check_writable(path)
        os.remove(self.here(path))

    def rmdir(self, path: str) -> None:
        here = self.here(path)
        if here in self.junctions:
            self.junctions.discard(here)
            os.remove(here)  # the junction itself
        else:
            os.rmdir(here)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.here(path), mode | 0o400)

    def utime(self, path: str, ns: tuple[int, int], follow_symlinks: bool = True) -> None:
        # NTFS has hundreds of nanoseconds.
        time = ns[1] // 100 * 100
        os.utime(self.here(path), ns=(time, time), follow_symlinks=follow_symlinks)
