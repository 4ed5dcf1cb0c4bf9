"""Watches, from the nameserver to its clients."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import (
    RevisionTooOld,
    ServerLeaving,
)
from pycomnet.test.nameserver.servicecase import NameserverCase, Stream


class WatchTests(NameserverCase):
    """Watches, over a connection."""

    options = {"log_length": 200}

    def test_snapshot_end_mark_and_changes(self) -> None:
        """A snapshot, its end, and what changes, with revisions that one can go on from."""
        self.registered("a")
        stream = Stream(self)
        self.assertEqual(stream.take(), [("put", "a"), ("end-of-snapshot", "")])
        held = self.registered("b")
        self.assertEqual(stream.take(), [("put", "b")])
        assert stream.last is not None
        revision = stream.last["revision"]
        self.assertEqual(revision, held["fence"])
        self.network.cut()  # and the client comes back
        client = self.connect()
        self.invoke("unregister", client, lease=held["lease"], secret=held["secret"])
        again = Stream(self, client, revision=revision)
        self.assertEqual(again.take(), [("delete", "b")])

    def test_filters_by_patterns_and_tags(self) -> None:
        """By patterns of name and interface, and tags."""
        stream = Stream(self, service="org.*", interface="x*", tags=["t"])
        self.assertEqual(stream.take(), [("end-of-snapshot", "")])
        self.registered("org.a", interfaces=["x1"], tags=["t"])
        self.registered("com.a", interfaces=["x1"], tags=["t"])
        self.registered("org.b", interfaces=["y1"], tags=["t"])
        self.registered("org.c", interfaces=["x1"])
        self.assertEqual(stream.take(), [("put", "org.a")])

    def test_unknown_revision_is_refused_with_the_oldest(self) -> None:
        """A revision that is not known any more is refused, with the oldest that is."""
        stream = Stream(self, revision=7)
        stream.take()
        assert isinstance(stream.problem, RevisionTooOld)
        self.assertEqual((stream.problem.revision, stream.problem.oldest), (7, 100))

    def test_slow_watcher_is_told_to_begin_anew(self) -> None:
        """A watcher that takes nothing costs the others nothing, and is told to begin anew."""
        slow = self.client.stream("watch", {})
        fast = Stream(self, self.connect())
        self.network.deliver()
        metadata = {"filler": "x" * 4000}
        count = 600  # over two megabytes: more than fits on its way
        for number in range(count):
            self.fill([f"s{number}"], metadata=metadata)
            self.network.deliver()
        self.assertEqual(len(fast.take()), count + 1)
        events, problem = 0, None
        while problem is None:
            receiving = slow.receive()
            self.network.deliver()
            results: list[Any] = []
            receiving.addBoth(results.append)
            if isinstance(results[0], dict):
                events += 1
            else:
                problem = results[0]
        problem.trap(RevisionTooOld)
        self.assertLess(events, count)

    def test_closed_watch_is_over_here_too(self) -> None:
        """A watch that its client closes, or whose connection ends, is over here, too."""
        stream = Stream(self)
        stream.take()
        stream.stream.close()
        self.network.deliver()
        self.assertEqual(
            (self.names._watches.count, self.names._watches._next_change.waiting), (0, 0)
        )
        Stream(self).take()
        self.assertEqual(self.names._watches.count, 1)
        self.network.cut()
        self.network.deliver()
        self.assertEqual(self.names._watches.count, 0)
        self.assertEqual(dict(self.names._watches._by_connection), {})

    def test_watchers_are_told_when_nameserver_ends(self) -> None:
        """When the nameserver ends, watchers are told."""
        stream = Stream(self)
        stream.take()
        self.names.leave()
        stream.take()
        self.assertIsInstance(stream.problem, ServerLeaving)
        closing = self.server.close()
        self.network.deliver()
        self.successResultOf(closing)
