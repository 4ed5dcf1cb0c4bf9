"""``gateway._channelfactory``, which some of execnet's users look into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycomnet.channels.core import ChannelCore
from pycomnet.execnet.channel import Channel
from pycomnet.execnet.errors import RemoteError


class ChannelFactory:
    """The open channels of a gateway.

    :param mux: the state of its connection.
    :param new: opens a channel.
    """

    def __init__(self, mux: Any, new: Callable[[], Channel]) -> None:
        self._mux = mux
        self.new = new

    @property
    def _channels(self) -> dict[int, Channel]:
        """Channels that something refers to, by their numbers."""
        found = {}
        # The reactor's thread changes the dict meanwhile; copy() is one step.
        for id, stream in self._mux.streams.copy().items():
            core = stream.app
            held = core.handle() if isinstance(core, ChannelCore) and core.handle else None
            if isinstance(held, Channel):
                found[id] = held
        return found

    def channels(self) -> list[Channel]:
        """All of them."""
        return list(self._channels.values())

    def _local_close(self, id: int, remoteerror: RemoteError | None = None) -> None:
        """End a channel here, as if the other end had closed it."""
        channel = self._channels.get(id)
        if channel is not None:
            channel.end_here(remoteerror)
