"""Popen gateways with real processes: the whole suite, and what is of popen alone."""

from __future__ import annotations

from pathlib import Path

from pycomnet.test.system.suites import run_cases


def test_passes_the_suite(tmp_path: Path) -> None:
    """The gateway suite, what the keys of a spec do, and what is said of what does not start."""
    run_cases(["pycomnet.test.gateways.popen_cases"], tmp_path, least=170)
