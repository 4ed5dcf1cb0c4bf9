"""Times: as numbers, and as texts of ISO 8601."""

from __future__ import annotations

import datetime
import math
from typing import Any


def timestamp(value: Any) -> float:
    """A time as seconds since 1970.

    :param value: that, or a text as of ISO 8601, with its zone.
    :raises ValueError: it is neither.
    """
    if type(value) in (int, float):
        try:
            if math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
    if isinstance(value, str):
        try:
            found = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            pass
        else:
            if found.tzinfo is not None:
                return found.timestamp()
            raise ValueError(
                f"expected a time with its zone, as 2030-01-31T12:00:00Z, got {value!r}"
            )
    raise ValueError(f"expected a time, as 2030-01-31T12:00:00Z, got {value!r:.80}")
