"""The same API without Deferreds: for scripts, the REPL and threads.

Every class here is made from the one in :mod:`pycomnet`: the same names, the same arguments, and in
place of a Deferred its result (:mod:`pycomnet.blocking.wrapper`). The reactor runs in a thread of
its own (:mod:`pycomnet.blocking.reactorthread`), which is started when the first object is made,
and lives until all threads but daemons have ended and the atexit functions have run that were
registered after this module was imported. Whatever waits takes a further keyword, ``timeout``, in
seconds, unless it has one already; when it is over, the operation is cancelled and
:class:`~pycomnet.errors.TimeoutExpired` raised. Ctrl-C in the main thread interrupts a wait and
cancels what was waited for. Callbacks run in threads of the reactor's pool, one value at a time for
each channel, so that they may block and call this API themselves.

In a forked child the objects of the parent raise :class:`~pycomnet.errors.UsedAfterFork` at once,
and ``close``, ``exit`` and ``terminate`` do nothing; new ones can be made there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from pycomnet.blocking.wrapper import Blocking as _Blocking
from pycomnet.blocking.wrapper import in_pool_thread as _in_pool_thread
from pycomnet.blocking.wrapper import running_reactor as _running_reactor
from pycomnet.blocking.wrapper import to_blocking_api as _to_blocking_api
from pycomnet.blocking.wrapper import to_deferred_api as _to_deferred_api
from pycomnet.blocking.wrapper import wait_for as _wait_for
from pycomnet.blocking.wrapper import wraps_class as _wraps_class
from pycomnet.channels import channel as _channel
from pycomnet.channels import files as _files
from pycomnet.channels import multichannel as _multichannel
from pycomnet.errors import ChannelClosed
from pycomnet.gateways import channelgateway as _channelgateway
from pycomnet.gateways import gateway as _gateway
from pycomnet.gateways import group as _group


@_wraps_class(_channel.Channel, ("gateway",))
class Channel(_Blocking):
    """Filled from :class:`pycomnet.Channel`."""

    __slots__ = ()

    def attach(self, protocol: object) -> NoReturn:
        """Not here: a protocol runs in the reactor's thread."""
        raise TypeError("a protocol can be attached in the Deferred API only")

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self.receive()
        except ChannelClosed:
            raise StopIteration from None


@_wraps_class(_files.ChannelFile, ("channel", "mode", "closed"))
class ChannelFile(_Blocking):
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


@_wraps_class(_multichannel.MultiChannel)
class MultiChannel(_Blocking):
    """Filled from :class:`pycomnet.MultiChannel`."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Channel]:
        return iter([_to_blocking_api(channel) for channel in self._wrapped])

    def make_receive_queue(self, endmarker: object = _channel.NO_ENDMARKER) -> Any:
        """A ``queue.Queue`` of (channel, value), as they come from any of them."""
        import queue

        self._check()

        filled: queue.Queue[Any] = queue.Queue()

        def fill() -> None:
            for channel in self._wrapped:
                put = functools.partial(_put, filled, channel)
                channel.setcallback(put, lambda failure: None, endmarker)

        _wait_for(fill, None, "make_receive_queue")
        return filled


def _put(filled: Any, channel: Any, value: Any) -> None:
    filled.put((_to_blocking_api(channel), _to_blocking_api(value)))


@_wraps_class(_gateway.Gateway, ("id", "spec", "group", "info", "resumed"))
class Gateway(_Blocking):
    """Filled from :class:`pycomnet.Gateway`."""

    __slots__ = ()


@_wraps_class(_group.Group)
class Group(_Blocking):
    """Filled from :class:`pycomnet.Group`."""

    __slots__ = ()

    def __init__(self, **options: Any) -> None:
        output = options.pop("output", None)
        if output is not None:
            options["output"] = _in_pool_thread(output)

        self._wrapped = _wait_for(
            lambda: _group.Group(_running_reactor(), **options), None, "Group"
        )

    def __iter__(self) -> Iterator[Gateway]:
        self._check()
        return iter(
            [
                _to_blocking_api(gateway)
                for gateway in _wait_for(lambda: list(self._wrapped), None, "iter")
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
            _to_deferred_api(channel), timeout=timeout, **_to_deferred_api(options)
        )

    gateway: Gateway = _to_blocking_api(_wait_for(make, None, "ChannelGateway"))
    return gateway


#: What is loaded when it is first used, as not everybody calls services.
_SERVICES = frozenset({"Context", "RemoteService", "RemoteStream", "ServiceServer"}) | {
    "configure",
    "connect",
    "locate",
    "nameserver",
}


def __getattr__(name: str) -> Any:
    if name == "GatewayExecutor":
        from pycomnet.blocking import executor

        return executor.GatewayExecutor
    if name not in _SERVICES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pycomnet.blocking import services

    return getattr(services, name)


if TYPE_CHECKING:
    from pycomnet.blocking.executor import GatewayExecutor as GatewayExecutor
    from pycomnet.blocking.services import Context as Context
    from pycomnet.blocking.services import RemoteService as RemoteService
    from pycomnet.blocking.services import RemoteStream as RemoteStream
    from pycomnet.blocking.services import ServiceServer as ServiceServer
    from pycomnet.blocking.services import configure as configure
    from pycomnet.blocking.services import connect as connect
    from pycomnet.blocking.services import locate as locate
    from pycomnet.blocking.services import nameserver as nameserver

__all__ = [
    "Channel",
    "ChannelFile",
    "ChannelGateway",
    "Context",
    "Gateway",
    "GatewayExecutor",
    "Group",
    "MultiChannel",
    "RemoteService",
    "RemoteStream",
    "ServiceServer",
    "configure",
    "connect",
    "locate",
    "nameserver",
]
