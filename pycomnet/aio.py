"""Services for asyncio programs: the same API, with futures in place of Deferreds.

Each class here is made from the class of that name in :mod:`pycomnet`: the names and arguments are
the same, and what returns a Deferred there returns a future here. A timeout or a cancelled task
cancels the operation that it waits for::

    import asyncio
    from pycomnet import aio

    async def main():
        async with aio.Context(nameserver="tcp:127.0.0.1:2012") as context:
            calc = await context.locate("org.example.calc")
            print(await calc.invoke("add", {"a": 1, "b": 2}, timeout=5))

    asyncio.run(main())

It works on any running loop, uvloop's as well, and on several one after the other: each has a
reactor of its own, which ends with the last context and server on it. If Twisted's asyncio reactor
is installed already and uses the running loop, that reactor is used.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.python import threadable

from pycomnet.errors import ChannelClosed
from pycomnet.net import _twisted
from pycomnet.services.client import context as _context
from pycomnet.services.client import remoteservice as _remoteservice
from pycomnet.services.client import remotestream as _remotestream
from pycomnet.services.interface import Service
from pycomnet.services.server import server as _server

#: The Deferred API's class -> the one here.
_classes: dict[type, type] = {}


class _Reactor(AsyncioSelectorReactor):
    """A reactor on a loop that the program runs and also uses itself.

    :ivar users: the number of contexts and servers that use it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.loop = loop
        self.users = 0
        # The thread of another reactor, such as that of pycomnet.blocking, stays registered.
        before = threadable.ioThread
        self.startRunning(installSignalHandlers=False)
        if before is not None:
            threadable.ioThread = before

    def end(self) -> None:
        """Stop using the loop: close the reactor's descriptors, and cancel its timers."""
        if self.threadpool is not None:
            self.threadpool.stop()
        everything: Any = self
        for reader in everything.removeAll():
            reader.connectionLost(defer.CancelledError())
        waker, self.waker = self.waker, None
        if waker is not None:
            everything.removeReader(waker)
            waker.connectionLost(defer.CancelledError())
        for call in self.getDelayedCalls():
            call.cancel()


_reactors: dict[asyncio.AbstractEventLoop, _Reactor] = {}


def _acquire() -> AsyncioSelectorReactor:
    """The reactor of the running loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "pycomnet.aio is used in a coroutine that asyncio runs: begin with asyncio.run(main())"
        ) from None
    installed: Any = sys.modules.get("twisted.internet.reactor")
    if isinstance(installed, AsyncioSelectorReactor) and _twisted.runs_on(installed, loop):
        return installed
    for closed in [one for one in _reactors if one.is_closed()]:
        del _reactors[closed]
    if loop not in _reactors:
        _reactors[loop] = _Reactor(loop)
    reactor = _reactors[loop]
    reactor.users += 1
    return reactor


def _release(reactor: AsyncioSelectorReactor) -> None:
    if isinstance(reactor, _Reactor):
        reactor.users -= 1
        if not reactor.users and _reactors.pop(reactor.loop, None) is not None:
            reactor.end()


def as_future(deferred: defer.Deferred[Any]) -> asyncio.Future[Any]:
    """Turn a Deferred into a future of the running loop; cancelling that cancels the Deferred."""
    return deferred.addCallback(_out).asFuture(asyncio.get_running_loop())


def _out(value: Any) -> Any:
    """Convert a result: wrap an object of the Deferred API; turn a Deferred into a future."""
    kind = _classes.get(type(value))
    if kind is not None:
        wrapper: Any = object.__new__(kind)
        wrapper._wrapped = value  # noqa: SLF001 - this is its own module
        return wrapper
    if isinstance(value, defer.Deferred):
        return as_future(value)
    return value


def _in(value: Any) -> Any:
    """Convert an argument: unwrap an object of this module."""
    return value._wrapped if isinstance(value, _Wrapper) else value  # noqa: SLF001


class _Wrapper:
    """Wraps an object of the Deferred API for asyncio."""

    _wrapped: Any

    def __repr__(self) -> str:
        return repr(self._wrapped)

    if TYPE_CHECKING:
        # A type checker does not see the generated methods.
        def __getattr__(self, name: str) -> Any: ...


def _filled_from(cls: type, *names: str) -> Callable[[type], type]:
    """Give a class the methods and attributes of a class of the Deferred API."""

    def method(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            given = {key: _in(value) for key, value in kwargs.items()}
            return _out(function(self._wrapped, *map(_in, args), **given))

        return call

    def attribute(name: str) -> property:
        return property(lambda self: _out(getattr(self._wrapped, name)))

    def fill(target: type) -> type:
        for name in names:
            found = inspect.getattr_static(cls, name, None)
            if inspect.isfunction(found):
                setattr(target, name, method(name, found))
            else:
                setattr(target, name, attribute(name))
        target.__doc__ = cls.__doc__
        _classes[cls] = target
        return target

    return fill


@_filled_from(_remotestream.RemoteStream, "receive", "close")
class RemoteStream(_remotestream.ValueIterator, _Wrapper):
    """Filled from :class:`pycomnet.RemoteStream`."""


@_filled_from(_remoteservice.RemoteService, "invoke", "stream", "introspect", "interface")
class RemoteService(_Wrapper):
    """Filled from :class:`pycomnet.RemoteService`."""


class _Owner(_Wrapper):
    """An object that uses a reactor from its creation until it is closed."""

    _reactor: AsyncioSelectorReactor | None = None

    async def close(self, *args: Any, **kwargs: Any) -> None:
        """As the Deferred API's."""
        reactor, self._reactor = self._reactor, None
        try:
            await as_future(self._wrapped.close(*args, **kwargs))
        finally:
            if reactor is not None:
                _release(reactor)

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


