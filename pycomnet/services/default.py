"""The default context: ``pycomnet.configure``, ``locate`` and ``nameserver``, on the reactor.

For programs with one reactor and one nameserver, as most are. Without ``configure``, the
nameserver's address is that of the environment's ``PYCOMNET_NAMESERVER``, else
``tcp:127.0.0.1:2012``.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet import forks
from pycomnet.services.client.context import Context
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.services.nameserveraddress import default_nameserver

#: The default context, under False; under True the one for services that others have named.
_contexts: dict[bool, Context] = {}
_options: dict[str, Any] = {}


def configure(nameserver: str | None = None, **options: Any) -> None:
    """Configure the default context, before its first use.

    :param nameserver: the nameserver's address.
    :param options: those of :class:`~pycomnet.Context`.
    :raises RuntimeError: it is in use already, with other options.
    """
    wanted = {"nameserver": nameserver or default_nameserver(), **options}
    if False in _contexts and wanted != _options:
        raise RuntimeError("the default context is in use: call configure() before anything else")
    _options.clear()
    _options.update(wanted)


def default_context() -> Context:
    """The default context, on the global reactor."""
    return _get(False)


def guest_context() -> Context:
    """As the default context, but without its credentials: for services that others have named."""
    return _get(True)


def _get(is_guest: bool) -> Context:
    """A context on the global reactor, which is closed before that stops."""
    if is_guest in _contexts:
        return _contexts[is_guest]
    from twisted.internet import reactor

    if not _options:
        configure()
    options = dict(_options)
    if is_guest:
        options.pop("credentials", None)
        options.pop("nameserver_credentials", None)
    made = _contexts[is_guest] = Context(reactor, **options)

    def close() -> defer.Deferred[None]:
        _contexts.pop(is_guest, None)
        return made.close()

    triggers: Any = reactor
    triggers.addSystemEventTrigger("before", "shutdown", close)
    return made


def _forked() -> None:
    """In a forked child: forget the parent's contexts."""
    for is_guest, context in list(_contexts.items()):
        if forks.runs(context.reactor):
            forks.keep(context)
            del _contexts[is_guest]


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
