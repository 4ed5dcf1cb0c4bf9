"""Hypothesis, for a machine that may be busy: how long an example takes says nothing of a property.

A test module that imports its ``given`` and ``settings`` from here has no limits in time, and tries
the same examples each time, few of them. PYCOMNET_TEST_LONG asks for others, and for all.

Hypothesis also tries the constants of the modules that are loaded, and reads all their sources for
that: seconds in each process, for examples that depend on which tests ran before. So only with
PYCOMNET_TEST_LONG.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck
from hypothesis import given as given
from hypothesis import settings as settings
from hypothesis.internal.conjecture import providers

LONG = bool(os.environ.get("PYCOMNET_TEST_LONG"))


def examples(many: int) -> int:
    """How many examples are tried: ``many`` when there is time, else a quarter of that."""
    return many if LONG else max(5, many // 4)


#: Whether this Hypothesis has what is replaced: there is no public way.
CONSTANTS = hasattr(providers, "_get_local_constants") and hasattr(providers, "_local_constants")
if CONSTANTS and not LONG:
    providers._get_local_constants = lambda: providers._local_constants

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
