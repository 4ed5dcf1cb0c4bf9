"""The client of services: a remote service, its calls and its streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from pycomnet.deferred import deferred
from pycomnet.errors import (
    DeadlineExceeded,
    PycomnetError,
    ServiceUnreachable,
    UnknownInterface,
)
from pycomnet.far.live import Live
from pycomnet.net.backoff import Backoff, retry_policy
from pycomnet.ranges import MAX_SECONDS, NumberRefused, real
from pycomnet.services.binary import ReceivedFile
from pycomnet.services.blocks import IncomingBlocks, OutgoingBlocks
from pycomnet.services.client.callerrors import of_a_call
from pycomnet.services.client.callgroup import CallGroup
from pycomnet.services.client.instances import AddressRoute, Instances
from pycomnet.services.client.pending import (
    CallAgain,
    PendingCall,
    Taker,
    not_sendable,
    too_long,
)
from pycomnet.services.client.remotestream import RemoteStream
from pycomnet.wire.values import ValueNotSendable

if TYPE_CHECKING:
    from pycomnet.services.client.connection import ClientConnection
    from pycomnet.services.client.context import Context
    from pycomnet.services.client.pool import PooledServer
    from pycomnet.services.client.reference import ServiceReference

#: Seconds between attempts to reach a service, the first and the longest.
FIRST_RETRY = 0.05
LONGEST_RETRY = 1.0
_retry_delay = retry_policy(FIRST_RETRY, LONGEST_RETRY)


class _Default:
    def __repr__(self) -> str:
        return "<the context's timeout>"


#: The default timeout of ``invoke``: that of the context.
DEFAULT: Any = _Default()


def no_time(method: str, timeout: float) -> Exception:
    """The error for a timeout that is not valid."""
    if timeout <= 0:
        return of_a_call(
            DeadlineExceeded(f"{method}: the deadline had passed before it was called")
        )
    return NumberRefused("timeout", f"a number of seconds, at most {MAX_SECONDS:g}", timeout)


class RemoteService(Live):
    """A remote service, whose methods can be called.

    It has no connection of its own. All calls to one address share a connection, which is made when
    it is needed, and made again when it has broken.

    :ivar interface: the interface whose methods are called.
    """

    def __init__(self, context: Context, route: Instances, interface: str | None) -> None:
        self.context = context
        self._seconds: Callable[[], float] = context.reactor.seconds
        self._route = route
        self.interface = interface
        #: the metadata of each call
        self.about: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<RemoteService {self.interface} {self._route}>"

    @property
    def stale(self) -> float:
        """The age of the nameserver's last answer about it, in seconds, if the nameserver can't be
        reached or is cut off from its store; else 0.0."""
        return self._route.stale

    @property
    def reference(self) -> ServiceReference:
        """What it is, apart from this process."""
        return self._route.reference(self.interface)

    def invoke(
        self,
        method: str,
        args: Any = None,
        timeout: float | None = DEFAULT,
        attachments: Sequence[Any] = (),
        with_binary: bool = False,
    ) -> defer.Deferred[Any]:
        """Call a method.

        :param args: its structured arguments, usually a dict: any value that can be sent.
        :param timeout: seconds until the call is given up; None for no limit. By default the
            context's timeout. Then the server is told, and cancels the method.
        :param attachments: blocks of binary data, each a :class:`Binary`.
        :param with_binary: fire with (result, files) rather than with the result alone.
        :returns: fires with the method's result. Fails with a
            :class:`~pycomnet.errors.ServiceError`, whose subclasses tell what went wrong, or with
            :class:`RemoteError` if the method raised. Cancelling it cancels the method.
        """
        context = self.context
        if timeout is DEFAULT:
            timeout = context.timeout
        if context.expires is not None:
            timeout = context.limit(timeout)
        expires = None
        if timeout is not None:
            if not 0 < timeout <= MAX_SECONDS:
                return defer.fail(no_time(method, timeout))
            expires = self._seconds() + timeout
        if attachments or with_binary:
            return defer.Deferred.fromCoroutine(
                self._invoke_with_blocks(method, args, expires, attachments, with_binary)
            )
        peer = self._route.pick()
        connection = None if peer is None else peer.connection
        if peer is None or connection is None:
            return self.repeat(method, args, expires, peer)
        return self._send(peer, connection, method, args, timeout, expires)

    @deferred
    async def invoke_together(
        self,
        calls: Sequence[tuple[str, Any, Taker]],
        timeout: float | None = DEFAULT,
        one_by_one: bool = False,
    ) -> bool:
        """Call methods of one instance. All requests go in one write.

        :param calls: each a method, its structured arguments, and what takes its result: a
            Deferred, or what is as short-lived but cheaper.
        :param timeout: seconds for all, as for :meth:`invoke`.
        :param one_by_one: each begins when the one before has ended, and none after one that fails:
            those fail with :class:`~pycomnet.errors.CallSkipped`.
        :returns: fires when each has a result or an error: whether all have results. Fails if there
            is no connection; then no taker is told. Cancelling it cancels the calls that have none.
        """
        context = self.context
        limited = context.limit(context.timeout if timeout is DEFAULT else timeout)
        expires = None
        if limited is not None:
            if not 0 < limited <= MAX_SECONDS:
                raise no_time(calls[0][0] if calls else "a batch", limited)
            expires = self._seconds() + limited
        if not calls:
            return True
        peer, connection = await self.reach(expires)
        group = CallGroup(self, len(calls), expires, one_by_one)
        sending = defer.Deferred.fromCoroutine(group.send(calls, peer, connection))
        sending.addErrback(group.not_sent)
        try:
            await group.ended
        except defer.CancelledError:
            sending.cancel()
            raise
        return not group.failed

    def _send(
        self,
        peer: PooledServer,
        connection: ClientConnection,
        method: str,
        args: Any,
        timeout: float | None,
        expires: float | None,
        blocks: Sequence[Any] = (),
        files: bool = False,
        repeats: int = 0,
    ) -> defer.Deferred[Any]:
        """Send a request.

        :param blocks: the descriptions of its blocks.
        """
        call = PendingCall(self, peer, connection, method, args, expires, files, repeats)
        try:
            payload = connection.encode(self.request(peer, method, args, timeout, blocks))
            if len(payload) > peer.longest:
                raise too_long(payload, peer)
            call.id = connection.call("invoke", payload, call)
        except ValueNotSendable as problem:
            return defer.fail(not_sendable(connection, problem, method, args))
        except Exception as problem:
            return defer.fail(problem)
        peer.pending += 1
        if not peer.watched:
            self.context.pool.liveness.watch(peer)
        if expires is not None and timeout is not None:
            call.bucket = self.context.deadlines.add(call, timeout, expires)
        waiting: defer.Deferred[Any] = call.deferred
        return waiting

    def request(
        self,
        peer: PooledServer,
        method: str,
        args: Any,
        left: float | None,
        blocks: Sequence[Any] = (),
    ) -> list[Any]:
        """What is sent to call a method (docs/protocol.rst, "Calls of services").

        :param left: seconds until the deadline; None if there is none.
        :param blocks: the descriptions of its blocks.
        """
        interface = self.interface or self.called_by(peer)
        if self.about:
            return [interface, method, args, left, list(blocks), self.about]
        if blocks:
            return [interface, method, args, left, blocks]
        return [interface, method, args, left]

    def repeat(
        self,
        method: str,
        args: Any,
        expires: float | None,
        peer: PooledServer | None = None,
        repeats: int = 0,
    ) -> defer.Deferred[Any]:
        """Call a method when there is a connection; for calls that have to wait for one.

        :param repeats: how often it was called before.
        """
        return defer.Deferred.fromCoroutine(self._invoke(method, args, expires, peer, repeats))

    async def _invoke(
        self, method: str, args: Any, expires: float | None, peer: PooledServer | None, repeats: int
    ) -> Any:
        await self.pause(expires, repeats)
        peer, connection = await self.reach(expires, peer)
        left = self.context.left(expires)
        return await self._send(peer, connection, method, args, left, expires, (), False, repeats)

    async def pause(self, expires: float | None, repeats: int) -> None:
        """Wait, longer each time, before the second and each further repetition of a call."""
        if repeats > 1:
            left = self.context.left(expires)
            delay = _retry_delay(repeats)
            await self.context.sleep(delay if left is None else min(delay, left))

    async def _invoke_with_blocks(
        self,
        method: str,
        args: Any,
        expires: float | None,
        attachments: Sequence[Any],
        with_binary: bool,
    ) -> Any:
        repeats = 0
        while True:
            await self.pause(expires, repeats)
            peer, connection = await self.reach(expires)
            try:
                answer = await self._exchange(
                    peer, connection, method, args, expires, attachments, repeats
                )
            except CallAgain:
                repeats += 1
                continue
            value, files = answer
            if with_binary:
                return value, files
            for file in files:
                file.close()
            return value

    async def _exchange(
        self,
        peer: PooledServer,
        connection: ClientConnection,
        method: str,
        args: Any,
        expires: float | None,
        attachments: Sequence[Any],
        repeats: int,
    ) -> tuple[Any, list[ReceivedFile]]:
        """Call a method with blocks of binary data both ways."""
        context = self.context
        left = context.left(expires)
        blocks = OutgoingBlocks(connection, attachments)
        answering = self._send(
            peer, connection, method, args, left, expires, blocks.described, True, repeats
        )
        sending = blocks.send()
        try:
            answer = await answering
            if len(answer) < 2:
                return answer[0], []
            incoming = IncomingBlocks(connection, answer[1], context.blocks)
            try:
                left = context.left(expires)
            except DeadlineExceeded:
                incoming.close()  # the answer came after the deadline but before its timer
                raise
            receiving = defer.Deferred.fromCoroutine(incoming.receive())
            if left is not None:
                receiving.addTimeout(left, context.reactor)
            return answer[0], await receiving
        except defer.TimeoutError:
            text = f"{method}: no whole result before its deadline"
            raise of_a_call(DeadlineExceeded(text)) from None
        finally:
            sending.cancel()

    def only_at(self, peer: PooledServer) -> RemoteService:
        """This service at one of its instances, that :meth:`reach` has given. If that is gone,
        calls fail at once: it may have come back elsewhere."""
        return RemoteService(self.context, AddressRoute(peer, returns=False), self.interface)

    def saying(
        self, key: str | None = None, on_behalf_of: str | None = None, memory: str | None = None
    ) -> RemoteService:
        """This service, for calls and streams with metadata.

        :param key: the method sees it as ``request.key``; one with ``once`` answers a second
            call of this key from what it has kept of the first.
        :param on_behalf_of: the user for whom it is called.
        :param memory: the name of the memory that the call is for; others refuse it, and do not
            run it.
        """
        said = {"key": key, "on_behalf_of": on_behalf_of, "memory": memory}
        about = {name: value for name, value in said.items() if value is not None}
        service = object.__new__(RemoteService)
        service.__dict__.update(self.__dict__, about=about)
        return service

    def may_repeat(self, peer: PooledServer, method: str) -> bool:
        """Whether its server declares a method idempotent."""
        try:
            return peer.may_repeat(self.interface or self.called_by(peer), method)
        except UnknownInterface:
            return False

    def has_other(self, peer: PooledServer, now: float) -> bool:
        """Whether there is another instance that is not set aside."""
        return self._route.has_other(peer, now)

    def goes_elsewhere(self, peer: PooledServer, problem: Exception) -> bool:
        """Whether another instance may do what this one has refused with this error; then that one
        gets the calls.

        If none of the others can either, nothing changes: nothing is gained by going to and fro.
        """
        if not isinstance(problem, PycomnetError) or problem.nested or not problem.elsewhere:
            return False
        if not self._route.interchangeable:
            return False
        if not self._route.has_other(peer, self.context.reactor.seconds()):
            return False
        peer.set_aside()
        return True

    def called_by(self, peer: PooledServer) -> str:
        """The interface; when none is named, the server's only one.

        :raises UnknownInterface: it has none, or several.
        """
        if self.interface is not None:
            return self.interface
        found = list(peer.services)
        if len(found) != 1:
            have = ", ".join(found) or "none"
            text = f"{peer.address}: name the interface that is meant; there are: {have}"
            raise of_a_call(UnknownInterface(text))
        return found[0]

    async def reach(
        self, expires: float | None, peer: PooledServer | None = None
    ) -> tuple[PooledServer, ClientConnection]:
        """A connection to an instance of the service, before the deadline.

        :param peer: the instance whose turn it is.
        :raises DeadlineExceeded: it has passed.
        """
        context = self.context
        context.pool.check()
        peer = peer or self._route.pick()
        if peer is not None and peer.connection is not None:
            context.left(expires)
            return peer, peer.connection
        backoff = Backoff(context.reactor, FIRST_RETRY, LONGEST_RETRY)
        unreachable: ServiceUnreachable | None = None
        while True:
            left = self._time_left(expires, unreachable)
            try:
                reaching = self._route.reach(peer, left)
                if left is not None:
                    reaching.addTimeout(left, context.reactor)
                return await reaching
            except defer.TimeoutError:
                text = f"the service {self._route} was not reached before the call's deadline"
                raise ServiceUnreachable(text) from None
            except ServiceUnreachable as problem:
                if not self._route.may_return():
                    raise
                unreachable = problem
            peer = None
            delay = backoff.next_delay()
            self._time_left(expires, unreachable, delay)
            await context.sleep(delay)
            context.pool.check()

    def _time_left(
        self, expires: float | None, unreachable: ServiceUnreachable | None, needed: float = 0.0
    ) -> float | None:
        """The seconds until a call's deadline.

        :param unreachable: why the service was not reached, if it was tried.
        :param needed: how many seconds have to be left.
        """
        try:
            left = self.context.left(expires)
        except DeadlineExceeded:
            if unreachable is None:
                raise
            left = 0.0
        if unreachable is not None and left is not None and left <= needed:
            text = f"{unreachable} (tried until the call's deadline)"
            raise ServiceUnreachable(text) from unreachable
        return left

    def stream(self, method: str, args: Any = None, timeout: float | None = None) -> RemoteStream:
        """Call a method that gives one value after the other.

        :param timeout: seconds for the whole stream; by default no limit.
        :returns: the stream, at once. Errors are raised by its iteration.
        """
        expires = None
        if timeout is not None:
            expires = self.context.reactor.seconds() + real("timeout", timeout)
        return RemoteStream(self, method, args, expires)

    def introspect(self) -> defer.Deferred[dict[str, Any]]:
        """What the service offers: see :func:`pycomnet.services.interface.describe`."""
        return self.invoke("introspect")
