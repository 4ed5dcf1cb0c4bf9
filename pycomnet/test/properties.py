"""Hypothesis, for a machine that may be busy: how long an example takes says nothing of a property.

A test module that imports its ``given`` and ``settings`` from here has no limits in time, and tries
the same examples each time. PYCOMNET_TEST_LONG asks for others.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck
from hypothesis import given as given
from hypothesis import settings as settings

settings.register_profile(
    "pycomnet",
    deadline=None,
    derandomize=not os.environ.get("PYCOMNET_TEST_LONG"),
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("pycomnet")
