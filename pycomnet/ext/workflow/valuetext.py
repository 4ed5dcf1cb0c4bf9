"""Values as text, for the history of a run and for the messages of errors."""

from __future__ import annotations

import itertools
import reprlib
from typing import Any

#: The most characters of a value.
MOST_SHOWN = 1_000
#: Smaller ints are shown as they are.
SHORT_INT = 1 << 64


class _Shown(reprlib.Repr):
    """Formats values, and reads only the parts of them that it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 6
        self.maxdict = self.maxlist = self.maxtuple = 100
        self.maxstring = self.maxother = self.maxlong = MOST_SHOWN

    def repr_int(self, x: int, level: int) -> str:
        try:
            return super().repr_int(x, level)
        except ValueError:  # Python makes no text of a longer one
            return f"<an int of {x.bit_length()} bits>"

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0 or not x:
            return "{...}" if x else "{}"
        # In their own order, not sorted.
        first = itertools.islice(x.items(), self.maxdict)
        items = [
            f"{self.repr1(key, level - 1)}: {self.repr1(one, level - 1)}" for key, one in first
        ]
        return f"{{{', '.join(items)}{', ...' if len(x) > self.maxdict else ''}}}"


_shown = _Shown()


def shown(value: Any, most: int = MOST_SHOWN) -> str:
    """A value as text, cut. It takes no longer for a large one.

    :param most: characters, at most ``MOST_SHOWN``.
    """
    kind = type(value)
    if value is None:
        return ""
    if kind is bool or kind is float or (kind is int and -SHORT_INT < value < SHORT_INT):
        return repr(value)
    text = _shown.repr(value) if not isinstance(value, (str, bytes)) else repr(value[:MOST_SHOWN])
    return text if len(text) <= most else text[: most - 3] + "..."
