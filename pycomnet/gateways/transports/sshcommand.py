"""The command line of ssh, and what a fork server behind it is told."""

from __future__ import annotations

import re
import shlex

from pycomnet.far import package
from pycomnet.gateways.forkserver.route import HopCommand
from pycomnet.gateways.spec import STARTUP, Spec

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
    """What the fork server there is told."""
    return {"fork_server": {"silence": PATIENCE * (spec.keepalive or KEEPALIVE)}}


def hop(spec: Spec) -> HopCommand:
    """How a fork server that is there already starts the next one."""
    return HopCommand(command(spec), fork_server_config(spec))


__all__ = ["KEEPALIVE", "command", "destination", "fork_server_config", "hop", "quote"]
