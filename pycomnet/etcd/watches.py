"""Watches keys. Each watch has a stream, which moves to another member when its member is lost.

As each watch has its own stream, a slow handler does not slow down other watches, and each watch
decides whether it needs a leader.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from pycomnet.etcd.calls import StreamCall
from pycomnet.etcd.cluster import Cluster
from pycomnet.etcd.errors import (
    EtcdClosed,
    EtcdError,
    EtcdPermissionDenied,
    EtcdProtocolViolation,
    EtcdRequestRefused,
    EtcdTimeout,
)
from pycomnet.etcd.grpc import UNAVAILABLE, TokenRefused, error_of
from pycomnet.etcd.member import Member
from pycomnet.etcd.requests import WATCH_PROGRESS, encode_watch
from pycomnet.etcd.responses import WatchResponse, decode_watch
from pycomnet.etcd.values import KeyEvent, KeyRange
from pycomnet.text.logs import Logger

PATH = "/etcdserverpb.Watch/Watch"
#: The first and the longest delay before a watch is begun again, in seconds.
FIRST_DELAY, LONGEST_DELAY = 0.05, 1.0
#: Seconds for a member to create a watch; after them another member is used.
CREATED = 5.0


class EtcdWatchHandler(Protocol):
    """The methods that a watch calls. They are not called after :meth:`EtcdWatch.stop`."""

    def created(self, revision: int) -> None:
        """A member has created the watch. Called again whenever the watch has moved.

        :param revision: the store's revision at this member. A watch without ``start_revision``
            delivers all later changes. If it stays below a revision that was seen before, the
            cluster was restored from a snapshot.
        """

    def events(self, events: list[KeyEvent], revision: int) -> Deferred[None] | None:
        """Keys have changed.

        Each change is delivered once, in the order of revisions. All changes of one revision are in
        one call.

        :param events: in order; the last one has the highest ``mod_revision``.
        :param revision: the store's revision when the member sent the events; at least theirs.
        :returns: None, or a Deferred that fires when the handler is ready for more. Until then
            HTTP/2's flow control slows down the member.
        """

    def progress(self, revision: int) -> None:
        """The member reports that it has sent all changes up to this revision.

        Some versions of etcd report that too early, if it was requested (etcd issue 15220). So a
        watch that moves continues after the last event, not after this revision.
        """

    def disconnected(self, reason: Exception) -> None:
        """The member is lost, frozen, or has no leader.

        The watch continues at another member. Then :meth:`created` is called, and :meth:`events`
        with the changes since.
        """

    def compacted(self, revision: int) -> None:
        """The watch has ended: etcd no longer has some of its changes.

        Read the range, and start a new watch after the revision of that read.

        :param revision: the oldest revision that etcd has.
        """

    def cancelled(self, reason: Exception) -> None:
        """The watch has ended: etcd refuses it (for lack of permission, say), or the client is
        closed.
        """


class EtcdWatch:
    """A watch. It continues at another member when its member is lost.

    :ivar next_revision: the first revision that was not delivered yet; 0: not known.
    """

    log = Logger()

    def __init__(
        self,
        cluster: Cluster,
        keys: KeyRange,
        handler: EtcdWatchHandler,
        start_revision: int,
        previous: bool,
        progress: bool,
        fragment: bool,
        require_leader: bool,
    ) -> None:
        self._cluster = cluster
        self._keys = keys
        self._handler: EtcdWatchHandler | None = handler
        self.next_revision = start_revision
        self._options = (previous, progress, fragment)
        self._require_leader = require_leader
        self._stream: StreamCall | None = None
        self._token = b""
        #: the events of a revision that may have more in the next fragment
        self._part: list[KeyEvent] = []
        self._is_created = False
        self._failures = 0
        self._was_denied = False
        self._member: Member | None = None
        self._creating: IDelayedCall | None = None
        #: the members that have delivered nothing
        self.avoided: set[Member] = set()

    def move(self) -> None:
        """Continue at another member, as this one delivers nothing although it should.

        The watches of a member may hang although it replies to requests.
        """
        if self._stream is not None:
            self._leave(EtcdTimeout("the member's watch delivers nothing"))

    def _leave(self, error: EtcdError) -> None:
        if self._member is not None:
            self.avoided.add(self._member)
            if self.avoided.issuperset(self._cluster.members):
                self.avoided = {self._member}
        self._lost(error)

    def _creation_timed_out(self) -> None:
        self._creating = None
        self._leave(EtcdTimeout(f"the member has not begun the watch within {CREATED:g} s"))

    def _cancel_creation_timeout(self) -> None:
        if self._creating is not None:
            self._creating.cancel()
            self._creating = None

    def stop(self) -> None:
        """End the watch: the handler is not called any more."""
        self._handler = None
        self._cancel_creation_timeout()
        self._cluster.forget(self)
        if self._stream is not None:
            self._stream.stop()
            self._stream = None

    def request_progress(self) -> None:
        """Request a call of :meth:`EtcdWatchHandler.progress`."""
        if self._stream is not None:
            self._stream.send(WATCH_PROGRESS)

    def begin(self, member: Member, token: bytes) -> None:
        """Start on a member. The cluster calls this."""
        self._member = member
        self._token = token
        self._part = []
        self._stream = StreamCall(self._received, self._ended)
        create = encode_watch(self._keys, self.next_revision, *self._options)
        self._creating = self._cluster.after(CREATED, self._creation_timed_out)
        self._stream.start(member, PATH, token, create, self._require_leader)

    def refused(self, error: EtcdError) -> None:
        """No member will come. The cluster calls this."""
        handler = self._handler
        self.stop()
        if handler is not None:
            self._call_handler(handler.cancelled, error)

    def leader_changed(self, leader: Member) -> None:
        """Do nothing: a watch stays at its member, as followers have all changes, too."""

    def _call_handler(self, method: object, *arguments: object) -> Deferred[None] | None:
        """Call a method of the handler. If it raises, end the watch."""
        try:
            waiting = method(*arguments)  # type: ignore[operator]
        except Exception:
            self._handler_failed(Failure())
            return None
        if isinstance(waiting, Deferred):
            return waiting.addErrback(self._handler_failed)
        return None

    def _handler_failed(self, failure: Failure) -> None:
        self.log.failure("a watch's handler has failed; the watch has ended", failure)
        handler = self._handler
        self.stop()
        if handler is not None:
            self._call_handler(handler.cancelled, failure.value)

    def _received(self, message: bytes) -> Deferred[None] | None:
        """A reply was received."""
        handler = self._handler
        if handler is None:
            return None
        try:
            answer = decode_watch(message)
        except EtcdProtocolViolation as problem:
            self._lost(problem)
            return None
        if answer.cancelled:
            self._cancelled(answer, handler)
            return None
        if answer.created:
            self._cancel_creation_timeout()
            self._is_created = True
            self._failures = 0
            self._was_denied = False
            if self.next_revision == 0:
                self.next_revision = answer.revision + 1
            return self._call_handler(handler.created, answer.revision)
        if answer.events or self._part:
            return self._events(answer, handler)
        return self._call_handler(handler.progress, answer.revision)

    def _events(self, answer: WatchResponse, handler: EtcdWatchHandler) -> Deferred[None] | None:
        """Deliver events: each once, and all of one revision together."""
        seen = self.next_revision
        events = self._part + [one for one in answer.events if one.kv.mod_revision >= seen]
        self._part = []
        if answer.fragment and events:
            last = events[-1].kv.mod_revision
            whole = len(events)
            while whole and events[whole - 1].kv.mod_revision == last:
                whole -= 1
            self._part = events[whole:]
            events = events[:whole]
        if not events:
            return None
        self.next_revision = events[-1].kv.mod_revision + 1
        self.avoided.clear()
        return self._call_handler(handler.events, events, answer.revision)

    def _cancelled(self, answer: WatchResponse, handler: EtcdWatchHandler) -> None:
        if answer.compact_revision:
            self.stop()
            self._call_handler(handler.compacted, answer.compact_revision)
            return
        # Some versions put gRPC's own words before it.
        reason = answer.cancel_reason.rpartition(" desc = ")[2]
        error = error_of(UNAVAILABLE, reason, False)
        # etcd 3.4 answers "permission denied" if a token has expired.
        if isinstance(error, EtcdPermissionDenied) and self._token and not self._was_denied:
            self._was_denied = True
            error = TokenRefused(reason)
        if isinstance(error, TokenRefused) or reason == "etcdserver: no leader":
            self._lost(error)
            return
        self.stop()
        if not isinstance(error, EtcdPermissionDenied):
            why = reason or "it gives no reason"
            error = EtcdRequestRefused(f"etcd has cancelled the watch: {why}")
        self._call_handler(handler.cancelled, error)

    def _lost(self, error: EtcdError) -> None:
        if self._stream is not None:
            self._stream.stop()
        self._ended(error)

    def _ended(self, error: EtcdError) -> None:
        """The stream is lost: continue at another member."""
        self._stream = None
        self._cancel_creation_timeout()
        handler = self._handler
        if handler is None:
            return
        if isinstance(error, EtcdClosed):
            self.refused(error)
            return
        if isinstance(error, TokenRefused):
            self._cluster.refuse_token(self._token)
        elif isinstance(error, EtcdPermissionDenied):
            self.refused(error)
            return
        if self._is_created:
            self._is_created = False
            self._call_handler(handler.disconnected, error)
        if self._handler is not None:
            delay = min(FIRST_DELAY * 2 ** min(self._failures, 10), LONGEST_DELAY)
            self._failures += 1
            self._cluster.want(self, delay)
