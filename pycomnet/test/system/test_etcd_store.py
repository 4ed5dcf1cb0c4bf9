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
from twisted.trial.unittest import TestCase

from pycomnet.nameserver.stores import make_store
from pycomnet.test.nameserver.conformance import StoreConformance
from pycomnet.test.needs import needs
from pycomnet.test.system.etcds import EtcdMembers

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
