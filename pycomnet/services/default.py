"""The default context: ``pycomnet.configure``, ``locate`` and ``nameserver``, on the reactor.

For programs with one reactor and one nameserver, as most are. Without ``configure``, the
nameserver's address is that of the environment's ``PYCOMNET_NAMESERVER``, else
``tcp:127.0.0.1:2012``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer

from pycomnet import forks
from pycomnet.services.client.context import Context
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.services.nameserveraddress import default_nameserver

_context: Context | None = None
#: Calls services that others have named.
_guest: Context | None = None
_options: dict[str, Any] = {}


def configure(nameserver: str | None = None, **options: Any) -> None:
    """Configure the default context, before its first use.

    :param nameserver: the nameserver's address.
    :param options: those of :class:`~pycomnet.Context`.
    :raises RuntimeError: it is in use already, with other options.
    """
    wanted = {"nameserver": nameserver or default_nameserver(), **options}
    if _context is not None and wanted != _options:
        raise RuntimeError("the default context is in use: call configure() before anything else")
    _options.clear()
    _options.update(wanted)


def default_context() -> Context:
    """The default context, on the global reactor."""
    global _context
    if _context is None:
        _context = _made(_chosen(), _forget)
    return _context


def guest_context() -> Context:
    """As the default context, but without its credentials: for services that others have named."""
    global _guest
    if _guest is None:
        chosen = _chosen().items()
        options = {name: value for name, value in chosen if not name.endswith("credentials")}
        _guest = _made(options, _forget_guest)
    return _guest


def _chosen() -> dict[str, Any]:
    if not _options:
        configure()
    return _options


def _made(options: dict[str, Any], forget: Callable[[], None]) -> Context:
    """Make a context on the global reactor, which is closed before that stops."""
    from twisted.internet import reactor

    made = Context(reactor, **options)

    def close() -> defer.Deferred[None]:
        forget()
        return made.close()

    triggers: Any = reactor
    triggers.addSystemEventTrigger("before", "shutdown", close)
    return made


def _forget() -> None:
    global _context
    _context = None


def _forget_guest() -> None:
    global _guest
    _guest = None


def _forked() -> None:
    """In a forked child: forget the parent's contexts."""
    for context, forget in ((_context, _forget), (_guest, _forget_guest)):
        if context is not None and forks.runs(context.reactor):
            forks.keep(context)
            forget()


forks.call_in_child(_forked)


class _Awaited(defer.Deferred[RemoteService]):
    """A Deferred of a service, with a helpful error for programs that take it for the service.

    A script that calls these functions gets a Deferred that never fires, as no reactor runs.
    """

    def __init__(self, name: str, waiting: defer.Deferred[RemoteService]) -> None:
        super().__init__(lambda _: waiting.cancel())
        self._name = name
        waiting.chainDeferred(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(RemoteService, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        function = self.__dict__.get("_name", "")
        raise AttributeError(
            f"pycomnet.{function}() returns a Deferred, which has no {name!r}: in a script, a "
            f"thread or the REPL use pycomnet.blocking ('from pycomnet import blocking as "
            f"pycomnet'), with asyncio pycomnet.aio; with Twisted, await it first"
        )


def locate(interface: str, service: str | None = None) -> defer.Deferred[RemoteService]:
    """As :meth:`Context.locate`, with the default context."""
    return _Awaited("locate", default_context().locate(interface, service))


def connect(address: str, interface: str | None = None) -> defer.Deferred[RemoteService]:
    """As :meth:`Context.connect`, with the default context."""
    return _Awaited("connect", default_context().connect(address, interface))


def nameserver() -> defer.Deferred[RemoteService]:
    """As :meth:`Context.nameserver`, with the default context."""
    return _Awaited("nameserver", default_context().nameserver())


__all__ = ["configure", "connect", "default_context", "default_nameserver", "locate", "nameserver"]
