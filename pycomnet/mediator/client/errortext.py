"""A far side's standard error at the client: shown as it arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer

from pycomnet.deferred import Condition
from pycomnet.gateways.transports.process import ErrorText
from pycomnet.mediator.queues import IncomingQueue


class RemoteErrorText(ErrorText):
    """A far side's standard error.

    What arrives before the callback's Deferred has fired is held and not confirmed, so that the
    server reads no more than it can keep.

    :param output: called with each piece, a str. The next piece waits for its Deferred, if any.
    :param taken: called when what was held has been shown.
    :ivar incoming: what has arrived and is not held.
    """

    def __init__(self, output: Callable[[str], Any], taken: Callable[[], object]) -> None:
        super().__init__(output)
        self.incoming = IncomingQueue()
        self._taken = taken
        self._held: list[bytes] | None = None
        self._shown = Condition()
        self._finished = False

    def received(self, offset: int, data: bytes) -> None:
        """Bytes of standard error have arrived.

        :raises OffsetError: bytes before them are missing.
        """
        if self._held is not None:
            have = self.incoming.received + sum(map(len, self._held))
            if offset <= have < offset + len(data):
                self._held.append(data[have - offset :])
            return
        new = self.incoming.accept(offset, data)
        if new:
            taken = self.feed(bytes(new))
            if isinstance(taken, defer.Deferred) and not taken.called:
                self._held = []
                taken.addBoth(self._release)

    def finish(self) -> None:
        """No more will arrive."""
        self._finished = True
        self.feed(b"")

    def when_taken(self) -> defer.Deferred[None]:
        """Fires when everything that has arrived is shown."""
        return defer.succeed(None) if self._held is None else self._shown.wait()

    def _release(self, _: object) -> None:
        held, self._held = self._held, None
        data = b"".join(held or ())
        if data and not self._finished:
            self.received(self.incoming.received, data)
        if self._held is None:
            self._shown.notify_all()
            self._taken()
