"""``main_thread_only``: code that waits too long for the main thread fails, as in execnet.

The far side reports when it begins to run a request. If no report arrives within
:data:`BEGIN_TIMEOUT` seconds, the near side asks whether requests wait for the main thread, as the
far side may only be slow.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime

from pycomnet.channels.core import ChannelCore
from pycomnet.execnet.channel import Channel
from pycomnet.execnet.errors import MAIN_THREAD_ONLY_DEADLOCK_TEXT, RemoteError
from pycomnet.execnet.farclasses import gateway_base

if TYPE_CHECKING:
    from pycomnet.gateways.gateway import Gateway

#: Seconds that a request may wait for the main thread.
BEGIN_TIMEOUT = 1.0
#: Seconds that a report may be late after the far side has answered that requests wait.
LATE_REPORT = 0.25


class MainThreadTimeout:
    """The requests of one gateway that have not begun. Used in the reactor's thread only.

    :param gateway: the gateway.
    :param reactor: for the timeouts.
    :ivar begun: the channel over which the far side reports which requests have begun.
    """

    def __init__(self, gateway: Gateway, reactor: IReactorTime) -> None:
        self._gateway = gateway
        self._reactor: IReactorTime = reactor
        self._waiting: dict[int, Any] = {}
        self.begun = gateway.newchannel()
        self.begun.setcallback(self._begun, lambda _: None)

    def add(self, core: ChannelCore) -> None:
        """Watch a new request."""
        call = self._reactor.callLater(BEGIN_TIMEOUT, self._ask_status, core)
        self._waiting[core.stream.id] = call

    def _begun(self, id: object) -> None:
        call = self._waiting.pop(id, None) if isinstance(id, int) else None
        if call is not None and call.active():
            call.cancel()

    def _ask_status(self, core: ChannelCore) -> None:
        if core.over is not None or not self._gateway.isalive():
            self._waiting.pop(core.stream.id, None)
            return
        asked = self._gateway.remote_status()
        asked.addCallback(self._status_came, core).addErrback(self._no_status, core)

    def _no_status(self, _: object, core: ChannelCore) -> None:
        """The far side is gone, or its status is not valid: the next use of it raises that."""
        self._waiting.pop(core.stream.id, None)

    def _status_came(self, found: object, core: ChannelCore) -> None:
        if core.stream.id not in self._waiting:
            return
        waits = checked_status(found)["queued"] > 0
        then = self._fail if waits else self._ask_status
        seconds = LATE_REPORT if waits else BEGIN_TIMEOUT
        self._waiting[core.stream.id] = self._reactor.callLater(seconds, then, core)

    def _fail(self, core: ChannelCore) -> None:
        del self._waiting[core.stream.id]
        channel = None if core.handle is None else core.handle()
        if isinstance(channel, Channel) and core.over is None:
            channel.end_here(RemoteError(MAIN_THREAD_ONLY_DEADLOCK_TEXT), gateway_base.WAITED)


def checked_status(found: object) -> dict[str, int]:
    """Check a far side's status: ``running``, ``queued`` and ``channels``.

    :raises OSError: it is something else.
    """
    if isinstance(found, dict):
        names = ("running", "queued", "channels")
        numbers = {name: found[name] for name in names if type(found.get(name)) is int}
        if len(numbers) == len(names) and min(numbers.values()) >= 0:
            return numbers
    raise OSError(f"a gateway should report what it does, not {reprlib.repr(found)}")


__all__ = ["MainThreadTimeout", "checked_status"]
