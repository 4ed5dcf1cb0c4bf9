"""A program that has the pipes of a far side that lingers: the factory knows what they say later.

What another program needs to go on with is in memory that is shared with both (the journal), and
the relay finds it there, as if it had passed through here. docs/architecture.rst, "The factory".
"""

from __future__ import annotations

import mmap
import os
from collections import deque

from pycomnet.far.lingering.io import BACK, BEGIN, LEAVE, READ
from pycomnet.far.lingering.journal import FROM, WHOLE, WRITTEN, BrokenJournal, Journal
from pycomnet.far.lingering.relay import Relay
from pycomnet.net.descriptors import identity
from pycomnet.wire.mux import ProtocolError

#: The worker answers what is no bool with this: the encodings of both.
_TRUE = b"\xc3"


class ProgramBroke(Exception):
    """The program broke the protocol."""


class Handover:
    """The pipes for one program, and the journal.

    :param relay: what is between the two, but for this.
    :raises OSError: there are no descriptors left, or no memory.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._told: deque[bytes] = deque()
        #: where in what the program was told that begins which is in there
        self._position = 0
        #: whether the far side says no more
        self._over = False
        self._fds: list[int] = []
        try:
            self._fds += os.pipe()
            self._fds += os.pipe()
            self.memory_fd = os.memfd_create("pycomnet-journal")
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
        """It is over, or was never used."""
        self._close_fds()
        self._journal.close()
        self._told.clear()

    # -- the two steps ---------------------------------------------------------------------------

    def asked(self) -> dict[str, object]:
        """What the far side is told, to have them as well."""
        return {
            "pid": os.getpid(),
            "read": [self._far_read, list(identity(self._far_read))],
            "write": [self._far_write, list(identity(self._far_write))],
            "memory": [self.memory_fd, list(identity(self.memory_fd))],
        }

    def begin(self) -> tuple[dict[str, object], bytes]:
        """The far side uses them, once it is told :data:`BEGIN`.

        :returns: what the program has to know, and what it has to read before it reads its pipe.
        """
        relay = self._relay
        state = relay.attach()
        first, relay.to_program = b"".join(relay.to_program), []
        relay.to_far = []
        snapshot = relay.snapshot()
        done = 0
        while done < len(snapshot):
            done += os.pwrite(self.memory_fd, snapshot[done:], WHOLE + done)
        for fd in (self._far_read, self._far_write):
            self._fds.remove(fd)
            os.close(fd)
        return state, first

    def give(self) -> tuple[int, int, int]:
        """What the program gets: what it writes to and reads from, and the journal. It owns them.

        Whoever gives them closes them here.
        """
        self._fds = []
        return self.write_pipe, self.read_pipe, self.memory_fd

    # -- what they said --------------------------------------------------------------------------

    def read(self) -> bool:
        """Find out what was said; whether there was anything.

        :raises ProgramBroke: the program broke the protocol, or what it said was taken is nonsense.
        :raises ProtocolError: the far side did.
        """
        relay, journal = self._relay, self._journal
        try:
            # The program takes nothing before it is in the journal: so this is looked at first.
            head = journal.taken_head()
        except BrokenJournal as problem:
            raise ProgramBroke(str(problem)) from problem
        try:
            said = journal.read()
        except BrokenJournal as problem:
            raise ProtocolError("journal", str(problem)) from problem
        for direction, data in said:
            if direction == FROM:
                try:
                    relay.from_program(data)
                except ProtocolError as problem:
                    raise ProgramBroke(str(problem)) from problem
            else:
                relay.from_far(data)
        relay.confirm(*journal.read_taken(head))
        relay.to_far = []  # the far side has it
        self.keep_told()
        return bool(said)

    def last_words(self, data: bytes) -> None:
        """What the far side had still to write when its process ended: its supervisor says that."""
        if not self._over:
            self.read()
            self._over = True
            self._relay.drop_part()
        self._relay.from_far(data)
        self.keep_told()

    def keep_told(self) -> None:
        """Have what the program is told here, until it was written to its pipe."""
        relay, told = self._relay, self._told
        told += relay.to_program
        relay.to_program = []
        written = self._journal.numbers[WRITTEN]
        while told and self._position + len(told[0]) <= written:
            self._position += len(told.popleft())

    def not_come(self, came: int) -> bytes:
        """Of what the program was told, what has not come to it.

        :param came: how many bytes have, through its pipe.
        """
        rest = b"".join(self._told)
        return rest[max(came - self._position, 0) :]


def says_yes(answer: bytes | None) -> bool:
    """Whether the far side can do what it was asked for."""
    return answer == _TRUE


__all__ = ["BACK", "BEGIN", "LEAVE", "READ", "Handover", "ProgramBroke", "says_yes"]
