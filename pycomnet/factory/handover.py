"""The factory's end of a program's own pipes to a far side that lingers.

The bytes between the two don't pass through the factory. The far side also writes them to a
journal, in memory that all three share. The factory reads the journal later, and passes its content
to the relay as if the bytes had passed through it. docs/architecture/factory.rst says why.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from collections import deque

from pycomnet.far.lingering.io import BACK, BEGIN, LEAVE, READ
from pycomnet.far.lingering.journal import TO, WHOLE, WRITTEN, BrokenJournal, Journal
from pycomnet.far.lingering.relay import Relay
from pycomnet.net.descriptors import identity
from pycomnet.wire.mux import ProtocolError

#: A far side's answer: the encoding of True.
_TRUE = b"\xc3"
#: Seals that fix the memory's size: a process that reads beyond the end of shrunk memory is killed
#: by SIGBUS. These are Linux's numbers, as not every Python has the names.
_ALLOW_SEALING, _ADD_SEALS, _SEALS = 2, 1033, 1 | 2 | 4


class ProgramBroke(Exception):
    """The program violated the protocol."""


class Handover:
    """The pipes for one program, and the journal.

    :param relay: the far side's relay.
    :raises OSError: there are no descriptors or no memory left.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        #: bytes for the program that may not have been written to its pipe yet
        self._unwritten: deque[bytes] = deque()
        #: how many bytes for the program precede those
        self._position = 0
        #: whether the far side has stopped writing to the journal
        self._over = False
        #: whether the program violated the protocol: its messages are ignored from then on
        self._broken = False
        self._fds: list[int] = []
        try:
            self._fds += os.pipe()
            self._fds += os.pipe()
            self.memory_fd = os.memfd_create("pycomnet-journal", os.MFD_CLOEXEC | _ALLOW_SEALING)
            self._fds.append(self.memory_fd)
            os.ftruncate(self.memory_fd, WHOLE)
            self._journal = Journal(mmap.mmap(self.memory_fd, WHOLE))
        except OSError:
            self._close_fds()
            raise
        self._far_read, self.write_pipe, self.read_pipe, self._far_write = self._fds[:4]

    def _close_fds(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def close(self) -> None:
        """Close the descriptors and the journal."""
        self._close_fds()
        self._journal.close()
        self._unwritten.clear()

    # -- the two steps ---------------------------------------------------------------------------

    def request(self) -> dict[str, object]:
        """The value of the request that asks the far side to open the pipes and the journal."""
        return {
            "pid": os.getpid(),
            "read": [self._far_read, list(identity(self._far_read))],
            "write": [self._far_write, list(identity(self._far_write))],
            "memory": [self.memory_fd, list(identity(self.memory_fd))],
        }

    def begin(self) -> tuple[dict[str, object], bytes]:
        """Write the snapshot. The far side uses the pipes once it was sent :data:`BEGIN`.

        :returns: the state for the program, and the bytes that come before those in its pipe.
        """
        relay = self._relay
        state = relay.attach()
        first, relay.to_program = b"".join(relay.to_program), []
        relay.to_far = []
        snapshot = relay.snapshot()
        done = 0
        while done < len(snapshot):
            done += os.pwrite(self.memory_fd, snapshot[done:], WHOLE + done)
        with contextlib.suppress(OSError):  # a kernel that can't seal
            fcntl.fcntl(self.memory_fd, _ADD_SEALS, _SEALS)
        for fd in (self._far_read, self._far_write):
            self._fds.remove(fd)
            os.close(fd)
        return state, first

    def give(self) -> tuple[int, int, int]:
        """The program's descriptors: the pipe to write to, the pipe to read from, and the journal.

        The caller owns them from now on: it sends and closes them.
        """
        self._fds = []
        return self.write_pipe, self.read_pipe, self.memory_fd

    # -- entries of the journal ------------------------------------------------------------------

    def read(self) -> bool:
        """Read the new entries of the journal, and pass them to the relay.

        Entries of the far side are processed also if the program has violated the protocol.

        :returns: whether there were any.
        :raises ProgramBroke: the program violated the protocol, or its count of taken values is
            invalid. It is raised once; from then on the program's entries are ignored.
        :raises ProtocolError: the far side violated the protocol.
        """
        relay, journal = self._relay, self._journal
        problem: Exception | None = None
        head: int | None = None
        if not self._broken:
            try:
                # Read this first: a value is in the journal before the program can take it.
                head = journal.taken_head()
            except BrokenJournal as broken:
                problem = broken
        try:
            said = journal.read()
        except BrokenJournal as broken:
            raise ProtocolError("journal", str(broken)) from broken
        for direction, data in said:
            if direction == TO:
                relay.from_far(data)
            elif not self._broken:
                try:
                    relay.from_program(data)
                except ProtocolError as broken:
                    self._broken, problem = True, broken
        if head is not None:
            relay.confirm(*journal.read_taken(head))
        relay.to_far = []  # the far side has these bytes already
        self.keep_unwritten()
        if problem is not None:
            self._broken = True
            raise ProgramBroke(str(problem)) from problem
        return bool(said)

    def last_words(self, data: bytes) -> None:
        """Process bytes that a far side had not written when it ended; its supervisor sent them."""
        if not self._over:
            with contextlib.suppress(ProgramBroke):
                self.read()
            self._over = True
            self._relay.drop_part()
        self._relay.from_far(data)
        self.keep_unwritten()

    def keep_unwritten(self) -> None:
        """Keep bytes for the program until the far side has written them to the pipe."""
        relay, told = self._relay, self._unwritten
        told += relay.to_program
        relay.to_program = []
        written = self._journal.numbers[WRITTEN]
        while told and self._position + len(told[0]) <= written:
            self._position += len(told.popleft())

    def not_come(self, came: int) -> bytes:
        """The bytes for the program that it has not received.

        :param came: the number of bytes that it has received through its pipe.
        """
        rest = b"".join(self._unwritten)
        return rest[max(came - self._position, 0) :]


def says_yes(answer: bytes | None) -> bool:
    """Whether a far side has answered yes."""
    return answer == _TRUE


__all__ = ["BACK", "BEGIN", "LEAVE", "READ", "Handover", "ProgramBroke", "says_yes"]
