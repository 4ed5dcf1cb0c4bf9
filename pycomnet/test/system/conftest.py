"""Which of the files' tests run, and in which order; what several files' tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import pytest_twisted

import pycomnet
from pycomnet.test.system.natsserver import NatsServerProcess, nats_server


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
    """Leave out what has passed already. Files that run whole suites come first, then those with
    the most source, so that no process is left with much at the end; xdist keeps a file's tests
    together."""
    report = config.getoption("leave_out_passed")
    if report is not None:
        done = passed(report)
        config.hook.pytest_deselected(items=[item for item in items if named(item) in done])
        items[:] = [item for item in items if named(item) not in done]
    suites = {item.path for item in items if item.name.startswith("test_passes_")}
    sizes = {path: path.stat().st_size for path in {item.path for item in items}}
    items.sort(key=lambda item: (item.path not in suites, -sizes[item.path]))


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServerProcess]:
    """A NATS server that a file's tests share; each uses interfaces of its own."""
    with nats_server(tmp_path_factory.mktemp("nats")) as found:
        yield found


@pytest.fixture
def own_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServerProcess]:
    """A NATS server that a test may kill."""
    with nats_server(tmp_path_factory.mktemp("own")) as found:
        yield found


@pytest_twisted.async_yield_fixture
async def context() -> Any:
    """A context of this process."""
    from twisted.internet import reactor

    made = pycomnet.Context(reactor)
    yield made
    await made.close()
