"""The values of a stream, on their way from a method's iterator to its caller."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

if TYPE_CHECKING:
    from pycomnet.services.request import ServerCall

_END = object()
#: Calls a function in a thread.
InThread = Callable[[Callable[[], Any]], defer.Deferred[Any]]


async def send_all(call: ServerCall, values: Any, in_thread: InThread | None) -> None:
    """Send what a method's iterator gives, as fast as the caller takes it.

    However that ends, a generator is closed: at once, and not when it is collected.

    :param values: what the method has returned.
    :param in_thread: for a method with ``thread=True``, whose values may take their time.
    """
    if inspect.isawaitable(values):
        values = await values
    if hasattr(values, "__aiter__"):
        await _send_async(call, values.__aiter__())
    elif in_thread is None:
        await _send_plain(call, iter(values))
    else:
        await _send_blocking(call, iter(values), in_thread)


async def _send_async(call: ServerCall, iterator: AsyncIterator[Any]) -> None:
    send = call.connection.send
    try:
        async for value in iterator:
            waiting = send(call, value)
            if waiting is not None:
                await waiting
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


async def _send_plain(call: ServerCall, iterator: Iterator[Any]) -> None:
    send = call.connection.send
    try:
        for value in iterator:
            waiting = send(call, value)
            if waiting is not None:
                await waiting
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


async def _send_blocking(call: ServerCall, iterator: Iterator[Any], in_thread: InThread) -> None:
    send = call.connection.send
    try:
        while (value := await in_thread(lambda: next(iterator, _END))) is not _END:
            waiting = send(call, value)
            if waiting is not None:
                await waiting
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            await in_thread(close)


__all__ = ["InThread", "send_all"]
