"""Proxies without Deferreds: as :mod:`pycomnet.ext.proxy`.

A call returns its result, and a stream is an iterator::

    from pycomnet.blocking.ext.proxy import locate

    calc = locate("org.example.calc")
    total = calc.add(a=1, b=2)

A proxy may be used by any number of threads at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, overload

import pycomnet.blocking.services  # noqa: F401 - it has what services and streams become here
from pycomnet.blocking import futures
from pycomnet.blocking.waiting import wait_for
from pycomnet.blocking.wrapper import Blocking, to_blocking_api, to_deferred_api, wraps_class
from pycomnet.ext.proxy import batches, methods, proxies
from pycomnet.ext.proxy.errors import InterfaceDiffers, NoSuchMethod
from pycomnet.services.client.remoteservice import DEFAULT
from pycomnet.services.interface import Service

if TYPE_CHECKING:
    from pycomnet.blocking import Context, RemoteService

T = TypeVar("T")


class ProxyMethod(Blocking):
    """A method of a service. Call it with the method's arguments."""

    def __init__(self, method: methods.ProxyMethod) -> None:
        self._wrapped = method
        self.__name__ = method.__name__
        if method.is_known:
            self.__doc__ = method.__doc__

    __signature__ = methods.SignatureOf(lambda method: method._wrapped.signature)  # noqa: SLF001

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method.

        :returns: its result; for a stream a :class:`~pycomnet.blocking.RemoteStream`, an iterator.
        :raises TypeError: the arguments do not fit the method's signature; then nothing was sent.
        """
        self._check()
        method = self._wrapped
        args, kwargs = to_deferred_api(args), to_deferred_api(kwargs)
        called = f"{method.__name__}()"
        return to_blocking_api(wait_for(lambda: method(*args, **kwargs), None, called))

    def start(self, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the method, and go on: a future of its result.

        Cancelling the future cancels the call. Functions given to ``add_done_callback`` run in
        threads of the reactor's pool.
        """
        self._check()
        method = self._wrapped
        args, kwargs = to_deferred_api(args), to_deferred_api(kwargs)
        return futures.start(lambda: method(*args, **kwargs))

    def oneway(self, /, *args: Any, **kwargs: Any) -> None:
        """Call the method, and wait neither for its result nor for its error, which is logged.

        :raises TypeError: the arguments do not fit.
        """
        self._check()
        method = self._wrapped
        args, kwargs = to_deferred_api(args), to_deferred_api(kwargs)
        wait_for(lambda: method.oneway(*args, **kwargs), None, f"{method.__name__}()")


class BatchedCall:
    """A call in a batch. It has a result once the batch is done."""

    def __init__(self, call: batches.BatchedCall) -> None:
        self._call = call

    def __repr__(self) -> str:
        return repr(self._call)

    def result(self) -> Any:
        """The call's result; raises its error.

        :raises RuntimeError: the batch has not been sent.
        """
        return to_blocking_api(self._call.result())


class BatchMethod(Blocking):
    """A method in a batch: a call of it is collected."""

    __slots__ = ()

    def __init__(self, method: Callable[..., batches.BatchedCall]) -> None:
        self._wrapped = method

    def __call__(self, /, *args: Any, **kwargs: Any) -> BatchedCall:
        """Add a call.

        :raises TypeError: the arguments do not fit what is known of the method.
        """
        return BatchedCall(self._wrapped(*to_deferred_api(args), **to_deferred_api(kwargs)))


class CallBatch(Blocking):
    """Calls that are collected in a ``with`` block and sent at its end, in one request."""

    __slots__ = ()

    def __init__(self, batch: batches.CallBatch) -> None:
        self._wrapped = batch

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"a batch has no attribute {name!r}")
        return BatchMethod(getattr(self._wrapped, name))

    def __getitem__(self, name: str) -> BatchMethod:
        return BatchMethod(self._wrapped[name])

    def __iter__(self) -> Iterator[BatchedCall]:
        return map(BatchedCall, self._wrapped)

    def __len__(self) -> int:
        return len(self._wrapped)

    def __enter__(self) -> CallBatch:
        self._check()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is None:
            wait_for(lambda: batches.send_batch(self._wrapped), None, "batch")


_OWN = frozenset({"batch", "with_"})


