"""The memory store."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from pycomnet.errors import StoreFailed
from pycomnet.nameserver.stores import make_store
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.test.nameserver.conformance import StoreConformance


class MemoryStoreTests(StoreConformance, TestCase):
    """It passes."""

    survives = False

    def make_store(self) -> MemoryStore:
        return MemoryStore()


class DescriptionTests(SynchronousTestCase):
    """A store is named by a description."""

    def test_each_store_is_named_by_its_description(self) -> None:
        """Each kind has its description, and is named by it."""
        for description in ("memory:", "sqlite:names.sqlite"):
            self.assertEqual(make_store(description, Clock()).name, description)

    def test_unknown_store_is_refused_with_those_there_are(self) -> None:
        """What names no store is refused, with what would."""
        for description in ("", "memory", "sqlite", "redis:x", "sqlite:", "sqlite::memory:"):
            self.assertRaises(StoreFailed, make_store, description, None)
        self.assertIn(
            "expected a store: sqlite:PATH, memory: or etcd:URL,URL",
            str(self.assertRaises(StoreFailed, make_store, "names.sqlite", None)),
        )
        self.assertRaises(StoreFailed, make_store, "memory:x", None)
