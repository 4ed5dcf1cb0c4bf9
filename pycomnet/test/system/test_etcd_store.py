"""The store on etcd, on real members."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pycomnet.nameserver.stores import make_store
from pycomnet.test.nameserver.conformance import StoreConformance
from pycomnet.test.needs import needs
from pycomnet.test.system.daemons import daemons
from pycomnet.test.system.etcdkills import run_kills
from pycomnet.test.system.etcds import EtcdMembers
from pycomnet.test.system.histories import Operation, lost, violations

pytestmark = needs("etcd")

#: Its disk is memory, where there is one: the tests are not about disks.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.fixture(scope="module")
def members() -> Iterator[EtcdMembers]:
    directory = Path(tempfile.mkdtemp(prefix="pycomnet-etcd-", dir=MEMORY))
    running = EtcdMembers(directory)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(directory, ignore_errors=True)


class EtcdConformance(StoreConformance, TestCase):
    """What every store does, on a prefix of the test's own."""

    __test__ = False  # the test below runs each
    in_order = False
    many = 300
    urls = ""

    def make_store(self) -> Any:
        from twisted.internet import reactor

        return make_store(f"etcd:{self.urls}//prefix=/{self.id()}/", reactor)  # type: ignore[arg-type]


TESTS = [name for name in dir(EtcdConformance) if name.startswith("test_")]


@pytest.mark.parametrize("name", TESTS)
@pytest_twisted.ensureDeferred
async def test_store_on_real_members_conforms(members: EtcdMembers, name: str) -> None:
    """The suite that every store passes."""
    case = EtcdConformance(name)
    case.urls = members.urls
    try:
        await defer.maybeDeferred(getattr(case, name))
    finally:
        for function, args, named in reversed(case._cleanups):
            await defer.maybeDeferred(function, *args, **named)


def test_checker_sees_what_can_not_have_been() -> None:
    """The checker finds two owners, a fence that falls, a lease that was lost, and a record."""

    def one(client: str, kind: str, begin: float, end: float, **more: Any) -> Operation:
        return Operation(client, kind, "s", begin, end, **{"outcome": "ok", "ttl": 4.0, **more})

    first = one("a", "register", 0.0, 1.0, fence=5)
    assert violations([first, one("b", "register", 4.5, 5.0, fence=6)]) == []
    ended, next_one = one("a", "unregister", 2.0, 2.1), one("b", "register", 2.2, 2.3, fence=6)
    assert violations([first, ended, next_one]) == []
    (two,) = violations([first, one("b", "register", 2.0, 3.0, fence=6)])
    assert "two owners" in two
    (fence,) = violations([first, one("b", "register", 5.0, 6.0, fence=5)])
    assert "did not grow" in fence
    (renewal,) = violations([first, one("a", "renew", 2.0, 2.1, outcome="lease-lost")])
    assert "in time" in renewal
    assert violations([first, one("a", "renew", 4.0, 4.1, outcome="lease-lost")]) == []
    assert lost([first], 2.0, {"s": 5}) == []
    assert lost([first], 2.0, {}) and lost([first], 4.5, {}) == []


@pytest_twisted.ensureDeferred
async def test_leader_killed_under_load_loses_nothing(tmp_path: Path) -> None:
    """One kill of the leader of three; benchmarks/etcd_kills.py has many."""
    from twisted.internet import reactor

    directory = Path(tempfile.mkdtemp(prefix="pycomnet-etcd-", dir=MEMORY))
    three = EtcdMembers(directory, 3)
    try:
        await deferToThread(three.start)
        with daemons(tmp_path) as started:
            run = await run_kills(reactor, three, started, kills=1, between=1.0)
    finally:
        three.stop()
        shutil.rmtree(directory, ignore_errors=True)
    assert run.problems == []
    assert run.operations > 50
