"""Sends a tree from the far side: announces its entries, and serves what is needed of them.

The messages are in docs/protocol.rst, "rsync". It does one thing after the other, and finds no
blocks: that is the near side's work in both directions.
"""

import os
import stat
import struct
import time

from . import names
from .blocks import TreeDigest, block_size, choose_marker, sums
from .compare import SHORT
from .entries import (
    ABORT,
    COPY,
    DELTA,
    DIGEST,
    END,
    HOLE,
    LITERAL,
    PACKED,
    PIECE,
    UNLESS_EQUAL,
    binary,
    numbers_from,
    numbers_of,
)
from .files import digest_of, read_at
from .finish import reason_of
from .nested import place_of
from .packing import Packing
from .patterns import Filter
from .scan import Scan
from .tree import time_of

#: The most lists that were not replied to.
LISTS = 16
#: Files and bytes of a message with short files.
GROUP_FILES, GROUP_BYTES = 128, 262144
#: How often a file that changes while it is read is sent again.
TRIES = 3
#: A short file that has grown up to this size since it was listed is still sent in one piece.
MOST = 1048576
#: Bytes of a file with holes that are a hole if all are zeros.
SPARSE_PIECE = 262144
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
#: Whether an open file's status can be had: Jython's fstat does not take what its open returns.
_FSTAT = hasattr(os, "fstat") and os.name != "java"
#: Seconds; Python 2 has no clock that nobody sets.
_clock = getattr(time, "monotonic", time.time)
CHANGED = "it changed each time while it was read: try again later"


class SendOptions(object):
    """What to send: as :class:`~.scan.Scan` wants it."""

    def __init__(self, options):
        rules = options.get("rules")
        self.filter = Filter(rules) if rules else None
        self.takes = None
        self.links = options["links"]
        self.outside = options["outside"]
        self.hard_links = bool(options.get("hard_links"))
        self.owners = bool(options.get("owners"))


