"""A program's own pipes to a far side that lingers, and the journal: the program's end."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from pycomnet.far.lingering.journal import WHOLE, Journal
from pycomnet.gateways.resumable import ResumableConnection
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.net.reactors import PipeReactor


def open_journal(fds: tuple[int, ...]) -> Journal | None:
    """Open the journal, the last of three descriptors, and close its descriptor.

    :returns: None if there are no descriptors left, as opening needs one for a moment. Then all
        three are closed.
    """
    journal = None
    try:
        journal = Journal(mmap.mmap(fds[2], WHOLE))
    except OSError:
        for fd in fds[:2]:
            os.close(fd)
    finally:
        os.close(fds[2])
    return journal


class HandedPipes(Protocol):
    """Connects a connection to the pipes that the factory has passed.

    When the pipes end, the far side has ended, or the factory has told it to leave them. The
    factory reports which, and sends the last bytes that did not come through the pipe. Only then
    the connection is lost.

    :param fds: the descriptors that are written to and read from.
    :param journal: gets the numbers of values that the user has taken.
    :param say: sends the factory a value; also these numbers, if the journal is full.
    """

    def __init__(
        self,
        connection: ResumableConnection,
        fds: tuple[int, ...],
        journal: Journal,
        say: Callable[[dict[str, Any]], object],
        reactor: PipeReactor,
    ) -> None:
        write_pipe, read_pipe = fds
        self._connection = connection
        self._say = say
        self._came = 0
        self._lost: Failure | None = None
        #: whether the factory has nothing more to send
        self._over = False
        self._journal: Journal | None = journal
        connection.report = self._report
        self._pipes: Any = None
        ProcessTransport(write_pipe, read_pipe, self, reactor)

    def _report(self, taken: dict[int, int], done: list[int]) -> None:
        journal = self._journal
        if journal is None or not journal.put_taken(taken, done):
            self._say({"taken": taken, "done": done})

    # -- the pipes -------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._pipes = transport
        connection: Any = self._connection
        connection.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        self._came += len(data)
        self._connection.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._over or self._pipes.disconnecting:
            self._finish(reason)
        else:
            self._lost = reason

    # -- the factory -----------------------------------------------------------------------------

    def ended(self) -> None:
        """The far side has ended: read the rest of its pipe, and say how many bytes came in all."""
        if self._journal is not None:
            self._pipes.read_rest()
        self._say({"left": True} if self._connection.is_left else {"got": self._came})

    def rest(self, data: bytes) -> None:
        """What did not come through the pipe. It is the end."""
        if data and self._journal is not None:
            self._connection.dataReceived(data)
        self.release()

    def release(self) -> None:
        """The factory has nothing more to send."""
        self._over = True
        if self._lost is not None:
            self._finish(self._lost)
        else:
            self._pipes.loseConnection()

    def _finish(self, reason: Failure) -> None:
        if self._journal is None:
            return
        self._connection.connectionLost(reason)
        self._journal.close()
        self._journal = None
        if not self._over:
            self._say({"left" if self._connection.is_left else "closed": True})
