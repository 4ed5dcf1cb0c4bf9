"""Writes registrations and removals to etcd, and finds out their outcome if a reply is lost."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.errors import StoreConflict, StoreCutOff, StoreFailed
from pycomnet.etcd import (
    Compare,
    DeleteRequest,
    DeleteResponse,
    EtcdClient,
    EtcdClosed,
    EtcdError,
    EtcdLeaseExists,
    EtcdLeaseNotFound,
    EtcdOverloaded,
    EtcdTimeout,
    EtcdUnavailable,
    EtcdUncertain,
    KeyRange,
    KeyValue,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    TxnResponse,
    unchanged,
)
from pycomnet.etcd.calls import CallDeadlines
from pycomnet.nameserver.concurrency import ConcurrencyLimit
from pycomnet.nameserver.records import Delete, Put
from pycomnet.nameserver.stores.etcd.keys import (
    NONCE,
    ForeignValue,
    KeyLayout,
    lease_seconds,
    read_record,
    record_value,
    why_value,
)
from pycomnet.nameserver.stores.etcd.mirror import Mirror
from pycomnet.nameserver.stores.etcd.writes import (
    PATIENCE,
    Write,
    explained,
    not_made,
    uncertain,
)
from pycomnet.net.backoff import Backoff
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import INameFollower

log = Logger()
T = TypeVar("T")

#: Seconds for which a change waits for others of its name, or because too many are in progress.
QUEUED = 20.0
#: Seconds for one request to etcd.
REQUEST = 2.5
#: Changes in progress at a time. More would only wait in etcd, and delay its heartbeats.
IN_FLIGHT = 128
#: Seconds before a request is repeated, the first time and the longest.
FIRST_DELAY, LONGEST_DELAY = 0.05, 1.0
#: Bits of a lease's number, as :data:`pycomnet.nameserver.service.LEASE_BITS`.
LEASE_BITS = 53
#: Errors after which nothing has changed and another member, or a later time, may do better.
TRANSIENT = (EtcdUnavailable, EtcdTimeout, EtcdOverloaded)


class Commits:
    """Makes the changes. Changes of one name are made one after the other.

    :param mirror: reports the changes that etcd has made.
    """

    def __init__(
        self,
        client: EtcdClient,
        layout: KeyLayout,
        mirror: Mirror,
        follower: INameFollower,
        reactor: IReactorTime,
    ) -> None:
        self._client = client
        self._layout = layout
        self._mirror = mirror
        self._follower = follower
        self._reactor = reactor
        self._queues: dict[str, deque[Write]] = {}
        self._turns = ConcurrencyLimit(IN_FLIGHT)
        self._deadlines = CallDeadlines(reactor, self._late)
        self._idle: defer.Deferred[None] | None = None
        self._closed = False
        #: the kind of error that was logged last; each is logged once
        self._logged: type[Exception] | None = None

    def commit(self, change: Put | Delete) -> defer.Deferred[int]:
        """Request a change."""
        write = Write(change, self._deadlines)
        self._deadlines.add(write, QUEUED)
        queue = self._queues.get(change.service)
        if queue is None:
            self._queues[change.service] = deque([write])
            self._begin(change.service)
        else:
            queue.append(write)
        return write.deferred

    @property
    def pending(self) -> int:
        """How many names have changes without a known outcome."""
        return len(self._queues)

    def finished(self) -> defer.Deferred[None]:
        """Fires when nothing is pending."""
        self._idle = defer.Deferred()
        if not self._queues:
            self._idle.callback(None)
        return self._idle

    def stop(self) -> None:
        """Stop repeating changes; their callers get an error."""
        self._closed = True
        for queue in self._queues.values():
            for write in queue:
                self._late(write)
        self._deadlines.stop()

    def _late(self, write: Write) -> None:
        write.fire(Failure(uncertain(write) if write.sent or write.lost else not_made(write)))

    def _begin(self, service: str) -> None:
        """Make the first change in a name's queue, when fewer than IN_FLIGHT are in progress."""
        write = self._queues[service][0]
        making = self._turns.run(lambda: defer.Deferred.fromCoroutine(self._work(write)))
        making.addCallback(self._next, service)

    def _next(self, _: object, service: str) -> None:
        queue = self._queues[service]
        queue.popleft()
        if queue:
            self._begin(service)
            return
        del self._queues[service]
        if self._idle is not None and not self._queues and not self._idle.called:
            self._idle.callback(None)

    async def _work(self, write: Write) -> None:
        if write.deferred.called:
            return  # its caller got an error: it has waited for too long
        self._deadlines.remove(write)
        self._deadlines.add(write, PATIENCE)
        try:
            await self._make(write)
            self._logged = None
        except Exception as problem:
            self._log(write, problem)
            if write.is_seen:
                return  # it is registered, and its owner knows
            self._mirror.forget(write.nonce)
            result = explained(problem)
            if write.lost and write.granted and not self._closed:
                # Without the lease, a try that arrives later registers nothing.
                try:
                    await self._end_granted(write)
                except EtcdError:
                    result = uncertain(write)
                write.fire(Failure(result))
            else:
                write.fire(Failure(result))
                if write.granted and not self._closed:
                    self._end_granted(write).addErrback(lambda failure: failure.trap(EtcdError))

    def _log(self, write: Write, problem: Exception) -> None:
        if isinstance(problem, (StoreFailed, EtcdClosed)):
            return
        if not isinstance(problem, EtcdError):
            log.failure("can't commit {service}", service=write.change.service)
        elif type(problem) is not self._logged:
            self._logged = type(problem)
            log.error("etcd takes no registrations: {problem}", problem=problem)

    def _end_granted(self, write: Write) -> defer.Deferred[Any]:
        """Revoke the lease of a registration that was not made."""
        ending: defer.Deferred[Any] = self._client.revoke(write.granted, timeout=REQUEST)
        return ending.addErrback(lambda failure: failure.trap(EtcdLeaseNotFound))

    async def _make(self, write: Write) -> None:
        change, mirror = write.change, self._mirror
        fence = self._follower.fence_of(change.service)
        if fence != change.replaces or (fence is None and isinstance(change, Delete)):
            raise StoreConflict("another registration is there")
        write.expect(mirror)
        backoff: Backoff | None = None
        leased = isinstance(change, Delete)
        while not write.is_seen:
            if self._closed:
                raise EtcdClosed("the store is closed")
            try:
                if mirror.is_comparing:
                    await mirror.when(lambda: not mirror.is_comparing, PATIENCE)
                if not leased:
                    await self._lease(write)
                    leased = True
                if write.deferred.called and not write.sent:
                    raise not_made(write)
                answer = await self._request(write)
            except TRANSIENT as problem:
                write.sent, write.problem = write.lost, str(problem)
                if write.deferred.called and not write.lost:
                    raise not_made(write) from problem
            except EtcdUncertain:
                write.lost = write.lost or write.sent
            except EtcdLeaseNotFound:
                if write.lost:
                    # If it was registered, it no longer is.
                    raise StoreFailed("the lease has ended before etcd answered") from None
                write.sent, leased = False, False
                self._renumber(write)
            except StoreCutOff:
                if not write.lost:
                    raise
            except EtcdClosed:
                raise
            except EtcdError as problem:
                # The try without a reply may have succeeded, whatever is refused now.
                if not write.lost:
                    raise
                self._log(write, problem)
                write.fire(Failure(uncertain(write)))
            else:
                made = await self._outcome(write, answer)
                if made is not None:
                    await self._wait_until_seen(write, *made)
                    return
                write.sent = write.lost
                continue
            if not write.is_seen:
                backoff = backoff or Backoff(self._reactor, FIRST_DELAY, LONGEST_DELAY)
                await backoff.wait()

    async def _lease(self, write: Write) -> None:
        """Grant the lease of a registration, or renew the one that it has.

        A lease number is granted only once: the end of a former lease with the number may be on its
        way.
        """
        put = write.change
        assert isinstance(put, Put)
        record = put.record
        seconds = lease_seconds(record.ttl)
        if put.replaces is not None and put.keeps_lease:
            return  # only the record changes; if the lease has ended, the transaction fails
        if put.replaces is not None and not write.granted:
            try:
                # The lease is kept if it has this ttl, which can't be changed.
                if await self._client.keepalive(record.lease, timeout=REQUEST) == seconds:
                    return
            except EtcdLeaseNotFound:
                pass
            self._renumber(write)
        while True:
            try:
                await self._client.grant(seconds, id=record.lease, timeout=REQUEST)
            except EtcdUncertain:
                write.granted = record.lease
                raise
            except EtcdLeaseExists:
                # It is this registration's only if its own grant had no reply.
                if write.granted == record.lease:
                    try:
                        await self._client.keepalive(record.lease, timeout=REQUEST)
                    except EtcdLeaseNotFound:
                        pass
                    else:
                        return
                self._renumber(write)
            else:
                write.granted = record.lease
                return

    def _renumber(self, write: Write) -> None:
        """Choose another lease number."""
        put = write.change
        assert isinstance(put, Put)
        if put.keeps_lease and put.replaces is not None:
            raise StoreConflict("its lease has ended")
        if put.keeps_lease:
            raise StoreFailed(
                f"lease {put.record.lease} of {put.service!r} is used in this etcd already, by "
                "another prefix perhaps, or has ended: import into another cluster, or let the "
                "service register"
            )
        write.granted = 0
        put.record.lease = secrets.randbits(LEASE_BITS)

    def _request(self, write: Write) -> defer.Deferred[TxnResponse]:
        change, mirror = write.change, self._mirror
        write.base, write.position = mirror.base, mirror.position
        key = self._layout.record(change.service)
        before = 0 if change.replaces is None else mirror.bases.revision(change.replaces)
        compares: list[Compare] = [
            unchanged(key, write.over or before),
            unchanged(self._layout.base, write.base.revision),
        ]
        success: list[Any]
        if isinstance(change, Put):
            value = record_value(change.record, write.nonce, write.base.number)
            success = [PutRequest(key, value, change.record.lease, previous=True)]
        else:
            why = why_value(change.service, change.why, write.nonce)
            success = [
                DeleteRequest(KeyRange(key), previous=True),
                PutRequest(self._layout.why, why),
            ]
        failure = [RangeRequest(KeyRange(key)), RangeRequest(KeyRange(self._layout.base))]
        write.sent = True
        return self._client.txn(compares, success, failure, timeout=REQUEST)

    async def _wait_until_seen(self, write: Write, revision: int, fence: int) -> None:
        """Wait until the follower knows a change that etcd has made.

        If a comparison has reported it, the watch does not report it any more.
        """
        mirror = self._mirror

        def is_seen_or_compared() -> bool:
            return write.is_seen or mirror.has_reached(revision)

        while not is_seen_or_compared():
            if self._closed:
                raise EtcdClosed("the store is closed")
            try:
                await mirror.when(is_seen_or_compared, PATIENCE)
            except StoreCutOff:
                continue  # its caller has got StoreUncertain
        mirror.forget(write.nonce)
        write.fire(fence)

    async def _outcome(self, write: Write, answer: TxnResponse) -> tuple[int, int] | None:
        """The outcome of a transaction, by its reply.

        :returns: etcd's revision of the change, and the fence; None: send the transaction again.
        :raises StoreConflict: another change was made before.
        """
        change, mirror, after = write.change, self._mirror, answer.header.revision
        number = write.base.number
        restored = mirror.verify(write.position, answer.header, answer.succeeded)
        if answer.succeeded:
            self._end_former(change, answer)
            if restored and isinstance(change, Put):
                # Its fence may be lower than earlier ones: make it again, with the new base.
                self._register_anew(write, after)
                return None
            return after, number + after
        found, base = (_first(one) for one in answer.responses)
        rebased = base is None or base.mod_revision != write.base.revision
        if rebased:
            mirror.rebased(base)
        if found is not None and isinstance(change, Put) and self._is_own(write, found):
            # An earlier try without a reply has succeeded.
            if restored or rebased:
                self._register_anew(write, found.mod_revision)
                return None
            return found.mod_revision, number + found.mod_revision
        if restored or rebased:
            return None
        if write.lost:
            # An earlier try may have succeeded before that change: the watch reports it.
            try:
                await mirror.when(
                    lambda: write.is_seen or mirror.has_reached(after),
                    PATIENCE,
                )
            except StoreCutOff:
                return None  # not known yet
            if write.is_seen or (isinstance(change, Delete) and found is None):
                return after, number + after
        follower, service = self._follower, change.service
        await mirror.when(lambda: follower.fence_of(service) != change.replaces, PATIENCE)
        raise StoreConflict("another registration is there")

    def _register_anew(self, write: Write, revision: int) -> None:
        """Prepare to make a registration once more: etcd was restored, and its fence is too low."""
        self._mirror.forget(write.nonce)
        write.nonce = secrets.token_bytes(NONCE)
        write.over = revision
        write.lost = True
        write.expect(self._mirror)

    def _is_own(self, write: Write, found: KeyValue) -> bool:
        try:
            return read_record(write.change.service, found)[1] == write.nonce
        except ForeignValue:
            return False

    def _end_former(self, change: Put | Delete, answer: TxnResponse) -> None:
        """Revoke the lease of the replaced registration, unless the new one keeps it."""
        first = answer.responses[0]
        former: KeyValue | None = None
        if isinstance(first, PutResponse):
            former = first.previous
        elif isinstance(first, DeleteResponse) and first.previous:
            former = first.previous[0]
        kept = change.record.lease if isinstance(change, Put) else 0
        if former is not None and former.lease and former.lease != kept:
            # If that fails, the lease expires.
            self._client.revoke(former.lease).addErrback(lambda failure: failure.trap(EtcdError))


def _first(answer: Any) -> KeyValue | None:
    return answer.kvs[0] if isinstance(answer, RangeResponse) and answer.kvs else None


async def reading(request: Awaitable[T]) -> T:
    """The reply to a read.

    :raises StoreCutOff: the read has failed.
    """
    try:
        return await request
    except EtcdError as problem:
        raise StoreCutOff(f"etcd can't be read: {problem}") from problem
