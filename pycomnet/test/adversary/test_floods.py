"""Floods at the nameserver: registrations, watches, secrets; each client has its share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

import pycomnet
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.adversary.kit import MB, Victim, ready, start, withstands
from pycomnet.test.system.daemons import daemons

#: Registrations that one client may have here.
MOST = 200


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A nameserver."""
    with daemons(tmp_path_factory.mktemp("f")) as running:
        yield ready(start(running, "nameserver", "--max-per-client", str(MOST)))


async def outcomes(asked: list[defer.Deferred[object]]) -> dict[str, int]:
    """How many ended how."""
    found: dict[str, int] = {}
    for _, result in await defer.DeferredList(asked, consumeErrors=True):
        kind = type(getattr(result, "value", None)).__name__
        found[kind] = found.get(kind, 0) + 1
    return found


@pytest_twisted.ensureDeferred
async def test_registration_flood_gets_its_share_alone(names: Victim) -> None:
    """One that registers ten times what it may have gets its share; others get theirs."""
    from twisted.internet import reactor

    async with withstands(names, processor=10), pycomnet.Context(reactor, timeout=120) as flooder:
        flood = flooder.at(names.where, NAMESERVER)
        wanted = {"interfaces": ["x"] * 64, "address": "tcp:h:1", "ttl": 60}
        wanted["metadata"] = {"text": "x" * 4000}
        asked = [flood.invoke("register", {"service": f"f{n}", **wanted}) for n in range(10 * MOST)]
        async with pycomnet.Context(reactor, timeout=120) as other:
            good = other.at(names.where, NAMESERVER)
            await good.invoke("register", {**wanted, "service": "good", "interfaces": ["y"]})
            found = await outcomes(asked)
            assert found.get("NoneType") == MOST, found
            assert (await good.invoke("locate", {"interface": "y"}))["service"] == "good"


@pytest_twisted.ensureDeferred
async def test_odd_arguments_are_refused_and_not_kept(names: Victim) -> None:
    """Arguments that are as long, as many or as odd as can be are refused, and kept nowhere."""
    from twisted.internet import reactor

    good = {"service": "s", "interfaces": ["x"], "address": "tcp:h:1"}
    async with withstands(names), pycomnet.Context(reactor, timeout=120) as context:
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


@pytest_twisted.ensureDeferred
async def test_watch_flood_gets_its_share_alone(names: Victim) -> None:
    """A thousand watches of one connection that reads nothing: it has its share of them."""
    from twisted.internet import reactor

    async with withstands(names, processor=10), pycomnet.Context(reactor, timeout=120) as flooder:
        flood = flooder.at(names.where, NAMESERVER)
        watches = [flood.stream("watch", {}) for _ in range(1000)]
        assert (await flood.invoke("stat"))["watches"] <= 64
        async with pycomnet.Context(reactor, timeout=120) as other:
            good = other.at(names.where, NAMESERVER)
            for number in range(100):
                args = {"service": f"w{number}", "interfaces": ["w"], "address": "tcp:h:1"}
                await good.invoke("register", args)
        assert len(watches) == 1000


@pytest_twisted.ensureDeferred
async def test_guessed_secrets_change_nothing(names: Victim) -> None:
    """Two thousand guesses of a secret change nothing, and cost no more than calls do."""
    from twisted.internet import reactor

    async with (
        withstands(names, memory=16 * MB, processor=10),
        pycomnet.Context(reactor, timeout=120) as owner,
        pycomnet.Context(reactor, timeout=120) as guesser,
    ):
        args = {"service": "owned", "interfaces": ["o"], "address": "tcp:h:1"}
        held = await owner.at(names.where, NAMESERVER).invoke("register", args)
        flood = guesser.at(names.where, NAMESERVER)
        asked = [
            flood.invoke("unregister", {"lease": held["lease"], "secret": f"guess {n} of a secret"})
            for n in range(2000)
        ]
        found = await outcomes(asked)
        assert "NoneType" not in found and sum(found.values()) == 2000, found
        found = await flood.invoke("locate", {"interface": "o"})
        assert found["service"] == "owned"
