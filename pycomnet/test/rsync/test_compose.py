"""Long files that are put together from what comes and from an old file."""

from __future__ import annotations

import errno
import os
import random
import struct
import time
import zlib
from collections.abc import Iterable
from tempfile import TemporaryFile
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.rsync import compose
from pycomnet.far.rsync.blocks import TreeDigest, sums
from pycomnet.far.rsync.compose import UNPACKED, Basis, Composer, ContentRefused, Pieces, unpack
from pycomnet.far.rsync.entries import COPY, END, HOLE, LITERAL
from pycomnet.far.rsync.files import read_at
from pycomnet.far.rsync.oldfiles import OldFiles

BLOCK = 4096
OLD = random.Random(1).randbytes(20 * BLOCK + 100)


def copy(offset: int, size: int) -> bytes:
    """The piece that takes bytes of the old file."""
    return COPY + struct.pack(">QQ", offset, size)


def literal(data: bytes) -> bytes:
    """The piece that has bytes itself."""
    return LITERAL + struct.pack(">I", len(data)) + data


class Bytes:
    """A raw channel with one message in it."""

    def __init__(self, data: bytes) -> None:
        self._left = [data]

    def receive(self) -> bytes:
        return self._left.pop()


class ComposerTests(SynchronousTestCase):
    """A new file, from an old one whose sums were sent."""

    def setUp(self) -> None:
        self.young = compose.YOUNG
        self.patch(compose, "YOUNG", -1)  # it was written long ago
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            file.write(OLD)
        descriptor = os.open(self.path, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        plain = read_at(descriptor)
        #: what was read of the old file, once its sums had been sent
        self.read: list[tuple[int, int]] = []

        def read(offset: int, size: int) -> bytes:
            self.read.append((offset, size))
            return plain(offset, size)

        self.descriptor, self.reader = descriptor, read
        self.old = OldFiles([(len(OLD), descriptor)])
        self.basis = Basis(read, self.old)
        for _ in sums(plain, len(OLD), BLOCK, b"\n", self.basis.digests):
            pass

    def compose(self, pieces: Iterable[bytes], content: bytes) -> bytes:
        """Put a file together; its digest is that of ``content``, cut as the pieces are."""
        digest = TreeDigest(BLOCK)
        pieces = list(pieces)
        at = 0
        for piece in pieces:
            form = ">xQQ" if piece[:1] == COPY else ">xI"
            size = struct.unpack_from(form, piece)[-1]
            digest.update(content[at : at + size])
            digest.cut()
            at += size
        data = b"".join([*pieces, END + digest.digest()])
        path = self.mktemp()
        output = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            Composer(Pieces(Bytes(data)), output, self.basis, BLOCK).run()
        finally:
            os.close(output)
        with open(path, "rb") as file:
            return file.read()

    def changed(self) -> tuple[list[bytes], bytes]:
        """A file with two bytes changed: its pieces and its content."""
        at = 7 * BLOCK
        new = OLD[: at + 10] + b"!!" + OLD[at + 12 :]
        rest = at + BLOCK
        pieces = [copy(0, at), literal(new[at:rest]), copy(rest, len(OLD) - rest)]
        return pieces, new

    def test_blocks_at_their_place_are_not_read_again(self) -> None:
        """Of a file in which bytes were changed, only the old end that is no block is read."""
        pieces, new = self.changed()
        self.assertEqual(self.compose(pieces, new), new)
        self.assertEqual(self.read, [(20 * BLOCK, 100)])

    def test_moved_blocks_are_not_hashed_again(self) -> None:
        """Wherever blocks have moved to, they were hashed for their sums, and that is enough."""
        new = b"x" + OLD[7 * BLOCK :] + b"yz" + OLD[: 7 * BLOCK]
        pieces = [
            literal(b"x"),
            copy(7 * BLOCK, len(OLD) - 7 * BLOCK),
            literal(b"yz"),
            copy(0, 7 * BLOCK),
        ]
        hashed: list[int] = []
        update = TreeDigest.update

        def counted(digest: TreeDigest, data: bytes) -> None:
            hashed.append(len(data))
            update(digest, data)

        with mock.patch.object(TreeDigest, "update", counted):
            self.assertEqual(self.compose(pieces, new), new)
        at = hashed.index(7 * BLOCK)  # the test's own digest ends with this
        self.assertEqual(hashed[at + 1 :], [1, 100, 2])

    def test_disk_that_fills_in_a_moved_block(self) -> None:
        """What was written in part is gone on with; if that can't be, it is an error."""
        new = b"x" + OLD[: 3 * BLOCK]
        pieces = [literal(b"x"), copy(0, 3 * BLOCK)]
        write = os.write
        for is_full in (False, True):
            left = [1, BLOCK + 10]

            def in_parts(descriptor: int, data: bytes) -> int:
                if left:  # noqa: B023
                    return write(descriptor, data[: left.pop(0)])  # noqa: B023
                if is_full:  # noqa: B023
                    raise OSError(errno.ENOSPC, "No space left on device")
                return write(descriptor, data)

            with mock.patch.object(os, "write", in_parts):
                if is_full:
                    self.assertRaises(OSError, self.compose, pieces, new)
                else:
                    self.assertEqual(self.compose(pieces, new), new)

    def test_part_of_a_block_is_read(self) -> None:
        """A copy that does not begin where a block of the old file does is read, and hashed."""
        new = OLD[10 : 3 * BLOCK + 10]
        self.assertEqual(self.compose([copy(10, 3 * BLOCK)], new), new)
        self.assertEqual(sum(size for _, size in self.read), 3 * BLOCK)

    def test_moved_by_a_block(self) -> None:
        """A block in front leaves all others where blocks begin."""
        new = b"x" * BLOCK + OLD
        self.assertEqual(self.compose([literal(b"x" * BLOCK), copy(0, len(OLD))], new), new)
        self.assertEqual(self.read, [(20 * BLOCK, 100)])

    def test_system_that_copies_in_parts(self) -> None:
        """A copy that ends in the middle of a block, and then fails, is gone on with by reading."""
        real = os.copy_file_range
        left = [3 * BLOCK + 1000, 10]

        def copied(source: int, output: int, size: int, offset: int) -> int:
            if not left:
                raise OSError(22, "no more")
            return real(source, output, min(size, left.pop(0)), offset)

        pieces, new = self.changed()
        with mock.patch.object(os, "copy_file_range", copied):
            self.assertEqual(self.compose(pieces, new), new)
        self.assertEqual(self.read[0][0], 3 * BLOCK)

    def test_old_file_that_changes_is_refused(self) -> None:
        """What was copied may not be what the sums were of."""
        pieces, new = self.changed()
        with open(self.path, "r+b") as file:
            file.write(b"other")
        os.utime(self.path, (1, 1))
        self.assertRaises(ContentRefused, self.compose, pieces, new)

    def test_size_of_compressed_content(self) -> None:
        """Content is not unpacked beyond what its sender says, nor without a limit."""
        data = zlib.compress(bytes(1000000))
        self.assertEqual(unpack(data, 1000000), bytes(1000000))
        for size in (0, UNPACKED + 1):
            self.assertRaisesRegex(ValueError, "at most", unpack, data, size)

    def test_old_file_that_was_changed_just_now_is_read_again(self) -> None:
        """Another change in the same moment would have the same time: what is read is hashed."""
        self.patch(compose, "YOUNG", self.young)
        changed = os.fstat(self.descriptor).st_ctime_ns / 1e9
        pieces, new = self.changed()
        for age, read in ((0.0, len(OLD) - BLOCK), (-5.0, len(OLD) - BLOCK), (5.0, 100)):
            self.patch(time, "time", lambda: changed + age)  # noqa: B023
            digests, self.read = self.basis.digests, []
            self.basis = Basis(self.reader, self.old)
            self.basis.digests = digests
            self.assertEqual(self.compose(pieces, new), new)
            self.assertEqual(sum(size for _, size in self.read), read)

    def test_what_takes_long_can_be_ended(self) -> None:
        """A hole of 16 TiB is sent in 9 bytes: whoever waits can end it between its parts."""
        checks: list[None] = []

        def check() -> None:
            checks.append(None)
            if len(checks) == 3:
                raise ZeroDivisionError

        with TemporaryFile() as output:
            pieces = Pieces(Bytes(HOLE + struct.pack(">Q", 4 * compose.HOLE_PART)))
            composer = Composer(pieces, output.fileno(), None, 131072, True, check=check)
            self.assertRaises(ZeroDivisionError, composer.run)
        self.assertEqual(composer.size, 2 * compose.HOLE_PART)

    def test_wrong_digest_is_refused(self) -> None:
        """Blocks in another order than the digest says."""
        pieces = [copy(BLOCK, BLOCK), copy(0, BLOCK)]
        self.assertRaises(ContentRefused, self.compose, pieces, OLD[: 2 * BLOCK])
