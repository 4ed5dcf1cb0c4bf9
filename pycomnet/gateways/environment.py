"""The environment and the arguments of a process: what the system takes, and what is sent instead.

Linux takes no argument and no variable of more than 128 KiB, and a quarter of the stack's limit of
all together. Variables that are too long for that are sent to the far side, which sets them itself.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence

from pycomnet.gateways.spec import MAX_STRING, STARTUP
from pycomnet.wire.values import PureCodec

#: Bytes that the arguments and the variables together may have, if the system says nothing.
USUAL_TOTAL = 131072
#: What each of them takes beside its bytes: a pointer, an equals sign, a NUL.
OVERHEAD = 10


def _size(name: str, value: str) -> int:
    return len(os.fsencode(name)) + len(os.fsencode(value)) + OVERHEAD


def divide(env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """What of an environment a process can be started with, and what has to be sent to it.

    What Python reads as it starts is always among the first.
    """
    fits = dict(env)
    rest: dict[str, str] = {}
    sizes = {name: _size(name, value) for name, value in env.items()}
    total = sum(sizes.values())
    try:
        # Half of it: the arguments need room, and so does the stack of whoever is started there.
        most = os.sysconf("SC_ARG_MAX") // 2
    except (ValueError, OSError):
        most = USUAL_TOTAL // 2
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if sizes[name] < MAX_STRING and total <= most:
            break
        if not name.startswith(STARTUP):
            rest[name] = fits.pop(name)
            total -= sizes[name]
    return fits, rest


def working_directory() -> str:
    """This process's working directory, as another process finds it: it may have been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return f"/proc/{os.getpid()}/cwd"


def environment_message(rest: Mapping[str, str]) -> bytes:
    """What a far side reads first that is told of ``more`` (far/main.py)."""
    payload = PureCodec().encode({"update": dict(rest)})
    return struct.pack("!I", len(payload)) + payload


def too_long(argv: Sequence[str], env: Mapping[str, str] | None) -> str:
    """Of a process that the system can't start as something is too long: what that is."""
    parts = {f"argument {number}": word for number, word in enumerate(argv)}
    for name, value in (os.environ if env is None else env).items():
        parts[f"the environment variable {name}"] = f"{name}={value}"
    longest = max(parts, key=lambda part: len(parts[part]))
    return (
        f"the longest part is {longest}, of {len(os.fsencode(parts[longest]))} bytes; "
        f"the system takes {MAX_STRING - 1} of each, and not many such together"
    )
