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

# The methods and properties that are for other classes of the package, and not for users.
_INNER_OF_STREAM = frozenset({"cancel", "expired", "peer"})
_INNER_OF_SERVICE = frozenset(
    {
        "called_by",
        "goes_elsewhere",
        "has_other",
        "invoke_together",
        "may_repeat",
        "only_at",
        "pause",
    }
    | {"reach", "reference", "repeat", "request"}
)
_INNER_OF_CONTEXT = frozenset(
    {"asking", "has_credentials", "left", "limit", "nameserver_credentials", "nameserver_identity"}
    | {"peer", "refers_to", "sleep", "until", "with_trust", "without_deadline"}
)
_INNER_OF_SERVER = frozenset(
    {"announced", "begin", "connected", "context", "disconnected", "end_feed", "end_feeds"}
    | {"forget", "functions", "hello", "keep", "make_room", "may_continue", "refusal", "session"}
    | {"settle", "shows_tracebacks", "start", "too_late", "withdraw"}
)


@wraps_class(_remotestream.RemoteStream, (), _INNER_OF_STREAM)
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


@wraps_class(_remoteservice.RemoteService, ("interface",), _INNER_OF_SERVICE)
class RemoteService(Blocking):
    """Filled from :class:`pycomnet.RemoteService`."""

    __slots__ = ()


@wraps_class(_context.Context, (), _INNER_OF_CONTEXT)
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


@wraps_class(_server.ServiceServer, ("services",), _INNER_OF_SERVER)
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
