"""The command line of ssh, and the configuration of a fork server behind it."""

from __future__ import annotations

import re
import shlex

from pycomnet.far import package
from pycomnet.gateways.forkserver.route import HopCommand
from pycomnet.gateways.spec import STARTUP, Spec

#: The interpreter if a spec names none.
PYTHON = "python3"
#: Seconds of silence after which the other end is pinged. A network failure of less than three
#: times as long does no harm.
KEEPALIVE = 20.0
#: How many times as long the other end may stay silent.
PATIENCE = 3
#: ssh's options that have an argument (ssh(1)).
_WITH_ARGUMENT = frozenset("BbcDEeFIiJLlmOoPpQRSWw")
#: An address in brackets, which ssh does not accept, or a name; and a port.
_DESTINATION = re.compile(r"((?:[^@]*@)?)(?:\[([^\[\]]+)\]|([^:\[\]@]+)(?=:))(?::(\d+))?")


def quote(word: str) -> str:
    """Quote a word for the shell there, which still expands a home directory at its start."""
    if word.startswith("~/"):
        return "~/" + shlex.quote(word[2:])
    return shlex.quote(word)


def destination(words: list[str]) -> list[str]:
    """ssh's arguments with the destination in ssh's form.

    In ``user@[::1]`` and ``user@[::1]:port`` ssh would take the address in brackets for a name, and
    in ``user@host:port`` the port for a part of the name.

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
        # Options without an argument may precede it in the same word: -vp 22.
        letters = iter(word[1:])
        for letter in letters:
            if letter in _WITH_ARGUMENT:
                at += next(letters, None) is None
                break
        at += 1
    return words


def ssh_command(spec: Spec) -> tuple[str, ...]:
    """The command that starts an interpreter there, which waits for its package."""
    assert spec.target is not None
    words = list(spec.python or (PYTHON,))
    variables = [f"{name}={value}" for name, value in spec.env.items() if name.startswith(STARTUP)]
    if variables:
        words = ["env", *variables, *words]
    there = " ".join(quote(word) for word in ["exec", *words, "-c", package.code()])
    config = ("-F", spec.ssh_config) if spec.ssh_config is not None else ()
    return ("ssh", "-T", *config, *destination(shlex.split(spec.target)), there)


def fork_server_config(spec: Spec) -> dict[str, dict[str, float]]:
    """The configuration of the fork server there."""
    return {"fork_server": {"silence": PATIENCE * (spec.keepalive or KEEPALIVE)}}


def hop(spec: Spec) -> HopCommand:
    """How a running fork server starts the next one."""
    return HopCommand(ssh_command(spec), fork_server_config(spec))
