"""Holds what arrives from a far side while its reader is paused."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import defer

from pycomnet.deferred import Condition
from pycomnet.mediator.queues import IncomingQueue


class PausableInput:
    """One of a far side's output streams, as it arrives.

    Bytes that arrive while the reader is paused are held and not confirmed. The server keeps what
    is not confirmed, and reads no more from the far side once its queue is full. So no more than
    the size of that queue is held here.

    :param deliver: called with each piece, bytes, while the reader is not paused.
    :ivar incoming: the arrived bytes that are not held.
    """

    def __init__(self, deliver: Callable[[bytes], object]) -> None:
        self.incoming = IncomingQueue()
        self._deliver = deliver
        self._held: list[bytes] | None = None
        #: the offset behind all arrived bytes, held ones included
        self._arrived = IncomingQueue()
        self._resumed = Condition()

    @property
    def paused(self) -> bool:
        """Whether what arrives is held."""
        return self._held is not None

    def received(self, offset: int, data: bytes) -> None:
        """Bytes have arrived.

        :raises OffsetError: bytes before them are missing.
        """
        if self._held is None:
            new = self.incoming.accept(offset, data)
            if new:
                self._deliver(bytes(new))
            return
        new = self._arrived.accept(offset, data)
        if new:
            self._held.append(bytes(new))

    def pause(self) -> None:
        """Hold what arrives from now on."""
        if self._held is None:
            self._held = []
            self._arrived.received = self.incoming.received

    def resume(self) -> bool:
        """Deliver the held bytes, and those that arrive from now on; False if none were held."""
        held, self._held = self._held, None
        data = b"".join(held or ())
        if data:
            self.received(self.incoming.received, data)
        if self._held is None:
            self._resumed.notify_all()
        return bool(data)

    def when_resumed(self) -> defer.Deferred[None]:
        """Fires when the reader is not paused."""
        return defer.succeed(None) if self._held is None else self._resumed.wait()
