"""The etcd client: keys, transactions, leases, watches and the cluster, over several members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from pycomnet.etcd.values import (
    AnswerHeader,
    Compare,
    DeleteAnswer,
    Grant,
    KeyEvent,
    KeyRange,
    KeyValue,
    MemberAlarm,
    MemberInfo,
    MemberStatus,
    Operation,
    PutAnswer,
    RangeAnswer,
    RangeRequest,
    TimeToLive,
    TxnAnswer,
)
from pycomnet.net.reactors import EndpointReactor


class EtcdWatchHandler(Protocol):
    """What a watch calls."""

    def created(self, revision: int) -> None:
        """A member watches now; again after each change of the member.

        :param revision: the store's at that time. A watch without ``start_revision`` has all later
            changes.
        """

    def events(self, events: list[KeyEvent], revision: int) -> Deferred[None] | None:
        """Keys have changed. Each change comes once, in the order of revisions; those of one
        revision come in one call.

        :param events: in order; the last one has the highest ``mod_revision``.
        :param revision: the store's, when the member sent them; not less than the events'.
        :returns: None, or what fires when the handler can take more. Until then the member is
            slowed down, by HTTP/2's flow control.
        """

    def progress(self, revision: int) -> None:
        """All changes up to this revision have been given."""

    def disconnected(self, reason: Exception) -> None:
        """The member is lost, frozen or has no leader. The watch goes on by itself at another one;
        then :meth:`created` comes, and what changed meanwhile.
        """

    def compacted(self, revision: int) -> None:
        """The watch has ended: changes are missing that are no longer kept.

        Read the range and begin a new watch after the answer's revision.

        :param revision: the oldest that is still kept.
        """

    def cancelled(self, reason: Exception) -> None:
        """The watch has ended: etcd refuses it (no permission, say), or the client is closed. Not
        called after :meth:`EtcdWatch.stop`.
        """


class EtcdWatch:
    """A watch that goes on at another member when its own is lost.

    :ivar next_revision: the first revision whose changes have not been given yet; 0: not known.
    """

    next_revision: int

    def stop(self) -> None:
        """End it: the handler is not called any more."""

    def request_progress(self) -> None:
        """Ask for a call of ``progress`` soon."""


class EtcdClient:
    """A client of an etcd cluster, version 3.4 or later.

    Each method returns a Deferred. It fails with an error of :mod:`pycomnet.etcd.errors`; only
    :class:`~pycomnet.etcd.errors.EtcdUncertain` means that something may have changed. Cancelling
    it cancels the request; a write may still be executed.

    Reads, and writes that surely were not executed, go to another member when one fails, until the
    time is over.

    :param endpoints: of the members: endpoint strings, such as ``tcp:HOST:2379`` and
        ``tls:HOST:2379:trustRoots=FILE``.
    :param user: the user's name, if the cluster has authentication; then ``password`` is needed.
    :param timeout: seconds for a request, unless it says other.
    :param reactor: connects, and is the clock.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        reactor: EndpointReactor,
        *,
        user: str | None = None,
        password: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        raise NotImplementedError

    def connect(self) -> Deferred[None]:
        """Connect to the members. It goes on connecting and reconnecting until :meth:`close`.

        :returns: fires when the first member is connected (and the user authenticated); fails with
            EtcdUnavailable after ``timeout``, or EtcdAuthFailed. Then it still goes on.
        """
        raise NotImplementedError

    def close(self) -> Deferred[None]:
        """Close all connections; what is in progress fails: reads with EtcdClosed, writes with
        EtcdUncertain. Watches are cancelled with EtcdClosed.
        """
        raise NotImplementedError

    def range(
        self, request: RangeRequest | KeyRange, *, timeout: float | None = None
    ) -> Deferred[RangeAnswer]:
        """Read a range of keys."""
        raise NotImplementedError

    def get(
        self, key: bytes, *, serializable: bool = False, timeout: float | None = None
    ) -> Deferred[KeyValue | None]:
        """Read a key; None: it does not exist."""
        raise NotImplementedError

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        lease: int = 0,
        previous: bool = False,
        timeout: float | None = None,
    ) -> Deferred[PutAnswer]:
        """Write a key."""
        raise NotImplementedError

    def delete(
        self, keys: bytes | KeyRange, *, previous: bool = False, timeout: float | None = None
    ) -> Deferred[DeleteAnswer]:
        """Delete a key or a range."""
        raise NotImplementedError

    def txn(
        self,
        compares: Sequence[Compare] = (),
        success: Sequence[Operation] = (),
        failure: Sequence[Operation] = (),
        *,
        timeout: float | None = None,
    ) -> Deferred[TxnAnswer]:
        """Execute a transaction."""
        raise NotImplementedError

    def compact(
        self, revision: int, *, physical: bool = False, timeout: float | None = None
    ) -> Deferred[AnswerHeader]:
        """Forget what is older than a revision."""
        raise NotImplementedError

    def grant(self, ttl: int, *, id: int = 0, timeout: float | None = None) -> Deferred[Grant]:
        """Make a lease.

        :param ttl: whole seconds; etcd grants at least 2.
        :param id: of its own; 0: etcd chooses one.
        """
        raise NotImplementedError

    def revoke(self, lease: int, *, timeout: float | None = None) -> Deferred[AnswerHeader]:
        """End a lease, and its keys."""
        raise NotImplementedError

    def keepalive(self, lease: int, *, timeout: float | None = None) -> Deferred[int]:
        """Renew a lease, on one stream to the leader that all renewals share.

        :returns: fires with the seconds that it now lives; fails with EtcdLeaseNotFound, or with
            EtcdUnavailable or EtcdTimeout: then it may have been renewed.
        """
        raise NotImplementedError

    def time_to_live(
        self, lease: int, *, keys: bool = False, timeout: float | None = None
    ) -> Deferred[TimeToLive]:
        """The time that a lease has; its ``ttl`` is -1 if there is none."""
        raise NotImplementedError

    def leases(self, *, timeout: float | None = None) -> Deferred[list[int]]:
        """The ids of all leases, as a member knows them."""
        raise NotImplementedError

    def watch(
        self,
        keys: bytes | KeyRange,
        handler: EtcdWatchHandler,
        *,
        start_revision: int = 0,
        previous: bool = False,
        progress: bool = False,
        fragment: bool = True,
        require_leader: bool = True,
    ) -> EtcdWatch:
        """Watch keys.

        :param start_revision: the first revision whose changes are wanted; 0: from now on.
        :param previous: whether events have the record before.
        :param progress: whether etcd tells the progress at times when nothing changes (every ten
            minutes by default; ask with :meth:`EtcdWatch.request_progress` for more).
        :param fragment: whether etcd may send many events in parts; they are given whole.
        :param require_leader: whether the watch goes to another member if its member loses the
            leader (etcd says so after about 3 election timeouts).
        """
        raise NotImplementedError

    def status(
        self, endpoint: str | None = None, *, timeout: float | None = None
    ) -> Deferred[MemberStatus]:
        """The status of the member at an endpoint, or of any."""
        raise NotImplementedError

    def member_list(self, *, timeout: float | None = None) -> Deferred[list[MemberInfo]]:
        """The members of the cluster."""
        raise NotImplementedError

    def alarms(self, *, timeout: float | None = None) -> Deferred[list[MemberAlarm]]:
        """The alarms that are raised."""
        raise NotImplementedError

    def disarm(
        self, alarm: MemberAlarm, *, timeout: float | None = None
    ) -> Deferred[list[MemberAlarm]]:
        """Turn off an alarm, when its cause is gone."""
        raise NotImplementedError


__all__ = ["EtcdClient", "EtcdWatch", "EtcdWatchHandler"]
