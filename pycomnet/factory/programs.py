"""A program's connection: what it asks of a far side is answered in the same turn, if it can be."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pycomnet.auth.strangers import Strangers
from pycomnet.channels.connection import Connection


class ProgramConnection(Connection):
    """The service's end of a program's connection.

    What a program says to a far side goes on to that at once. The answer often comes within less
    time than a turn of the reactor takes, and two processes have to be woken when it is slept for.
    So it is looked for (:mod:`pycomnet.far.busypoll`), unless several far sides were told
    something: what one says would then wait for another.
    """

    #: looks for the answer of the far side that was told something, of the last one
    look: Callable[[], object] | None = None
    #: how many were told something while what has come is dealt with
    told = 0
    #: those whom it is one of until the program has said who it is
    strangers: Strangers | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        if self.strangers is not None:
            self.strangers.arrived(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.strangers is not None:
            self.strangers.known(self.transport)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        self.look, self.told = None, 0
        super().dataReceived(data)
        look, self.look = self.look, None
        if look is None or self.told != 1 or self.corked:
            return
        # What is found is collected, and written to the program when all of it is there.
        self.corked = True
        try:
            look()
        finally:
            if self._turn is None:
                self.corked = False
        if not self.corked:
            self.flush()


__all__ = ["ProgramConnection"]
