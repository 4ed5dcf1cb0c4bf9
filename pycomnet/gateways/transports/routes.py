"""The routes to fork servers: on this machine, and through other fork servers."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import attrs
from twisted.python.failure import Failure

from pycomnet.channels.channel import Channel, ChannelOwner
from pycomnet.channels.core import NO_ENDMARKER
from pycomnet.errors import ChannelClosed, PycomnetError
from pycomnet.gateways.boot import boot_argv, interpreter
from pycomnet.gateways.forkserver.local import EarlyForkServer, LocalStart
from pycomnet.gateways.forkserver.route import FirstHop, HopCommand, Route
from pycomnet.gateways.source import exec_request
from pycomnet.gateways.spec import Spec
from pycomnet.gateways.transports import KEEPING, sshcommand
from pycomnet.gateways.transports.channel import ChannelGatewayTransport
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.processgateway import ProcessGatewayTransport

if TYPE_CHECKING:
    from pycomnet.gateways.gateway import Gateway


def can_fork(spec: Spec) -> bool:
    """Whether forking is worth a try: a fork server that can't fork reports that."""
    return hasattr(socket, "send_fds") and not any(
        "jython" in os.path.basename(word) for word in interpreter(spec)[:1]
    )


def has_fork_server(spec: Spec) -> bool:
    """Whether a fork server starts such a gateway, and can start others as well."""
    return spec.transport not in KEEPING and spec.fork is not False and can_fork(spec)


def local_route(request: GatewayRequest) -> Route:
    """The route of a gateway on this machine."""
    start = LocalStart.of(request.spec, request.group.fork_servers.imports)

    def opened(asked: GatewayRequest, descriptor_socket: int | None) -> GatewayTransport:
        command = start.boot(descriptor_socket)
        fds = () if descriptor_socket is None else (descriptor_socket,)
        return ProcessGatewayTransport(
            asked, command.argv, command.env, command.message, fds, "its fork server"
        )

    def adopted(asked: GatewayRequest, early: EarlyForkServer) -> GatewayTransport:
        command = early.command
        return ProcessGatewayTransport(
            asked, command.argv, command.env, command.message, (), "its fork server", early.process
        )

    hop = FirstHop(
        start.key,
        opened,
        passes_descriptors=True,
        env=start.env,
        adopt=adopted,
        imports=bool(start.imports.names),
    )
    return Route(hop)


def via_route(request: GatewayRequest) -> Route:
    """The route of a gateway that is started from another one (``via``)."""
    spec = request.spec
    assert spec.via is not None
    if spec.via not in request.group:
        raise PycomnetError(f"there is no gateway {spec.via!r} in this group to start it from")
    master = request.group[spec.via]
    transport: Any = master.link.transport
    route = getattr(transport, "route", None)
    # The first may have been started alone although it could be forked; later ones are forked.
    if route is None or route.first_hop.key in request.group.fork_servers.without_fork:
        route = worker_route(master)
    found = route_beyond(route, spec, master.info["executable"])
    return attrs.evolve(found, master=spec.via)


def worker_route(master: Gateway) -> Route:
    """The route through a fork server that a gateway's worker starts, if none has forked that."""
    link = master.link
    argv = boot_argv([master.info["executable"] or "python3"])

    def opened(asked: GatewayRequest, descriptor_socket: int | None) -> GatewayTransport:
        near = link.connection
        # The gateway itself as the owner would be kept alive.
        channel = Channel(near.open("channel", raw=True), ChannelOwner(link.id))
        kwargs = {"raw": channel, "argv": list(argv), "config": {"fork_server": {}}}
        request = exec_request(
            "from _pycomnet.far.gateways import start; start(None, argv, config, raw)", kwargs
        )
        started = near.open("exec", near.encode(request))

        def failed(failure: Failure) -> None:
            channel.close(ChannelClosed(failure.getErrorMessage()))

        started.set_callback(lambda value: None, failed, NO_ENDMARKER)
        return ChannelGatewayTransport(channel, f"the fork server behind gateway {link.id}")

    return Route(FirstHop(("worker", id(link)), opened))


def route_beyond(route: Route, spec: Spec, executable: str) -> Route:
    """The route of a gateway that starts at the end of another route.

    :param executable: the interpreter at that end.
    """
    fork = spec.fork is not False and can_fork(spec)
    if spec.transport == "ssh":
        hop = sshcommand.hop(spec)
    elif spec.python is None and fork:
        return attrs.evolve(route, argv=())
    else:
        hop = HopCommand(boot_argv(spec.python or [executable]), {"fork_server": {}})
    if fork:
        return attrs.evolve(route, path=(*route.path, hop), argv=())
    return attrs.evolve(route, argv=hop.argv)
