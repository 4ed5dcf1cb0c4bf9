"""Arguments of the nameserver's methods that are too long, too many or odd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.services.context import NAMESERVER
from pycomnet.test.adversary.kit import Victim, ready, start, withstands
from pycomnet.test.system.daemons import daemons

#: Registrations that one client may have here.
MOST = 200


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A nameserver."""
    with daemons(tmp_path_factory.mktemp("f")) as running:
        yield ready(start(running, "nameserver", "--max-per-client", str(MOST)))


@pytest_twisted.ensureDeferred
async def test_arguments(names: Victim) -> None:
    """Arguments that are as long, as many or as odd as can be are refused, and kept nowhere."""
    from twisted.internet import reactor

    good = {"service": "s", "interfaces": ["x"], "address": "tcp:h:1"}
    async with withstands(names), pycomnet.Context(reactor, timeout=60) as context:
        flood = context.at(names.where, NAMESERVER)
        wrong: Any
        for wrong in (
            {"service": "x" * 10_000},
            {"service": "a\nb"},
            {"service": "\ud800"},
            {"interfaces": ["x"] * 10_000},
            {"interfaces": []},
            {"address": "tcp:" + "h" * 10_000 + ":1"},
            {"metadata": {"x": "y" * 10_000}},
            {"metadata": {number: number for number in range(5000)}},
            {"tags": ["t"] * 1000},
            {"secret": "s" * 100_000},
            {"secret": ""},
            {"secret": 7},
            {"ttl": float("nan")},
            {"ttl": float("inf")},
            {"ttl": -1},
            {"ttl": 1 << 70},
            {"unknown": 1},
        ):
            with pytest.raises(pycomnet.PycomnetError):
                await flood.invoke("register", {**good, **wrong})
        assert (await flood.invoke("stat"))["services"] <= 2 * MOST
