"""A store in an etcd cluster: any number of nameservers share it."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from typing import Any

from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.deferred import deferred
from pycomnet.errors import LeaseLost, PycomnetError, StoreCutOff, StoreFailed
from pycomnet.etcd import (
    EtcdClient,
    EtcdError,
    EtcdLeaseNotFound,
    EtcdNoSpace,
    EtcdUncertain,
    KeyRange,
    MemberInfo,
)
from pycomnet.interfaces import INameFollower, ISharedNameStore
from pycomnet.nameserver.records import Delete, Put, Record, decode, encode
from pycomnet.nameserver.stores.etcd.barrier import Barrier
from pycomnet.nameserver.stores.etcd.commits import REQUEST, TRANSIENT, Commits, reading
from pycomnet.nameserver.stores.etcd.keys import ForeignValue, KeyLayout
from pycomnet.nameserver.stores.etcd.massexpirynote import write_note
from pycomnet.nameserver.stores.etcd.mirror import Mirror
from pycomnet.nameserver.stores.etcd.writes import PATIENCE
from pycomnet.nameserver.stores.local import Revisions, first_revision
from pycomnet.text.logs import Logger
from pycomnet.wire.values import InvalidValue

log = Logger()

#: Seconds between a nameserver's signs of life.
BEAT = 1.0
#: Seconds of the lease of a nameserver's key.
BEAT_LEASE = 10
#: Signs of life from one renewal of that lease to the next; the most without a reply; the most
#: that the watch has not reported yet.
KEEPALIVE_EVERY, MOST_UNANSWERED, MOST_SENT = 3, 4, 100
#: A nameserver is cut off (partitioned from etcd) if the latest sign of life that came back is
#: older than this, in seconds. Each call checks that, so it is known within five seconds; a shorter
#: time would be too short on a busy machine.
CUT_OFF = 4.5
#: ``stat`` and ``cluster`` show a staleness above this, in seconds. Until the next sign of life
#: comes back, a memory that follows etcd is a second old, and somewhat more on a busy machine.
SHOWN = 2.0
#: Seconds, while cut off, from one new watch to the next.
WATCH_ANEW = 6.0
#: Seconds for which a lease that was not renewed is renewed again, and the seconds between.
RENEWING, RENEW_AGAIN = 2.5, 0.25
#: The error while the store is being closed.
CLOSED = "this nameserver is about to end: nothing was changed; ask another nameserver"
#: The highest number of a lease in etcd.
MAX_LEASE = (1 << 63) - 1


@implementer(ISharedNameStore)
class EtcdStore:
    """A store that several nameservers share.

    :param make_client: makes a client of the cluster, not connected yet.
    :param name: what ``stat`` shows: the members' addresses and the prefix, without secrets.
    :param endpoints: the members, for ``cluster``.
    :param identity: names this nameserver among the others; by default it is random.
    :param seconds: the clock of staleness.
    """

    ends_leases = True

    def __init__(
        self,
        make_client: Callable[[], EtcdClient],
        reactor: IReactorTime,
        *,
        name: str = "etcd:",
        start: bytes = b"/pycomnet/names/",
        endpoints: tuple[str, ...] = (),
        identity: str | None = None,
        seconds: Callable[[], float] = time.monotonic,
        revisions: Revisions = first_revision,
    ) -> None:
        self.name = name
        self.identity = identity or secrets.token_hex(4)
        self._make_client = make_client
        self._reactor = reactor
        self._layout = KeyLayout(start)
        self._endpoints = endpoints
        self._about: dict[str, object] = {"id": self.identity, "pid": os.getpid()}
        self._seconds = seconds
        self._revisions = revisions
        self._client: Any = None
        self._follower: Any = None
        self._mirror: Mirror | None = None
        self._commits: Commits | None = None
        self._beating: Any = None
        self._barrier = Barrier(self._catch_up)
        self._opening: defer.Deferred[None] | None = None
        #: the times at which signs of life were sent that the watch has not brought back
        self._sent: dict[int, float] = {}
        self._beats = 0
        self._unanswered = 0
        self._beat_lease = 0
        self._was_cut_off = False
        self._anew_at = 0.0

    # -- beginning and end -----------------------------------------------------------------------

    @deferred
    async def open(self, follower: INameFollower) -> None:
        client = self._client = self._make_client()
        self._follower = follower
        self._beat_lease = 0
        self._sent.clear()
        mirror = self._mirror = Mirror(
            client, self._layout, follower, self._reactor, self._seconds, self._revisions
        )
        mirror.watch_own(self._layout.nameserver(self.identity), self._beat_seen)
        # The client keeps trying to connect after a failure.
        client.connect().addErrback(lambda failure: failure.trap(PycomnetError))
        self._opening = defer.Deferred.fromCoroutine(mirror.load(self._beat))
        try:
            await self._opening
        except defer.CancelledError:
            raise StoreFailed("the store was closed before it was open") from None
        except (EtcdError, ForeignValue) as problem:
            raise StoreFailed(f"{self.name}: {problem}") from problem
        finally:
            self._opening = None
        self._commits = Commits(client, self._layout, mirror, follower, self._reactor)
        self._beating = task.LoopingCall(self._beat)
        self._beating.clock = self._reactor
        self._beating.start(BEAT).addErrback(_beat_failed)

    def tell(self, about: dict[str, object]) -> None:
        """Add to what ``cluster`` shows of this nameserver."""
        self._about.update(about)

    def leave(self) -> None:
        return None

    @deferred
    async def close(self) -> None:
        commits, self._commits = self._commits, None
        client, self._client = self._client, None
        if client is None:
            return
        if self._opening is not None:
            self._opening.cancel()
        if commits is not None:
            ended = commits.finished()
            ended.addTimeout(PATIENCE, self._reactor)
            try:
                await ended
            except defer.TimeoutError:
                log.warn("{count} changes have no known outcome", count=commits.pending)
            commits.stop()
        if self._beating is not None:
            self._beating.stop()
            self._beating = None
        if self._beat_lease:
            with contextlib.suppress(EtcdError):  # then it ends by itself
                await client.revoke(self._beat_lease, timeout=1.0)
        mirror, self._mirror = self._mirror, None
        if mirror is not None:
            mirror.stop()
        await client.close()

    # -- changes ---------------------------------------------------------------------------------

    def commit(self, change: Put | Delete) -> defer.Deferred[int]:
        problem = self._refusal()
        if problem is not None:
            return defer.fail(problem)
        if self._commits is None:
            return defer.fail(StoreCutOff("the store is not open yet"))
        return self._commits.commit(change)

    def renew(self, record: Record) -> defer.Deferred[None]:
        problem = self._refusal()
        if problem is not None:
            return defer.fail(problem)
        renewing: defer.Deferred[Any] = self._client.keepalive(record.lease, timeout=REQUEST)
        return renewing.addCallbacks(_nothing, self._not_renewed, errbackArgs=(record,))

    def _not_renewed(self, failure: Failure, record: Record) -> Any:
        failure.trap(EtcdError)
        return defer.Deferred.fromCoroutine(self._renew_again(record, failure.value))

    async def _renew_again(self, record: Record, problem: Any) -> None:
        """Renew a lease again: there may be no leader, or the member may not know the lease yet.

        Replies about leases are not linearizable: a leader may not have applied the grant yet, or
        no longer be the leader. Reads of keys are: while the key exists, its lease does.
        """
        key = KeyRange(self._layout.record(record.service))
        until = self._reactor.seconds() + RENEWING
        while True:
            client = self._client
            if client is None:
                raise StoreCutOff(CLOSED)
            if isinstance(problem, EtcdLeaseNotFound):
                answer = await reading(client.range(key, timeout=REQUEST))
                if not answer.kvs or answer.kvs[0].lease != record.lease:
                    raise LeaseLost(f"lease {record.lease} is over: register again")
            elif not isinstance(problem, (*TRANSIENT, EtcdUncertain)):
                break
            if self._reactor.seconds() >= until:
                break
            await task.deferLater(self._reactor, RENEW_AGAIN)
            client = self._client
            if client is None:
                raise StoreCutOff(CLOSED)
            try:
                await client.keepalive(record.lease, timeout=REQUEST)
            except EtcdError as later:
                problem = later
            else:
                return
        raise StoreCutOff(
            f"etcd has not answered for lease {record.lease}, it may have been renewed: {problem}"
        )

    def _refusal(self) -> StoreCutOff | None:
        """The error if this nameserver is cut off, or about to end."""
        if self._client is None:
            return StoreCutOff(CLOSED)
        stale = self.staleness()
        if not stale:
            return None
        problem = self._mirror.problem if self._mirror is not None else "it is closed"
        return StoreCutOff(
            f"this nameserver has been cut off from etcd for {stale:.1f} s ({problem}): nothing "
            "was changed; ask another nameserver"
        )

    # -- how old its memory is -------------------------------------------------------------------

    def staleness(self) -> float:
        if self._mirror is None:
            return float("inf")
        return self._age(self._mirror, CUT_OFF)

    def _age(self, mirror: Mirror, least: float) -> float:
        """The seconds since the memory was known to be complete; 0.0 if they are too few."""
        age = self._seconds() - mirror.fresh
        return age if age > least else 0.0

    def freshness(self) -> dict[str, object]:
        mirror = self._mirror
        if mirror is None:
            return {}
        return {
            "id": self.identity,
            "cut_off": self.staleness() > 0,
            "stale": round(self._age(mirror, SHOWN), 3),
            "comparisons": mirror.comparisons,
        }

    @deferred
    async def doubt(self, since: int, seconds: float) -> None:
        mirror, _ = self._following()
        problem = self._refusal()
        if problem is not None:
            raise problem  # what ended while it was cut off may be registered again
        await write_note(self._client, self._layout, since - mirror.base.number, seconds)

    @deferred
    async def refresh(self, service: str) -> None:
        mirror, follower = self._following()
        problem = self._refusal()
        if problem is not None:
            raise problem
        answer = await reading(self._client.range(KeyRange(self._layout.record(service))))
        now = answer.kvs[0].mod_revision if answer.kvs else 0

        def is_known() -> bool:
            fence = follower.fence_of(service)
            known = 0 if fence is None else mirror.bases.revision(fence)
            return known == now or mirror.has_reached(answer.header.revision)

        await mirror.when(is_known, PATIENCE)

    @deferred
    async def refresh_lease(self, lease: int) -> None:
        if not 0 < lease <= MAX_LEASE:
            return
        # It does not ask for the lease: etcd's replies about leases are not linearizable.
        await self._barrier.wait()

    async def _catch_up(self) -> None:
        """Wait until the memory has everything that etcd had when this began."""
        mirror, _ = self._following()
        problem = self._refusal()
        if problem is not None:
            raise problem
        answer = await reading(self._client.range(KeyRange(self._layout.base)))
        # If only keys outside the prefix have changed since, the next sign of life reaches it.
        await mirror.when(lambda: mirror.has_reached(answer.header.revision), PATIENCE)

    def _following(self) -> tuple[Mirror, INameFollower]:
        if self._mirror is None or self._client is None:
            raise StoreCutOff(CLOSED)
        return self._mirror, self._follower

    # -- signs of life ---------------------------------------------------------------------------

    def _beat(self) -> None:
        """Send a sign of life, also if the previous one has no reply yet, as that may be lost."""
        mirror = self._mirror
        if self._client is None or mirror is None:
            return
        self._log_cut_off(mirror)
        if self._unanswered >= MOST_UNANSWERED:
            return
        self._unanswered += 1
        sending = defer.Deferred.fromCoroutine(self._send_beat(self._client, mirror))
        sending.addErrback(self._beat_refused, mirror)

    async def _send_beat(self, client: EtcdClient, mirror: Mirror) -> None:
        now = self._seconds()
        try:
            if not self._beat_lease:
                self._beat_lease = (await client.grant(BEAT_LEASE, timeout=REQUEST)).id
            self._beats += 1
            number = self._beats
            self._sent[number] = now
            if len(self._sent) > MOST_SENT:
                del self._sent[min(self._sent)]
            if number % KEEPALIVE_EVERY == 0:
                renewing = client.keepalive(self._beat_lease, timeout=REQUEST)
                renewing.addErrback(self._beat_refused, mirror)
            stale = round(self._age(mirror, SHOWN), 3)
            value = encode({**self._about, "beat": number, "stale": stale})
            key = self._layout.nameserver(self.identity)
            before, last, in_time = mirror.position, mirror.last_beat, not self.staleness()
            lease = self._beat_lease
            answer = await client.put(key, value, lease=lease, previous=True, timeout=REQUEST)
            mirror.beat_answered(before, last, answer, in_time)
        except EtcdNoSpace:
            # Reads, renewals and the watch go on; so it is the watch's progress that counts.
            before = mirror.position
            found = await client.range(KeyRange(self._layout.base), timeout=REQUEST)
            if not mirror.verify(before, found.header, written=False):
                mirror.ask_progress(found.header.revision, now)
            raise
        finally:
            self._unanswered -= 1

    def _beat_refused(self, failure: Failure, mirror: Mirror) -> None:
        if failure.check(EtcdLeaseNotFound):
            self._beat_lease = 0
        elif failure.check(EtcdError):
            mirror.problem = str(failure.value)
        elif not failure.check(defer.CancelledError):
            log.failure("can't send a sign of life", failure)

    def _beat_seen(self, value: bytes) -> None:
        try:
            number = decode(value)["beat"]
            sent = self._sent.pop(number, None)
        except (InvalidValue, ValueError, TypeError, KeyError):
            return
        if sent is not None and self._mirror is not None:
            self._mirror.fresh = max(self._mirror.fresh, sent)
            for earlier in [one for one in self._sent if one < number]:
                del self._sent[earlier]

    def _log_cut_off(self, mirror: Mirror) -> None:
        """Log that this nameserver is cut off, or no longer is; while it is, move the watch."""
        stale = self.staleness()
        if bool(stale) != self._was_cut_off:
            self._was_cut_off = bool(stale)
            if stale:
                log.warn(
                    "this nameserver is cut off from etcd ({problem}): it takes no registrations",
                    problem=mirror.problem,
                )
            else:
                log.info("this nameserver follows etcd again")
        if not stale:
            self._anew_at = 0.0
        elif self._seconds() > self._anew_at:
            if self._anew_at:
                mirror.watch_anew()
            self._anew_at = self._seconds() + WATCH_ANEW

    # -- the cluster -----------------------------------------------------------------------------

    @deferred
    async def cluster(self) -> dict[str, list[dict[str, object]]]:
        self._following()
        found = await reading(self._client.range(self._layout.nameservers))
        nameservers: list[dict[str, object]] = []
        for kv in found.kvs:
            try:
                about = decode(kv.value)
            except (InvalidValue, ValueError):
                continue
            if isinstance(about, dict):
                nameservers.append(about)
        members = await reading(self._client.member_list())
        return {"nameservers": nameservers, "members": await self._statuses(members)}

    async def _statuses(self, members: list[MemberInfo]) -> list[dict[str, object]]:
        by_id: dict[int, dict[str, object]] = {}
        asked = [self._client.status(one, timeout=REQUEST) for one in self._endpoints]
        for endpoint, (ok, status) in zip(
            self._endpoints, await defer.DeferredList(asked, consumeErrors=True), strict=True
        ):
            if ok:
                by_id[status.header.member_id] = {
                    "endpoint": endpoint,
                    "version": status.version,
                    "leader": status.is_leader,
                    "bytes": status.db_size,
                    "errors": list(status.errors),
                }
        return [
            {
                "name": one.name,
                "urls": list(one.client_urls),
                "reached": one.id in by_id,
                **by_id.get(one.id, {}),
            }
            for one in members
        ]


def _beat_failed(failure: Failure) -> None:
    log.failure("no more signs of life are sent: this nameserver counts as cut off soon", failure)


def _nothing(result: object) -> None:
    return None
