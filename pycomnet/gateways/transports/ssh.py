"""The ssh transport: a far side on a machine that the system's OpenSSH reaches.

It is OpenSSH itself that is run, so the user's configuration, agent and known hosts are used. It
has no terminal, so it asks no questions: what it would ask about is an error, which has what it
said. The interpreter there needs nothing of ours; it is sent what it runs.
"""

from __future__ import annotations

import re
import shlex
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from pycomnet.far import package
from pycomnet.gateways.forkserver.routes import (
    HopCommand,
    Route,
    Way,
    can_fork,
    through,
)
from pycomnet.gateways.forkserver.transport import ForkedGatewayTransport
from pycomnet.gateways.spec import STARTUP, Spec
from pycomnet.gateways.transports.interface import GatewayRequest, GatewayTransport
from pycomnet.gateways.transports.popen import ProcessGatewayTransport, worker_config

if TYPE_CHECKING:
    from pycomnet.gateways.group import Group

#: The interpreter, where a spec names none.
PYTHON = "python3"
#: Seconds of silence after which the other end is asked for a sign of life. A network that is
#: interrupted for less than three times as long harms nothing.
KEEPALIVE = 20.0
#: How many times as long the other end may stay silent.
PATIENCE = 3
#: ssh's options that have an argument (ssh(1)).
_WITH_ARGUMENT = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
#: An address in brackets, as everybody but ssh has it, or a name, and a port.
_DESTINATION = re.compile(r"((?:[^@]*@)?)(?:\[([^\[\]]+)\]|([^:\[\]@]+)(?=:))(?::(\d+))?")
#: Per group, the lines that hosts have said before Python began there, and the first gateway's id.
_said: weakref.WeakKeyDictionary[Group, dict[tuple[str, str], str]] = weakref.WeakKeyDictionary()


def quote(word: str) -> str:
    """A word for the shell there; a home directory at its beginning is left to that."""
    if word.startswith("~/"):
        return "~/" + shlex.quote(word[2:])
    return shlex.quote(word)


def destination(words: list[str]) -> list[str]:
    """ssh's arguments with the destination as ssh has it.

    ``user@[::1]`` and ``user@[::1]:port`` are an address in brackets, which ssh takes for a name,
    and ``user@host:port`` is a port, which ssh takes for a part of the name.

    :param words: options and a destination.
    """
    at = 0
    while at < len(words):
        word = words[at]
        if not word.startswith("-") or word == "-":
            found = _DESTINATION.fullmatch(word)
            if found is None:
                return words
            user, address, name, port = found.groups()
            options = ["-p", port] if port else []
            return [*words[:at], *options, f"{user}{address or name}", *words[at + 1 :]]
        # An option without one may stand before it in the same word: -vp 22.
        letters = iter(word[1:])
        for letter in letters:
            if letter in _WITH_ARGUMENT:
                at += next(letters, None) is None
                break
        at += 1
    return words


def once(request: GatewayRequest, begun: Callable[[], bool]) -> GatewayRequest:
    """Have what a host says before Python begins there shown once, and not for each gateway.

    That is a login banner, or what ssh itself says. Lines that another gateway of the group has
    shown for the same target are left out.

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


def process(
    request: GatewayRequest, argv: tuple[str, ...], letter: bytes, what: str
) -> ProcessGatewayTransport:
    """The process of an ssh connection."""
    made: list[ProcessGatewayTransport] = []
    asked = once(request, lambda: bool(made) and made[0].begun)
    made.append(ProcessGatewayTransport(asked, list(argv), None, letter, (), what))
    return made[0]


def command(spec: Spec) -> tuple[str, ...]:
    """What is run here to have an interpreter there wait for its package."""
    assert spec.target is not None
    words = list(spec.python or (PYTHON,))
    variables = [f"{name}={value}" for name, value in spec.env.items() if name.startswith(STARTUP)]
    if variables:
        words = ["env", *variables, *words]
    there = " ".join(quote(word) for word in ["exec", *words, "-c", package.code()])
    config = ("-F", spec.ssh_config) if spec.ssh_config is not None else ()
    return ("ssh", "-T", *config, *destination(shlex.split(spec.target)), there)


def fork_server_config(spec: Spec) -> dict[str, dict[str, float]]:
    """What the supervisor there is told."""
    return {"fork_server": {"silence": PATIENCE * (spec.keepalive or KEEPALIVE)}}


def route(request: GatewayRequest) -> Route:
    """The supervisor at the other end of an ssh connection."""
    spec = request.spec
    argv = command(spec)

    def opened(asked: GatewayRequest, door: int | None) -> GatewayTransport:
        letter = package.letter(fork_server_config(spec))
        return process(asked, argv, letter, "ssh")

    return Route(Way(argv, opened, keepalive=spec.keepalive or KEEPALIVE))


def hop(spec: Spec) -> HopCommand:
    """The same, from another place."""
    return HopCommand(command(spec), fork_server_config(spec))


def alone(request: GatewayRequest) -> ProcessGatewayTransport:
    """An ssh connection and an interpreter of its own for a gateway."""
    spec = request.spec
    config = {**worker_config(spec, request.id), "update": spec.env}
    return process(request, command(spec), package.letter(config), "its ssh process")


def carrier(request: GatewayRequest) -> GatewayTransport:
    """What carries an ssh gateway's connection."""
    if request.spec.via is not None:
        return ForkedGatewayTransport(request, through)
    if request.spec.fork is not False and can_fork(request.spec):
        return ForkedGatewayTransport(request, route, alone)
    return alone(request)