class Sender(object):
    """The sending end.

    :param channel: carries the messages.
    :param data: the raw channel for the content of long files.
    """

    def __init__(self, channel, data, options, flavour=None):
        self._channel = channel
        self._data = data
        self._scan = Scan(options["root"], SendOptions(options), flavour)
        self._packing = Packing(options.get("compress", False))
        self._follows = "copy" in (options["links"], options["outside"])
        #: number of the first -> paths and sizes, for lists that were not replied to
        self._announced = {}
        #: number -> path of what is needed
        self._paths = {}
        self._attempts = {}
        #: why the last try to send a long file has failed, for those that could not be read
        self._reasons = {}

    def run(self):
        """Send all."""
        status = os.stat(self._scan.root)
        if not stat.S_ISDIR(status.st_mode):
            raise OSError(None, "not a directory")
        place = place_of(self._scan.root)
        self._channel.send(["root", status.st_mode & 0o7777, time_of(status), place])
        handlers = {
            "need": self._need,
            "sums": self._sums,
            "parts": lambda message: self._long(message[1], message[2]),
            "again": lambda message: self._again(message[1]),
            "settled": self._settled,
        }
        batches = self._scan.batches()
        ended = False
        while True:
            if not ended and len(self._announced) < LISTS:
                batch = next(batches, None)
                if batch is not None:
                    self._announce(batch)
                else:
                    ended = True
                    self._channel.send(["end", self._scan.clean])
                continue
            message = self._channel.receive()
            if message[0] == "done":
                return
            handlers[message[0]](message)

    def _announce(self, batch):
        paths = batch.paths()
        first = batch.first
        told = [
            [[binary(paths[number - first]), reason] for number, reason in batch.skipped],
            [[binary(paths[number - first]), reason] for number, reason in batch.noted],
            [[binary(path), reason] for path, reason in batch.failed],
        ]
        if any(told):
            self._channel.send(["told"] + told)
        self._announced[first] = paths, batch.sizes
        self._channel.send(batch.message())

    def _settled(self, message):
        for number in numbers_from("Q", message[1]):
            self._paths.pop(number, None)

    def _need(self, message):
        _, first, numbers, kinds, digests = message
        paths, sizes = self._announced.pop(first)
        group = []
        size = at = 0
        wholes = []
        for number, kind in zip(numbers_from("Q", numbers), bytearray(kinds)):
            self._paths[number] = paths[number - first]
            digest = None
            if kind == UNLESS_EQUAL:
                digest = digests[at : at + DIGEST]
                at += DIGEST
            length = sizes[number - first]
            if length > SHORT:
                if kind != DELTA:  # else the other end asks for its sums, or for parts
                    wholes.append(number)
                continue
            group.append((number, digest))
            size += length
            if len(group) >= GROUP_FILES or size >= GROUP_BYTES:
                self._short(group)
                group, size = [], 0
        if group:
            self._short(group)
        for number in wholes:
            self._long(number, None)

    def _unreadable(self, number, reason):
        self._paths.pop(number, None)
        self._channel.send(["unreadable", numbers_of("Q", [number]), [reason]])

    def _again(self, number):
        self._attempts[number] = self._attempts.get(number, 0) + 1
        if self._attempts[number] >= TRIES:
            self._unreadable(number, self._reasons.pop(number, CHANGED))
        else:
            self._long(number, None)

    def _whole_path(self, number):
        return self._scan.path(self._paths[number])

    def _open(self, path):
        """Open a regular file; return its descriptor and its status."""
        flags = _FLAGS if self._follows else _FLAGS | getattr(os, "O_NOFOLLOW", 0)
        before = None if _FSTAT else self._status(None, path)
        descriptor = os.open(path, flags)
        try:
            status = self._status(descriptor, path)
            if before is not None and _print_of(before) != _print_of(status):
                raise OSError(None, CHANGED)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(None, "not a regular file any more")
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, status

    def _status(self, descriptor, path):
        """The status of the file that was opened, whatever has its path by now."""
        if _FSTAT:
            return os.fstat(descriptor)
        return os.stat(path) if self._follows else os.lstat(path)

    def _short(self, group):
        """Send short files, in one message."""
        found, contents, times, modes, equal = [], [], [], [], []
        for number, digest in group:
            try:
                data, status = self._read(self._whole_path(number))
            except (OSError, IOError) as error:
                self._unreadable(number, reason_of(error))
                continue
            if digest is not None and digest_of(data) == bytes(digest):
                equal.append(number)
                continue
            found.append(number)
            contents.append(data)
            times.append(time_of(status))
            modes.append(status.st_mode & 0o7777)
        if equal:
            self._channel.send(["equal", numbers_of("Q", equal)])
        if found:
            content = b"".join(contents)
            packed = self._pack(content)
            self._channel.send(
                [
                    "short",
                    numbers_of("Q", found),
                    numbers_of("I", [len(data) for data in contents]),
                    numbers_of("q", times),
                    numbers_of("I", modes),
                    binary(content if packed is None else packed),
                    0 if packed is None else len(content),
                ]
            )

    def _read(self, path):
        """One whole state of a short file, and its status."""
        descriptor, status = self._open(path)
        try:
            read = read_at(descriptor)
            for _ in range(TRIES):
                if status.st_size > MOST:
                    raise OSError(None, "it grew meanwhile: try again")
                data = read(0, status.st_size + 1)
                after = self._status(descriptor, path)
                if _print_of(after) == _print_of(status) and len(data) == status.st_size:
                    return data, status
                status = after
        finally:
            os.close(descriptor)
        raise OSError(None, CHANGED)

    def _sums(self, message):
        """Send the sums of a long file's blocks."""
        number = message[1]
        size, block, marker = 0, 0, b""
        try:
            descriptor, status = self._open(self._whole_path(number))
        except (OSError, IOError) as error:
            self._unreadable(number, reason_of(error))
            return
        try:
            size = status.st_size
            block = block_size(size)
            read = read_at(descriptor)
            marker = choose_marker(read, size, block)
            for part in sums(read, size, block, marker):
                self._send_sums(number, size, block, marker, part, False)
        except (OSError, IOError):
            pass  # then it is sent whole, and fails
        finally:
            os.close(descriptor)
        self._send_sums(number, size, block, marker, b"", True)

    def _send_sums(self, number, size, block, marker, part, complete):
        self._channel.send(["sums", number, size, block, binary(marker), binary(part), complete])

    def _long(self, number, parts):
        """Send a long file.

        :param parts: offset and size, one after the other, of what the other end has of it; None:
            nothing.
        """
        path = self._whole_path(number)
        try:
            descriptor, status = self._open(path)
        except (OSError, IOError) as error:
            self._unreadable(number, reason_of(error))
            return
        try:
            size = status.st_size
            block = block_size(size)
            is_sparse = getattr(status, "st_blocks", size) * 512 < size
            mode = status.st_mode & 0o7777
            self._channel.send(["long", number, block, time_of(status), mode, is_sparse])
            read = read_at(descriptor)
            digest = None
            try:
                found = self._content(read, size, parts, block, is_sparse)
                after = self._status(descriptor, path)
                is_as_before = _print_of(after) == _print_of(status)
                # A log that only grows is whole up to where it ended. So it is read once more.
                if is_as_before or (
                    after.st_size >= size
                    and _digest_again(read, size, parts, block, is_sparse) == found
                ):
                    digest = found
                self._reasons.pop(number, None)
            except (OSError, IOError) as error:
                self._reasons[number] = reason_of(error)
            self._data.send(ABORT if digest is None else END + digest)
        finally:
            os.close(descriptor)

    def _pack(self, data):
        """Compress content; None if it is to be sent as it is."""
        return self._packing.pack(data) if self._packing.wants(len(data)) else None

    def _literal(self, data):
        """Send content, compressed if that is faster."""
        packed = self._pack(data)
        if packed is None:
            data = LITERAL + struct.pack(">I", len(data)) + data
        else:
            data = PACKED + struct.pack(">II", len(packed), len(data)) + packed
        began = _clock()
        self._data.send(data)  # waits until there is room for it
        self._packing.measure(len(data), _clock() - began)

    def _content(self, read, size, parts, block, is_sparse):
        """Send a file's content; return its digest."""
        digest = TreeDigest(block)
        for piece in _pieces(read, size, parts, digest, is_sparse):
            if isinstance(piece, tuple):
                self._data.send(COPY + struct.pack(">QQ", *piece))
            elif is_sparse and not piece.strip(b"\0"):
                self._data.send(HOLE + struct.pack(">Q", len(piece)))
            else:
                self._literal(piece)
        return digest.digest()


