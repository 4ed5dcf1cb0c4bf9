"""Shows a far side's standard error at the client, as it arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer

from pycomnet.gateways.transports.stderr import ErrorText
from pycomnet.mediator.client.pausableinput import PausableInput


class RemoteErrorText(ErrorText):
    """Passes a far side's standard error to a callback.

    What arrives before the callback's Deferred has fired is held and not confirmed, so that the
    server reads no more than it can keep.

    :param output: called with each piece, a str. The next piece waits for its Deferred, if any.
    :param taken: called when the text that was held has been shown.
    :ivar input: the stream, which is paused while the callback is waited for.
    """

    def __init__(self, output: Callable[[str], Any], taken: Callable[[], object]) -> None:
        super().__init__(output)
        self.input = PausableInput(self._show)
        self._taken = taken
        self._finished = False

    def _show(self, data: bytes) -> None:
        if self._finished:
            return
        taken = self.feed(data)
        if isinstance(taken, defer.Deferred) and not taken.called:
            self.input.pause()
            taken.addBoth(self._shown)

    def finish(self) -> None:
        """No more will arrive."""
        self._finished = True
        self.feed(b"")

    def _shown(self, _: object) -> None:
        self.input.resume()
        if not self.input.paused:
            self._taken()
