"""Looking for the answer on a socket before the reactor sleeps for it.

What was just asked is often answered within microseconds, which is less than it takes the reactor
to finish its turn, sleep, and be woken. So a socket whose protocol wrote while it was given what
had been read is looked at again, a few times, in the same turn: see
:mod:`pycomnet.worker.spin`. The more often nothing comes, the less often it is done.
"""

from __future__ import annotations

from typing import Any

from pycomnet.worker.spin import Spinner

#: How often an answer is looked for: about 20 us, a reactor's turn.
SPINS = 16
#: Answers that are taken in one turn of the reactor, before others get theirs.
READS_PER_TURN = 8


class Lookahead:
    """Stands in for the ``doRead`` of a transport on a socket.

    :param transport: a TCP or UNIX transport of Twisted's, without TLS.
    :ivar wrote: to be set when something is written to it.
    """

    __slots__ = ("_read", "_spinner", "_transport", "wrote")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._read = transport.doRead
        self._spinner: Spinner | None = None
        self.wrote = False
        transport.doRead = self

    def __call__(self) -> Any:
        transport = self._transport
        for _ in range(READS_PER_TURN):
            self.wrote = False
            problem = self._read()
            if problem is not None or not self.wrote:
                return problem
            if not transport.connected or transport.disconnecting or transport.dataBuffer:
                return None
            spinner = self._spinner
            if spinner is None:
                spinner = self._spinner = Spinner(transport.fileno(), SPINS)
            if not spinner.spin():
                return None
        return None

    def stop(self) -> None:
        """The transport is closed: let go of it."""
        self._transport.__dict__.pop("doRead", None)
        self._spinner = None


__all__ = ["Lookahead"]
