"""The PostgreSQL store of runs, on a real server."""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import TestCase

from pycomnet.ext.workflow.stores import make_run_store
from pycomnet.test.ext.workflow.conformance import KeptRunStoreConformance
from pycomnet.test.needs import REQUIRE_ALL, found
from pycomnet.test.postgresql import shared

#: Why the tests are skipped, where they may be.
LACKING = (
    "PostgreSQL is not installed"
    if found("initdb") is None and not os.environ.get(REQUIRE_ALL)
    else None
)


def the_reactor() -> Any:
    """The reactor that trial runs."""
    from twisted.internet import reactor

    return reactor


class PostgreSQLRunStoreTests(KeptRunStoreConformance, TestCase):
    """Runs in a database."""

    skip = LACKING

    def setUp(self) -> None:
        self.address = shared().address()

    def make_store(self) -> Any:
        return make_run_store(self.address, the_reactor())
