"""The ssh transport: a far side on a machine that the system's OpenSSH reaches.

It is OpenSSH itself that is run, so the user's configuration, agent and known hosts are used. It
has no terminal, so it asks no questions: what it would ask about is an error, which has what it
said. The interpreter there needs nothing of ours; it is sent what it runs.
"""

from __future__ import annotations

import shlex

from pycomnet.gateways.carrier import Carrier, Request
from pycomnet.gateways.placecarrier import PlaceCarrier
from pycomnet.gateways.popen import ProcessCarrier, worker_config
from pycomnet.gateways.routes import Hop, Route, Way, can_fork, through
from pycomnet.gateways.spec import STARTUP, Spec
from pycomnet.worker import package

#: The interpreter, where a spec names none.
PYTHON = "python3"
#: Seconds of silence after which the other end is asked for a sign of life. A network that is
#: interrupted for less than three times as long harms nothing.
KEEPALIVE = 20.0
#: How many times as long the other end may stay silent.
PATIENCE = 3


def quote(word: str) -> str:
    """A word for the shell there; a home directory at its beginning is left to that."""
    if word.startswith("~/"):
        return "~/" + shlex.quote(word[2:])
    return shlex.quote(word)


def command(spec: Spec) -> tuple[str, ...]:
    """What is run here to have an interpreter there wait for its package."""
    assert spec.target is not None
    words = list(spec.python or (PYTHON,))
    variables = [f"{name}={value}" for name, value in spec.env.items() if name.startswith(STARTUP)]
    if variables:
        words = ["env", *variables, *words]
    there = " ".join(quote(word) for word in ["exec", *words, "-c", package.code()])
    config = ("-F", spec.ssh_config) if spec.ssh_config is not None else ()
    return ("ssh", "-T", *config, *shlex.split(spec.target), there)


def hub_config(spec: Spec) -> dict[str, dict[str, float]]:
    """What the supervisor there is told."""
    return {"hub": {"silence": PATIENCE * (spec.keepalive or KEEPALIVE)}}


def route(request: Request) -> Route:
    """The supervisor at the other end of an ssh connection."""
    spec = request.spec
    argv = command(spec)

    def opened(asked: Request, door: int | None) -> Carrier:
        letter = package.letter(hub_config(spec))
        return ProcessCarrier(asked, list(argv), None, letter, (), "ssh")

    return Route(Way(argv, opened, keepalive=spec.keepalive or KEEPALIVE))


def hop(spec: Spec) -> Hop:
    """The same, from another place."""
    return Hop(command(spec), hub_config(spec))


def alone(request: Request) -> ProcessCarrier:
    """An ssh connection and an interpreter of its own for a gateway."""
    spec = request.spec
    config = {**worker_config(spec, request.id), "update": spec.env}
    return ProcessCarrier(
        request, list(command(spec)), None, package.letter(config), (), "its ssh process"
    )


def carrier(request: Request) -> Carrier:
    """What carries an ssh gateway's connection."""
    if request.spec.via is not None:
        return PlaceCarrier(request, through)
    if request.spec.fork is not False and can_fork(request.spec):
        return PlaceCarrier(request, route, alone)
    return alone(request)
