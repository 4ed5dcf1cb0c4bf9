"""Routes: how the supervisor is reached that starts a gateway, and what it does there."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel, ChannelCore
from pycomnet.channels.core import NO_ENDMARKER
from pycomnet.errors import ChannelClosed, PycomnetError
from pycomnet.far import package
from pycomnet.gateways.source import exec_request
from pycomnet.gateways.spec import STARTUP, Spec
from pycomnet.gateways.transports import KEEPING
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.popen import (
    ProcessGatewayTransport,
    boot_code,
    interpreter,
    prepare,
)

if TYPE_CHECKING:
    from pycomnet.gateways.gateway import Gateway


@attrs.frozen
class HopCommand:
    """What a supervisor starts to reach another one: a program, and what that is told."""

    argv: tuple[str, ...]
    config: dict[str, Any] = attrs.field(factory=dict, eq=False)

    def as_map(self) -> dict[str, Any]:
        """As a supervisor is asked for it."""
        return {"argv": list(self.argv), "config": self.config}


@attrs.frozen
class Way:
    """How the near side reaches a supervisor itself.

    :ivar key: what tells it from others in a group.
    :ivar open: makes the carrier of its connection; the number is a descriptor that it gets.
    :ivar door: whether it can be given descriptors.
    :ivar keepalive: seconds of silence after which it is asked for a sign of life, or None.
    :ivar credential: what whoever lets this program in there asks for.
    :ivar env: this process's environment when this was made, if the supervisor is started in that.
    """

    key: tuple[Any, ...]
    open: Callable[[GatewayRequest, int | None], GatewayTransport] = attrs.field(eq=False)
    door: bool = attrs.field(default=False, eq=False)
    keepalive: float | None = attrs.field(default=None, eq=False)
    credential: bytes | None = attrs.field(default=None, eq=False, repr=False)
    env: dict[str, str] = attrs.field(factory=dict, eq=False, repr=False)


@attrs.frozen
class Route:
    """How a gateway is reached: the first supervisor, those behind it, and what the last does.

    :ivar argv: an interpreter that the last one starts for this gateway alone; empty: it forks.
    :ivar master: the id of the gateway that it is started from, or None.
    """

    way: Way
    path: tuple[HopCommand, ...] = ()
    argv: tuple[str, ...] = ()
    master: str | None = None


def can_fork(spec: Spec) -> bool:
    """Whether it may be worth trying: a supervisor that can't says so."""
    return hasattr(socket, "send_fds") and not any(
        "jython" in os.path.basename(word) for word in interpreter(spec)[:1]
    )


def has_supervisor(spec: Spec) -> bool:
    """Whether a supervisor starts such a gateway, and can start others beside it."""
    return spec.transport not in KEEPING and spec.fork is not False and can_fork(spec)


def here(request: GatewayRequest) -> Route:
    """A gateway on this machine."""
    argv = tuple(interpreter(request.spec))
    env = dict(os.environ)
    variables = {
        name: value
        for given in (env, request.spec.env)
        for name, value in given.items()
        if name.startswith(STARTUP)
    }
    env.update(variables)
    key = ("popen", argv, tuple(sorted(variables.items())), os.geteuid(), os.getegid())

    def opened(asked: GatewayRequest, door: int | None) -> GatewayTransport:
        config: dict[str, Any] = {"fork_server": {"near": os.getpid(), "door": door}}
        started_in, letter = prepare(env, config)
        command = [*argv, "-c", boot_code(config)]
        fds = () if door is None else (door,)
        return ProcessGatewayTransport(
            asked, command, started_in, letter, fds, "the supervisor of its place"
        )

    return Route(Way(key, opened, door=True, env=env))


def through(request: GatewayRequest) -> Route:
    """A gateway that is started from another one, in a place that is reached from there."""
    spec = request.spec
    assert spec.via is not None
    if spec.via not in request.group:
        raise PycomnetError(f"there is no gateway {spec.via!r} in this group to start it from")
    master = request.group[spec.via]
    carrier: Any = master._link.carrier
    route = getattr(carrier, "route", None)
    # One that was started alone although it could have been forked: those after it are.
    if route is None or route.way.key in request.group._places.without_fork:
        route = inside(master)
    found = behind(route, spec, master.info["executable"])
    return attrs.evolve(found, master=spec.via)


class Inside:
    """What a channel of a gateway's own connection belongs to, without keeping that alive."""

    def __init__(self, id: str) -> None:
        self.id = id

    def abandoned(self, core: ChannelCore) -> None:
        """A channel that nobody holds any more."""


def inside(master: Gateway) -> Route:
    """A supervisor that a gateway's worker starts, for one that no supervisor has forked."""
    from pycomnet.gateways.transports.channel import ChannelGatewayTransport

    link = master._link
    argv = boot_argv([master.info["executable"] or "python3"])

    def opened(asked: GatewayRequest, door: int | None) -> GatewayTransport:
        near = link.connection
        channel = Channel(near.open("channel", raw=True), Inside(link.id))
        kwargs = {"raw": channel, "argv": list(argv), "config": {"fork_server": {}}}
        request = exec_request(
            "from _pycomnet.far.gateways import start; start(None, argv, config, raw)", kwargs
        )
        started = near.open("exec", near.encode(request))

        def failed(failure: Failure) -> None:
            channel.close(ChannelClosed(failure.getErrorMessage()))

        started.set_callback(lambda value: None, failed, NO_ENDMARKER)
        return ChannelGatewayTransport(asked, channel, f"the supervisor behind gateway {link.id}")

    return Route(Way(("inside", id(link)), opened))


def behind(route: Route, spec: Spec, executable: str) -> Route:
    """The route of a gateway in a place that is reached from the end of another route.

    :param executable: the interpreter at that end.
    """
    from pycomnet.gateways.transports import ssh

    fork = spec.fork is not False and can_fork(spec)
    if spec.transport == "ssh":
        hop = ssh.hop(spec)
    elif spec.python is None and fork:
        return attrs.evolve(route, argv=())
    else:
        hop = HopCommand(boot_argv(spec.python or [executable]), {"fork_server": {}})
    if fork:
        return attrs.evolve(route, path=(*route.path, hop), argv=())
    return attrs.evolve(route, argv=hop.argv)


def boot_argv(python: Sequence[str]) -> tuple[str, ...]:
    """The command that an interpreter is started with where nothing of ours is."""
    return (*python, "-c", package.code())


__all__ = [
    "HopCommand",
    "Route",
    "Way",
    "behind",
    "boot_argv",
    "can_fork",
    "has_supervisor",
    "here",
    "through",
]
