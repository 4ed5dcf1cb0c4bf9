"""The mediator: starts the subprocesses of a server, finds them, limits them and ends them."""

from __future__ import annotations

import secrets
import signal
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from pycomnet.auth.unauthenticated import UnauthenticatedConnections
from pycomnet.deferred import Condition, deferred
from pycomnet.gateways.spec import Spec
from pycomnet.mediator.server.audit import AuditLog
from pycomnet.mediator.server.child import Launch, processor_time, read_spec
from pycomnet.mediator.server.metrics import Metrics
from pycomnet.mediator.server.model import HttpError, User
from pycomnet.mediator.server.session import MediatorSession
from pycomnet.ranges import NumberRefused, optional_real

if TYPE_CHECKING:
    from pycomnet.mediator.server.sockets import StatusSocket

#: The default of the most subprocesses in all.
MAX_PROCESSES = 256
#: The most ended sessions that are remembered, for clients that ask late.
MAX_ENDED = 1000
#: Random bytes of a PID: 192 bits can't be guessed.
PID_BYTES = 24
#: Seconds that subprocesses have to exit after their input was closed, when the server stops.
STOP_GRACE = 5.0


class Mediator:
    """The subprocesses of a server.

    :param launch: starts a subprocess.
    :param processes: how many there may be in all.
    :param audit: records each start and end.
    :param busy: returns the seconds of processor time that a process has used; None if unknown.
    :param make_pid: makes the ids by which clients know them.
    :ivar draining: whether no more subprocesses are started.
    :ivar websocket: whether clients may use WebSockets.
    :ivar metrics: the counters.
    """

    def __init__(
        self,
        launch: Launch,
        reactor: IReactorTime,
        processes: int = MAX_PROCESSES,
        audit: AuditLog | None = None,
        busy: Callable[[int], float | None] = processor_time,
        make_pid: Callable[[], str] = lambda: secrets.token_urlsafe(PID_BYTES),
    ) -> None:
        self.reactor = reactor
        self.processes = processes
        self.draining = False
        self.websocket = True
        #: the connections that are not authenticated yet; set by the service that listens
        self.unauthenticated: UnauthenticatedConnections | None = None
        #: the connections that show a user's list
        self.watchers: set[StatusSocket] = set()
        self.sessions: dict[str, MediatorSession] = {}
        self.metrics = Metrics(self)
        self.audit = audit or AuditLog(None)
        self._launch = launch
        self._busy = busy
        self._make_pid = make_pid
        #: the sessions that have ended and have nothing left to read
        self._past: OrderedDict[str, MediatorSession] = OrderedDict()
        #: (user, key) of a request to start a subprocess -> the session that it started
        self._keys: dict[tuple[str, str], str] = {}
        self._empty = Condition()

    def start(
        self, user: User, options: Any, key: str | None = None, peer: str = ""
    ) -> MediatorSession:
        """Start a subprocess.

        :param options: what its client asks for.
        :param key: the request's idempotency key: a request with the same key gets the same
            subprocess.
        :param peer: where the client is, for the audit log.
        :raises HttpError: an option is not valid or not allowed, a limit is reached, or it can't be
            started.
        """
        if key is not None and (user.name, key) in self._keys:
            return self.find(user, self._keys[user.name, key])
        if self.draining:
            raise HttpError(503, "draining", "the server is shutting down")
        linger = None
        if isinstance(options, dict):
            options = dict(options)
            try:
                linger = optional_real("linger", options.pop("linger", None))
            except NumberRefused as problem:
                raise HttpError(400, "options", str(problem)) from None
        spec = read_spec(options, user.limits)
        self._check_room(user)
        pid = self._make_pid()
        session = self._session(pid, user, spec, linger)
        self.sessions[pid] = session  # from here on it counts for the limits
        try:
            session.launch()
        except BaseException as problem:
            self.metrics.failed.inc()
            self.audit.failed(session, peer, problem)
            if session.child is None:
                del self.sessions[pid]
            raise  # otherwise it counts until it has ended
        if key is not None:
            self._keys[user.name, key] = pid
        self.metrics.started.inc()
        self.audit.started(session, peer)
        return session

    def _session(self, pid: str, user: User, spec: Spec, linger: float | None) -> MediatorSession:
        return MediatorSession(
            pid,
            user,
            spec,
            self._launch,
            self.reactor,
            self._ended,
            self._gone,
            self._busy,
            linger,
        )

    def _check_room(self, user: User) -> None:
        mine = sum(1 for session in self.sessions.values() if session.owner.name == user.name)
        if mine >= user.limits.processes:
            self.metrics.refused.inc()
            raise HttpError(
                429, "processes", f"{user.name} has {mine} subprocesses, which is the limit"
            )
        if len(self.sessions) >= self.processes:
            self.metrics.refused.inc()
            raise HttpError(429, "processes", "the server has reached its limit of subprocesses")

    def find(self, user: User, pid: str) -> MediatorSession:
        """A subprocess of a user; other users' subprocesses count as missing.

        :raises HttpError: 404; 410 when it has ended and nothing of it is left.
        """
        session = self.sessions.get(pid)
        if session is not None and session.owner.name == user.name:
            return session
        session = self._past.get(pid)
        if session is not None and session.owner.name == user.name:
            assert session.end is not None
            raise session.end.gone_error()
        raise HttpError(404, "pid", "there is no such subprocess")

    def of(self, user: User) -> list[MediatorSession]:
        """A user's subprocesses that are not dropped yet, the oldest first."""
        return [one for one in self.sessions.values() if one.owner.name == user.name]

    def past_of(self, user: User, most: int) -> list[MediatorSession]:
        """The last subprocesses of a user that were dropped, the newest first; at most ``most``."""
        found = [one for one in self._past.values() if one.owner.name == user.name]
        return found[: -most - 1 : -1]

    def withdraw(self, names: Collection[str]) -> None:
        """End the subprocesses of users whose tokens are withdrawn, and close their lists."""
        for session in self.running():
            if session.owner.name in names:
                session.terminate("the token of its user was withdrawn", signal.SIGTERM)
        for watcher in list(self.watchers):
            watcher.withdraw(names)

    def _ended(self, session: MediatorSession) -> None:
        assert session.end is not None
        self.metrics.end(session.end)
        self.audit.ended(session)
        self._check_empty()

    def _gone(self, session: MediatorSession) -> None:
        if self.sessions.get(session.pid) is not session:
            return
        del self.sessions[session.pid]
        self._past[session.pid] = session
        self.metrics.forget(session)
        while len(self._past) > MAX_ENDED:
            old, _ = self._past.popitem(last=False)
            self._keys = {key: pid for key, pid in self._keys.items() if pid != old}
        self._check_empty()

    def _check_empty(self) -> None:
        """Notify waiters if no subprocess runs."""
        if not self.running():
            self._empty.notify_all()

    def running(self) -> list[MediatorSession]:
        """The sessions that have not ended."""
        return [session for session in self.sessions.values() if session.end is None]

    def when_empty(self) -> defer.Deferred[None]:
        """Fires when no subprocess runs."""
        if not self.running():
            return defer.succeed(None)
        return self._empty.wait()

    @deferred
    async def drain(self, timeout: float) -> None:
        """Start no more, tell the clients, wait for their subprocesses, and end those left.

        :param timeout: seconds to wait.
        :returns: fires when no subprocess is left.
        """
        self.draining = True
        for session in self.running():
            session.tell({"draining": timeout})
        for wait, number in (
            (timeout, None),
            (STOP_GRACE, signal.SIGTERM),
            (STOP_GRACE, signal.SIGKILL),
        ):
            empty = self.when_empty()
            empty.addTimeout(wait, self.reactor)
            try:
                await empty
                break
            except defer.TimeoutError:
                for session in self.running():
                    session.terminate("the server was stopped", number)
        await self.when_empty()
