"""The gateway suite for the spec that the environment variable PYCOMNET_TEST_SPEC names."""

from __future__ import annotations

import os

from pycomnet.test.gateways import suite

globals().update(suite.cases("Any", os.environ["PYCOMNET_TEST_SPEC"], __name__))
