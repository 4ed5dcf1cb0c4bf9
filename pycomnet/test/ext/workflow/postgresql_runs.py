"""Workflow services on PostgreSQL do what they do on SQLite."""

from __future__ import annotations

from typing import Any

from pycomnet.test.ext.workflow import test_crashes, test_service
from pycomnet.test.ext.workflow.postgresql_cases import LACKING
from pycomnet.test.postgresql import shared


class OnPostgreSQL:
    """Mixed into a test case with a workflow service: its store is a database."""

    skip = LACKING

    def where(self: Any) -> str:
        if not hasattr(self, "address"):
            self.address = shared().address()
        return str(self.address)


class RunsOnPostgreSQLTests(OnPostgreSQL, test_service.RunTests):
    """What a run does."""


class CrashesOnPostgreSQLTests(OnPostgreSQL, test_service.CrashTests):
    """What is there after a crash."""


class EachCommitOnPostgreSQLTests(OnPostgreSQL, test_crashes.EachCommitTests):
    """A crash at each write."""
