"""The mediator's data: limits, users, how subprocesses ended, and errors with an HTTP status."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Mapping
from typing import Any, Protocol

import attrs
from zope.interface import Attribute, Interface, implementer

from pycomnet.errors import PycomnetError, TokenError
from pycomnet.mediator.queues import OffsetError
from pycomnet.ranges import (
    MAX_COUNT,
    NumberRefused,
    check_fields,
    real,
    whole,
)

#: The options that a client may set for a subprocess.
OPTIONS = ("chdir", "env", "execmodel", "id", "nice", "python")


class HttpError(PycomnetError):
    """An error response to a request.

    :ivar status: the HTTP status.
    :ivar code: the error's stable name.
    :ivar extra: further keys of the JSON body.
    """

    def __init__(self, status: int, code: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.extra = extra

    def as_map(self) -> dict[str, Any]:
        """The body of the response, as a map."""
        return {"error": self.code, "message": str(self), **self.extra}


def wrong_offset(problem: OffsetError) -> HttpError:
    """The error for a client that reads or confirms bytes that are not there."""
    return HttpError(409, "offset", str(problem), low=problem.low, high=problem.high)


@attrs.frozen
class UserLimits:
    """The limits of one user.

    :ivar processes: the most subprocesses at a time.
    :ivar queue: the most bytes of output that are kept for the reader; then the subprocess waits.
    :ivar request: the most bytes of the body of one request.
    :ivar linger: seconds that a subprocess is kept while no client is connected to it.
    :ivar idle_timeout: seconds after which an idle subprocess is ended; 0 for never.
    :ivar allow: the options that a client may set.
    :ivar pythons: the interpreters that a client may choose; empty for any.
    """

    processes: int = 64
    queue: int = 4 << 20
    request: int = 64 << 20
    linger: float = 60.0
    idle_timeout: float = 3600.0
    allow: frozenset[str] = frozenset(OPTIONS)
    pythons: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        check_fields(self)

    def changed(self, options: Mapping[str, str], where: str) -> UserLimits:
        """These limits with the changes of a section of the tokens file.

        :raises TokenError: a value is not valid.
        """
        values: dict[str, Any] = {}
        for key, text in options.items():
            try:
                values[key] = READERS[key](key, text)
            except ValueError as problem:
                raise TokenError(f"{where}: {problem}") from None
        return attrs.evolve(self, **values)


def read_count(name: str, text: str) -> int:
    """A whole number above 0."""
    return whole(name, text, 1, text=True)


def read_size(name: str, text: str) -> int:
    """A number of bytes; with k, M or G behind it, times 1024, 1024 ** 2 or 1024 ** 3."""
    units = {"k": 10, "m": 20, "g": 30}
    number, unit = (text[:-1], text[-1:].lower()) if text[-1:].lower() in units else (text, "")
    try:
        return whole(name, number, 1, MAX_COUNT >> units.get(unit, 0), text=True) << units.get(
            unit, 0
        )
    except NumberRefused:
        raise NumberRefused(
            name, f"a size of 1 to {MAX_COUNT} bytes such as 65536, 64k or 4M", text
        ) from None


def read_seconds(name: str, text: str) -> float:
    """A number of seconds, not below 0."""
    return real(name, text, text=True)


def read_options(name: str, text: str) -> frozenset[str]:
    """Names of options, separated by commas, or ``none``."""
    names = {name.strip() for name in text.split(",") if name.strip()} - {"none"}
    unknown = names - set(OPTIONS)
    if unknown:
        raise ValueError(f"{name}: no option {min(unknown)!r}; there are: {', '.join(OPTIONS)}")
    return frozenset(names)


def read_pythons(name: str, text: str) -> tuple[str, ...]:
    """Commands, separated by commas. Each is split into words as a shell does, when it is used."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for command in found:
        shlex.split(command)  # so that a missing quote is reported at the start
    return found


#: The keys of limits, as in a tokens file, and the function that reads each.
READERS: dict[str, Any] = {
    "processes": read_count,
    "queue": read_size,
    "request": read_size,
    "linger": read_seconds,
    "idle_timeout": read_seconds,
    "allow": read_options,
    "pythons": read_pythons,
}


class IUser(Interface):
    """An admitted user: the realm's result for the name of a token."""

    name = Attribute("The user name, used in logs and for limits.")
    limits = Attribute("Their UserLimits.")


@implementer(IUser)
@attrs.frozen
class User:
    """An admitted user."""

    name: str
    limits: UserLimits


@attrs.frozen
class End:
    """How a subprocess ended.

    :ivar status: its exit status, or minus the signal that ended it.
    :ivar reason: ``exited`` if it ended by itself, or what ended it.
    :ivar stderr: the last lines of its standard error.
    """

    status: int | None
    reason: str
    stderr: str = ""

    def as_map(self) -> dict[str, Any]:
        """The map in responses."""
        status = self.status
        name: str | None = None
        if status is not None and status < 0:
            try:
                name = signal.Signals(-status).name
            except ValueError:
                name = f"signal {-status}"
        return {
            "exit_status": status if status is not None and status >= 0 else None,
            "signal": -status if status is not None and status < 0 else None,
            "signal_name": name,
            "reason": self.reason,
            "stderr": self.stderr,
        }

    def gone_error(self) -> HttpError:
        """The error for a request to a subprocess that has ended like this."""
        how = self.as_map()
        if how["signal"] is not None:
            words = f"the subprocess was killed by {how['signal_name']}"
        else:
            words = f"the subprocess exited with status {how['exit_status']}"
        if self.reason != "exited":
            words += f": {self.reason}"
        return HttpError(410, "ended", words, **how)


class OutputConnection(Protocol):
    """A connection over which a client reads a subprocess's output.

    :ivar key: identifies its client: a new connection with the same key takes over.
    """

    key: str

    def wake(self) -> None:
        """There may be more to read, or the stream has ended."""

    def replace(self) -> None:
        """Another connection of the same client reads from now on."""


class InputConnection(Protocol):
    """A connection over which a client writes to a subprocess's standard input."""

    def pause(self) -> None:
        """The subprocess does not take its input: read no more from the client."""

    def resume(self) -> None:
        """The subprocess takes its input again: read on."""
