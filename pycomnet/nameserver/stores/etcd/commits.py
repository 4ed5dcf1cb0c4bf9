"""Registers and removes in etcd, and finds out what became of it when an answer is lost."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from pycomnet.errors import StoreConflict, StoreCutOff, StoreFailed, StoreUncertain
from pycomnet.etcd import (
    Compare,
    DeleteAnswer,
    DeleteRequest,
    EtcdClient,
    EtcdClosed,
    EtcdError,
    EtcdLeaseNotFound,
    EtcdNoSpace,
    EtcdOverloaded,
    EtcdRequestRefused,
    EtcdTimeout,
    EtcdUnavailable,
    EtcdUncertain,
    KeyRange,
    KeyValue,
    PutAnswer,
    PutRequest,
    RangeAnswer,
    RangeRequest,
    TxnAnswer,
    unchanged,
)
from pycomnet.nameserver.records import Delete, Put
from pycomnet.nameserver.stores.etcd.keys import (
    NONCE,
    Base,
    ForeignValue,
    KeyLayout,
    lease_seconds,
    read_record,
    record_value,
    why_value,
)
from pycomnet.nameserver.stores.etcd.mirror import Expected, Mirror
from pycomnet.nameserver.turnstile import Turnstile
from pycomnet.net.backoff import Backoff
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import INameFollower

log = Logger()
T = TypeVar("T")

#: Seconds after which a caller learns that the outcome is not known yet.
PATIENCE = 5.0
#: Seconds that a change waits for its turn: for one of the same name, or as there are too many.
QUEUED = 20.0
#: Seconds for one request to etcd.
REQUEST = 2.5
#: Requests to etcd at a time. More would only wait in etcd, and make its heartbeats late.
IN_FLIGHT = 128
#: Seconds before a request is repeated, the first time and the longest.
FIRST_DELAY, LONGEST_DELAY = 0.05, 1.0
#: Bits of a lease's number, as :data:`pycomnet.nameserver.service.LEASE_BITS`.
LEASE_BITS = 53
#: Errors after which nothing has changed and another member, or a later time, may do better.
PASSING = (EtcdUnavailable, EtcdTimeout, EtcdOverloaded)


class Write:
    """A change that was requested.

    :ivar deferred: fires with its revision.
    :ivar sent: whether etcd may have got it.
    :ivar lost: whether an answer never came.
    """

    __slots__ = ("change", "deferred", "expected", "lost", "nonce", "sent", "timer")

    def __init__(self, change: Put | Delete) -> None:
        self.change = change
        self.deferred: defer.Deferred[int] = defer.Deferred()
        self.nonce = secrets.token_bytes(NONCE)
        self.sent = False
        self.lost = False
        self.expected: Expected | None = None
        self.timer: Any = None

    @property
    def is_seen(self) -> bool:
        """Whether the watch has brought it."""
        return self.expected is not None and self.expected.seen.called

    def fire(self, result: int | Failure) -> None:
        """It has an outcome, for whoever still waits."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if not self.deferred.called:
            self.deferred.callback(result)


