"""Where in a file's text a value is: line and column.

The parsers of JSON and TOML say only where a syntax error is. So a value is found by changing the
text: at the right place, and at no other, does a change of the text change this value. It works for
both formats, and takes time only when there is something to report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

#: The most places that are tried for one value, and the most characters that are parsed for that.
TRIES = 200
MOST_PARSED = 4 << 20

#: A path from the outermost value: keys and indexes.
Path = Sequence[str | int]


def find(text: str, parse: Callable[[str], Any], path: Path, offset: int = 0) -> tuple[int, int]:
    """The line and column of a value, both counted from 1; (0, 0) if they are not known.

    :param parse: reads a text.
    :param path: the value's path. If the value is not text, its key is found instead.
    :param offset: how many characters behind the beginning of a text's value; less than 0: its key
        is found.
    """
    path = list(path)
    with contextlib.suppress(LookupError, TypeError, ValueError):
        # A table in a list has no key of its own: its first key is where it begins.
        value = _at(parse(text), path)
        if path and isinstance(path[-1], int) and isinstance(value, dict) and value:
            path.append(next(iter(value)))
            at = _where_key(text, parse, path)
            if at is not None:
                return _line_column(text, at)
            path.pop()
    while path:
        try:
            value = _at(parse(text), path)
        except (LookupError, TypeError, ValueError):
            return 0, 0
        if isinstance(value, str) and value and offset >= 0:
            at = _where_value(text, parse, path, value)
            if at is not None:
                return _line_column(text, at + offset)
        at = _where_key(text, parse, path)
        if at is not None:
            return _line_column(text, at)
        path.pop()
        offset = 0
    return 0, 0


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def _occurrences(text: str, wanted: str) -> list[int]:
    found: list[int] = []
    at = text.find(wanted)
    most = min(TRIES, MOST_PARSED // (len(text) + 1))
    while at >= 0 and len(found) < most:
        found.append(at)
        at = text.find(wanted, at + 1)
    return found


def _where_value(text: str, parse: Callable[[str], Any], path: Path, value: str) -> int | None:
    for at in _occurrences(text, value):
        mark = "x" if value[0] != "x" else "y"
        changed = text[:at] + mark + text[at + 1 :]
        try:
            if _at(parse(changed), path) == mark + value[1:]:
                return at
        except (LookupError, TypeError, ValueError):
            continue
    return None


def _where_key(text: str, parse: Callable[[str], Any], path: Path) -> int | None:
    """Where a key is, or the key of the list that an item is in."""
    names = list(path)
    while names and isinstance(names[-1], int):
        names.pop()
    if not names:
        return None
    key = str(names[-1])
    for at in _occurrences(text, key):
        mark = "x" if key[:1] != "x" else "y"
        changed = text[:at] + mark + text[at + 1 :]
        try:
            parent = _at(parse(changed), names[:-1])
            if key not in parent and mark + key[1:] in parent:
                return at
        except (LookupError, TypeError, ValueError):
            continue
    return None


def _line_column(text: str, at: int) -> tuple[int, int]:
    line = text.count("\n", 0, at) + 1
    return line, at - (text.rfind("\n", 0, at) + 1) + 1
