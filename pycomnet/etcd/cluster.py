"""Chooses the member for each request, and decides what to do when a member fails.

Requests go to the leader, if one of the endpoints is the leader's: a follower would forward a
write, and ask the leader before a read. If the leader is lost or unknown, requests go to another
member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from pycomnet.deferred import OneShot
from pycomnet.etcd.calls import CallDeadlines, UnaryCall
from pycomnet.etcd.errors import (
    EtcdAuthFailed,
    EtcdClosed,
    EtcdError,
    EtcdOverloaded,
    EtcdTimeout,
    EtcdUnavailable,
    EtcdUncertain,
)
from pycomnet.etcd.grpc import TokenRefused
from pycomnet.etcd.login import AUTHENTICATE, EtcdLogin
from pycomnet.etcd.member import Member
from pycomnet.etcd.responses import decode_status, decode_token
from pycomnet.etcd.values import MemberStatus
from pycomnet.net.reactors import EndpointReactor
from pycomnet.ranges import real
from pycomnet.text.logs import Logger

#: Seconds between two requests for the members' statuses: while the leader is known, and while not.
POLL, SOON = 5.0, 0.2
#: Seconds for which other members are preferred to one that let a request time out.
SUSPECT = 3.0
#: Followers notice only after an election timeout (a second, by default) that the leader is gone.
#: Until then they forward requests to it, and these are lost. So when the leader's connection is
#: lost, requests wait until a member reports a new leader; this is the limit in seconds.
HOLD = 2.5
#: The first and the longest delay before a request is repeated at the same member.
FIRST_DELAY, LONGEST_DELAY = 0.05, 0.5
#: The most new tokens that a request gets.
MOST_TOKENS = 2

#: The key of the timer of the next request for a token.
LOGIN = "login"
STATUS = "/etcdserverpb.Maintenance/Status"


class LongStream(Protocol):
    """A stream without an end. It moves to another member when its member is lost."""

    #: members that it leaves, if there are others
    avoided: set[Member]

    def begin(self, member: Member, token: bytes) -> None:
        """Start on a member, with the token as an encoded header."""

    def refused(self, error: EtcdError) -> None:
        """No member will come: the user was refused, or the client is closed."""

    def leader_changed(self, leader: Member) -> None:
        """A member is the leader, possibly the same as before."""


class Cluster:
    """The members, and the requests that wait for a member.

    :param user: its name and password, or None.
    :param timeout: the default timeout of a request, in seconds.
    :ivar members: one Member for each endpoint.
    """

    log = Logger()

    def __init__(
        self,
        endpoints: Sequence[str],
        reactor: EndpointReactor,
        user: tuple[str, str] | None,
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self.timeout = timeout
        self.members = [Member(endpoint, reactor, self._changed) for endpoint in endpoints]
        self.is_closed = False
        self._login = EtcdLogin(
            user,
            lambda message: self.call(AUTHENTICATE, message, decode_token),
            self._serve,
            self._user_refused,
            self._no_token,
        )
        self._deadlines = CallDeadlines(reactor, self._expired)
        #: calls, and streams, that wait for a member or for the token
        self._waiting: dict[UnaryCall, None] = {}
        self._wanting: dict[LongStream, None] = {}
        #: the streams that have been started and have not ended
        self._streams: dict[LongStream, None] = {}
        self._polled: set[Member] = set()
        #: the id of the leader that was lost, while requests wait for another one
        self._lost_leader = 0
        self._delayed: dict[object, IDelayedCall] = {}
        self._poll: IDelayedCall | None = None
        self._best: Member | None = None
        self._connected: OneShot[None] = OneShot()

    # -- from open to closed -----------------------------------------------------------------------

    def open(self) -> Deferred[None]:
        """Start connecting; fires when requests can be sent."""
        if self._poll is None and not self.is_closed:
            for member in self.members:
                member.start()
            self._poll = self._reactor.callLater(SOON, self._poll_members)
        return self._connected.when_fired()

    def close(self) -> None:
        """Close all connections, and fail all requests and streams."""
        if self.is_closed:
            return
        self.is_closed = True
        reason = EtcdClosed("the client is closed")
        if self._poll is not None and self._poll.active():
            self._poll.cancel()
        delayed, self._delayed = self._delayed, {}
        for timer in delayed.values():
            timer.cancel()
        unsent = [*self._waiting, *(key for key in delayed if isinstance(key, UnaryCall))]
        self._waiting.clear()
        self._wanting.clear()
        for member in self.members:
            member.stop(reason)
        for call in unsent:
            self._fail(call, reason)
        for stream in list(self._streams):
            stream.refused(reason)
        self._deadlines.stop()
        self._connected.fail(reason)

    # -- the choice of a member --------------------------------------------------------------------

    def pick(self, tried: set[Member] | None = None) -> Member | None:
        """The best member for a request: the leader, else one that knows the leader, else any.

        :param tried: members that have failed this request; they are chosen only if no others are
            ready.
        """
        best = self._best
        if best is not None and best.is_ready and not tried:
            return best
        now = self._reactor.seconds()
        ready = [member for member in self.members if member.is_ready]
        if not ready:
            return None
        # The member with the latest term knows best; the leader may not have reported it yet.
        leader = max(ready, key=lambda member: member.term).leader

        def rank(member: Member) -> tuple[bool, bool, bool, bool]:
            return (
                tried is not None and member in tried,
                member.suspect_until > now,
                not leader or member.id != leader,
                member.leader == 0,
            )

        best = min(ready, key=rank)
        if not tried and leader and best.id == leader and best.suspect_until <= now:
            self._best = best
        return best

    def _changed(self, member: Member) -> None:
        """A member was connected or disconnected."""
        self._best = None
        if self.is_closed:
            return
        if member.is_ready:
            self._request_status(member)
        elif member.lost_id:
            self._hold(member.lost_id)
        else:
            self._poll_soon()
        self._serve()

    def _hold(self, leader: int) -> None:
        """The connection to the leader is lost: requests wait for a new leader."""
        self._lost_leader = leader
        self._call_later(HOLD, HOLD, self._release)
        self._poll_now()

    def _release(self) -> None:
        """Send the requests that wait for a new leader."""
        self._lost_leader = 0
        self._serve()

    def _is_held(self, call: UnaryCall, member: Member) -> bool:
        """Whether a call has to wait for a new leader."""
        if not call.needs_leader or call.fixed is not None or member.is_leader:
            return False
        return member.leader in (0, self._lost_leader)

    def _poll_soon(self) -> None:
        """Request the members' statuses soon, to find the leader."""
        poll = self._poll
        if poll is not None and poll.active() and poll.getTime() - self._reactor.seconds() > SOON:
            poll.reset(SOON)

    def _poll_now(self) -> None:
        """Request the members' statuses now."""
        if self._poll is not None and self._poll.active():
            self._poll.reset(0)

    def _poll_members(self) -> None:
        for member in self.members:
            if member.is_ready:
                self._request_status(member)
        if self.is_closed:
            return
        leads = any(
            member.is_ready and member.is_leader and member.suspect_until <= self._reactor.seconds()
            for member in self.members
        )
        self._poll = self._reactor.callLater(POLL if leads else SOON, self._poll_members)

    def _request_status(self, member: Member) -> None:
        """Request a member's status, which says who the leader is."""
        if member in self._polled:
            return
        self._polled.add(member)

        def told(status: MemberStatus) -> None:
            self._polled.discard(member)
            member.id = status.header.member_id
            changed = (member.leader, member.term) != (status.leader, status.raft_term)
            member.leader, member.term = status.leader, status.raft_term
            if changed and not self.is_closed:
                self._best = None
                self._look_for_leader()
                if self._lost_leader and (
                    member.leader not in (0, self._lost_leader) or member.is_leader
                ):
                    self._release()

        asking = self.call(STATUS, b"", decode_status, needs_leader=False, member=member)
        asking.addCallbacks(told, lambda failure: self._polled.discard(member))

    def _look_for_leader(self) -> None:
        self.pick()
        best = self._best
        if best is not None:
            for stream in list(self._streams):
                stream.leader_changed(best)

    # -- a request ---------------------------------------------------------------------------------

    def call(
        self,
        path: str,
        message: bytes,
        decode: Callable[[bytes], Any],
        *,
        timeout: float | None = None,
        is_write: bool = False,
        needs_leader: bool = True,
        member: Member | None = None,
    ) -> Deferred[Any]:
        """Send a request. Repeat it if that is safe.

        :param member: the only member to send it to; None: the best one.
        :returns: fires with what ``decode`` returns for the reply.
        """
        if self.is_closed:
            return fail(EtcdClosed("the client is closed"))
        call = UnaryCall(
            path,
            message,
            decode,
            self._finished,
            is_write,
            needs_leader,
            member,
            lambda _: self._cancel(call),
        )
        if timeout is None:
            timeout = self.timeout
        else:
            real("timeout", timeout, above=True)
        self._deadlines.add(call, timeout)
        self._send(call)
        return call.result

    def _send(self, call: UnaryCall) -> None:
        member = call.fixed
        if member is None:
            member = self.pick(call.tried)
        token = self._login.header
        if token is None:
            if call.path == AUTHENTICATE or call.path == STATUS:
                token = b""
            else:
                self._log_in()
        if (
            member is None
            or not member.is_ready
            or token is None
            or (self._lost_leader and self._is_held(call, member))
        ):
            self._waiting[call] = None
            return
        call.begin(member, token)
        member.request(call, call.path, call.needs_leader, token, call.message, True)

    def _serve(self) -> None:
        """Send the requests that wait for a member or for the token."""
        member = self.pick()
        if member is None:
            return
        if self._login.header is None:
            self._log_in()
        else:
            self._connected.fire(None)
            wanting, self._wanting = self._wanting, {}
            for stream in wanting:
                self.want(stream)
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            self._send(call)

    def want(self, stream: LongStream, delay: float = 0.0) -> None:
        """Start a stream as soon as there are a member and a token.

        :param delay: seconds to wait first.
        """
        if self.is_closed:
            stream.refused(EtcdClosed("the client is closed"))
            return
        self._streams[stream] = None
        if delay:
            self._call_later(stream, delay, lambda: self.want(stream))
            return
        member = self.pick(stream.avoided)
        if member is not None and self._login.header is not None:
            stream.begin(member, self._login.header)
            return
        self._wanting[stream] = None
        if member is not None:
            self._log_in()

    def after(self, delay: float, function: Callable[[], object]) -> IDelayedCall:
        """Call a function after some seconds."""
        return self._reactor.callLater(delay, function)

    def forget(self, stream: LongStream) -> None:
        """Drop a stream that has ended."""
        self._streams.pop(stream, None)
        self._wanting.pop(stream, None)
        timer = self._delayed.pop(stream, None)
        if timer is not None:
            timer.cancel()

    def _call_later(self, key: object, delay: float, function: Callable[[], object]) -> None:
        def run() -> None:
            del self._delayed[key]
            function()

        before = self._delayed.pop(key, None)
        if before is not None:
            before.cancel()
        self._delayed[key] = self._reactor.callLater(delay, run)

    def _finished(self, call: UnaryCall, error: EtcdError | None, was_processed: bool) -> None:
        """A member has replied to a call, or has failed."""
        if error is None:
            self._deadlines.remove(call)
            return
        if self.is_closed or call.result.called:
            self._fail(call, error)
            return
        member = call.member
        if isinstance(error, TokenRefused) and self._login.has_user:
            self._login.forget(call.token)
            call.tokens += 1
            call.member = None  # it has not executed it
            if call.tokens <= MOST_TOKENS:
                self._send(call)
                return
        if not was_processed or (error.status is not None and isinstance(error, EtcdUnavailable)):
            self._repeat(call, member, error)
        elif error.status is not None:
            self._fail(call, error)
        elif call.is_write:
            self._fail(call, _uncertain(error))
        elif isinstance(error, EtcdOverloaded):
            self._fail(call, error)
        else:
            self._repeat(call, member, error)

    def _repeat(self, call: UnaryCall, member: Member | None, error: EtcdError) -> None:
        """The request was not executed: send it to another member, or later to the same one."""
        call.reason = error
        call.member = None
        tried = call.tried = call.tried or set()
        if member is not None:
            tried.add(member)
        ready = {one for one in self.members if one.is_ready}
        self._best = None
        self._poll_soon()
        if call.fixed is None and ready - tried:
            self._send(call)
            return
        if call.fixed is not None and not call.fixed.is_ready:
            self._fail(call, error)
            return
        call.tried = None
        delay = min(FIRST_DELAY * 2 ** min(call.attempts, 10), LONGEST_DELAY)
        self._call_later(call, delay, lambda: self._send(call))

    def _drop(self, call: UnaryCall) -> bool:
        """Drop a call. Returns whether a member has it."""
        self._deadlines.remove(call)
        self._waiting.pop(call, None)
        timer = self._delayed.pop(call, None)
        if timer is not None:
            timer.cancel()
        has_it = call.member is not None and call.id != 0
        if call.member is not None:
            call.member.reset(call)
        return has_it

    def _fail(self, call: UnaryCall, error: EtcdError) -> None:
        has_it = self._drop(call)
        if not call.result.called:
            if has_it and call.is_write and isinstance(error, EtcdClosed):
                error = _uncertain(error)
            call.result.errback(Failure(error))

    def _cancel(self, call: UnaryCall) -> None:
        self._drop(call)

    def _expired(self, call: UnaryCall) -> None:
        """A call has timed out."""
        member = call.member
        has_it = self._drop(call)
        text = f"no answer within {call.timeout:g} s"
        error: EtcdError
        if has_it and member is not None:
            member.suspect_until = self._reactor.seconds() + SUSPECT
            self._best = None
            self._poll_soon()
            error = EtcdUncertain(text) if call.is_write else EtcdTimeout(text)
        else:
            reason = call.reason or self.problem()
            error = EtcdUnavailable(f"no member took it within {call.timeout:g} s: {reason}")
        if not call.result.called:
            call.result.errback(Failure(error))

    def problem(self) -> str:
        """Why no member is connected, as text."""
        problems = [str(member.problem) for member in self.members if member.problem is not None]
        return "; ".join(problems) or "there is no token yet"

    # -- the token ---------------------------------------------------------------------------------

    def refuse_token(self, token: bytes) -> None:
        """A member has refused this token: request another one."""
        self._login.forget(token)

    def _user_refused(self, error: EtcdAuthFailed) -> None:
        """The user was refused: fail all requests that wait for a token."""
        self._connected.fail(error)
        waiting, self._waiting = self._waiting, {}
        wanting, self._wanting = self._wanting, {}
        for call in waiting:
            self._fail(call, error)
        for stream in wanting:
            stream.refused(error)

    def _log_in(self) -> None:
        """Request a token, unless such a request has failed a moment ago."""
        if LOGIN not in self._delayed:
            self._login.begin()

    def _no_token(self) -> None:
        """The request for a token failed: repeat it if a request needs a token."""
        if not self.is_closed and (self._waiting or self._wanting):
            self._call_later(LOGIN, LONGEST_DELAY, self._login.begin)


def _uncertain(error: EtcdError) -> EtcdUncertain:
    return EtcdUncertain(f"the request was sent, and its answer never came: {error}")
