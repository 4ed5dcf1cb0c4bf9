"""Workflow services on PostgreSQL do what they do on SQLite."""

from __future__ import annotations

from typing import Any

from pycomnet.deferred import deferred
from pycomnet.test.ext.workflow import test_crashes, test_runfiles, test_service
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


class FilesOnPostgreSQLTests(OnPostgreSQL, test_runfiles.FilesOfRunsTests):
    """Runs whose steps return blocks, and services that share a directory."""

    @deferred
    async def test_directory_of_two_stores(self) -> None:
        """A directory of two services that share the store: one goes on with the other's files,
        and removes them after their run."""
        render, printing = test_runfiles.RENDER, test_runfiles.press("print", attach="render")
        tasks = {"t": [render, {"signal": "go"}, printing]}
        w = await self.serve(tasks)
        first = self.service
        for id in ("r", "s"):
            await w.start("t", 5, id)
        await self.until(lambda: not self.runner.live)
        again = await self.serve(tasks)
        await self.until(lambda: self.service._swept)
        await first.runner.close()  # type: ignore[union-attr]
        await first.store.close()
        await again.signal("r", "go")
        await again.result("r")
        self.assertEqual(self.press.printed, [test_runfiles.BLOCKS])
        self.offset = 1e9
        await self.service._prune()
        self.assertEqual(len(self.kept()), 2)
        await again.signal("s", "go")
        await again.result("s")
        self.offset = 2e9
        await self.service._prune()
        self.assertEqual(self.kept(), [])
