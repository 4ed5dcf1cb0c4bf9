"""A change that was sent to etcd, until the watch reports it."""

from __future__ import annotations

from twisted.internet import defer

from pycomnet.nameserver.records import Record


class PendingChange:
    """A change that this nameserver has sent to etcd.

    :ivar record: the record, or None for a removal.
    :ivar seen: fires with the change's fence when the follower knows it.
    """

    __slots__ = ("record", "seen")

    def __init__(self, record: Record | None) -> None:
        self.record = record
        self.seen: defer.Deferred[int] = defer.Deferred()

    def is_seen(self, revision: int) -> None:
        """The follower knows it."""
        if not self.seen.called:
            self.seen.callback(revision)
