"""A user's program with typed proxies: never run, checked by mypy in strict mode.

What is wrong in it has to be an error: mypy says so if one of these is none, by its unused ignores.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred

from pycomnet import blocking
from pycomnet.blocking.ext import proxy as blocking_proxy
from pycomnet.ext.proxy import Proxy, locate, proxy
from pycomnet.services.client.remoteservice import RemoteService
from pycomnet.services.interface import Service

if TYPE_CHECKING:
    from typing_extensions import assert_type


class Calc(Protocol):
    """As ``pycomnet describe --stub`` writes it."""

    def add(self, a: int, b: int | None = ...) -> Deferred[int]: ...

    def ticks(self, *, count: int) -> AsyncIterator[Any]: ...


class BlockingCalc(Protocol):
    """The same without Deferreds."""

    def add(self, a: int, b: int | None = ...) -> int: ...

    def ticks(self, *, count: int) -> Iterator[Any]: ...


class CalcService(Service):
    """The service's own class, whose methods take requests."""


async def typed(service: RemoteService) -> None:
    """With Deferreds."""
    calc = proxy(service, interface=Calc)
    assert_type(calc, Calc)
    assert_type(await calc.add(a=1, b=2), int)
    assert_type(await proxy(Deferred[RemoteService](), interface=Calc).add(1), int)
    calc.add(a="x")  # type: ignore[arg-type]
    calc.add(c=1)  # type: ignore[call-arg]
    calc.add()  # type: ignore[call-arg]
    calc.subtract(a=1)  # type: ignore[attr-defined]
    async for _ in calc.ticks(count=3):
        pass
    for _ in calc.ticks(count=3):  # type: ignore[attr-defined]
        pass


async def untyped(service: RemoteService) -> None:
    """Without a Protocol any method is taken, and its result is of any type."""
    calc = proxy(service)
    assert_type(calc, Proxy)
    assert_type(await calc.add(a=1), Any)
    assert_type(calc.with_(timeout=5), Proxy)
    assert_type(proxy(service, interface=CalcService), Proxy)
    assert_type(await locate("org.example.calc"), Proxy)
    calc.with_(5)  # type: ignore[call-arg]
    calc.with_(wait=5)  # type: ignore[call-arg]


def without_deferreds(service: blocking.RemoteService) -> None:
    """In a script."""
    calc = blocking_proxy.proxy(service, interface=BlockingCalc)
    assert_type(calc.add(1, b=2), int)
    calc.add(a="x")  # type: ignore[arg-type]
    for _ in calc.ticks(count=3):
        pass
    other = blocking_proxy.proxy(service)
    assert_type(other, blocking_proxy.Proxy)
    assert_type(other["add"].start(a=1), Future[Any])
    assert_type(blocking_proxy.locate("org.example.calc", timeout=5), blocking_proxy.Proxy)
