"""Gateways and channels without Deferreds."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from pycomnet.blocking.waiting import running_reactor, wait_for
from pycomnet.blocking.wrapper import (
    Blocking,
    in_pool_thread,
    to_blocking_api,
    to_deferred_api,
    wraps_class,
)
from pycomnet.channels import channel as _channel
from pycomnet.channels import files as _files
from pycomnet.channels import multichannel as _multichannel
from pycomnet.errors import ChannelClosed
from pycomnet.gateways import channelgateway as _channelgateway
from pycomnet.gateways import gateway as _gateway
from pycomnet.gateways import group as _group

if TYPE_CHECKING:
    import queue

#: Methods for other classes of the package, and not for users.
_INNER = frozenset({"abandoned", "forget", "forked", "shut_down"})


@wraps_class(_channel.Channel, ("gateway",))
class Channel(Blocking):
    """Filled from :class:`pycomnet.Channel`."""

    __slots__ = ()

    def attach(self, protocol: object) -> NoReturn:
        """Not available here: a protocol runs in the reactor's thread."""
        raise TypeError("a protocol can be attached in the Deferred API only")

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self.receive()
        except ChannelClosed:
            raise StopIteration from None


@wraps_class(_files.ChannelFile, ("channel", "mode", "closed"))
class ChannelFile(Blocking):
    """Filled from :class:`pycomnet.channels.files.ChannelFile`."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def __enter__(self) -> ChannelFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@wraps_class(_multichannel.MultiChannel)
class MultiChannel(Blocking):
    """Filled from :class:`pycomnet.MultiChannel`."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Channel]:
        return iter([to_blocking_api(channel) for channel in self._wrapped])

    def make_receive_queue(
        self, endmarker: object = _channel.NO_ENDMARKER
    ) -> queue.Queue[tuple[Channel, Any]]:
        """A ``queue.Queue`` of (channel, value) pairs, in the order of arrival."""
        import queue

        self._check()

        filled: queue.Queue[tuple[Channel, Any]] = queue.Queue()

        def fill() -> None:
            for channel in self._wrapped:
                put = functools.partial(_put, filled, channel)
                channel.setcallback(put, lambda failure: None, endmarker)

        wait_for(fill, None, "make_receive_queue")
        return filled


def _put(filled: Any, channel: Any, value: Any) -> None:
    filled.put((to_blocking_api(channel), to_blocking_api(value)))


@wraps_class(_gateway.Gateway, ("id", "spec", "group", "info", "resumed"), _INNER)
class Gateway(Blocking):
    """Filled from :class:`pycomnet.Gateway`."""

    __slots__ = ()


@wraps_class(_group.Group, (), _INNER)
class Group(Blocking):
    """Filled from :class:`pycomnet.Group`."""

    __slots__ = ()

    def __init__(self, **options: Any) -> None:
        output = options.pop("output", None)
        if output is not None:
            options["output"] = in_pool_thread(output)

        self._wrapped = wait_for(lambda: _group.Group(running_reactor(), **options), None, "Group")

    def __iter__(self) -> Iterator[Gateway]:
        self._check()
        return iter(
            [
                to_blocking_api(gateway)
                for gateway in wait_for(lambda: list(self._wrapped), None, "iter")
            ]
        )

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def ChannelGateway(channel: Channel, *, timeout: float | None = None, **options: Any) -> Gateway:
    """As :func:`pycomnet.ChannelGateway`."""

    def make() -> Any:
        return _channelgateway.ChannelGateway(
            to_deferred_api(channel), timeout=timeout, **to_deferred_api(options)
        )

    gateway: Gateway = to_blocking_api(wait_for(make, None, "ChannelGateway"))
    return gateway


__all__ = ["Channel", "ChannelFile", "ChannelGateway", "Gateway", "Group", "MultiChannel"]
