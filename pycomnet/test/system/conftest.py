"""Which of the files' tests run, and in which order."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which a second run, with more installed, has only what is left to run."""
    parser.addoption(
        "--leave-out-passed",
        type=Path,
        metavar="REPORT",
        help="leave out the tests that have passed by a report (--junitxml) of an earlier run",
    )


def passed(report: Path) -> set[tuple[str | None, str | None]]:
    """The module and name of each test that has passed by a report."""
    cases = ElementTree.parse(report).iter("testcase")
    return {(case.get("classname"), case.get("name")) for case in cases if not len(case)}


def named(item: pytest.Item) -> tuple[str, str]:
    """A test's module and name, as a report has them."""
    path, _, _ = item.nodeid.partition("::")
    return path.removesuffix(".py").replace("/", "."), item.name


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has passed already. Files that run whole suites come first, so that no process
    is left with one at the end; xdist keeps a file's tests together."""
    report = config.getoption("leave_out_passed")
    if report is not None:
        done = passed(report)
        config.hook.pytest_deselected(items=[item for item in items if named(item) in done])
        items[:] = [item for item in items if named(item) not in done]
    suites = {item.path for item in items if item.name.startswith("test_passes_the_suite")}
    items.sort(key=lambda item: item.path not in suites)
