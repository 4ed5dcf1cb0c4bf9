"""Checks numbers from outside: in options, specs, requests, files and arguments.

An unchecked number fails late: NaN is neither below nor above anything, an infinity or 1e300
seconds can't be a timer, and ``int`` reads ``1_0`` and digits of any script. So every number from
outside is read here, with its name and its range.
"""

from __future__ import annotations

import numbers
import re
from typing import Any

import attrs

from pycomnet.errors import PycomnetError

#: The longest time in seconds: 31 years. All timers accept it.
MAX_SECONDS = 1e9
#: The highest count.
MAX_COUNT = 1 << 40
#: The largest change of a niceness: from one end of its range to the other.
MAX_NICE = 39

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_REAL = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
#: How many characters of a value an error shows.
_SHOWN = 60


class NumberRefused(PycomnetError, ValueError):
    """A value is no number, or out of its range.

    :ivar expected: what it should be, in words.
    """

    def __init__(self, name: str, expected: str, value: object) -> None:
        super().__init__(f"{name}: expected {expected}, not {_show(value)}")
        self.expected = expected


def whole(
    name: str,
    value: Any,
    least: int = 0,
    most: int = MAX_COUNT,
    *,
    text: bool = False,
    what: str = "a whole number",
) -> int:
    """Check a whole number.

    :param name: its name at its source, for the error.
    :param text: whether it may be text: an option, or a part of a spec.
    :param what: what it counts, for the error.
    :raises NumberRefused: it is not a whole number, or is out of range.
    """
    given = value
    if text and isinstance(value, (str, bytes)):
        value = _read(value, _WHOLE, int)
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
        value = None
    if value is None or not least <= value <= most or value != int(value):
        raise NumberRefused(name, f"{what} from {least} to {most}", given)
    return int(value)


def real(
    name: str,
    value: Any,
    least: float = 0.0,
    most: float = MAX_SECONDS,
    *,
    above: bool = False,
    text: bool = False,
    what: str = "a number of seconds",
) -> float:
    """Check a finite number.

    :param above: whether it has to be more than ``least``.
    :param text: whether it may be text.
    :raises NumberRefused: it is not a finite number, or is out of range.
    """
    given = value
    if text and isinstance(value, (str, bytes)):
        value = _read(value, _REAL, float)
    number = _finite(value)
    if number is None or not least <= number <= most or (above and number == least):
        bounds = f"above {least:g}, at most {most:g}" if above else f"from {least:g} to {most:g}"
        raise NumberRefused(name, f"{what} {bounds}", given)
    return number


def optional_real(name: str, value: Any, least: float = 0.0, **options: Any) -> float | None:
    """As :func:`real`, or None."""
    return None if value is None else real(name, value, least, **options)


def _finite(value: object) -> float | None:
    """A number as a float; None for anything else, and if no float can hold it."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def check_fields(settings: Any, **least: float) -> None:
    """Check that all numbers of an attrs object, a program's settings, are in range.

    :param least: name -> lowest value; for the others it is 0. An optional one may be None.
    :raises NumberRefused: one is out of range.
    """
    for field in attrs.fields(type(settings)):
        kind = str(field.type).removesuffix(" | None")
        value = getattr(settings, field.name)
        if kind not in ("int", "float") or (value is None and kind != str(field.type)):
            continue
        lowest = least.get(field.name, 0)
        if kind == "int":
            whole(field.name, value, int(lowest))
        else:
            real(field.name, value, lowest)


def _read(value: str | bytes, pattern: re.Pattern[str], kind: Any) -> Any:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    text = text.strip(" ")
    return kind(text) if pattern.fullmatch(text) else None


def _show(value: object) -> str:
    """A value for an error: a part of it, if it is long."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"  # which repr may refuse to write
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
