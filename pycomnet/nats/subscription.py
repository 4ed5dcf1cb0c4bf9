"""A subscription of a client of NATS: a callback, or a bounded queue."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.nats.errors import NatsClosed
from pycomnet.nats.messages import NatsMessage

if TYPE_CHECKING:
    from pycomnet.nats.client import NatsClient

#: The default limits on the messages and bytes that wait in a subscription's queue.
MESSAGES, BYTES = 65_536, 64 << 20
#: About how many bytes of memory a message takes beside its payload.
OVERHEAD = 300


class NatsSubscription:
    """A subscription.

    Without a callback, messages wait in a queue, up to its bounds. When the queue is full, further
    messages are dropped and counted, so that a slow user does not block the client's other
    subscriptions. Iterate over it with ``async for``, or call :meth:`receive`.

    :ivar subject: the subject in NATS.
    :ivar group: the queue group, or an empty text.
    :ivar dropped: how many messages were dropped.
    :ivar batch: the messages of the current read, which are passed on at its end.
    """

    __slots__ = (
        "_callback",
        "_client",
        "_most",
        "_over",
        "_queue",
        "_size",
        "_waiters",
        "batch",
        "bound",
        "dropped",
        "group",
        "sid",
        "subject",
    )

    def __init__(
        self,
        client: NatsClient,
        sid: bytes,
        subject: bytes,
        group: bytes,
        callback: Callable[[list[NatsMessage]], object] | None,
        messages: int,
        bound: int,
    ) -> None:
        self.sid = sid
        self.subject = subject
        self.group = group
        self.dropped = 0
        self.batch: list[NatsMessage] = []
        self.bound = bound
        self._most = messages
        self._client = client
        self._callback = callback
        self._queue: deque[NatsMessage] = deque()
        self._size = 0
        self._waiters: deque[defer.Deferred[NatsMessage]] = deque()
        self._over: Exception | None = None

    def __repr__(self) -> str:
        return f"<NatsSubscription {self.subject.decode('utf-8', 'replace')}>"

    @property
    def command(self) -> bytes:
        """The command that subscribes."""
        group = self.group + b" " if self.group else b""
        return b"SUB %b %b%b\r\n" % (self.subject, group, self.sid)

    @property
    def pending(self) -> int:
        """The bytes that wait in the queue."""
        return self._size

    def deliver(self, batch: list[NatsMessage]) -> None:
        """Pass messages to the callback, or queue them."""
        if self._callback is not None:
            self._callback(batch)
            return
        queue = self._queue
        for message in batch:
            size = len(message.payload) + OVERHEAD
            if queue and (self._size + size > self.bound or len(queue) >= self._most):
                self.dropped += 1
                continue
            queue.append(message)
            self._size += size
            while self._waiters and queue:
                self._waiters.popleft().callback(self._take())

    def _take(self) -> NatsMessage:
        message = self._queue.popleft()
        self._size -= len(message.payload) + OVERHEAD
        return message

    def receive(self) -> defer.Deferred[NatsMessage]:
        """The next message.

        :returns: fires with it. Fails with :class:`~pycomnet.nats.NatsClosed` once the subscription
            has ended and all messages are taken; or with the error that has ended it. Cancelling it
            leaves the message for the next ``receive``.
        """
        if self._queue and not self._waiters:
            return defer.succeed(self._take())
        if self._over is not None:
            return defer.fail(self._over.with_traceback(None))
        waiter: defer.Deferred[NatsMessage] = defer.Deferred(self._forget)
        self._waiters.append(waiter)
        return waiter

    def _forget(self, waiter: defer.Deferred[NatsMessage]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def __aiter__(self) -> AsyncIterator[NatsMessage]:
        return self

    async def __anext__(self) -> NatsMessage:
        try:
            return await self.receive()
        except NatsClosed:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Get no more messages; those that have come can still be taken."""
        self._client.unsubscribe(self)
        self.end(NatsClosed("the subscription was closed here"))

    def end(self, problem: Exception) -> None:
        """End the subscription; queued messages can still be taken."""
        if self._over is not None:
            return
        self._over = problem
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            if not waiter.called:
                waiter.errback(Failure(problem))

    def drain(self) -> defer.Deferred[None]:
        """Receive the messages that the server has sent by now, and no more.

        :returns: fires when they have arrived, and can be taken. Fails with
            :class:`~pycomnet.nats.NatsClosed` if the connection is lost.
        """
        return self._client.drain_subscription(self)
