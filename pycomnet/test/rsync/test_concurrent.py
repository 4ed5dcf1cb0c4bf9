"""Two runs to one destination at once: each file is of one of them, with its mode and time."""

from __future__ import annotations

import os
import stat
from typing import Any
from unittest import mock

from pycomnet.far.rsync import attributes, changedfiles, tree
from pycomnet.far.rsync.entries import BadBatch, numbers_of
from pycomnet.test.rsync.kit import Sender, sync, write
from pycomnet.test.rsync.test_cases import NOON, CaseTests

#: What one file is: content, mode, time.
State = tuple[bytes, int, int]


class ConcurrentTests(CaseTests):
    """A second run comes at the worst moment of the first one."""

    def setUp(self) -> None:
        super().setUp()
        self.other = os.path.join(os.path.dirname(self.source), "other")
        self.ran = 0

    def put(self, root: str, state: State, name: str = "file") -> None:
        content, mode, time = state
        write(f"{root}/{name}", content)
        os.chmod(f"{root}/{name}", mode)
        os.utime(f"{root}/{name}", ns=(time, time))

    def state(self, name: str = "file") -> State:
        with open(f"{self.destination}/{name}", "rb") as file:
            status = os.fstat(file.fileno())
            return file.read(), stat.S_IMODE(status.st_mode), status.st_mtime_ns

    def run_other(self) -> None:
        """Run the other one, once."""
        if not self.ran:
            self.ran += 1
            self.assertEqual(sync(self.other, self.destination)["failed"], {})

    def test_replaced_while_its_digest_is_compared(self) -> None:
        """What another run has put in a file's place stays as that has made it, which is told."""
        one, other = (b"content", 0o644, NOON), (b"another", 0o600, NOON + 1)
        for at in (True, False):
            self.ran = 0
            self.put(self.source, one)
            self.put(self.other, other)
            self.put(self.destination, (b"content", 0o640, NOON - 5))
            sender = Sender(self.source)
            receive = sender.receive

            def late(receive: Any = receive) -> list[Any]:
                message: list[Any] = receive()
                if message[0] == "equal":
                    self.run_other()
                return message

            with mock.patch.object(sender, "receive", late), mock.patch.object(tree, "AT", at):
                done = sender.run(self.destination)
            self.assertEqual((self.ran, self.state()), (1, other))
            self.assertEqual(done["failed"], {b"file": attributes.REPLACED})
            self.assertEqual(done["equal"], [])
            self.assertEqual(sync(self.source, self.destination)["failed"], {})
            self.assertEqual(self.state(), one)

    def test_two_names_of_one_file(self) -> None:
        """Files that are one file here, and equal, are no failure: only this run has changed it."""
        for at in (True, False):
            for name, time in (("file", NOON), ("other", NOON + 1)):
                self.put(self.source, (b"content", 0o644, time), name)
            self.put(self.destination, (b"content", 0o644, NOON - 5))
            other = f"{self.destination}/other"
            if os.path.lexists(other):
                os.unlink(other)
            os.link(f"{self.destination}/file", other)
            with mock.patch.object(tree, "AT", at):
                done = sync(self.source, self.destination)
            self.assertEqual((done["failed"], done["equal"]), ({}, [b"file", b"other"]))
            self.assertEqual(self.state("other"), (b"content", 0o644, NOON + 1))

    def test_written_while_its_digest_is_compared(self) -> None:
        """A file that a program changes in place does not get the time of what it was equal to."""
        self.put(self.source, (b"content", 0o644, NOON))
        self.put(self.destination, (b"content", 0o644, NOON - 5))
        sender = Sender(self.source)
        receive = sender.receive

        def late() -> list[Any]:
            message: list[Any] = receive()
            if message[0] == "equal":
                with open(f"{self.destination}/file", "r+b") as file:
                    file.write(b"changed")
            return message

        with mock.patch.object(sender, "receive", late):
            self.assertEqual(sender.run(self.destination)["failed"], {b"file": attributes.REPLACED})
        self.assertEqual(sync(self.source, self.destination)["sent"], [b"file"])
        self.assertEqual(self.state(), (b"content", 0o644, NOON))

    def test_replaced_before_its_mode_is_set(self) -> None:
        """A mode is set for the file that was compared, and not for what has its name by then."""
        other = b"another", 0o600, NOON + 1
        opens = tree.AtDirectory.open
        chmod = changedfiles.OpenFile.chmod

        def open_late(opened: Any, name: bytes) -> int:
            self.run_other()
            return opens(opened, name)

        def chmod_late(file: Any, mode: int) -> None:
            self.run_other()
            chmod(file, mode)

        for target, name, late in (
            (tree.AtDirectory, "open", open_late),
            (changedfiles.OpenFile, "chmod", chmod_late),
        ):
            self.ran = 0
            self.put(self.source, (b"content", 0o644, NOON))
            self.put(self.other, other)
            self.put(self.destination, (b"content", 0o640, NOON))
            with mock.patch.object(target, name, late):
                sync(self.source, self.destination)
            self.assertEqual((self.ran, self.state()), (1, other))

    def test_both_set_mode_and_time(self) -> None:
        """Of a file that both find equal, mode and time are those of one run."""
        one, other = (b"content", 0o644, NOON), (b"content", 0o600, NOON + 1)
        for name in ("chmod", "utime"):
            for is_first in (True, False):
                self.ran = 0
                self.put(self.source, one)
                self.put(self.other, other)
                self.put(self.destination, (b"content", 0o640, NOON - 5))
                own = getattr(changedfiles.OpenFile, name)

                def late(file: Any, value: int, own: Any = own, first: bool = is_first) -> None:
                    if first:
                        self.run_other()
                    own(file, value)
                    self.run_other()

                with mock.patch.object(changedfiles.OpenFile, name, late):
                    self.assertEqual(sync(self.source, self.destination)["failed"], {})
                self.assertEqual(self.ran, 1)
                self.assertIn(self.state(), (one, other))

    def test_modes_that_a_file_system_does_not_have(self) -> None:
        """They are no failure, and the time is set all the same."""
        self.put(self.source, (b"content", 0o644, NOON))
        self.put(self.destination, (b"content", 0o600, NOON - 5))
        with mock.patch.object(changedfiles.OpenFile, "chmod", lambda *_: None):
            self.assertEqual(sync(self.source, self.destination)["failed"], {})
        self.assertEqual(self.state(), (b"content", 0o600, NOON))

    def test_equal_without_a_digest(self) -> None:
        """A file that the receiver has sent no digest of can't be said to be equal."""
        self.put(self.source, (b"content", 0o644, NOON))
        sender = Sender(self.source)
        lie = ["equal", numbers_of("Q", [0])]
        with mock.patch.object(sender, "_content", lambda *_: sender._messages.append(lie)):
            self.assertRaises(BadBatch, sender.run, self.destination)
