"""Follows etcd by a watch, reports changes to the nameserver, and knows how old its data is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from pycomnet.errors import StoreCutOff
from pycomnet.etcd import (
    EtcdAuthFailed,
    EtcdClient,
    EtcdClosed,
    EtcdError,
    EtcdPermissionDenied,
    EtcdWatch,
    KeyEvent,
    KeyRange,
    KeyValue,
    PutRequest,
    PutResponse,
    ResponseHeader,
    unchanged,
)
from pycomnet.nameserver.records import EXPIRED, Change, Record
from pycomnet.nameserver.stores.etcd.keys import (
    Base,
    Bases,
    ForeignValue,
    KeyLayout,
    base_value,
    read_record,
    read_why,
)
from pycomnet.nameserver.stores.etcd.massexpirynote import note_of, read_before, read_note
from pycomnet.nameserver.stores.etcd.pages import MOST, MOST_SERVING, Decode, T
from pycomnet.nameserver.stores.etcd.pendingchange import PendingChange
from pycomnet.net.backoff import Backoff
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.interfaces import INameFollower

log = Logger()

#: Seconds before etcd is tried again, the first time and the longest.
FIRST_DELAY, LONGEST_DELAY = 0.2, 3.0
#: Errors that waiting does not solve.
REFUSED = (EtcdAuthFailed, EtcdPermissionDenied, EtcdClosed)
FOREIGN = "the value of {key} in etcd is no registration ({problem}): it is left out"
#: The reason for being cut off if there is no error; the error while the store is closed.
LATE, CLOSING = "its own signs of life do not come back", "the store is being closed"
#: The reason of a removal that happened while the nameserver was cut off, and is no longer kept.
UNSEEN = EXPIRED


class Mirror:
    """What the nameserver knows of etcd. It is a watch's handler.

    :param revisions: makes bases of fences: above all earlier fences.
    :param seconds: the clock of staleness.
    :ivar base: the fences' base now.
    :ivar bases: all of them.
    :ivar position: etcd's revision up to which the follower was told everything.
    :ivar comparisons: how often all records were read again.
    """

    def __init__(
        self,
        client: EtcdClient,
        layout: KeyLayout,
        follower: INameFollower,
        reactor: IReactorTime,
        seconds: Callable[[], float],
        revisions: Callable[[], int],
    ) -> None:
        self.base = Base(0, "", 0)
        self.bases = Bases()
        self.position = 0
        self.comparisons = 0
        #: when the memory was known to be complete, by the clock of staleness
        self.fresh = float("-inf")
        self.problem = "it has not loaded yet"
        self._client = client
        self._layout = layout
        self._follower = follower
        self._reactor = reactor
        self._seconds = seconds
        self._revisions = revisions
        self._watch: EtcdWatch | None = None
        self._pending: dict[bytes, PendingChange] = {}
        self._waiting: dict[Callable[[], bool], defer.Deferred[None]] = {}
        self._own_key = b""
        self._own_value: Callable[[bytes], None] = lambda value: None
        self._comparing: defer.Deferred[None] | None = None
        #: whether everything is being read again: the position is of no worth then
        self.is_comparing = False
        #: what the note of ended leases said when all was read, and etcd's revision then
        self._note: int | None = None
        self._latest = 0
        #: whether the base of fences has to be raised in any case
        self._restored = False
        #: the revision of the latest sign of life that was answered
        self.last_beat = 0
        self._retrying: IDelayedCall | None = None
        #: what the progress was asked for with
        self._asked: tuple[int, float] | None = None
        self._stopped = False

    # -- beginning and end -----------------------------------------------------------------------

    async def load(self, beat: Callable[[], None]) -> None:
        """Read all records, and start the watch at the next revision. Wait for etcd if necessary.

        :param beat: sends a sign of life.
        :raises EtcdError: etcd refuses this nameserver.
        """
        begun, revision, found = await self._load_all(self._read_records, replay=True)
        self._follower.load((record, record.ttl) for record in found)
        del found
        self.position, self.fresh = revision, begun
        self.problem = LATE
        self._follower.loaded(self.base.number + revision)
        if revision == self._latest:
            self._report_doubt(self._note)  # else the watch brings it
        self._start_watch()
        while not self.has_reached(self._latest):
            # The latest change may be of a key that is not watched: then this write is reported.
            beat()
            with contextlib.suppress(StoreCutOff):
                await self.when(lambda: self.has_reached(self._latest), LONGEST_DELAY)
            if self._stopped:
                raise StoreCutOff(CLOSING)

    def stop(self) -> None:
        """Stop following. Everything that waits fails."""
        self._stopped = True
        if self._watch is not None:
            self._watch.stop()
        if self._comparing is not None:
            self._comparing.cancel()
        if self._retrying is not None and self._retrying.active():
            self._retrying.cancel()
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if not one.called:
                one.errback(StoreCutOff(CLOSING))

    def watch_own(self, key: bytes, value: Callable[[bytes], None]) -> None:
        """Call a function with the value of a key whenever the watch reports one."""
        self._own_key, self._own_value = key, value

    def _start_watch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        self._watch = self._client.watch(
            self._layout.everything, self, start_revision=self.position + 1
        )

    def ask_progress(self, revision: int, time: float) -> None:
        """The memory is as fresh as of a time if the watch tells a revision of then, or later."""
        if self._watch is not None:
            self._asked = revision, time
            self._watch.request_progress()

    def watch_anew(self) -> None:
        """The watch reports nothing: continue at another member."""
        if self._comparing is None and not self._stopped:
            if self._watch is None:
                self._start_watch()
            else:
                self._watch.move()

    # -- reading everything ----------------------------------------------------------------------

    async def _load_all(self, read: Decode[T], replay: bool = False) -> tuple[float, int, list[T]]:
        """Read all records. Try again until that succeeds.

        :param read: decodes keys.
        :param replay: at the start: if most leases have ended at once, read what was before.
        :returns: when it began, etcd's revision, and what was read.
        """
        backoff = Backoff(self._reactor, FIRST_DELAY, LONGEST_DELAY)
        most = MOST if replay else MOST_SERVING
        while True:
            try:
                await self._settle_base()
                begun = self._seconds()
                client, layout = self._client, self._layout
                note, latest = self._note, self._latest = await read_note(client, layout)
                # A note from before a restore does not count.
                since = note if replay and self.base.revision < (note or 0) < latest else None
                return (begun, *await read_before(client, layout, read, since, latest, most))
            except REFUSED:
                raise
            except EtcdError as problem:
                if str(problem) != self.problem:
                    self.problem = str(problem)
                    log.warn("can't read from etcd: {problem}; trying again", problem=problem)
            await backoff.wait()

    async def _settle_base(self) -> None:
        """Have the fences' base be one for this cluster, as it is now.

        After a restore it has to be a higher one than before.
        """
        below, position = self.base.number, self.position
        while True:
            answer = await self._client.range(KeyRange(self._layout.base))
            cluster = f"{answer.header.cluster_id:x}"
            found = Base.of(answer.kvs[0]) if answer.kvs else None
            # The read is linearizable: no member is that far behind.
            restored = answer.header.revision < position
            is_over = found is not None and (
                found.number < below or ((restored or self._restored) and found.number <= below)
            )
            if found is not None and found.cluster == cluster and not is_over:
                self.learn_base(found)
                self._restored = False
                return
            number = max(self._revisions(), (found.number if found else 0) + 1, below + 1)
            if found is not None:
                log.warn("etcd was restored: fences go on from {number}", number=number)
            # Whoever is first writes it; the other reads it then.
            await self._client.txn(
                [unchanged(self._layout.base, found.revision if found else 0)],
                [PutRequest(self._layout.base, base_value(number, answer.header.cluster_id))],
            )

    def learn_base(self, base: Base) -> None:
        """Use this base for fences from now on."""
        self.base = base
        self.bases.add(base.number)

    def rebased(self, found: KeyValue | None) -> None:
        """etcd has another base. If another nameserver has raised it, etcd was restored."""
        base = None if found is None else Base.of(found)
        if base is not None and base.number == self.base.number:
            self.learn_base(base)
        else:
            self._compare()  # which writes one if there is none

    def _read(self, kvs: Iterable[KeyValue]) -> Iterable[tuple[Record, bytes]]:
        """The records of keys, each with its nonce."""
        for kv in kvs:
            service = self._layout.service(kv.key)
            found = None if service is None else self._read_one(service, kv)
            if found is not None:
                yield found

    def _read_records(self, kvs: Iterable[KeyValue]) -> Iterable[Record]:
        """The records of keys, without nonces, which would take memory for a million records."""
        return [record for record, _ in self._read(kvs)]

    def _read_one(self, service: str, kv: KeyValue) -> tuple[Record, bytes] | None:
        try:
            record, nonce, base = read_record(service, kv)
        except ForeignValue as problem:
            log.error(FOREIGN, key=ascii(kv.key), problem=problem)
            return None
        self.bases.add(base)
        return record, nonce

    # -- comparing after a gap -------------------------------------------------------------------

    def has_reached(self, revision: int) -> bool:
        """Whether the follower was told everything up to a revision."""
        return self.position >= revision and not self.is_comparing

    def verify(self, before: int, header: ResponseHeader, written: bool = True) -> bool:
        """Check the header of a reply: if its revision or cluster can't be, etcd was restored.

        :param before: the position when it was sent.
        :param written: whether it has made a revision.
        :returns: whether it was restored; then a comparison has begun.
        """
        least = before + 1 if written else before
        if header.revision >= least and f"{header.cluster_id:x}" == self.base.cluster:
            return False
        log.warn("etcd was restored, or is another: comparing")
        self._compare()
        return True

    def beat_answered(self, before: int, last: int, answer: PutResponse, in_time: bool) -> None:
        """Check the reply to a sign of life: the value that it replaced has to be the previous one.

        :param before: the position when it was sent.
        :param last: :attr:`last_beat` at that time.
        :param in_time: whether the lease of the one before can't have ended by time.
        """
        revision, previous = answer.header.revision, answer.previous
        seen = 0 if previous is None else previous.mod_revision
        if last <= seen:
            self.last_beat = max(revision, self.last_beat)
            self.verify(before, answer.header)
            return
        self.last_beat = revision
        if self.verify(before, answer.header):
            return
        if seen or in_time:
            log.warn("etcd was restored: it has lost a sign of life; comparing")
            self._compare(restored=True)
        else:
            self._compare()  # it may have been

    def _compare(self, restored: bool = False) -> None:
        """Read all records again, and report the differences.

        :param restored: whether the base of fences has to be raised in any case.
        """
        if self._comparing is not None or self._stopped:
            return
        self._restored = self._restored or restored
        self.is_comparing = True
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._comparing = defer.Deferred.fromCoroutine(self._read_and_compare())
        self._comparing.addErrback(self._comparison_failed)

    async def _read_and_compare(self) -> None:
        begun, revision, found = await self._load_all(self._read)
        self.comparisons += 1
        group = self.base.number + revision
        changes: list[Change] = []
        here: set[str] = set()
        own: list[PendingChange] = []
        for record, nonce in found:
            here.add(record.service)
            if self._follower.fence_of(record.service) == record.fence:
                continue
            pending = self._pending.get(nonce)
            # Its fence is too low if its base is not the present one: then it is made again.
            is_valid = record.fence > self.base.number
            if is_valid and pending is not None and pending.record is not None:
                del self._pending[nonce]
                own.append(pending)
                pending.record.fence = record.fence
                record = pending.record
            changes.append(Change(group, record.service, record))
        gone = [name for name in self._follower.names() if name not in here]
        changes += [Change(group, name, None, UNSEEN, True) for name in gone]
        log.info("compared with etcd: {count} differences", count=len(changes))
        self._comparing, self.is_comparing = None, False
        self.position, self.fresh = revision, begun
        self.problem = LATE
        self._report(changes, group)
        self._report_doubt(self._note)
        for pending in own:
            assert pending.record is not None
            pending.is_seen(pending.record.fence)
        self._start_watch()

    def _comparison_failed(self, failure: Any) -> None:
        self._comparing = None
        if self._stopped or failure.check(defer.CancelledError, EtcdClosed):
            return
        self.problem = str(failure.value)
        log.failure("etcd refuses this nameserver; trying again", failure)
        self._retrying = self._reactor.callLater(LONGEST_DELAY, self._compare)

    # -- called by the watch ---------------------------------------------------------------------

    def created(self, revision: int) -> None:
        """A member has created the watch. It may lag; then it sends the changes later."""
        self.problem = LATE
        self._asked = None

    def progress(self, revision: int) -> None:
        """The member has sent all changes up to a revision. It counts only for the question that
        was asked, as some versions of etcd may tell it too early (etcd 15220)."""
        if self._asked is not None and revision >= self._asked[0]:
            self.fresh = max(self.fresh, self._asked[1])
            self._asked = None

    def disconnected(self, reason: Exception) -> None:
        """The watch continues at another member."""
        self.problem = str(reason)

    def compacted(self, revision: int) -> None:
        """etcd no longer has all changes since the last one that was reported."""
        log.warn("changes that this nameserver has missed are not kept by etcd: comparing")
        self._compare()

    def cancelled(self, reason: Exception) -> None:
        """etcd refuses the watch."""
        if not self._stopped:
            self.problem = str(reason)
            log.warn("etcd has ended the watch: {reason}; comparing", reason=reason)
            self._compare()

    def events(self, events: list[KeyEvent], revision: int) -> None:
        """Keys have changed."""
        layout, follower = self._layout, self._follower
        changes: list[Change] = []
        own: list[tuple[PendingChange, int]] = []
        removed: dict[int, tuple[str, str, bytes]] = {}
        here: dict[str, bool] = {}
        for event in events:
            if event.kv.key == layout.why and not event.deleted:
                with contextlib.suppress(ForeignValue):
                    removed[event.kv.mod_revision] = read_why(event.kv.value)
        for event in events:
            kv = event.kv
            service = layout.service(kv.key)
            if service is None:
                if kv.key == layout.doubt:
                    # It is reported at its place among the changes.
                    follower.changed(changes)
                    changes = []
                    self._report_doubt(None if event.deleted else note_of(kv.value))
                self._other(event)
                continue
            known = here.get(service)
            if known is None:
                known = follower.fence_of(service) is not None
            if not event.deleted:
                found = self._read_one(service, kv)
                if found is not None:
                    record, nonce = found
                    pending = self._pending.pop(nonce, None)
                    if pending is not None and pending.record is not None:
                        pending.record.fence = record.fence
                        record = pending.record
                        own.append((pending, record.fence))
                    changes.append(Change(self.base.number + kv.mod_revision, service, record))
                    here[service] = True
                    continue
                # A value that is no registration occupies the name; so the registration has ended.
            if known:
                fence = self.base.number + kv.mod_revision
                name, why, nonce = removed.get(kv.mod_revision, ("", EXPIRED, b""))
                why = why if name == service else EXPIRED
                changes.append(Change(fence, service, None, why, not event.deleted))
                here[service] = False
                pending = self._pending.pop(nonce, None) if name == service else None
                if pending is not None:
                    own.append((pending, fence))
        self.position = events[-1].kv.mod_revision
        self._report(changes, self.base.number + self.position)
        for pending, fence in own:
            pending.is_seen(fence)

    def _report_doubt(self, since: int | None) -> None:
        self._follower.doubted(None if since is None else self.base.number + since)

    def _other(self, event: KeyEvent) -> None:
        kv = event.kv
        if kv.key == self._own_key:
            if not event.deleted:
                self._own_value(kv.value)
        elif kv.key == self._layout.base:
            try:
                self.rebased(None if event.deleted else kv)
            except ForeignValue as problem:
                log.error("the base of fences in etcd is not valid: {problem}", problem=problem)

    def _report(self, changes: list[Change], revision: int) -> None:
        if changes:
            self._follower.changed(changes)
        self._follower.reached(revision)
        for condition, waiting in list(self._waiting.items()):
            if condition() and self._waiting.pop(condition, None) is not None:
                waiting.callback(None)

    # -- waiting ---------------------------------------------------------------------------------

    def expect(self, nonce: bytes, record: Record | None) -> PendingChange:
        """A change with this nonce is about to be sent."""
        pending = self._pending[nonce] = PendingChange(record)
        return pending

    def forget(self, nonce: bytes) -> None:
        """The change will not be reported."""
        self._pending.pop(nonce, None)

    def when(self, condition: Callable[[], bool], timeout: float) -> defer.Deferred[None]:
        """Fires when a condition holds; it is checked after each report to the follower.

        :returns: fails with StoreCutOff after ``timeout`` seconds.
        """
        if condition():
            return defer.succeed(None)
        if self._stopped:
            return defer.fail(StoreCutOff(CLOSING))
        waiting: defer.Deferred[None] = defer.Deferred()
        self._waiting[condition] = waiting
        waiting.addTimeout(timeout, self._reactor)

        def late(failure: Any) -> Any:
            self._waiting.pop(condition, None)
            failure.trap(defer.TimeoutError)
            raise StoreCutOff(
                f"etcd has not told this nameserver of its changes in {timeout:g} seconds"
            )

        return waiting.addErrback(late)
