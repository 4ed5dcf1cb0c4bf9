"""A gateway: one far side, and what can be done there."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.deferred import deferred
from pycomnet.errors import (
    CodeNotSendable,
    ConnectionLost,
    PycomnetError,
    UsedAfterFork,
)
from pycomnet.far.live import Live
from pycomnet.gateways.connection import END_TIMEOUT, INTERRUPT_TIME, GatewayConnection
from pycomnet.gateways.modules import ModuleOffer, ModuleSource
from pycomnet.gateways.output import OutputCallback
from pycomnet.gateways.resumable import ResumableConnection
from pycomnet.gateways.source import FarPython, call_request, exec_request
from pycomnet.ranges import optional_real
from pycomnet.wire.values import ValueNotSendable, blame, show_key

if TYPE_CHECKING:
    from pycomnet.gateways.group import Group
    from pycomnet.gateways.spec import Spec

#: What runs at the far side for :meth:`Gateway.register_types`.
_REGISTER = """from _pycomnet.far.register import register_module
register_module(channel, name, text, filename)
"""


def _given(request: dict[str, Any]) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """What a user gave that is in a request, as :func:`~pycomnet.wire.values.blame` takes it."""
    for n, value in enumerate(request.get("args", ())):
        yield f"args[{n}]", '["args"][0]', value, {"args": [value]}
    for name, value in request.get("kwargs", {}).items():
        yield f'kwargs["{name}"]', f'["kwargs"]{show_key(name)}', value, {"kwargs": {name: value}}


class Gateway(Live):
    """A far side.

    Made by :meth:`Group.makegateway`. It is ended when nobody holds it, its group or one of its
    channels any more.

    :ivar id: its name in its group.
    :ivar spec: the :class:`~pycomnet.gateways.spec.Spec` it was made from.
    :ivar group: the group it is in.
    :ivar info: what the far side says of itself: ``pid``, ``python`` (version), ``implementation``,
        ``platform``, ``executable``, ``execmodel``, ``bytecode``.
    :ivar resumed: with ``//resume=yes``, the channels that the program before this one had, by
        their ids, as far as they are open or have values that it has not taken.
    :ivar link: the connection to it and what carries that, for transports that go through it.
    """

    def __init__(self, link: GatewayConnection, group: Group, info: dict[str, Any]) -> None:
        self.link = link
        self._connection = link.connection
        self.id: str = link.id
        self.spec: Spec = link.spec
        self.group = group
        self.info = info
        self._far = FarPython(info.get("bytecode", ""))
        self._modules = ModuleSource()
        self._connection.purposes["module"] = self._modules.accept
        self._connection.make_handle = _HandleMaker(self)
        self.resumed: dict[int, Channel] = {}
        if isinstance(link.connection, ResumableConnection):
            restored, link.connection.restored = link.connection.restored, []
            self.resumed = {core.stream.id: Channel(core, self) for core in restored}
        # As a channel's, this holds nothing: the link has the error that ended the connection.
        self._finalizer = weakref.finalize(self, _abandon, weakref.ref(link))
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        state = "ended" if self._connection.lost is not None else f"pid {self.info.get('pid')}"
        return f"<Gateway {self.id} {self.spec} {state}>"

    def remote_exec(self, code: object, **kwargs: Any) -> Channel:
        """Run code at the far side.

        :param code: source text, which finds the channel as the global ``channel``; a module, whose
            source is run likewise, with ``__name__`` set to ``"__channelexec__"``; or a function,
            whose first argument is the channel.
        :param kwargs: values for the function's other parameters, or global names for the text.
        :returns: a channel to the code, at once. It is closed when the code has run, with a
            :class:`RemoteError` if it raised.
        :raises CodeNotSendable: the function can't run on its own; it says which name it needs.
        :raises ConnectionLost: the gateway is gone.
        """
        payload = self._encode(exec_request(code, kwargs, self._far))
        return Channel(self._connection.open("exec", payload), self)

    def _encode(self, request: dict[str, Any]) -> bytes:
        """A request; what can't be sent of it is named as its caller knows it."""
        encode = self._connection.encode
        try:
            return encode(request)
        except ValueNotSendable as problem:
            raise blame(encode, problem, _given(request)) from None

    def call(
        self, function: str | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> defer.Deferred[Any]:
        """Run a function at the far side and get its result here.

        :param function: a function, whose source is sent (once compiled it is kept there); or
            ``"module:function"``, which is imported there.
        :returns: fires with its result; fails with :class:`RemoteError` when it raised,
            :class:`CodeNotSendable`, :class:`ConnectionLost`. Cancelling it drops the result; what
            has begun runs on.
        """
        try:
            payload = self._encode(call_request(function, args, kwargs, self._far))
            core = self._connection.open("call", payload, end=True)
        except Exception as problem:
            return defer.fail(problem)
        result = core.receive()
        if not result.called:

            def cancel(_: object) -> None:
                result.cancel()
                core.close()

            forward: defer.Deferred[Any] = defer.Deferred(cancel)
            result.chainDeferred(forward)
            return forward
        return result

    def request_for(
        self, function: str | Callable[..., Any], *, awaits: bool = False
    ) -> dict[str, Any]:
        """What the far side is sent to have a function there: for code that keeps it and calls it.

        :param function: as for :meth:`call`.
        :param awaits: that code awaits what an async function returns.
        :returns: a request without arguments, as the protocol has it for calls: the function's
            source, its compiled code, or where it is imported from.
        :raises CodeNotSendable: this far side can't run it; the message says why.
        """
        return call_request(function, (), {}, self._far, awaits)

    @deferred
    async def register_types(self, module: ModuleType) -> None:
        """Have a module's types be known at the far side.

        The module's source is sent and becomes a module of its name there, if none of that name can
        be imported. It must import nothing that is not there, and its function
        ``register(register_type)`` is called with what registers a type, as
        :func:`pycomnet.register_type` does here, where the same function serves.

        :returns: fires when that has been done; fails with :class:`RemoteError` when it raised, and
            with :class:`CodeNotSendable`, :class:`ConnectionLost`. Cancelling it changes nothing.
        """
        if not callable(getattr(module, "register", None)):
            raise CodeNotSendable(f"module {module.__name__} has no register(register_type)")
        sent = exec_request(module, {})
        names = {"name": module.__name__, "text": sent["source"], "filename": sent["filename"]}
        channel = self.remote_exec(_REGISTER, **names)
        await channel.waitclose()

    def send_modules(self, *modules: str | os.PathLike[str]) -> defer.Deferred[None]:
        """Let code there import modules that are here, and run their functions by importing them.

        What it imports is asked for when it does so: only what is in these modules, packages and
        directories, and the packages' data files. There they go before what is installed. A
        function of such a module may use all of its module: it is imported there, not sent alone.

        :param modules: names of top-level modules or packages; ``"__main__"`` for the program
            itself, which has to be guarded (``if __name__ == "__main__":``); or directories, as
            ``Path`` or as text with a separator, for all that Python would find there.
        :returns: fires when the far side knows; what is sent after this call finds them in any
            case. Fails with :class:`ConnectionLost`. Cancelling it changes nothing there.
        :raises CodeNotSendable: there is no such module, or it has no Python source.
        """
        return self.offer_modules(ModuleOffer.of(modules))

    def offer_modules(self, offer: ModuleOffer, unless: str | None = None) -> defer.Deferred[None]:
        """As :meth:`send_modules`, of what was looked up before.

        :param unless: a path of the far side; where there is such a file nothing is offered.
        """
        connection = self._connection
        try:
            payload = connection.encode(offer.as_map(unless))
            told = connection.open("offer", payload, end=True).receive()
        except ConnectionLost as lost:
            return defer.fail(lost)
        self._modules.offer = offer = self._modules.offer.and_also(offer)
        self._far = FarPython(self._far.bytecode, offer)
        return told.addCallback(lambda _: None)

    def newchannel(self, raw: bool = False) -> Channel:
        """A new channel, to be sent over another one to code that shall have its other end.

        :param raw: it carries bytes as they are, and can be a protocol's transport.
        :raises ConnectionLost: the gateway is gone.
        """
        return Channel(self._connection.open("channel", raw=raw), self)

    def remote_status(self) -> defer.Deferred[dict[str, Any]]:
        """How the far side is.

        :returns: fires with a dict: ``running`` and ``queued`` requests, open ``channels``,
            ``threads`` that requests run in, ``execmodel``. Fails with :class:`ConnectionLost`.
            Cancelling it drops the answer.
        """
        try:
            return self._connection.open("status", end=True).receive()
        except ConnectionLost as lost:
            return defer.fail(lost)

    def ping(self) -> defer.Deferred[float]:
        """Fires with the seconds that the far side took to answer. Cancelling it drops that."""
        return self._connection.ping()

    def setoutput(self, callback: OutputCallback) -> None:
        """Have what is printed there given to ``callback`` as
        :class:`~pycomnet.gateways.output.Output`; a Deferred that it returns is waited for.
        """
        self.link.sink.callback = callback

    def isalive(self) -> bool:
        """Whether the connection to the far side is there."""
        return self._connection.lost is None

    @deferred
    async def exit(self, timeout: float | None = None, *, grace: float | None = None) -> None:
        """End the far side and everything that it started.

        Code that runs there has first the time to complete (``grace``): it gets no more values, so
        that its ``receive`` raises EOFError, and may still send some. Then its main thread gets a
        KeyboardInterrupt, and two seconds later it is killed, whatever it does. What waits for
        something of it fails with :class:`ConnectionLost`.

        :param timeout: seconds after which it is killed at once; by default 5.
        :param grace: seconds that running code has to complete; by default what ``timeout`` leaves
            when 2.5 seconds are kept for the interrupt, and none when that isn't given either.
        :returns: fires when it is gone. Cancelling it does not keep it from going.
        """
        self.group.forget(self)
        if isinstance(self._connection.lost, UsedAfterFork):
            return  # it is the parent process's
        timeout, grace = end_times(timeout, grace)
        await self.link.end(max(0.0, timeout - grace), grace)

    @property
    def lingers(self) -> bool:
        """Whether it stays with the factory service when its program is gone."""
        connection = self._connection
        return isinstance(connection, ResumableConnection) and connection.lingers

    @deferred
    async def leave(self) -> None:
        """Leave it to the factory service, as when the program ends: it lingers, to be resumed.

        Its channels can't be used here any more. What is still to be sent because the other end
        takes it slowly is not sent: wait for what ``send`` returns.

        :returns: fires when it is left, and can be resumed. Fails with :class:`PycomnetError` when
            the gateway does not linger: ``//linger=SECONDS``. Cancelling it changes nothing.
        """
        if not self.lingers:
            raise PycomnetError(f"gateway {self.id} does not linger: //linger=SECONDS")
        self.group.forget(self)
        await self.link.leave()

    @deferred
    async def join(self) -> int | None:
        """Wait until the far side has ended, without ending it.

        :returns: fires with its exit status, or minus the signal that ended it; with None where
            the transport can't see that. Cancelling it changes nothing there.
        """
        return await self.link.transport.when_ended()

    def abandoned(self, core: ChannelCore) -> None:
        """A channel that nobody holds any more. Called from any thread, at any time."""
        # One of a gateway that lingers is there for the next program.
        if self._connection.lost is None and not self.lingers:
            self.link.reactor.callFromThread(core.abandon)


def end_times(timeout: float | None, grace: float | None) -> tuple[float, float]:
    """The seconds until a far side is killed, and those that its code has to complete.

    :param timeout: the first, as a user gave it; or None.
    :param grace: the second, likewise.
    """
    timeout, grace = optional_real("timeout", timeout), optional_real("grace", grace)
    if grace is None:
        grace = 0.0 if timeout is None else max(0.0, timeout - INTERRUPT_TIME)
    if timeout is None:
        timeout = grace + END_TIMEOUT
    return timeout, min(grace, timeout)


def _abandon(link: weakref.ref[GatewayConnection]) -> None:
    """A gateway that nobody can reach any more."""
    abandoned = link()
    if abandoned is not None:
        abandoned.abandon()


class _HandleMaker:
    """Makes channels of cores for a gateway, without keeping it alive."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = weakref.ref(gateway)

    def __call__(self, core: ChannelCore) -> object:
        gateway = self._gateway()
        if gateway is None:
            raise ValueError("the gateway is gone")
        return Channel(core, gateway)


__all__ = ["Gateway", "end_times"]
