"""Blocks of binary data at both ends: what is sent, and the file that arrives."""

from __future__ import annotations

import io
import os
import tempfile
import weakref
from typing import Any, Protocol

import attrs

from pycomnet.ranges import check_fields

#: Bytes of a block that are kept in memory; a longer one goes to a file.
IN_MEMORY = 1 << 18


@attrs.frozen(kw_only=True)
class BlockLimits:
    """A receiver's limits on a call's blocks.

    :ivar block: bytes of one block.
    :ivar total: bytes of all blocks of a call together.
    :ivar count: the number of blocks.
    :ivar directory: where blocks are kept that are too long for memory; by default the system's
        directory for temporary files.
    """

    block: int = 4 << 30
    total: int = 8 << 30
    count: int = 16

    directory: str | None = None

    def __attrs_post_init__(self) -> None:
        check_fields(self)


class SupportsRead(Protocol):
    """The least that a file must have."""

    def read(self, size: int, /) -> Any:
        """Up to ``size`` bytes; none at the end."""


class Binary:
    """A block of binary data to be sent beside a call's arguments, or beside its result.

    It is read while it is sent, as fast as the receiver takes it, whatever its length.

    :param source: a path; bytes; or a file that is open for reading bytes. A file is sent from its
        current position, or from its beginning if that is its end, as after writing it. Its reads
        run in the reactor's thread pool, one at a time. It is not closed.
    :param name: the name that the receiver gets; by default a path's last part.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview | SupportsRead,
        name: str | None = None,
    ) -> None:
        self.data: bytes | None = None
        self._path: str | None = None
        self._file: Any = None
        self._start: int | None = None
        if isinstance(source, (bytes, bytearray, memoryview)):
            self.data = bytes(source)
        elif isinstance(source, (str, os.PathLike)):
            self._path = os.fspath(source)
            name = os.path.basename(self._path) if name is None else name
        elif hasattr(source, "read"):
            if isinstance(source, io.TextIOBase):
                raise TypeError("a block of binary data is read from a file opened with mode 'rb'")
            if isinstance(source, (io.BufferedWriter, io.FileIO)) and not source.readable():
                raise TypeError(
                    "this file is open for writing only: open it with mode 'w+b', or give its path"
                )
            self._file = source
        else:
            kind = type(source).__name__
            raise TypeError(f"Binary takes a path, bytes or a file, not {kind}")
        self.name = name

    def __repr__(self) -> str:
        what = self._path or ("bytes" if self.data is not None else self._file)
        return f"<Binary {self.name or ''} of {what}>"

    def open(self) -> tuple[Any, int | None]:
        """A file to read it from, and its length in bytes, if that is known.

        A second time, it begins where it began the first time.

        :raises OSError: there is no such file, or it can't be read or not again.
        """
        if self._path is not None:
            opened = open(self._path, "rb", buffering=0)  # noqa: SIM115 - the caller closes it
            return opened, os.fstat(opened.fileno()).st_size
        file = self._file
        try:
            first = self._start is None
            if first:
                self._start = file.tell()
            end = file.seek(0, os.SEEK_END)
            if first and self._start >= end:
                self._start = 0  # it was just written: send it from its start
            file.seek(self._start)
        except (OSError, AttributeError, io.UnsupportedOperation):
            if self._start is not None:
                raise
            return file, None  # a pipe, for example: it can be read only once
        return file, end - self._start

    def close(self, file: Any) -> None:
        """Close what :meth:`open` gave, unless it is the user's."""
        if file is not self._file:
            file.close()


class ReceivedFile:
    """A block of binary data that arrived: a file that is open for reading (and writing).

    It is in memory if it is small. It is gone when it is closed, or when nobody holds it any more.
    A longer one is in a file without a name until ``name`` is read. Until then, even a crash leaves
    nothing behind.

    :ivar filename: the name that the sender gave it, or None. Don't use it as a path.
    :ivar size: its length in bytes.
    """

    def __init__(self, filename: str | None = None, directory: str | None = None) -> None:
        self.filename = filename
        self.size = 0
        self._directory = directory
        self._file: Any = io.BytesIO()
        self._name: str | None = None
        self._finalizer: Any = None

    def __repr__(self) -> str:
        return f"<ReceivedFile {self.filename or ''} of {self.size} bytes>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> ReceivedFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    @property
    def in_memory(self) -> bool:
        """Whether it is in no file."""
        return isinstance(self._file, io.BytesIO)

    @property
    def name(self) -> str:
        """The path of a file with the block, for others to open; it is removed with the block."""
        if self._name is None:
            position = self._file.tell()
            if self.in_memory:
                self.spill()
            self._file.flush()
            self._name = self._give_name()
            self._file.seek(position)
        return self._name

    def _give_name(self) -> str:
        directory = self._directory or tempfile.gettempdir()
        named = getattr(self._file, "name", None)
        if isinstance(named, str):  # a named temporary file, which is removed when it is closed
            return named
        while True:
            path = os.path.join(directory, f"pycomnet-{os.urandom(8).hex()}")
            there = os.open(directory, os.O_RDONLY)
            try:
                # These paths need no directory descriptor. But without one Python would make a
                # link to the symbolic link in /proc.
                os.link(f"/proc/self/fd/{self._file.fileno()}", path, src_dir_fd=there)
            except FileExistsError:
                continue
            finally:
                os.close(there)
            self._finalizer = weakref.finalize(self, _remove, path)
            return path

    def spill(self) -> None:
        """Move the content from memory to a file."""
        if self.in_memory:
            held: io.BytesIO = self._file
            position = held.tell()
            self._file = _unnamed_file(self._directory)
            self._file.write(held.getvalue())
            self._file.seek(position)

    def close(self) -> None:
        """Close the file. It is removed, unless its user has moved it."""
        self._file.close()
        if self._finalizer is not None:
            self._finalizer()


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # its user has moved it


def _unnamed_file(directory: str | None) -> Any:
    """Make a file without a name, if the system supports it, so that no file can be left behind."""
    flags = getattr(os, "O_TMPFILE", None)
    if flags is not None and os.path.isdir("/proc/self/fd"):
        try:
            fd = os.open(
                directory or tempfile.gettempdir(), flags | os.O_RDWR | os.O_CLOEXEC, 0o600
            )
        except OSError:
            if not os.path.isdir(directory or tempfile.gettempdir()):
                raise  # otherwise this file system does not support it
        else:
            return os.fdopen(fd, "w+b")
    return tempfile.NamedTemporaryFile(prefix="pycomnet-", dir=directory)
