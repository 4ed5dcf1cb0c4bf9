"""The sender of the far side, without a gateway."""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.rsync import send
from pycomnet.far.rsync.blocks import TreeDigest, block_size
from pycomnet.far.rsync.entries import ABORT, END, LITERAL, WHOLE, numbers_of
from pycomnet.test.rsync.kit import write

NOON = 1700000000123456789


class Recorded:
    """Both channels: what is received was put there before, what is sent is kept.

    :ivar sent: called with each message or bytes that are sent.
    """

    def __init__(self, *messages: list[Any]) -> None:
        self._messages = deque(messages)
        self.messages: list[list[Any]] = []
        self.data = b""
        self.sent: Callable[[Any], None] = lambda what: None

    def receive(self) -> list[Any]:
        return self._messages.popleft()

    def send(self, what: Any) -> None:
        self.sent(what)
        if isinstance(what, bytes):
            self.data += what
        else:
            self.messages.append(what)


class SenderTests(SynchronousTestCase):
    """A source with one file, of which the other end needs the whole."""

    def setUp(self) -> None:
        self.root = os.path.realpath(self.mktemp())
        self.path = os.path.join(self.root, "file")
        self.other = self.mktemp()

    def send(self, sent: Callable[[Any], None] | None = None, again: int = 0) -> Recorded:
        """Send it; the other end says so often that what came was not one state of the file."""
        need = ["need", 0, numbers_of("Q", [0]), bytes([WHOLE]), b""]
        line = Recorded(need, *([["again", 0]] * again), ["done"])
        if sent is not None:
            line.sent = sent
        options = {"root": os.fsencode(self.root), "links": "keep", "outside": "keep"}
        send.Sender(line, line, options).run()
        return line

    def test_log_that_grows(self) -> None:
        """What was there of a file that only grows is one state of it."""
        content = b"line\n" * 200000
        write(self.path, content, NOON)

        def grow(what: Any) -> None:
            if isinstance(what, bytes):
                with open(self.path, "ab") as log:
                    log.write(b"another line\n")

        line = self.send(grow)
        (long,) = [message for message in line.messages if message[0] == "long"]
        digest = TreeDigest(block_size(len(content)))
        digest.update(content)
        self.assertEqual(long[3], NOON)
        self.assertEqual(line.data[-33:], END + digest.digest())

    def test_file_that_can_not_be_read_to_its_end(self) -> None:
        """The disk's error is the reason why it is not sent, when it was tried often enough."""
        write(self.path, b"a" * 3000000, NOON)
        pread = os.pread

        def broken(descriptor: int, size: int, offset: int) -> bytes:
            if offset:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return pread(descriptor, size, offset)

        with mock.patch.object(os, "pread", broken):
            line = self.send(again=send.TRIES)
        self.assertEqual(line.messages[-1][0], "unreadable")
        self.assertEqual(line.messages[-1][2], [os.strerror(errno.EIO)])

    def test_file_that_changes_in_place(self) -> None:
        """Of a file that grows, and whose beginning changes, no state was read."""
        write(self.path, b"a" * 1000000, NOON)

        def change(what: Any) -> None:
            if isinstance(what, bytes):
                with open(self.path, "r+b") as file:
                    file.write(b"b")
                    file.seek(0, os.SEEK_END)
                    file.write(b"more")

        self.assertTrue(self.send(change).data.endswith(ABORT))

    def test_file_that_becomes_shorter(self) -> None:
        """What was cut off while it was sent may be no state of the file."""
        write(self.path, b"a" * 1000000, NOON)

        def cut(what: Any) -> None:
            if isinstance(what, bytes):
                os.truncate(self.path, 999999)

        self.assertTrue(self.send(cut).data.endswith(ABORT))

    def replaced(self, old: bytes, new: bytes) -> Recorded:
        """Send a file over which another is renamed just after it was opened."""
        write(self.path, old, NOON)
        write(self.other, new, NOON + 5000000000)
        really = os.open

        def opened(path: Any, flags: int) -> int:
            descriptor = really(path, flags)
            if os.path.exists(self.other):
                os.rename(self.other, self.path)
            return descriptor

        with mock.patch.object(os, "open", opened):
            return self.send()

    def test_replaced_when_opened(self) -> None:
        """Old content goes with the old time: the next run sees that there is a new one."""
        line = self.replaced(b"a" * 100000, b"b" * 100000)
        (long,) = [message for message in line.messages if message[0] == "long"]
        self.assertEqual(line.data[:6], LITERAL + struct.pack(">I", 100000) + b"a")
        self.assertEqual(long[3], NOON)

    def test_replaced_when_opened_without_fstat(self) -> None:
        """Where only a path's status can be had, a file that was replaced meanwhile has failed."""
        with mock.patch.object(send, "_FSTAT", False):
            line = self.replaced(b"old", b"new")
        self.assertEqual(line.messages[-1][0], "unreadable")

    def test_short_file_replaced_when_opened(self) -> None:
        """A short one likewise."""
        line = self.replaced(b"old", b"new")
        (short,) = [message for message in line.messages if message[0] == "short"]
        self.assertEqual((short[5], short[3]), (b"old", struct.pack(">q", NOON)))

    def test_nothing_stays_open(self) -> None:
        """A file that vanishes when it was opened is closed, and so is what is no file any more."""
        before = os.listdir("/proc/self/fd")
        write(self.path, b"a", NOON)
        really = os.open

        def opened(path: Any, flags: int) -> int:
            descriptor = really(path, flags)
            os.remove(path)
            return descriptor

        with mock.patch.object(os, "open", opened):
            self.send()
        self.assertEqual(os.listdir("/proc/self/fd"), before)

        def replaced(path: Any, flags: int) -> int:
            os.remove(path)
            os.mkfifo(path)
            return really(path, flags)

        write(self.path, b"a", NOON)
        with mock.patch.object(os, "open", replaced):
            self.assertEqual(self.send().messages[-1][0], "unreadable")
        self.assertEqual(os.listdir("/proc/self/fd"), before)
