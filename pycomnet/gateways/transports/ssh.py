"""The ssh transport: a far side on a machine that the system's OpenSSH reaches.

It runs OpenSSH itself, with the user's configuration, agent and known hosts. ssh has no terminal,
so it asks no questions: instead it fails, and the error has its output. The machine there needs
only an interpreter, which is sent the far side's source.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.far import package
from pycomnet.gateways.boot import worker_config
from pycomnet.gateways.forkserver.route import FirstHop, Route
from pycomnet.gateways.limits import far_limits
from pycomnet.gateways.transports.forked import ForkedGatewayTransport
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.processgateway import ProcessGatewayTransport
from pycomnet.gateways.transports.routes import can_fork, via_route
from pycomnet.gateways.transports.sshcommand import KEEPALIVE, fork_server_config, ssh_command
from pycomnet.wire.frames import WIDE_WINDOW

if TYPE_CHECKING:
    from pycomnet.gateways.group import Group

#: Per group, the preambles of hosts that have been shown, and the id of the first gateway.
_said: weakref.WeakKeyDictionary[Group, dict[tuple[str, str], str]] = weakref.WeakKeyDictionary()


def show_preamble_once(request: GatewayRequest, begun: Callable[[], bool]) -> GatewayRequest:
    """Show a host's output before Python begins there once, and not for each gateway.

    This is a login banner, or ssh's own output. Lines that another gateway of the group has shown
    for the same target are left out.

    :param begun: whether Python has begun.
    """

    def output(text: str) -> Any:
        group = request.group_reference()
        if not begun() and group is not None:
            said = _said.setdefault(group, {})
            lines = text.splitlines(keepends=True)
            keys = [(str(request.spec.target), line.strip()) for line in lines]
            new = [said.setdefault(key, request.id) == request.id for key in keys]
            text = "".join(line for line, shown in zip(lines, new, strict=True) if shown)
        return request.output(text) if text else None

    return attrs.evolve(request, output=output)


def ssh_process(
    request: GatewayRequest, argv: tuple[str, ...], bootstrap_message: bytes, what: str
) -> ProcessGatewayTransport:
    """The process of an ssh connection."""
    made: list[ProcessGatewayTransport] = []
    asked = show_preamble_once(request, lambda: bool(made) and made[0].begun)
    made.append(ProcessGatewayTransport(asked, argv, None, bootstrap_message, (), what))
    return made[0]


def route(request: GatewayRequest) -> Route:
    """The fork server at the other end of an ssh connection."""
    spec = request.spec
    argv = ssh_command(spec)

    def opened(asked: GatewayRequest, descriptor_socket: int | None) -> GatewayTransport:
        bootstrap_message = package.bootstrap_message(fork_server_config(spec))
        return ssh_process(asked, argv, bootstrap_message, "ssh")

    return Route(FirstHop(argv, opened, keepalive=spec.keepalive or KEEPALIVE))


def standalone_transport(request: GatewayRequest) -> ProcessGatewayTransport:
    """The transport of a gateway with an ssh connection and an interpreter of its own."""
    spec = request.spec
    window = far_limits(spec, WIDE_WINDOW).window
    config = {**worker_config(spec, request.id), "update": spec.env, "window": window}
    return ssh_process(
        request, ssh_command(spec), package.bootstrap_message(config), "its ssh process"
    )


def gateway_transport(request: GatewayRequest) -> GatewayTransport:
    """The transport of an ssh gateway's connection."""
    if request.spec.via is not None:
        return ForkedGatewayTransport(request, via_route)
    if request.spec.fork is not False and can_fork(request.spec):
        return ForkedGatewayTransport(request, route, standalone_transport)
    return standalone_transport(request)
