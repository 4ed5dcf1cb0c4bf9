"""A user's program with reactors of all kinds: never run, checked by mypy.

What may be passed passes without a cast. What must not has an "ignore" that mypy reports when it is
not needed.
"""

from __future__ import annotations

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorTCP,
    IReactorTime,
)
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from pycomnet.channels.connection import Connection
from pycomnet.gateways.group import Group
from pycomnet.net.endpoints import client_endpoint
from pycomnet.net.reactors import EndpointReactor, GatewayReactor, PipeReactor
from pycomnet.services.client.context import Context
from pycomnet.services.server.server import ServiceServer


def global_reactor() -> None:
    """``twisted.internet.reactor``, as Twisted declares it."""
    from twisted.internet import reactor

    Connection(reactor)
    Group(reactor=reactor)
    Context(reactor)
    ServiceServer(reactor)
    client_endpoint(reactor, "tcp:host:1")


def own_reactors(epoll: EPollReactor, loop: AsyncioSelectorReactor, select: SelectReactor) -> None:
    """Reactors that a program makes itself."""
    for reactor in (epoll, loop, select):
        Group(reactor=reactor)
        Context(reactor)


def test_reactors(clock: Clock, memory: MemoryReactorClock) -> None:
    """Those of a user's tests."""
    Connection(clock)
    Connection(memory)
    Group(reactor=memory)
    Context(memory)
    ServiceServer(memory)
    Context(clock)  # type: ignore[arg-type]
    Group(reactor=clock)  # type: ignore[arg-type]


def takes_time(reactor: IReactorTime) -> None:
    """Needs one interface."""


def takes_tcp(reactor: IReactorTCP) -> None:
    """Needs one interface."""


def takes_descriptors(reactor: IReactorFDSet) -> None:
    """Needs one interface."""


def takes_core(reactor: IReactorCore) -> None:
    """Needs one interface."""


def takes_threads(reactor: IReactorFromThreads) -> None:
    """Needs one interface."""


def passes_on(endpoint: EndpointReactor, pipe: PipeReactor, gateway: GatewayReactor) -> None:
    """What needs several interfaces passes it on to what needs fewer."""
    takes_time(endpoint)
    takes_tcp(endpoint)
    takes_time(pipe)
    takes_descriptors(pipe)
    takes_core(pipe)
    takes_time(gateway)
    takes_tcp(gateway)
    takes_descriptors(gateway)
    takes_core(gateway)
    takes_threads(IReactorFromThreads(gateway))
    takes_core(endpoint)  # type: ignore[arg-type]
    takes_tcp(pipe)  # type: ignore[arg-type]
    takes_threads(gateway)  # type: ignore[arg-type]
