"""Registrations are moved from one store to another, and their owners do not notice."""

from __future__ import annotations

import json
import os
from typing import Any

from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from pycomnet.deferred import deferred
from pycomnet.errors import InvalidRegistration, StoreFailed
from pycomnet.interfaces import INameFollower
from pycomnet.nameserver.migration import (
    StoreContents,
    as_line,
    export_records,
    from_line,
    import_records,
)
from pycomnet.nameserver.records import Delete, Put
from pycomnet.nameserver.stores.etcd.store import EtcdStore
from pycomnet.nameserver.stores.sqlite import SQLiteStore
from pycomnet.test.nameserver.conformance import FIELDS, fields
from pycomnet.test.nameserver.etcdmodel import EtcdModel
from pycomnet.test.nameserver.kit import Follower, record


class MovingTests(TestCase):
    """From a file to etcd, and back."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.model = EtcdModel(reactor)

    def file(self, path: str, revision: int = 100) -> SQLiteStore:
        return SQLiteStore(path, self.reactor, lambda: revision)

    def etcd(self) -> EtcdStore:
        return EtcdStore(self.model.client, self.reactor)  # type: ignore[arg-type]

    async def filled(self, path: str, revision: int = 100) -> Follower:
        """A file with some registrations."""
        store, follower = self.file(path, revision), Follower()
        await store.open(follower)
        await store.commit(Put(record("a", "x", "y", metadata={"n": 1}, tags=("t",), ttl=7.5)))
        await store.commit(Put(record("ä-b", secret="another secret of mine")))
        await store.close()
        return follower

    @deferred
    async def test_all_of_a_registration_is_moved_but_its_fence(self) -> None:
        """Name, address, lease, secret and all else arrive; the fence is higher."""
        path = self.mktemp()
        before = await self.filled(path)
        lines = await export_records(self.file(path))
        self.assertEqual(await import_records(self.etcd(), lines), (2, []))
        store, after = self.etcd(), Follower()
        await store.open(after)
        await store.close()
        self.assertEqual(set(after.records), set(before.records))
        for name, (one, _) in before.records.items():
            moved = after.records[name][0]
            self.assertEqual(fields(moved)[:-1], fields(one)[:-1])
            self.assertGreater(moved.fence, one.fence)
        self.assertEqual(FIELDS[-1], "fence")

    @deferred
    async def test_taken_names_stay(self) -> None:
        """What another owner has in the other store stays, and is told."""
        path = self.mktemp()
        await self.filled(path)
        lines = await export_records(self.file(path))
        store = self.etcd()
        await store.open(Follower())
        await store.commit(Put(record("a", "x", secret="the secret of another one")))
        await store.close()
        self.assertEqual(await import_records(self.etcd(), lines), (1, ["a"]))

    @deferred
    async def test_import_can_be_done_again(self) -> None:
        """What an import that was interrupted has registered is no other owner's, in each store."""
        path, other = self.mktemp(), self.mktemp()
        await self.filled(path)
        first, *lines = await export_records(self.file(path))
        part = [first.replace('"registrations": 2', '"registrations": 1'), lines[0]]
        for store in (self.etcd, lambda: self.file(other, 1 << 60)):
            self.assertEqual(await import_records(store(), part), (1, []))
            self.assertEqual(await import_records(store(), [first, *lines]), (2, []))

    @deferred
    async def test_lost_lines_are_noticed(self) -> None:
        """An export that was cut off, or has a line twice, changes nothing; the line is told."""
        path, other = self.mktemp(), self.mktemp()
        await self.filled(path)
        lines = await export_records(self.file(path))
        for wrong, told in (
            (lines[:1], "there are 0 registrations, and the first line says 2"),
            (lines[:2], "there are 1 registrations, and the first line says 2"),
            ([*lines[:2], "", lines[1]], "line 4: 'a' or its lease is there twice"),
            ([*lines[:2], lines[2][:-30]], "line 3: expected a line of JSON"),
        ):
            failed = self.assertFailure(
                import_records(self.file(other), wrong), InvalidRegistration
            )
            self.assertIn(told, str(await failed))
        self.assertFalse(os.path.exists(other))
        first = json.loads(lines[0])
        del first["registrations"]  # as printed by earlier versions
        old = [json.dumps(first), *lines[1:]]
        self.assertEqual(await import_records(self.file(other, 1 << 60), old), (2, []))

    @deferred
    async def test_fences_never_fall(self) -> None:
        """A store whose fences are lower takes nothing."""
        path, other = self.mktemp(), self.mktemp()
        await self.filled(path, revision=1 << 60)
        lines = await export_records(self.file(path))
        await self.assertFailure(import_records(self.file(other), lines), InvalidRegistration)
        self.assertEqual(len(await export_records(self.file(other))), 1)

    @deferred
    async def test_fences_of_what_is_gone_do_not_fall(self) -> None:
        """A name that was registered last and is gone has had the highest fence: it counts."""
        path, other = self.mktemp(), self.mktemp()
        await self.filled(path, revision=1000)
        store, follower = self.file(path, 1000), Follower()
        await store.open(follower)
        await store.commit(Put(record("gone")))
        highest = follower.fence_of("gone")
        assert highest is not None
        await store.commit(Delete("gone", highest))
        await store.close()
        lines = await export_records(self.file(path))
        self.assertNotIn("gone", "".join(lines))
        between = self.file(other, highest - 1)
        await self.assertFailure(import_records(between, lines), InvalidRegistration)

    @deferred
    async def test_leases_of_another_prefix_are_not_shared(self) -> None:
        """Into another prefix of the same etcd nothing is moved: ending one would end the other."""
        path = self.mktemp()
        await self.filled(path)
        await import_records(self.etcd(), await export_records(self.file(path)))
        lines = await export_records(self.etcd())
        second = EtcdStore(self.model.client, self.reactor, start=b"/other/")  # type: ignore[arg-type]
        await self.assertFailure(import_records(second, lines), StoreFailed)

    @deferred
    async def test_import_wants_what_an_export_has_printed(self) -> None:
        """Without the first line it is not known which fences there were."""
        lines = [as_line(record("a"))]
        await self.assertFailure(import_records(self.etcd(), lines), InvalidRegistration)
        await self.assertFailure(import_records(self.etcd(), []), InvalidRegistration)

    @deferred
    async def test_store_that_is_in_use_is_told(self) -> None:
        """A file that a nameserver has open is not exported."""
        path = self.mktemp()
        store = self.file(path)
        await store.open(Follower())
        await self.assertFailure(export_records(self.file(path)), StoreFailed)
        await store.close()

    def test_lines_are_checked(self) -> None:
        """What is no line of an export is refused, and what was expected is told."""
        verifyObject(INameFollower, StoreContents())
        one = record("a")
        one.fence = 7
        line = as_line(one)
        again, fence = from_line(line)
        self.assertEqual((fields(again)[:-1], fence), (fields(one)[:-1], 7))
        for wrong in (
            "x",
            "[]",
            "{}",
            line.replace('"format": 1', '"format": 2'),
            line.replace('"ttl": 30.0', '"ttl": true'),
            line.replace('"a"', "5"),
            line.replace('["org.example.calc"]', "[]"),
            line.replace('["org.example.calc"]', "[5]"),
            line.replace('"metadata": ""', '"metadata": "?"'),
            line.replace('"metadata": ""', '"metadata": "kQE="'),  # a list
            line.replace('"metadata": ""', '"metadata": "3w=="'),  # not whole
            line.replace('"ttl": 30.0', '"ttl": -1'),
            line.replace('"ttl": 30.0', '"ttl": NaN'),
            line.replace('"ttl"', '"tl"'),
            line.replace('"tags": []', '"tags": null'),
            line.replace('"a"', '"a b*"'),
            line.replace('"fence": 7', '"fence": -1'),
            line.replace('"fence": 7', f'"fence": {1 << 63}'),
            line.replace('"lease": ', '"lease": -'),
            line.replace('"secret": "', '"secret": "AAAA'),
            line.replace('"secret": ', '"hidden": '),
            line.replace('"address": "', '"address": "\\n'),
            "[" * 100_000,
        ):
            self.assertNotEqual(wrong, line)
            self.assertRaises(InvalidRegistration, from_line, wrong)
