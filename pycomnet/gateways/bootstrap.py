"""Starting an interpreter on another machine: what it is sent, and what comes before its hello."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from pycomnet.worker.importer import MARKER

#: Bytes that a shell's profile may print before the interpreter begins: more is no profile.
MAX_NOISE = 1 << 20
#: Characters of that which are shown, when what comes is only that.
SHOWN_NOISE = 1000


class AfterMarker(Protocol):
    """Waits for the marker that the far side's first line prints, then hands its transport over.

    What a login banner or a shell's profile prints before that is kept for the error, should there
    never be a marker.

    :param connection: what the transport is for.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []
        self._size = 0
        #: whether the marker has come
        self.begun = False

    def dataReceived(self, data: bytes) -> None:
        # The marker may come in two pieces.
        tail = self._pieces[-1][-len(MARKER) :] if self._pieces else b""
        before, found, after = (tail + data).partition(MARKER)
        if not found:
            self._size += len(data)
            # Only what the marker may begin in, and what is shown, has to be kept together.
            kept = b"".join([*self._pieces, data])[-4 * SHOWN_NOISE :]
            self._pieces = [kept]
            if self._size > MAX_NOISE:
                self._abort()
            return
        self._pieces[-1:] = [(self._pieces[-1][: -len(tail)] if tail else b"") + before]
        self.begun = True
        transport: Any = self.transport
        transport.hand_over(self._connection)
        if after:
            self._connection.dataReceived(after)

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connection.connectionLost(reason)

    def noise(self) -> str:
        """What came before the marker, as much of it as is shown."""
        return b"".join(self._pieces)[-SHOWN_NOISE:].decode("utf-8", "replace").strip()
