"""Renews leases. All renewals of a client use one stream to the leader.

A follower forwards each renewal as a request of its own, which takes ten times as long. etcd does
not write renewals to its disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from pycomnet.etcd.calls import CallDeadlines, StreamCall
from pycomnet.etcd.cluster import Cluster
from pycomnet.etcd.errors import (
    EtcdClosed,
    EtcdError,
    EtcdLeaseNotFound,
    EtcdProtocolViolation,
    EtcdTimeout,
)
from pycomnet.etcd.grpc import TokenRefused, framed
from pycomnet.etcd.member import Member
from pycomnet.etcd.requests import encode_numbers
from pycomnet.etcd.responses import decode_keepalive

PATH = "/etcdserverpb.Lease/LeaseKeepAlive"
#: The first and the longest delay before the stream is begun again, in seconds.
FIRST_DELAY, LONGEST_DELAY = 0.05, 1.0
#: Seconds between two writes of renewals. A renewal by itself is sent at once; when there are
#: hundreds a second, some are sent together, which takes etcd and the client much less time.
GATHER = 0.005


class _Renewal:
    __slots__ = ("due", "lease", "result", "timeout")

    def __init__(self, lease: int, cancelled: Callable[[_Renewal], None]) -> None:
        self.lease = lease
        self.timeout = self.due = 0.0
        self.result: Deferred[int] = Deferred(lambda _: cancelled(self))


class Keepalives:
    """The stream of renewals. The first renewal opens it.

    :param cluster: provides the member.
    :param clock: for timeouts.
    """

    def __init__(self, cluster: Cluster, clock: IReactorTime) -> None:
        self._cluster = cluster
        self._clock = clock
        self._deadlines = CallDeadlines(clock, self._expired)
        #: lease -> its renewals without a reply, in the order in which they were sent
        self._waiting: dict[int, deque[_Renewal]] = {}
        #: the leases to be sent, and when a frame of renewals was sent last
        self._unsent: list[int] = []
        self._flushed = float("-inf")
        self._flushing: IDelayedCall | None = None
        self._stream: StreamCall | None = None
        self._member: Member | None = None
        self._token = b""
        self._is_wanted = False
        self._failures = 0
        self._problem: EtcdError | None = None
        #: when the latest reply was received
        self._heard = float("-inf")
        self.avoided: set[Member] = set()

    def close(self) -> None:
        """Fail all renewals, as the client is closed."""
        self.refused(EtcdClosed("the client is closed"))

    def renew(self, lease: int, timeout: float) -> Deferred[int]:
        """Renew a lease; see :meth:`pycomnet.etcd.EtcdClient.keepalive`."""
        if self._cluster.is_closed:
            return fail(EtcdClosed("the client is closed"))
        renewal = _Renewal(lease, self._cancel)
        self._deadlines.add(renewal, timeout)
        waiting = self._waiting.get(lease)
        if waiting is None:
            waiting = self._waiting[lease] = deque()
        waiting.append(renewal)
        if self._stream is not None:
            self._unsent.append(lease)
            if self._flushing is None:
                wait = self._flushed + GATHER - self._clock.seconds()
                # No longer than that, if the clock was set back.
                wait = min(max(wait, 0.0), GATHER)
                self._flushing = self._clock.callLater(wait, self._flush)
        elif not self._is_wanted:
            self._is_wanted = True
            self._cluster.want(self)
        return renewal.result

    def _flush(self) -> None:
        """Send the gathered renewals in as few frames as possible."""
        self._flushing = None
        leases, self._unsent = self._unsent, []
        if self._stream is not None and leases:
            self._flushed = self._clock.seconds()
            self._stream.send_framed(b"".join([framed(encode_numbers(one)) for one in leases]))

    # -- the stream --------------------------------------------------------------------------------

    def begin(self, member: Member, token: bytes) -> None:
        """Open the stream, and send all renewals that have no reply."""
        self._forget_late()
        leases = [renewal.lease for queue in self._waiting.values() for renewal in queue]
        if not leases:
            self._is_wanted = False
            self._cluster.forget(self)
            return
        self._token = token
        self._member = member
        stream = self._stream = StreamCall(self._answered, self._ended)
        self._unsent = []
        stream.start(member, PATH, token, encode_numbers(leases[0]), True)
        self._unsent = leases[1:]
        self._flush_now()

    def _flush_now(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
        self._flush()

    def _answered(self, message: bytes) -> None:
        self._failures = 0
        self._heard = self._clock.seconds()
        try:
            lease, ttl = decode_keepalive(message)
        except EtcdProtocolViolation as problem:
            self._restart(problem)
            return
        waiting = self._waiting.get(lease)
        if waiting is None:
            return
        renewal = waiting.popleft()
        if not waiting:
            del self._waiting[lease]
        self._deadlines.remove(renewal)
        if renewal.result.called:
            return
        if ttl > 0:
            renewal.result.callback(ttl)
        else:
            error = EtcdLeaseNotFound(f"there is no lease {lease:x}: it has expired or was revoked")
            renewal.result.errback(Failure(error))

    def _ended(self, error: EtcdError) -> None:
        """The stream is lost: open another one. Renewing twice is harmless."""
        self._stream = self._member = None
        if isinstance(error, EtcdClosed):
            self.refused(error)
            return
        if isinstance(error, TokenRefused):
            self._cluster.refuse_token(self._token)
        self._problem = error
        delay = min(FIRST_DELAY * 2 ** min(self._failures, 10), LONGEST_DELAY)
        self._failures += 1
        self._is_wanted = True
        self._cluster.want(self, delay)

    def refused(self, error: EtcdError) -> None:
        """No stream will be opened: fail all renewals."""
        self._is_wanted = False
        self._cluster.forget(self)
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._stream is not None:
            self._stream.stop()
            self._stream = None
        waiting, self._waiting = self._waiting, {}
        if self._cluster.is_closed:
            self._deadlines.stop()  # also if no stream was begun
        for queue in waiting.values():
            for renewal in queue:
                self._deadlines.remove(renewal)
                if not renewal.result.called:
                    renewal.result.errback(Failure(error))

    def leader_changed(self, leader: Member) -> None:
        """Move to the leader."""
        if self._stream is not None and self._member is not leader:
            self._stream.stop()
            self._stream = None
            self._is_wanted = True
            self._cluster.want(self)

    def _expired(self, renewal: _Renewal) -> None:
        why = f" ({self._problem})" if self._stream is None and self._problem else ""
        text = f"lease {renewal.lease:x} was not renewed within {renewal.timeout:g} s{why}"
        error = EtcdTimeout(text)
        if not renewal.result.called:
            renewal.result.errback(Failure(error))
        if self._stream is None:
            self._remove(renewal)
            return
        # The reply may still come, and must not be taken for that of the next renewal: so it keeps
        # its place. Without any reply since it was sent, or if an earlier renewal of this lease is
        # late, too, the stream is replaced.
        queue = self._waiting.get(renewal.lease, ())
        is_silent = self._heard < renewal.due - renewal.timeout
        if is_silent or (queue and queue[0] is not renewal and queue[0].result.called):
            self._restart(error)

    def _forget_late(self) -> None:
        """Drop renewals that have timed out: a new stream brings no replies to them."""
        for lease, queue in list(self._waiting.items()):
            left = deque(one for one in queue if not one.result.called)
            if left:
                self._waiting[lease] = left
            else:
                del self._waiting[lease]

    def _cancel(self, renewal: _Renewal) -> None:
        """A renewal was cancelled. Its reply removes it from its queue, if the stream is open."""
        self._deadlines.remove(renewal)
        if self._stream is None:
            self._remove(renewal)

    def _remove(self, renewal: _Renewal) -> None:
        waiting = self._waiting.get(renewal.lease)
        if waiting is not None and renewal in waiting:
            waiting.remove(renewal)
            if not waiting:
                del self._waiting[renewal.lease]

    def _restart(self, error: EtcdError) -> None:
        if self._stream is not None:
            self._stream.stop()
            self._ended(error)
