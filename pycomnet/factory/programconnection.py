"""A program's connection to the factory, with busy polling for quick answers of its far side."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pycomnet.auth.unauthenticated import UnauthenticatedConnections
from pycomnet.channels.connection import Connection


class ProgramConnection(Connection):
    """The service's end of a program's connection.

    The service passes a program's bytes to the far side at once. The answer often comes before the
    reactor's next turn, and sleeping would mean that two processes have to be woken. So the service
    polls for the answer (:mod:`pycomnet.far.busypoll`). If it has passed bytes to several far
    sides, it does not poll, as the answers of the others would wait for that of the first.
    """

    #: polls for the answer of the far side that bytes were last passed to
    look: Callable[[], object] | None = None
    #: how many times bytes were passed to a far side during the current read
    told = 0
    #: the unauthenticated connections: this is one of them until the program is admitted
    unauthenticated: UnauthenticatedConnections | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        if self.unauthenticated is not None:
            self.unauthenticated.arrived(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.unauthenticated is not None:
            self.unauthenticated.known(self.transport)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        self.look, self.told = None, 0
        super().dataReceived(data)
        look, self.look = self.look, None
        if look is None or self.told != 1 or self.corked:
            return
        # The bytes that the poll finds are written to the program together.
        self.corked = True
        try:
            look()
        finally:
            if self._turn is None:
                self.corked = False
        if not self.corked:
            self.flush()
