"""A process's environment and arguments, and the system's limits on them.

Linux accepts up to 128 KiB for each argument and variable, and a quarter of the stack's limit for
all together. Variables beyond that are sent to the far side, which sets them itself.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence

from pycomnet.gateways.spec import MAX_STRING, STARTUP
from pycomnet.wire.values import PureCodec

#: The most bytes of arguments and variables together, if the system does not tell its limit.
USUAL_TOTAL = 131072
#: The bytes that each of them takes in addition: a pointer, an equals sign, a NUL.
OVERHEAD = 10


def _size(name: str, value: str) -> int:
    return len(os.fsencode(name)) + len(os.fsencode(value)) + OVERHEAD


def divide(env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Divide an environment: variables to start a process with, and variables to send to it.

    Variables that Python reads when it starts are always in the first part.
    """
    fits = dict(env)
    rest: dict[str, str] = {}
    sizes = {name: _size(name, value) for name, value in env.items()}
    total = sum(sizes.values())
    try:
        # Half of it: the arguments need room, and so do processes that are started there.
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
    """A path of this process's working directory for another process, even if it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return f"/proc/{os.getpid()}/cwd"


def environment_message(rest: Mapping[str, str]) -> bytes:
    """The message that a far side with ``more`` in its configuration reads first (far/main.py)."""
    payload = PureCodec().encode({"update": dict(rest)})
    return struct.pack("!I", len(payload)) + payload


def too_long(argv: Sequence[str], env: Mapping[str, str] | None) -> str:
    """Name the texts that are too long, if the system refused a process for them."""
    parts = {f"argument {number}": word for number, word in enumerate(argv)}
    for name, value in (os.environ if env is None else env).items():
        parts[f"the environment variable {name}"] = f"{name}={value}"
    longest = max(parts, key=lambda part: len(parts[part]))
    return (
        f"the longest part is {longest}, of {len(os.fsencode(parts[longest]))} bytes; "
        f"the system takes {MAX_STRING - 1} of each, and not many such together"
    )
