"""Hypothesis, for a machine that may be busy: how long an example takes says nothing of a property.

A test module that imports its ``given`` and ``settings`` from here has no limits in time, and tries
the same examples each time, few of them. PYCOMNET_TEST_LONG asks for others, and for all.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck
from hypothesis import given as given
from hypothesis import settings as settings

LONG = bool(os.environ.get("PYCOMNET_TEST_LONG"))


def examples(many: int) -> int:
    """How many examples are tried: ``many`` when there is time, else a quarter of that."""
    return many if LONG else max(5, many // 4)


settings.register_profile(
    "pycomnet",
    max_examples=examples(100),
    deadline=None,
    derandomize=not LONG,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("pycomnet")
