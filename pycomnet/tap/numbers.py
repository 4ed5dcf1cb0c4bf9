"""Numbers on a daemon's command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.python import usage


def number(options: Mapping[str, Any], name: str, least: float, kind: type = float) -> Any:
    """An option's value.

    :param least: the lowest that it may be.
    :param kind: int or float.
    :raises UsageError: it is none.
    """
    try:
        value = kind(options[name])
    except ValueError:
        value = least - 1
    if not least <= value < float("inf"):
        what = "a whole number" if kind is int else "a number"
        raise usage.UsageError(f"--{name}: {what} from {least:g}, not {options[name]!r}")
    return value