@wraps_class(proxies.Proxy, (), _OWN)
class Proxy(Blocking):
    """Filled from :class:`pycomnet.ext.proxy.Proxy`."""

    __slots__ = ()

    __iter__: None = None
    __contains__: None = None  # type: ignore[assignment]

    @property
    def record(self) -> Any:
        """The nameserver's record of the service, if ``locate`` made the proxy; else None."""
        return self._wrapped.record

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(
                f"a proxy has no attribute {name!r}; a method of that name is proxy[{name!r}]"
            )
        return ProxyMethod(getattr(self._wrapped, name))

    def __getitem__(self, name: str) -> ProxyMethod:
        return ProxyMethod(self._wrapped[name])

    def with_(
        self,
        *,
        timeout: float | None = DEFAULT,
        binary: bool | None = None,
        attachments: Sequence[Any] | None = None,
        args: Any = methods.NOT_GIVEN,
    ) -> Proxy:
        """As :meth:`pycomnet.ext.proxy.Proxy.with_`."""
        self._check()
        made: Proxy = to_blocking_api(
            self._wrapped.with_(
                timeout=timeout,
                binary=binary,
                attachments=attachments,
                args=to_deferred_api(args),
            )
        )
        return made

    def batch(self, stop_at_error: bool = False) -> CallBatch:
        """Calls that go in one request: ``with proxy.batch() as calls: ...``.

        :param stop_at_error: make one call after the other, and none after one that fails.
        """
        self._check()
        return CallBatch(self._wrapped.batch(stop_at_error))

    def __dir__(self) -> list[str]:
        return dir(self._wrapped)

    def _ipython_key_completions_(self) -> list[str]:
        return proxies.names_of(self._wrapped)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Proxy) and bool(self._wrapped == other._wrapped)

    def __hash__(self) -> int:
        return hash(self._wrapped)

    def __copy__(self) -> Proxy:
        made: Proxy = to_blocking_api(self._wrapped.__copy__())
        return made

    def __deepcopy__(self, memo: object) -> Proxy:
        return self.__copy__()

    def __reduce_ex__(self, protocol: object) -> Any:
        return from_reference, (proxies.reference_of(self._wrapped).as_list(),)


Proxy.__doc__ = proxies.Documentation(  # type: ignore[assignment]
    Proxy,
    lambda proxy: proxies.documentation_of(proxy._wrapped),  # noqa: SLF001
)


@overload
def proxy(
    service: RemoteService | Proxy | proxies.Proxy,
    *,
    interface: type[Service] | None = None,
    context: Context | None = None,
) -> Proxy: ...
@overload
def proxy(
    service: RemoteService | Proxy | proxies.Proxy,
    *,
    interface: Callable[..., T],
    context: Context | None = None,
) -> T: ...
def proxy(service: Any, *, interface: Any = None, context: Any = None) -> Any:
    """A proxy of a service. It calls nothing before its first use.

    :param service: what ``locate``, ``connect`` or ``nameserver`` of :mod:`pycomnet.blocking`
        gives; or a proxy, also one with Deferreds, as methods get them.
    :param interface: as for :func:`pycomnet.ext.proxy.proxy`.
    :param context: as for :func:`pycomnet.ext.proxy.proxy`.
    """
    inner, calling = to_deferred_api(service), to_deferred_api(context)
    return to_blocking_api(
        wait_for(lambda: proxies.proxy(inner, interface=interface, context=calling), None, "proxy")
    )


def locate(
    interface: str,
    service: str | None = None,
    *,
    context: Context | None = None,
    timeout: float | None = None,
) -> Proxy:
    """A proxy of any instance of a service that the nameserver knows.

    :param interface: the interface's name.
    :param service: the service's name, to find only this service.
    :param context: by default, the default context.
    :param timeout: seconds; then it is cancelled and raises TimeoutExpired.
    """
    calling = to_deferred_api(context)
    made: Proxy = to_blocking_api(
        wait_for(lambda: proxies.locate(interface, service, context=calling), timeout, "locate")
    )
    return made


def from_reference(value: Any) -> Proxy:
    """The proxy that was pickled."""
    made: Proxy = to_blocking_api(proxies.from_reference(value))
    return made


__all__ = [
    "CallBatch",
    "BatchedCall",
    "InterfaceDiffers",
    "NoSuchMethod",
    "Proxy",
    "locate",
    "proxy",
]
