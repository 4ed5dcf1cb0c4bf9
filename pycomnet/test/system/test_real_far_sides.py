"""The command line, pools, rsync and environments at real far sides, and programs that end.

Their test cases are beside the unit tests of the same parts. trial runs each module in a process
of its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pycomnet.test.system.suites import REAL, run_cases


@pytest.mark.parametrize("module", REAL)
def test_passes_its_cases(module: str, tmp_path: Path) -> None:
    """All test cases of a module pass."""
    run_cases([f"pycomnet.test.{module}"], tmp_path, REAL[module])
