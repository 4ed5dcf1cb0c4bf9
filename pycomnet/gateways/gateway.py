"""Gateways: each is one far side, and runs code there."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.deferred import deferred, shielded
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

#: The code that runs at the far side for :meth:`Gateway.register_types`.
_REGISTER = """from _pycomnet.far.register import register_module
register_module(channel, name, text, filename)
"""


def _given(request: dict[str, Any]) -> Iterator[tuple[str, str, Any, dict[str, Any]]]:
    """The user's values in a request, in the form for :func:`~pycomnet.wire.values.blame`."""
    for n, value in enumerate(request.get("args", ())):
        yield f"args[{n}]", '["args"][0]', value, {"args": [value]}
    for name, value in request.get("kwargs", {}).items():
        yield f'kwargs["{name}"]', f'["kwargs"]{show_key(name)}', value, {"kwargs": {name: value}}


class Gateway(Live):
    """A far side.

    Made by :meth:`Group.makegateway`. It ends when nothing refers to it, its group or one of its
    channels.

    :ivar id: its name in its group.
    :ivar spec: its :class:`~pycomnet.gateways.spec.Spec`.
    :ivar group: its group.
    :ivar info: facts from the far side: ``pid``, ``python`` (version), ``implementation``,
        ``platform``, ``executable``, ``execmodel``, ``bytecode``.
    :ivar resumed: with ``//resume=yes``: id -> channel of the program before this one, for the
        channels that are open or have values that it did not receive.
    :ivar link: its connection and transport, for transports that go through it.
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
        self._connection.make_handle = HandleMaker(self, _channel)
        self.resumed: dict[int, Channel] = {}
        if isinstance(link.connection, ResumableConnection):
            restored, link.connection.restored = link.connection.restored, []
            self.resumed = {core.stream.id: Channel(core, self) for core in restored}
        # As a channel's, this has only weak references: the link has the error that ended it.
        self._finalizer = weakref.finalize(self, _abandon, weakref.ref(link))
        self._finalizer.atexit = False

    def __repr__(self) -> str:
        state = "ended" if self._connection.lost is not None else f"pid {self.info.get('pid')}"
        return f"<Gateway {self.id} {self.spec} {state}>"

    def remote_exec(self, code: object, **kwargs: Any) -> Channel:
        """Run code at the far side.

        :param code: source text, which has the channel as the global ``channel``; a module, whose
            source is run likewise, with ``__name__`` set to ``"__channelexec__"``; or a function,
            whose first argument is the channel.
        :param kwargs: the function's other arguments, or global variables for the text.
        :returns: a channel to the code, at once. It is closed when the code has run, with a
            :class:`RemoteError` if it raised.
        :raises CodeNotSendable: the function can't run on its own; the message says which name it
            needs.
        :raises ConnectionLost: the gateway is gone.
        """
        payload = self._encode(exec_request(code, kwargs, self._far))
        return Channel(self._connection.open("exec", payload), self)

    def _encode(self, request: dict[str, Any]) -> bytes:
        """Encode a request. An error names a value that can't be sent as the caller knows it."""
        encode = self._connection.encode
        try:
            return encode(request)
        except ValueNotSendable as problem:
            raise blame(encode, problem, _given(request)) from None

    def call(
        self, function: str | Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> defer.Deferred[Any]:
        """Run a function at the far side and get its result here.

        :param function: a function, whose source is sent (the far side caches the compiled code);
            or ``"module:function"``, which is imported there.
        :returns: fires with its result; fails with :class:`RemoteError` if it raised,
            :class:`CodeNotSendable`, :class:`ConnectionLost`. Cancelling it drops the result; a
            call that has begun runs on.
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
        """The request that gives the far side a function, for far code that keeps and calls it.

        :param function: as for :meth:`call`.
        :param awaits: whether that code awaits the result of an async function.
        :returns: a request without arguments, as the protocol has it for calls: the function's
            source, its compiled code, or where it is imported from.
        :raises CodeNotSendable: this far side can't run it; the message says why.
        """
        return call_request(function, (), {}, self._far, awaits)

    @deferred
    async def register_types(self, module: ModuleType) -> None:
        """Register a module's types at the far side.

        The module's source is sent and becomes a module of its name there, if no module of that
        name can be imported. It must import nothing that is not there. Its function
        ``register(register_type)`` is called with a function that registers a type, like
        :func:`pycomnet.register_type` here; so one function serves both ends.

        :returns: fires when that has been done; fails with :class:`RemoteError` if it raised, and
            with :class:`CodeNotSendable`, :class:`ConnectionLost`. Cancelling it changes nothing.
        """
        if not callable(getattr(module, "register", None)):
            raise CodeNotSendable(f"module {module.__name__} has no register(register_type)")
        sent = exec_request(module, {})
        names = {"name": module.__name__, "text": sent["source"], "filename": sent["filename"]}
        channel = self.remote_exec(_REGISTER, **names)
        await channel.waitclose()

    def send_modules(self, *modules: str | os.PathLike[str]) -> defer.Deferred[None]:
        """Let far code import modules from here, and run their functions by importing them.

        The far side requests a module when code imports it. It can request only what is in these
        modules, packages and directories, and the packages' data files. They take precedence over
        what is installed there. A function of such a module may use all of its module, as it is
        imported there and not sent alone.

        :param modules: names of top-level modules or packages; ``"__main__"`` for the program
            itself, which has to be guarded (``if __name__ == "__main__":``); or directories, as
            ``Path`` or as text with a separator, for all modules that Python would find there.
        :returns: fires when the far side has the offer; code that is sent after this call finds the
            modules in any case. Fails with :class:`ConnectionLost`. Cancelling it changes nothing
            there.
        :raises CodeNotSendable: there is no such module, or it has no Python source.
        """
        return self.offer_modules(ModuleOffer.of(modules))

    def offer_modules(self, offer: ModuleOffer, unless: str | None = None) -> defer.Deferred[None]:
        """As :meth:`send_modules`, for modules that were looked up before.

        :param unless: a path at the far side; if that file exists, nothing is offered.
        """
        connection = self._connection
        try:
            payload = connection.encode(offer.as_map(self._modules.offer, unless))
            told = connection.open("offer", payload, end=True).receive()
        except ConnectionLost as lost:
            return defer.fail(lost)
        self._modules.offer = offer = self._modules.offer.and_also(offer)
        self._far = FarPython(self._far.bytecode, offer)
        return told.addCallback(lambda _: None)

    def newchannel(self, raw: bool = False) -> Channel:
        """Open a channel; send it over another channel to the code that is to have its other end.

        :param raw: whether it carries bytes unchanged, and can be a protocol's transport.
        :raises ConnectionLost: the gateway is gone.
        """
        return Channel(self._connection.open("channel", raw=raw), self)

    def remote_status(self) -> defer.Deferred[dict[str, Any]]:
        """The far side's status.

        :returns: fires with a dict: the numbers of ``running`` and ``queued`` requests, of open
            ``channels`` and of ``threads`` for requests, and ``execmodel``. Fails with
            :class:`ConnectionLost`. Cancelling it drops the answer.
        """
        try:
            return self._connection.open("status", end=True).receive()
        except ConnectionLost as lost:
            return defer.fail(lost)

    def ping(self) -> defer.Deferred[float]:
        """Fires with the seconds that the far side took to answer. Cancelling drops the answer."""
        return self._connection.ping()

    def setoutput(self, callback: OutputCallback) -> None:
        """Call ``callback`` with the output of far code.

        :param callback: gets each :class:`~pycomnet.gateways.output.Output`; if it returns a
            Deferred, the next output waits for that.
        """
        self.link.sink.callback = callback

    def isalive(self) -> bool:
        """Whether the far side is connected."""
        return self._connection.lost is None

    @shielded
    async def exit(
        self,
        timeout: float | None = None,
        *,
        grace: float | None = None,
        patience: float = 0.0,
    ) -> None:
        """End the far side and everything that it started.

        First, running code has time to complete (``grace``): it gets no more values, so its
        ``receive`` raises EOFError, and it may still send some. Then its main thread gets a
        KeyboardInterrupt, and two seconds later it is killed, whatever it does. Operations that
        still wait for it fail with :class:`ConnectionLost`.

        :param timeout: seconds after which it is killed at once; by default 5.
        :param grace: seconds for running code to complete; by default ``timeout`` less 2.5 seconds
            for the interrupt, and none if ``timeout`` isn't given either.
        :param patience: seconds after the interrupt, before those two: the connection goes on, code
            that was interrupted may send, and exit functions run. The timeout begins after it.
        :returns: fires when it is gone. Cancelling it does not keep it from going.
        """
        self.group.forget(self)
        if isinstance(self._connection.lost, UsedAfterFork):
            return  # it belongs to the parent process
        timeout, grace = end_times(timeout, grace)
        patience = optional_real("patience", patience) or 0.0
        await self.link.end(max(0.0, timeout - grace), grace, patience)

    @property
    def lingers(self) -> bool:
        """Whether the factory service keeps it when its program is gone."""
        connection = self._connection
        return isinstance(connection, ResumableConnection) and connection.lingers

    @shielded
    async def leave(self) -> None:
        """Leave it to the factory service, as at the program's end: it lingers, to be resumed.

        Its channels can't be used here any more. Values that still wait for a slow receiver are not
        sent: wait for the Deferreds of ``send`` first.

        :returns: fires when it has been left, and can be resumed. Fails with :class:`PycomnetError`
            if the gateway does not linger: ``//linger=SECONDS``. Cancelling it changes nothing.
        """
        if not self.lingers:
            raise PycomnetError(f"gateway {self.id} does not linger: //linger=SECONDS")
        self.group.forget(self)
        await self.link.leave()

    @deferred
    async def join(self) -> int | None:
        """Wait until the far side has ended, without ending it.

        :returns: fires with its exit status, or minus the signal that ended it; with None if the
            transport can't see that. Cancelling it changes nothing there.
        """
        return await self.link.transport.when_ended()

    def abandoned(self, core: ChannelCore) -> None:
        """No reference to a channel is left. Called from any thread, at any time."""
        # A channel of a gateway that lingers stays for the next program.
        if self._connection.lost is None and not self.lingers:
            self.link.call_from_thread(core.abandon)


def end_times(timeout: float | None, grace: float | None) -> tuple[float, float]:
    """The seconds until a far side is killed, and those for its code to complete.

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
    """End a gateway that is unreachable."""
    abandoned = link()
    if abandoned is not None:
        abandoned.abandon()


class HandleMaker:
    """Makes the users' objects of a gateway's channels, without keeping the gateway alive.

    :param make: makes one of the gateway and a core.
    """

    def __init__(self, gateway: Any, make: Callable[[Any, ChannelCore], object]) -> None:
        self._gateway = weakref.ref(gateway)
        self._make = make

    def __call__(self, core: ChannelCore) -> object:
        gateway = self._gateway()
        if gateway is None:
            raise ValueError("the gateway is gone")
        return self._make(gateway, core)


def _channel(gateway: Gateway, core: ChannelCore) -> Channel:
    return Channel(core, gateway)
