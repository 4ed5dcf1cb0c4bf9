"""What the tests of an attack share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pycomnet.test.adversary.kit import Victim, start_all
from pycomnet.test.system.daemons import Daemons, daemons


@pytest.fixture
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """Daemons of one test, in a directory whose name is short enough for sockets."""
    with daemons(tmp_path_factory.mktemp("a")) as found:
        yield found


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Victim]]:
    """All five daemons, which have to survive all tests of a module."""
    with daemons(tmp_path_factory.mktemp("v")) as found:
        yield start_all(found)
