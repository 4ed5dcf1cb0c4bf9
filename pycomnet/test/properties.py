"""Hypothesis, for a machine that may be busy: how long an example takes says nothing of a property.

A test module that imports its ``given`` and ``settings`` from here has no limits in time.
"""

from __future__ import annotations

from hypothesis import HealthCheck
from hypothesis import given as given
from hypothesis import settings as settings

settings.register_profile(
    "pycomnet", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("pycomnet")