@_filled_from(_context.Context, "connect", "at", "locate", "nameserver")
class Context(_Owner):
    """Filled from :class:`pycomnet.Context`."""

    def __init__(self, **options: Any) -> None:
        self._reactor = _acquire()
        try:
            self._wrapped = _context.Context(self._reactor, **options)
        except BaseException:
            _release(self._reactor)
            raise


@_filled_from(_server.ServiceServer, "listen", "services")
class ServiceServer(_Owner):
    """Filled from :class:`pycomnet.ServiceServer`.

    Its services' async methods run as tasks of the loop, and may await futures and Deferreds.
    """

    def __init__(self, **options: Any) -> None:
        self._reactor = _acquire()
        try:
            given = {key: _in(value) for key, value in options.items()}
            self._wrapped = _server.ServiceServer(self._reactor, **given)
        except BaseException:
            _release(self._reactor)
            raise

    def add(self, service: Service) -> asyncio.Future[None]:
        """As :meth:`pycomnet.ServiceServer.add`."""
        return as_future(self._wrapped.add(service))


class Subscriber(_Wrapper):
    """A subscriber for asyncio; :func:`subscriber` makes it. Iterate over it with ``async for``."""

    def receive(self) -> asyncio.Future[Any]:
        """The next value: see :meth:`pycomnet.ext.pubsub.Subscriber.receive`."""
        return as_future(self._wrapped.receive())

    def receive_event(self) -> asyncio.Future[Any]:
        """The next event; its ``acknowledge`` returns a Deferred: use :func:`as_future`."""
        return as_future(self._wrapped.receive_event())

    def receive_many(self, most: int = 1000, events: bool = False) -> asyncio.Future[list[Any]]:
        """The values that have come, at least one: see the Deferred API's ``receive_many``."""
        return as_future(self._wrapped.receive_many(most, events))

    def when_subscribed(self) -> asyncio.Future[None]:
        """Wait until the subscription is in effect."""
        return as_future(self._wrapped.when_subscribed())

    def change(self, subjects: Any) -> asyncio.Future[None]:
        """Get other subjects from now on."""
        return as_future(self._wrapped.change(subjects))

    async def close(self) -> None:
        """Get no more events."""
        await as_future(self._wrapped.close())

    def __aiter__(self) -> Subscriber:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except ChannelClosed:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Subscriber:
        self._wrapped.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


def subscriber(interface: str, subjects: Any = None, **options: Any) -> Subscriber:
    """As :func:`pycomnet.ext.pubsub.subscriber`, for asyncio.

    :param options: ``context``, a :class:`Context` of this module, is one of them.
    """
    from pycomnet.ext import pubsub  # only for programs that use it

    made = Subscriber()
    given = {key: _in(value) for key, value in options.items()}
    made._wrapped = pubsub.subscriber(interface, subjects, **given)  # noqa: SLF001
    return made


__all__ = [
    "Context",
    "RemoteService",
    "RemoteStream",
    "ServiceServer",
    "Subscriber",
    "as_future",
    "subscriber",
]
