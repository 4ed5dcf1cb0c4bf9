"""Services without Deferreds: the part of :mod:`pycomnet.blocking` that is loaded on first use."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from pycomnet.blocking.docstrings import blocking_docstring
from pycomnet.blocking.waiting import running_reactor, wait_for
from pycomnet.blocking.wrapper import (
    Blocking,
    signature_without_deferreds,
    to_blocking_api,
    to_deferred_api,
    wraps_class,
)
from pycomnet.errors import ChannelClosed
from pycomnet.services import default as _default
from pycomnet.services.client import context as _context
from pycomnet.services.client import remoteservice as _remoteservice
from pycomnet.services.client import remotestream as _remotestream
from pycomnet.services.server import server as _server

#: Methods for other classes of the package, and not for users.
_INNER = frozenset({"called_by", "may_repeat", "reach", "repeat", "cancel", "expired"})
_INNER |= {"asking", "invoke_together", "only_at", "reference", "refers_to"}
_INNER |= {
    "has_other",
    "left",
    "limit",
    "peer",
    "sleep",
    "until",
    "begin",
    "connected",
    "disconnected",
}
_INNER |= {"context", "forget", "functions", "hello", "session", "shows_tracebacks", "too_late"}
_INNER |= {"keep", "refusal", "settle", "start", "announced", "withdraw"}


@wraps_class(_remotestream.RemoteStream, (), _INNER)
class RemoteStream(Blocking):
    """Filled from :class:`pycomnet.RemoteStream`."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self.receive()
        except ChannelClosed:
            self.close()
            raise StopIteration from None

    def __enter__(self) -> RemoteStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@wraps_class(_remoteservice.RemoteService, ("interface",), _INNER)
class RemoteService(Blocking):
    """Filled from :class:`pycomnet.RemoteService`."""

    __slots__ = ()


@wraps_class(_context.Context, (), _INNER)
class Context(Blocking):
    """Filled from :class:`pycomnet.Context`."""

    __slots__ = ()

    def __init__(self, **options: Any) -> None:
        self._wrapped = wait_for(
            lambda: _context.Context(running_reactor(), **options), None, "Context"
        )

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@wraps_class(_server.ServiceServer, ("services",), _INNER)
class ServiceServer(Blocking):
    """Filled from :class:`pycomnet.ServiceServer`.

    Methods of its services run in the reactor's thread. Those with ``thread=True`` run in others:
    they may block, and use this API themselves.
    """

    __slots__ = ()

    def __init__(self, **options: Any) -> None:
        made = to_deferred_api(options)
        self._wrapped = wait_for(
            lambda: _server.ServiceServer(running_reactor(), **made), None, "ServiceServer"
        )

    def __enter__(self) -> ServiceServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _function(name: str) -> Callable[..., Any]:
    """A function of the default context, without Deferreds."""
    function = getattr(_default, name)

    @functools.wraps(function)
    def call(*args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        return to_blocking_api(wait_for(lambda: function(*args, **kwargs), timeout, name))

    made: Any = call
    made.__signature__ = signature_without_deferreds(function)
    made.__doc__ = blocking_docstring(function.__doc__, timeout=True)
    return call


configure = _default.configure
connect = _function("connect")
locate = _function("locate")
nameserver = _function("nameserver")

__all__ = [
    "Context",
    "RemoteService",
    "RemoteStream",
    "ServiceServer",
    "configure",
    "connect",
    "locate",
    "nameserver",
]
