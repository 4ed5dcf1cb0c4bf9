"""Types of reactors, where one of Twisted's interfaces is not enough.

Python has no type for "implements both of these interfaces". So these are protocols: for mypy with
mypy-zope, a class that has the methods fits, and what fits can be passed to what needs one of the
interfaces.

Twisted does not declare that ``twisted.internet.reactor`` has threads or a name resolver. Code that
needs those adapts the reactor, as Twisted advises: ``IReactorFromThreads(reactor)``. If the reactor
has none, that raises a TypeError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorCore,
    IReactorFDSet,
    IReactorTCP,
    IReactorTime,
    IReadDescriptor,
    IWriteDescriptor,
)
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from pycomnet.net import _twisted


@implementer(IReactorTime)
class _Time(Protocol):
    def seconds(self) -> float: ...

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> IDelayedCall: ...

    def getDelayedCalls(self) -> Sequence[IDelayedCall]: ...


@implementer(IReactorTCP)
class _TCP(Protocol):
    def listenTCP(
        self, port: int, factory: Any, backlog: int = ..., interface: str = ...
    ) -> Any: ...

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = ...,
        bindAddress: tuple[str, int] | None = ...,
    ) -> Any: ...


@implementer(IReactorFDSet)
class _FDSet(Protocol):
    def addReader(self, reader: IReadDescriptor) -> None: ...

    def addWriter(self, writer: IWriteDescriptor) -> None: ...

    def removeReader(self, reader: IReadDescriptor) -> None: ...

    def removeWriter(self, writer: IWriteDescriptor) -> None: ...

    def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]: ...

    def getReaders(self) -> list[IReadDescriptor]: ...

    def getWriters(self) -> list[IWriteDescriptor]: ...


@implementer(IReactorCore)
class _Core(Protocol):
    running: Any

    def resolve(self, name: str, timeout: Sequence[int] = ...) -> Deferred[str]: ...

    def run(self) -> None: ...

    def stop(self) -> None: ...

    def crash(self) -> None: ...

    def iterate(self, delay: float) -> None: ...

    def fireSystemEvent(self, eventType: str) -> None: ...

    def addSystemEventTrigger(
        self,
        phase: str,
        eventType: str,
        callable: Callable[..., Any],
        *args: object,
        **kwargs: object,
    ) -> Any: ...

    def removeSystemEventTrigger(self, triggerID: Any) -> None: ...

    def callWhenRunning(
        self, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> Any | None: ...


class _EndpointReactor(_Time, _TCP, Protocol):
    pass


class _PipeReactor(_Time, _Core, _FDSet, Protocol):
    pass


class _GatewayReactor(_Time, _Core, _FDSet, _TCP, Protocol):
    pass


if TYPE_CHECKING:
    #: Connects and listens: ``IReactorTime`` and ``IReactorTCP``; for other endpoints what those
    #: need, such as ``IReactorUNIX``.
    EndpointReactor: TypeAlias = _EndpointReactor | _twisted.CommonReactor
    #: Reads and writes pipes: ``IReactorTime``, ``IReactorFDSet`` and ``IReactorCore``.
    PipeReactor: TypeAlias = _PipeReactor | _twisted.CommonReactor
    #: Runs processes that it reaches through pipes or endpoints: all of those.
    GatewayReactor: TypeAlias = _GatewayReactor | _twisted.CommonReactor
else:
    EndpointReactor, PipeReactor, GatewayReactor = _EndpointReactor, _PipeReactor, _GatewayReactor
