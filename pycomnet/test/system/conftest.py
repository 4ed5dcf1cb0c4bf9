"""The order of the files: what takes longest begins first, so that no process is left with it."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run whole suites come first; xdist keeps a file's tests together."""
    suites = {item.path for item in items if item.name.startswith("test_passes_the_suite")}
    items.sort(key=lambda item: item.path not in suites)
