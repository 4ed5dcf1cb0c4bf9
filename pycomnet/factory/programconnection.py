"""A program's connection. If a far side answers quickly, the program has that in the same turn."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pycomnet.auth.strangers import Strangers
from pycomnet.channels.connection import Connection


class ProgramConnection(Connection):
    """The service's end of a program's connection.

    What a program sends to a far side is passed on at once. The answer often comes sooner than the
    reactor's next turn would, and sleeping costs waking two processes. So the service polls for the
    answer (:mod:`pycomnet.far.busypoll`). If it has passed something on to several far sides, it
    does not poll, as the answers of the others would wait for the first one's.
    """

    #: polls for the answer of the far side that something was passed on to, of the last one
    look: Callable[[], object] | None = None
    #: to how many far sides something was passed on, of what has come now
    told = 0
    #: the unauthenticated connections: this is one of them until the program is admitted
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
        # What the poll finds is collected, and written to the program together.
        self.corked = True
        try:
            look()
        finally:
            if self._turn is None:
                self.corked = False
        if not self.corked:
            self.flush()


__all__ = ["ProgramConnection"]
