"""Reads the arguments in a request's query and headers."""

from __future__ import annotations

from typing import Any

from pycomnet.mediator.server.model import HttpError
from pycomnet.mediator.server.session import MediatorSession
from pycomnet.ranges import NumberRefused, real, whole

#: The greatest offset.
MAX_OFFSET = (1 << 59) - 1


def number_argument(request: Any, name: bytes, default: int = 0) -> int:
    """Read a number, not below 0, from the query.

    :raises HttpError: 400.
    """
    values = request.args.get(name)
    if not values:
        return default
    text = values[-1]
    try:
        return whole(name.decode(), text, 0, MAX_OFFSET, text=True)
    except NumberRefused as problem:
        raise HttpError(400, "argument", str(problem)) from None


def seconds_argument(request: Any, name: bytes, default: float, most: float) -> float:
    """Read a number of seconds from the query, up to a limit.

    :raises HttpError: 400.
    """
    values = request.args.get(name)
    if not values:
        return default
    try:
        return min(real(name.decode(), values[-1], text=True), most)
    except NumberRefused as problem:
        raise HttpError(400, "argument", str(problem)) from None


def header_text(request: Any, name: bytes) -> str | None:
    """Read a request's header; None if it is missing. Each byte becomes one character."""
    values = request.requestHeaders.getRawHeaders(name, [])
    return values[-1].decode("latin-1") if values else None


def text_argument(request: Any, name: bytes) -> str:
    """Read a text from the query; empty if it is missing."""
    values = request.args.get(name)
    return values[-1].decode("utf-8", "replace") if values else ""


def confirm_arguments(request: Any, session: MediatorSession) -> None:
    """Confirm the bytes that the query reports as received.

    :raises HttpError: 400 if a value is not valid, 409 if fewer bytes were produced.
    """
    for name, stream in ((b"received", "stdout"), (b"stderr_received", "stderr")):
        if name in request.args:
            session.confirm(stream, number_argument(request, name))