def _pieces(read, size, parts, digest, is_sparse):
    """Yield the pieces of a file: content, or offset and size of what the other end has.

    :param parts: as that of ``Sender._long``.
    :param digest: gets the content.
    """
    numbers = numbers_from("Q", parts) if parts else ()
    most = SPARSE_PIECE if is_sparse else PIECE
    at = 0
    for offset, length in list(zip(numbers[::2], numbers[1::2])) + [(size, 0)]:
        while at < offset:
            data = _exactly(read, at, min(most, offset - at))
            digest.update(data)
            digest.cut()
            at += len(data)
            yield data
        if length:
            yield offset, length
            end = offset + length
            while at < end:
                data = _exactly(read, at, min(PIECE, end - at))
                digest.update(data)
                at += len(data)
            digest.cut()


def _digest_again(read, size, parts, block, is_sparse):
    """The digest of a file's content, in the same pieces."""
    digest = TreeDigest(block)
    for _ in _pieces(read, size, parts, digest, is_sparse):
        pass
    return digest.digest()


def _exactly(read, offset, size):
    data = read(offset, size)
    if len(data) < size:
        raise OSError(None, "it became shorter while it was read")
    return data


def _print_of(status):
    """What changes with a file."""
    return status.st_size, time_of(status), status.st_ctime, status.st_ino


def send(channel, data, options):
    """Send a tree from the far side."""
    try:
        Sender(channel, data, options).run()
    except (OSError, IOError, names.NameRefused) as error:
        channel.send(["stopped", reason_of(error)])
