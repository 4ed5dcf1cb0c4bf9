"""A change that was requested of the store on etcd, and the errors that it may end with."""

from __future__ import annotations

import secrets

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import StoreCutOff, StoreFailed, StoreUncertain
from pycomnet.etcd import EtcdClosed, EtcdNoSpace
from pycomnet.etcd.calls import CallDeadlines
from pycomnet.nameserver.records import Delete, Put
from pycomnet.nameserver.stores.etcd.keys import NONCE, Base
from pycomnet.nameserver.stores.etcd.mirror import Mirror
from pycomnet.nameserver.stores.etcd.pendingchange import PendingChange

#: Seconds after which a caller learns that the outcome is not known yet.
PATIENCE = 5.0
#: The base of a change that was not sent yet.
NO_BASE = Base(0, "", 0)


class Write:
    """A change that was requested.

    :param deadlines: hold it until it has an outcome; ``timeout`` and ``due`` are theirs.
    :ivar deferred: fires with its revision.
    :ivar sent: whether etcd may have received it.
    :ivar lost: whether a try had no reply.
    :ivar granted: the lease that was granted for it, or may have been; 0: none was.
    :ivar base: the base of fences that it was sent with.
    :ivar position: the mirror's position when it was sent.
    :ivar over: the revision of this very registration, if it is made again under another base.
    :ivar problem: why it has not been made yet, as text.
    """

    __slots__ = (
        "_deadlines",
        "base",
        "change",
        "deferred",
        "due",
        "granted",
        "lost",
        "nonce",
        "over",
        "pending",
        "position",
        "problem",
        "sent",
        "timeout",
    )

    def __init__(self, change: Put | Delete, deadlines: CallDeadlines) -> None:
        self._deadlines = deadlines
        self.timeout = self.due = 0.0
        self.change = change
        self.deferred: defer.Deferred[int] = defer.Deferred()
        self.nonce = secrets.token_bytes(NONCE)
        self.sent = False
        self.lost = False
        self.granted = 0
        self.base: Base = NO_BASE
        self.position = 0
        self.over = 0
        self.problem = "it had to wait for others"
        self.pending: PendingChange | None = None

    @property
    def is_seen(self) -> bool:
        """Whether the follower knows it."""
        return self.pending is not None and self.pending.seen.called

    def expect(self, mirror: Mirror) -> None:
        """Fire when the watch reports this change."""
        record = self.change.record if isinstance(self.change, Put) else None
        self.pending = mirror.expect(self.nonce, record)
        self.pending.seen.addCallback(self.fire)

    def fire(self, result: int | Failure) -> None:
        """Give the caller the outcome, if it still waits."""
        self._deadlines.remove(self)
        if not self.deferred.called:
            self.deferred.callback(result)


def not_made(write: Write) -> StoreCutOff:
    """The error of a change that has waited for too long, and was not made."""
    return StoreCutOff(
        f"{write.change.service!r}: nothing was changed, as it has waited for etcd for too long "
        f"({write.problem})"
    )


def uncertain(write: Write) -> StoreUncertain:
    """The error of a change whose outcome is not known."""
    return StoreUncertain(
        f"{write.change.service!r}: etcd has not answered in {PATIENCE:g} s; the change may be "
        "made, or is made yet: repeat it"
    )


def explained(problem: Exception) -> Exception:
    """The store's error for one of etcd's."""
    if isinstance(problem, (StoreFailed, StoreUncertain)):
        return problem
    if isinstance(problem, EtcdNoSpace):
        return StoreFailed(f"etcd's database is full: {problem}")
    if isinstance(problem, EtcdClosed):
        return StoreCutOff("the store is closed")
    return StoreFailed(f"etcd: {problem}")
