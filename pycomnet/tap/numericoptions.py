"""Reads numeric options of a daemon's command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from pycomnet.ranges import MAX_COUNT, NumberRefused, real, whole


def seconds(options: Mapping[str, Any], name: str, least: float = 0.0) -> float:
    """Read an option's number of seconds.

    :param least: the lowest allowed value.
    :raises UsageError: the option is no number in the allowed range.
    """
    try:
        return real(f"--{name}", options[name], least, text=True)
    except NumberRefused as problem:
        raise usage.UsageError(str(problem)) from None


def count(options: Mapping[str, Any], name: str, least: int = 1, most: int = MAX_COUNT) -> int:
    """Read an option's whole number.

    :param least: the lowest allowed value.
    :param most: the highest allowed value.
    :raises UsageError: the option is no whole number in the allowed range.
    """
    try:
        return whole(f"--{name}", options[name], least, most, text=True)
    except NumberRefused as problem:
        raise usage.UsageError(str(problem)) from None
