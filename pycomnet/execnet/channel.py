"""Channels with execnet's methods and meanings."""

from __future__ import annotations

import queue
import weakref
from collections.abc import Callable, Iterator
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, overload

from pycomnet import forks
from pycomnet.blocking.waiting import wait_for
from pycomnet.channels.core import ChannelCore
from pycomnet.errors import PycomnetError
from pycomnet.errors import RemoteError as _RemoteError
from pycomnet.execnet.errors import (
    DumpError,
    RemoteError,
    TimeoutError,
    translated,
    used_after_fork,
)
from pycomnet.execnet.farclasses import also_a_channel
from pycomnet.execnet.inbox import END, LENT, NO_ENDMARKER, Inbox
from pycomnet.execnet.reactorbypass import NOTHING, ReactorBypass
from pycomnet.far.files import ChannelFileRead, ChannelFileWrite
from pycomnet.far.live import Live

if TYPE_CHECKING:
    from pycomnet.execnet.gateway import Gateway


#: For annotations in the class, where ``RemoteError`` is its attribute.
_ExecnetError = RemoteError


class Channel(Live):
    """One end of a channel to code at a gateway.

    Values have the types that ``dumps`` accepts, or are channels of the same gateway.

    :ivar gateway: the gateway.
    :ivar id: the number of the channel in the gateway's connection.
    """

    RemoteError = RemoteError
    TimeoutError = TimeoutError
    #: in execnet, the seconds after which a wait wakes up; waits here do not need that
    _INTERNALWAKEUP = 1000

    def __init__(self, gateway: Gateway, id: int) -> None:
        self.gateway = gateway
        self.id = id
        #: the value of forks.era in the process that made it
        self._era = forks.era
        self._closed = False

    @classmethod
    def of(cls, gateway: Gateway, core: ChannelCore) -> Channel:
        """Make the user's object for a channel. Called in the reactor's thread.

        If there was one before, which nothing refers to any more, the new one continues with the
        same inbox.
        """
        channel = cls(gateway, core.stream.id)
        channel.core = core
        core.handle = weakref.ref(channel)
        channel._send = gateway.outbox.send
        channel._bypass = gateway.outbox.bypass
        inbox = core.receiver
        if isinstance(inbox, Inbox):
            inbox.adopt()
        else:
            inbox = gateway.inbox()
            inbox.attach(core)
        channel._inbox = inbox
        # Finalizers stay until they are called, so this one has only weak references.
        finalizer = weakref.finalize(
            channel, _dropped, weakref.ref(gateway), weakref.ref(core), weakref.ref(inbox)
        )
        finalizer.atexit = False
        return channel

    core: ChannelCore
    _inbox: Inbox
    _send: Callable[[ChannelCore, object], None]
    _bypass: ReactorBypass

    def __repr__(self) -> str:
        return f"<Channel id={self.id} {'closed' if self.isclosed() else 'open'}>"

    def isclosed(self) -> bool:
        """Whether nothing can be sent on it any more."""
        core = self.core
        return self._closed or self._inbox.over or not core.stream.sending

    def send(self, item: object) -> None:
        """Queue a value to be sent, and return at once.

        :raises pycomnet.execnet.DumpError: the value can't be sent.
        :raises OSError: the channel is closed.
        """
        core = self.core
        if self._closed or self._inbox.over or not core.stream.sending:
            raise OSError(f"cannot send to {self!r}{self._why()}")
        try:
            self._send(core, item)
        except TypeError as problem:
            raise DumpError(f"can't serialize: {problem}") from None

    def _why(self) -> str:
        """Why the connection is lost, to be added to a message."""
        lost = self.core.connection.lost
        return "" if lost is None else f": {lost}"

    def receive(self, timeout: float | None = None) -> Any:
        """Receive the next value.

        :param timeout: seconds to wait for it; None is for ever.
        :raises TimeoutError: no value has arrived in time.
        :raises EOFError: the other end has closed the channel, or the gateway is gone.
        :raises pycomnet.execnet.RemoteError: the other end has closed it with an error.
        """
        inbox = self._inbox
        if inbox.has_callback:
            raise OSError(f"cannot receive(): {self!r} has a callback")
        self._check()
        limit = timeout
        waiting, thread = self._bypass.waiting, get_ident()
        deadline = None if timeout is None else monotonic() + timeout
        item: Any = LENT
        while item is LENT:
            if inbox.queue.empty():
                item = self._bypass.receive(self.core, inbox, timeout)
                if item is not NOTHING:
                    return item
            if deadline is not None and timeout is not None and timeout > 0:
                timeout = max(deadline - monotonic(), 0)
            try:
                waiting[thread] = None
                item = inbox.queue.get(timeout=timeout)
            except queue.Empty:
                raise self.TimeoutError(f"no item after {limit} seconds") from None
            finally:
                waiting.pop(thread, None)
        if item is not END:
            return item
        inbox.queue.put(END)  # for other threads, and for the next call
        if inbox.has_callback:
            raise OSError(f"cannot receive(): {self!r} has a callback since then")
        raise inbox.take_error() or EOFError()

    def _check(self) -> None:
        if self._era != forks.era:
            raise used_after_fork(repr(self))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self.receive()
        except EOFError:
            raise StopIteration from None

    next = __next__

    def setcallback(self, callback: Callable[[Any], Any], endmarker: object = NO_ENDMARKER) -> None:
        """Call a function with each value.

        Before this returns, the function is called in this thread with the values that have
        arrived. Later a thread of the gateway calls all its callbacks, one after the other.

        :param endmarker: if given, the function is called with this at the end.
        :raises OSError: the channel has a callback already.
        """
        self._check()
        try:
            self._inbox.set_callback(callback, endmarker, self._in_reactor)
        except PycomnetError as problem:
            raise translated(problem) from None

    def _in_reactor(self, function: Callable[[], list[Any]]) -> list[Any]:
        def call() -> list[Any]:
            self._bypass.take_back()  # values for a callback must not be late
            return function()

        found: list[Any] = wait_for(call, None, "setcallback")
        return found

    def waitclose(self, timeout: float | None = None) -> None:
        """Wait until the other end has closed it, and its callback has been called with everything.

        :raises TimeoutError: that took longer.
        :raises pycomnet.execnet.RemoteError: it was closed with an error, and no other call has
            raised that.
        :raises EOFError: the gateway is gone.
        """
        self._check()
        self._bypass.give_back()
        inbox = self._inbox
        if inbox.has_callback and self.gateway.callbacks.is_current():
            # A callback waits. Other callbacks are called after it, so it waits only for the end.
            try:
                inbox.queue.put(inbox.queue.get(timeout=timeout))
                closed = True
            except queue.Empty:
                closed = False
        else:
            waiting, thread = self._bypass.waiting, get_ident()
            try:
                waiting[thread] = None
                closed = inbox.closed.wait(timeout)
            finally:
                waiting.pop(thread, None)
        if not closed:
            raise self.TimeoutError(f"{self!r} is not closed after {timeout} seconds")
        error = inbox.take_error()
        if error is not None:
            raise error

    def close(self, error: str | None = None) -> None:
        """Close it, with an error's text or without.

        The callback is called with its endmarker before this returns.
        """
        if self._closed or self._inbox.over or self._era != forks.era:
            return
        self._closed = True
        core = self.core
        problem = None if error is None else _RemoteError("", error, error)
        self.gateway.outbox.put(core, lambda: core.close(problem))
        self._inbox.finish()

    def end_here(self, error: _ExecnetError | None = None, kind: str = "") -> None:
        """End it, as if the other end had closed it with this error.

        :param kind: the type of the error that is sent to the other end.
        """
        core = self.core
        self._closed = True
        self._inbox.end(error)
        problem = None if error is None else _RemoteError(kind, str(error), str(error))
        self.gateway.outbox.put(core, lambda: core.close(problem))

    @overload
    def makefile(self, mode: Literal["r"], proxyclose: bool = False) -> ChannelFileRead: ...
    @overload
    def makefile(self, mode: Literal["w"] = "w", proxyclose: bool = False) -> ChannelFileWrite: ...
    def makefile(self, mode: str = "w", proxyclose: bool = False) -> Any:
        """Make a file object that sends what is written to it, or reads what arrives.

        :param proxyclose: whether closing the file closes the channel.
        """
        like_far: Any = self  # has the methods of a far channel that these files call
        if mode == "w":
            return ChannelFileWrite(like_far, proxyclose)
        if mode == "r":
            return ChannelFileRead(like_far, proxyclose)
        raise ValueError(f"mode {mode!r} not available: use 'w' or 'r'")

    def reconfigure(self, py2str_as_py3str: bool = True, py3str_as_py2str: bool = False) -> None:
        """Accepted, and without effect: text arrives as text, and bytes as bytes."""

    def _getremoteerror(self) -> Exception | None:
        """The error that it ended with; None after the first call. pytest-xdist calls this."""
        return self._inbox.take_error()


# Connections that are made from now on encode these as channels.
ChannelCore.handle_types += (Channel,)
also_a_channel(Channel)


def _dropped(
    gateway: weakref.ref[Gateway], core: weakref.ref[ChannelCore], inbox: weakref.ref[Inbox]
) -> None:
    """End a channel that nothing refers to any more; called by its finalizer, in any thread."""
    owner, dropped, box = gateway(), core(), inbox()
    if owner is None or dropped is None or box is None:
        return
    if owner.is_connected() and forks.era == owner.era:
        owner.outbox.put(dropped, lambda: _abandon(dropped, box))


def _abandon(core: ChannelCore, inbox: Inbox) -> None:
    """In the reactor's thread: end a channel that nobody can use any more."""
    if core.is_held():
        return  # it came back over a channel in the meantime
    inbox.warn()
    if core.stream.purpose == "exec" or inbox.has_callback:
        # The far code runs on, and sees that nothing more arrives.
        if not inbox.has_callback:
            inbox.drop()
        if core.stream.sending:
            core.end()
    elif core.over is None:
        core.close()


__all__ = ["Channel"]
