"""Following the nameserver over its restarts: whoever applies the events has what is there."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.nameserver import follow as follow_module
from pycomnet.nameserver.follow import follow
from pycomnet.nameserver.records import Delete, Put
from pycomnet.nameserver.server import make_server
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.test.nameserver.kit import record
from pycomnet.test.nameserver.servicecase import NameserverCase


class FollowTests(NameserverCase):
    """One who follows."""

    options = {"log_length": 50}

    def setUp(self) -> None:
        super().setUp()
        self.known: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        self.problems: list[Exception] = []
        context = Context(self.network, nameserver=self.address)
        self.generator = follow(
            context.at(self.address, NAMESERVER),
            self.network,
            service="s*",
            interrupted=self.problems.append,
        )
        self.following = defer.Deferred.fromCoroutine(self.apply())
        self.following.addErrback(lambda failure: failure.trap(defer.CancelledError))
        self.addCleanup(self.following.cancel)
        self.network.deliver()

    async def apply(self) -> None:
        async for event in self.generator:
            self.events.append(event)
            if event["event"] == "put":
                self.known[event["record"]["service"]] = event["record"]["address"]
            elif event["event"] == "delete":
                del self.known[event["service"]]

    def put(self, name: str, number: int = 1) -> None:
        fence = self.names.directory.fence_of(name)
        self.store.commit(Put(record(name, address=f"tcp:h:{number}"), fence))
        self.network.deliver()

    def delete(self, name: str) -> None:
        self.store.commit(Delete(name, self.names.directory.fence_of(name)))
        self.network.deliver()

    def kinds(self) -> list[str]:
        self.network.deliver()
        kinds = [event["event"] for event in self.events]
        self.events.clear()
        return kinds

    def restart(self) -> None:
        """Another nameserver at the same address, which knows nothing of the one before."""
        port = self.network.ports.pop(2012)
        self.network.cut()
        self.network.wait(3.0)
        self.store = MemoryStore(lambda: 5000)
        self.names = NameService(self.store, self.network, seconds=self.network.seconds)
        self.server = make_server(self.network)
        self.successResultOf(self.server.add(self.names))
        self.successResultOf(self.server.listen(f"tcp:{port.number}:interface=127.0.0.1"))

    def test_goes_on_where_it_was_after_a_lost_connection(self) -> None:
        """After a lost connection it goes on where it was, and is told of nothing twice."""
        self.put("s1")
        self.put("s2")
        self.assertEqual(self.kinds(), ["end-of-snapshot", "put", "put"])
        self.network.cut()
        self.delete("s1")
        self.put("s3")
        self.network.wait(1.0)
        self.assertEqual(self.kinds(), ["delete", "put"])
        self.assertEqual(set(self.known), {"s2", "s3"})
        self.assertEqual(len(self.problems), 1)

    def test_missed_removals_are_told(self) -> None:
        """When it has missed changes it is told of what is gone, too."""
        for name in ("s1", "s2"):
            self.put(name)
        self.network.cut()
        self.delete("s1")
        for number in range(60):
            self.put("s2", number)
        self.network.wait(2.0)
        self.assertEqual(self.known, {"s2": "tcp:h:59"})
        deletes = [event for event in self.events if event["event"] == "delete"]
        self.assertEqual([event["why"] for event in deletes], ["missed"])

    def test_another_nameserver_with_other_registrations_is_followed(self) -> None:
        """Another nameserver, that has lost everything, or has other registrations."""
        self.put("s1")
        self.put("s2")
        self.restart()
        self.put("s2", 7)
        self.put("s9", 9)
        self.network.wait(follow_module.LONGEST_DELAY + 1.0)
        self.assertEqual(self.known, {"s2": "tcp:h:7", "s9": "tcp:h:9"})
        self.put("s1", 3)
        self.assertEqual(self.known["s1"], "tcp:h:3")

    def test_closed_follower_leaves_no_watch(self) -> None:
        """Whoever wants no more has no watch left at the nameserver."""
        self.assertEqual(self.names._watches.count, 1)
        self.following.cancel()
        self.network.deliver()
        self.assertEqual(self.names._watches.count, 0)