class Commits:
    """All changes: those of one name one after the other.

    :param mirror: tells of what has happened.
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
        self._turns = Turnstile(IN_FLIGHT)
        self._idle: defer.Deferred[None] | None = None
        self._closed = False

    def commit(self, change: Put | Delete) -> defer.Deferred[int]:
        """Request a change."""
        write = Write(change)
        write.timer = self._reactor.callLater(QUEUED, self._late, write)
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
        """Repeat nothing any more."""
        self._closed = True
        for queue in self._queues.values():
            for write in queue:
                self._late(write)

    def _late(self, write: Write) -> None:
        service = write.change.service
        if write.sent:
            problem: Exception = StoreUncertain(
                f"{service!r}: etcd has not answered in {PATIENCE:g} s; the change may be made, or "
                "is made yet: repeat it"
            )
        else:
            problem = StoreCutOff(
                f"{service!r}: nothing was changed, as it has waited for etcd for too long"
            )
        write.fire(Failure(problem))

    def _begin(self, service: str) -> None:
        """Make the first change of a name when it is its turn, and then the next."""
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
            return  # it has waited for too long
        write.timer.reset(PATIENCE)
        try:
            await self._make(write)
        except Exception as problem:
            if not isinstance(problem, (StoreFailed, EtcdClosed)):
                log.failure("can't commit {service}", service=write.change.service)
            self._mirror.forget(write.nonce)
            write.fire(Failure(_explained(problem)))

    async def _make(self, write: Write) -> None:
        change = write.change
        fence = self._follower.fence_of(change.service)
        if fence != change.replaces or (fence is None and isinstance(change, Delete)):
            raise StoreConflict("another registration is there")
        record = change.record if isinstance(change, Put) else None
        expected = write.expected = self._mirror.expect(write.nonce, record)
        expected.seen.addCallback(write.fire)
        backoff = Backoff(self._reactor, FIRST_DELAY, LONGEST_DELAY)
        leased = False
        while not write.is_seen:
            if self._closed:
                raise EtcdClosed("the store is closed")
            try:
                if not leased and isinstance(change, Put):
                    await self._lease(change)
                    leased = True
                if write.deferred.called and not write.sent:
                    raise StoreCutOff("it was given up before it was sent")
                answer = await self._request(write)
            except PASSING as problem:
                if not write.lost:
                    raise StoreCutOff(f"etcd can't be written: {problem}") from problem
            except EtcdUncertain:
                write.lost = write.lost or write.sent
            except EtcdLeaseNotFound:
                if write.lost:
                    # If it was registered, it no longer is.
                    raise StoreFailed("the lease has ended before etcd answered") from None
                leased = False
            else:
                revision = await self._revision(write, answer)
                if revision is not None:
                    await self._told(write, revision)
                    return
                continue
            if not write.is_seen:
                await backoff.wait()

    async def _lease(self, put: Put) -> None:
        """Have the lease of a registration live for its whole time."""
        record = put.record
        seconds = lease_seconds(record.ttl)
        if put.replaces is not None:
            try:
                granted = await self._client.keepalive(record.lease, timeout=REQUEST)
            except EtcdLeaseNotFound:
                pass
            else:
                if granted == seconds:
                    return
                # A lease's time can't be changed.
                record.lease = secrets.randbits(LEASE_BITS)
        try:
            await self._client.grant(seconds, id=record.lease, timeout=REQUEST)
        except EtcdRequestRefused as problem:
            if "already exists" not in str(problem):
                raise
            # Its grant was answered by nobody. It is this one's: numbers are random.
            await self._client.keepalive(record.lease, timeout=REQUEST)

    def _request(self, write: Write) -> defer.Deferred[TxnAnswer]:
        change, mirror = write.change, self._mirror
        key = self._layout.record(change.service)
        before = 0 if change.replaces is None else mirror.bases.revision(change.replaces)
        compares: list[Compare] = [
            unchanged(key, before),
            unchanged(self._layout.base, mirror.base.revision),
        ]
        success: list[Any]
        if isinstance(change, Put):
            value = record_value(change.record, write.nonce, mirror.base.number)
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

    async def _told(self, write: Write, revision: int) -> None:
        """Wait until the follower was told of a change that etcd has made.

        If it was told in a comparison of all, the watch does not bring it any more.
        """
        mirror = self._mirror
        while not write.is_seen and mirror.position < revision:
            if self._closed:
                raise EtcdClosed("the store is closed")
            try:
                await mirror.when(lambda: write.is_seen or mirror.position >= revision, PATIENCE)
            except StoreCutOff:
                continue  # its caller was told that it is uncertain
        mirror.forget(write.nonce)
        write.fire(mirror.base.number + revision)

    async def _revision(self, write: Write, answer: TxnAnswer) -> int | None:
        """etcd's revision of a change that it has made; None: it has to be asked for again.

        :raises StoreConflict: something else is there.
        """
        change = write.change
        if answer.succeeded:
            self._end_former(change, answer)
            return answer.header.revision
        found, base = (_first(one) for one in answer.answers)
        if found is not None and isinstance(change, Put) and self._is_own(write, found):
            return found.mod_revision  # an earlier try succeeded, whose answer was lost
        if base is not None and base.mod_revision != self._mirror.base.revision:
            self._mirror.learn_base(Base.of(base))
            return None
        if write.lost:
            # An earlier try may have succeeded before this: then the watch has it.
            mirror, after = self._mirror, answer.header.revision
            try:
                await mirror.when(lambda: write.is_seen or mirror.position >= after, PATIENCE)
            except StoreCutOff:
                return None  # not known yet
            if write.is_seen or (isinstance(change, Delete) and found is None):
                return answer.header.revision
        follower, service = self._follower, change.service
        await self._mirror.when(lambda: follower.fence_of(service) != change.replaces, PATIENCE)
        raise StoreConflict("another registration is there")

    def _is_own(self, write: Write, found: KeyValue) -> bool:
        try:
            return read_record(write.change.service, found)[1] == write.nonce
        except ForeignValue:
            return False

    def _end_former(self, change: Put | Delete, answer: TxnAnswer) -> None:
        """End the lease of what was there before: nothing is registered with it any more."""
        first = answer.answers[0]
        former: KeyValue | None = None
        if isinstance(first, PutAnswer):
            former = first.previous
        elif isinstance(first, DeleteAnswer) and first.previous:
            former = first.previous[0]
        kept = change.record.lease if isinstance(change, Put) else 0
        if former is not None and former.lease and former.lease != kept:
            # Without an answer it ends by itself.
            self._client.revoke(former.lease).addErrback(lambda failure: failure.trap(EtcdError))


def _first(answer: Any) -> KeyValue | None:
    return answer.kvs[0] if isinstance(answer, RangeAnswer) and answer.kvs else None


def _explained(problem: Exception) -> Exception:
    """The store's error for one of etcd's."""
    if isinstance(problem, (StoreFailed, StoreUncertain)):
        return problem
    if isinstance(problem, EtcdNoSpace):
        return StoreFailed(f"etcd's database is full: {problem}")
    if isinstance(problem, EtcdClosed):
        return StoreCutOff("the store is closed")
    return StoreFailed(f"etcd: {problem}")


async def reading(request: Awaitable[T]) -> T:
    """The answer of a read.

    :raises StoreCutOff: there is none.
    """
    try:
        return await request
    except EtcdError as problem:
        raise StoreCutOff(f"etcd can't be read: {problem}") from problem
