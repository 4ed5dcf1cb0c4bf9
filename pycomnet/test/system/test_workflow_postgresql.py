"""The store of runs in PostgreSQL: what SQLite's store passes too, and the tests of its leases.

They are trial tests in a process of their own, which has a server of its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pycomnet.test.needs import needs
from pycomnet.test.system.suites import run_cases

pytestmark = needs("initdb")

#: Module -> how many tests it has at least.
MODULES = {"postgresql_cases": 60, "postgresql_runs": 58}


@pytest.mark.parametrize("module", MODULES)
def test_passes_the_tests_of_a_store_of_runs(module: str, tmp_path: Path) -> None:
    """Also with what only a server does."""
    run_cases([f"pycomnet.test.ext.workflow.{module}"], tmp_path, MODULES[module])
