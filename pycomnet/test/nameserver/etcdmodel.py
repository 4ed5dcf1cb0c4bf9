"""A model of etcd, without network and disk: for tests that need each fault at a chosen moment.

It does what etcd's documentation says of keys, transactions, leases and watches. That the real one
does the same is tested against real members, in pycomnet/test/system.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby
from typing import Any

import attrs
from twisted.internet import defer

from pycomnet.etcd import (
    Compare,
    CompareTarget,
    DeleteRequest,
    DeleteResponse,
    EtcdClosed,
    EtcdCompacted,
    EtcdError,
    EtcdLeaseExists,
    EtcdLeaseNotFound,
    EtcdNoSpace,
    EtcdOverloaded,
    EtcdTimeout,
    EtcdUnavailable,
    EtcdUncertain,
    KeyEvent,
    KeyRange,
    KeyValue,
    LeaseGrant,
    MemberInfo,
    MemberStatus,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    ResponseHeader,
    TimeToLive,
    TxnResponse,
)


@attrs.define
class ModelLease:
    """A lease: its seconds, when it ends, and its keys."""

    ttl: int
    ends: float
    keys: set[bytes] = attrs.Factory(set)


def within(keys: KeyRange, key: bytes) -> bool:
    """Whether a key is in a range."""
    if not keys.end:
        return key == keys.key
    return key >= keys.key and (keys.end == b"\0" or key < keys.end)


class EtcdModel:
    """A cluster. Its state is that of the members' quorum.

    :ivar cluster_id: another one after a restore.
    :ivar history: all changes since the start, or since the last restore.
    :ivar compacted: the revision up to which changes are forgotten.
    :ivar most_bytes: answers with more bytes of values are refused, as by the client's own limit.
    :ivar refusal: while it is set, transactions fail with it.
    :ivar is_full: whether there is no space: then neither keys nor leases are made.
    """

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.cluster_id = 0xC0FFEE
        self.revision = 1
        self.keys: dict[bytes, KeyValue] = {}
        self.leases: dict[int, ModelLease] = {}
        self.history: list[KeyEvent] = []
        self.compacted = 0
        #: the keys when changes were forgotten last
        self._kept: dict[bytes, KeyValue] = {}
        self.most_bytes = 1 << 26
        self.refusal: Exception | None = None
        self.is_full = False
        self.clients: list[ModelClient] = []
        self._last_lease = 1 << 60
        #: no lease ends before
        self._first_end = float("inf")

    def client(self) -> ModelClient:
        """Another client."""
        made = ModelClient(self)
        self.clients.append(made)
        return made

    @property
    def header(self) -> ResponseHeader:
        return ResponseHeader(self.cluster_id, 1, self.revision, 2)

    def expire(self) -> None:
        """End the leases whose time has come, each in a revision of its own."""
        now = self.clock.seconds()
        if now < self._first_end:
            return
        for number, lease in list(self.leases.items()):
            if lease.ends <= now:
                self.revoke(number)
        self._first_end = min((lease.ends for lease in self.leases.values()), default=float("inf"))

    def revoke(self, number: int) -> None:
        lease = self.leases.pop(number, None)
        if lease is None:
            raise EtcdLeaseNotFound("etcdserver: requested lease not found")
        if lease.keys:
            self._change(lambda: [self._delete(key) for key in sorted(lease.keys)])

    def compact(self) -> None:
        """Forget the changes before now."""
        self.compacted = self.revision
        self._kept = dict(self.keys)
        self.history.clear()

    def snapshot(self) -> dict[str, Any]:
        """All that a snapshot of a member has."""
        return {
            "keys": dict(self.keys),
            "revision": self.revision,
            "leases": {number: lease.ttl for number, lease in self.leases.items()},
        }

    def restore(self, snapshot: dict[str, Any], cluster_id: int) -> None:
        """Begin again with a snapshot: what came after it is lost, and connections break.

        As with real members, nobody is told: a watch whose next revision is in the cluster's future
        waits until the revisions have come so far.
        """
        self.cluster_id = cluster_id
        self.keys = dict(snapshot["keys"])
        self.revision = snapshot["revision"]
        self.history = [one for one in self.history if one.kv.mod_revision <= self.revision]
        now = self.clock.seconds()
        self.leases = {
            number: ModelLease(ttl, now + ttl) for number, ttl in snapshot["leases"].items()
        }
        for kv in self.keys.values():
            if kv.lease:
                self.leases[kv.lease].keys.add(kv.key)
        self._first_end = 0.0
        for client in self.clients:
            client.reconnect()

    def execute(self, request: Any) -> Any:
        """Execute one operation."""
        if isinstance(request, RangeRequest):
            if 0 < request.revision < self.compacted:
                raise EtcdCompacted("etcdserver: mvcc: required revision has been compacted")
            found = self._found(request.keys, request.revision)
            limit = request.limit or len(found) + 1
            if sum(len(kv.value) for kv in found[:limit]) > self.most_bytes:
                raise EtcdOverloaded("the answer is too long")
            return RangeResponse(self.header, found[:limit], len(found) > limit, len(found))
        if isinstance(request, PutRequest):
            self._check_space()
            previous = self.keys.get(request.key)
            if request.lease and request.lease not in self.leases:
                raise EtcdLeaseNotFound("etcdserver: requested lease not found")
            self._change(lambda: [self._put(request)])
            return PutResponse(self.header, previous if request.previous else None)
        assert isinstance(request, DeleteRequest)
        gone = self._found(request.keys)
        if gone:
            self._change(lambda: [self._delete(kv.key) for kv in gone])
        return DeleteResponse(self.header, len(gone), gone if request.previous else [])

    def _found(self, keys: KeyRange, revision: int = 0) -> list[KeyValue]:
        there = self.keys
        if 0 < revision < self.revision:
            there = dict(self._kept)
            for event in self.history:
                if event.kv.mod_revision > revision:
                    break
                if event.deleted:
                    there.pop(event.kv.key, None)
                else:
                    there[event.kv.key] = event.kv
        if not keys.end:
            return [there[keys.key]] if keys.key in there else []
        return [there[key] for key in sorted(there) if within(keys, key)]

    def txn(self, compares: Any, success: Any, failure: Any) -> TxnResponse:
        """Execute a transaction, in one revision."""
        if self.refusal is not None:
            raise self.refusal
        if any(isinstance(one, PutRequest) for one in (*success, *failure)):
            self._check_space()
        held = all(self._holds(one) for one in compares)
        for one in success if held else ():
            if isinstance(one, PutRequest) and one.lease and one.lease not in self.leases:
                raise EtcdLeaseNotFound("etcdserver: requested lease not found")
        answers: list[Any] = []
        self._in_one = []
        for one in success if held else failure:
            answers.append(self.execute(one))
        events, self._in_one = self._in_one, None
        if events:
            self._change(lambda: events)
        return TxnResponse(self.header, held, answers)

    _in_one: list[KeyEvent] | None = None

    def _holds(self, compare: Compare) -> bool:
        kv = self.keys.get(compare.key, KeyValue(compare.key))
        value = {
            CompareTarget.VERSION: kv.version,
            CompareTarget.MOD_REVISION: kv.mod_revision,
            CompareTarget.CREATE_REVISION: kv.create_revision,
            CompareTarget.VALUE: kv.value,
            CompareTarget.LEASE: kv.lease,
        }[compare.target]
        return value == compare.operand

    def _change(self, apply: Callable[[], list[KeyEvent]]) -> None:
        if self._in_one is not None:
            self.revision += 1  # as it will be
            self._in_one += apply()
            self.revision -= 1
            return
        self.revision += 1
        events = apply()
        self.history += events
        for client in self.clients:
            client.deliver(events, self.revision)

    def _put(self, request: PutRequest) -> KeyEvent:
        before = self.keys.get(request.key)
        if before is not None and before.lease in self.leases:
            self.leases[before.lease].keys.discard(request.key)
        created = self.revision if before is None else before.create_revision
        version = 1 if before is None else before.version + 1
        kv = KeyValue(request.key, request.value, created, self.revision, version, request.lease)
        self.keys[request.key] = kv
        if request.lease:
            self.leases[request.lease].keys.add(request.key)
        return KeyEvent(False, kv)

    def _delete(self, key: bytes) -> KeyEvent:
        before = self.keys.pop(key)
        if before.lease in self.leases:
            self.leases[before.lease].keys.discard(key)
        return KeyEvent(True, KeyValue(key, mod_revision=self.revision))

    def _check_space(self) -> None:
        if self.is_full:
            raise EtcdNoSpace("etcdserver: mvcc: database space exceeded")

    def grant(self, ttl: int, number: int) -> LeaseGrant:
        self._check_space()
        if number in self.leases:
            raise EtcdLeaseExists("etcdserver: lease already exists")
        if not number:
            self._last_lease += 1
            number = self._last_lease
        ttl = max(2, ttl)
        ends = self.clock.seconds() + ttl
        self.leases[number] = ModelLease(ttl, ends)
        self._first_end = min(self._first_end, ends)
        return LeaseGrant(self.header, number, ttl)

    def keepalive(self, number: int) -> int:
        lease = self.leases.get(number)
        if lease is None:
            raise EtcdLeaseNotFound("etcdserver: requested lease not found")
        lease.ends = self.clock.seconds() + lease.ttl
        return lease.ttl

    def time_to_live(self, number: int) -> TimeToLive:
        lease = self.leases.get(number)
        if lease is None:
            return TimeToLive(self.header, number, -1, 0, [])
        left = int(lease.ends - self.clock.seconds())
        return TimeToLive(self.header, number, left, lease.ttl, sorted(lease.keys))


class ModelWatch:
    """A watch of a client."""

    def __init__(self, client: ModelClient, keys: KeyRange, handler: Any, start: int) -> None:
        self.keys = keys
        self.handler = handler
        self.next_revision = start
        self.client = client

    def stop(self) -> None:
        if self in self.client.watches:
            self.client.watches.remove(self)

    def request_progress(self) -> None:
        self.client.model.clock.callLater(0, self._progress)

    def _progress(self) -> None:
        if self in self.client.watches and not self.client.cut and not self.client.held:
            self.handler.progress(self.client.model.revision)

    def move(self) -> None:
        """It goes on at another member."""
        self.client.moves += 1
        self.client.model.clock.callLater(0, self.client.resume, self)

    def deliver(self, events: list[KeyEvent], revision: int) -> None:
        wanted = [
            one
            for one in events
            if within(self.keys, one.kv.key) and one.kv.mod_revision >= self.next_revision
        ]
        if wanted:
            self.next_revision = wanted[-1].kv.mod_revision + 1
            self.handler.events(wanted, revision)


class ModelClient:
    """A client of the model, as :class:`pycomnet.etcd.EtcdClient` is one of etcd.

    :ivar cut: while it is set, nothing reaches the cluster, and nothing comes from it.
    :ivar held: while it is set, no event comes: its member lags.
    :ivar losing: of which kind of write so many further answers are lost; they are executed.
    :ivar late: of which kind of write so many further ones are executed only by :meth:`arrive`.
    :ivar requests: the names of all requests.
    """

    def __init__(self, model: EtcdModel) -> None:
        self.model = model
        self.cut = False
        self.held = False
        self.losing: Counter[str] = Counter()
        self.late: Counter[str] = Counter()
        self._on_the_way: list[Callable[[], Any]] = []
        self.requests: list[str] = []
        self.moves = 0
        self.watches: list[ModelWatch] = []
        self._waiting: list[tuple[list[KeyEvent], int]] = []
        self._closed = False

    # -- what a test does ------------------------------------------------------------------------

    @property
    def lose(self) -> int:
        """The answers of so many further transactions are lost."""
        return self.losing["txn"]

    @lose.setter
    def lose(self, count: int) -> None:
        self.losing["txn"] = count

    def arrive(self) -> None:
        """What is late is executed now; nobody hears of its outcome."""
        late, self._on_the_way = self._on_the_way, []
        for action in late:
            with suppress(EtcdError):
                action()

    def mend(self) -> None:
        """It is connected again."""
        self.cut = False
        self.reconnect()

    def hold(self) -> None:
        """Its member lags from now on."""
        self.held = True

    def release(self) -> None:
        """... and catches up."""
        self.held = False
        waiting, self._waiting = self._waiting, []
        for events, revision in waiting:
            self.deliver(events, revision)

    def release_until(self, last: int) -> None:
        """Its member catches up to a revision, in one message, and lags on."""
        now = [one for one in self._waiting if one[1] <= last]
        self._waiting = self._waiting[len(now) :]
        self.held = False
        self.deliver([event for events, _ in now for event in events], last)
        self.held = True

    def reconnect(self) -> None:
        """Its watches go on, where they were."""
        self._waiting.clear()
        for watch in list(self.watches):
            self._created(watch)

    def deliver(self, events: list[KeyEvent], revision: int) -> None:
        if self.cut:
            return
        if self.held:
            self._waiting.append((events, revision))
            return
        for watch in list(self.watches):
            watch.deliver(events, revision)

    # -- what the store does ---------------------------------------------------------------------

    def connect(self) -> defer.Deferred[None]:
        return defer.succeed(None)

    def close(self) -> defer.Deferred[None]:
        self._closed = True
        self.watches.clear()
        return defer.succeed(None)

    def _run(self, name: str, action: Callable[[], Any], write: bool, timeout: float | None) -> Any:
        self.requests.append(name)
        answer: defer.Deferred[Any] = defer.Deferred()
        if self._closed:
            return defer.fail(EtcdClosed("closed"))
        if self.cut:
            late = EtcdUncertain("no answer") if write else EtcdTimeout("no answer")
            failing = self.model.clock.callLater(timeout or 5.0, answer.errback, late)
            answer.addErrback(lambda failure: failure)
            canceller = failing
        else:
            canceller = self.model.clock.callLater(0, self._execute, name, action, write, answer)
        wrapped: defer.Deferred[Any] = defer.Deferred(
            lambda _: canceller.cancel() if canceller.active() else None
        )
        answer.chainDeferred(wrapped)
        return wrapped

    def _execute(
        self, name: str, action: Callable[[], Any], write: bool, answer: defer.Deferred[Any]
    ) -> None:
        if self.cut:
            answer.errback(EtcdUncertain("lost") if write else EtcdUnavailable("lost"))
            return
        self.model.expire()
        if write and self.late[name]:
            self.late[name] -= 1
            self._on_the_way.append(action)
            answer.errback(EtcdUncertain("no answer"))
            return
        try:
            result = action()
        except Exception as problem:
            answer.errback(problem)
            return
        if write and self.losing[name]:
            self.losing[name] -= 1
            answer.errback(EtcdUncertain("the answer was lost"))
        else:
            answer.callback(result)

    def range(self, request: Any, *, timeout: float | None = None) -> Any:
        wanted = RangeRequest(request) if isinstance(request, KeyRange) else request
        return self._run("range", lambda: self.model.execute(wanted), False, timeout)

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        lease: int = 0,
        previous: bool = False,
        timeout: float | None = None,
    ) -> Any:
        request = PutRequest(key, value, lease, previous=previous)
        return self._run("put", lambda: self.model.execute(request), True, timeout)

    def delete(self, key: bytes) -> Any:
        request = DeleteRequest(KeyRange(key))
        return self._run("delete", lambda: self.model.execute(request), True, None)

    def txn(
        self, compares: Any, success: Any = (), failure: Any = (), *, timeout: float | None = None
    ) -> Any:
        return self._run("txn", lambda: self.model.txn(compares, success, failure), True, timeout)

    def grant(self, ttl: int, *, id: int = 0, timeout: float | None = None) -> Any:
        return self._run("grant", lambda: self.model.grant(ttl, id), True, timeout)

    def revoke(self, lease: int, *, timeout: float | None = None) -> Any:
        return self._run("revoke", lambda: self.model.revoke(lease), True, timeout)

    def keepalive(self, lease: int, *, timeout: float | None = None) -> Any:
        return self._run("keepalive", lambda: self.model.keepalive(lease), False, timeout)

    def time_to_live(self, lease: int, *, keys: bool = False, timeout: float | None = None) -> Any:
        return self._run("time_to_live", lambda: self.model.time_to_live(lease), False, timeout)

    def status(self, endpoint: str | None = None, *, timeout: float | None = None) -> Any:
        status = MemberStatus(self.model.header, "3.4.23", 1, 1, 1, 2, 1, [], 1)
        return self._run("status", lambda: status, False, timeout)

    def member_list(self, *, timeout: float | None = None) -> Any:
        member = MemberInfo(1, "a", ["http://a:2380"], ["http://a:2379"])
        return self._run("member_list", lambda: [member], False, timeout)

    def watch(self, keys: Any, handler: Any, *, start_revision: int = 0) -> ModelWatch:
        watch = ModelWatch(self, keys, handler, start_revision or self.model.revision + 1)
        self.watches.append(watch)
        self.model.clock.callLater(0, self._created, watch)
        return watch

    def resume(self, watch: ModelWatch) -> None:
        """A watch goes on, where it was."""
        self._created(watch)

    def _created(self, watch: ModelWatch) -> None:
        if watch not in self.watches or self.cut:
            return
        model = self.model
        if watch.next_revision <= model.compacted and watch.next_revision <= model.revision:
            watch.stop()
            watch.handler.compacted(model.compacted)
            return
        watch.handler.created(model.revision)
        if watch in self.watches:
            for _, group in groupby(list(model.history), key=lambda one: one.kv.mod_revision):
                watch.deliver(list(group), model.revision)
