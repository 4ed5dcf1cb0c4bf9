"""JetStream: streams that keep messages, and consumers that hand them out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from pycomnet.deferred import Condition, deferred
from pycomnet.nats.client import NO_RESPONDERS, NatsClient, encode_json
from pycomnet.nats.errors import (
    JetStreamError,
    NatsClosed,
    NatsError,
    NatsProtocolError,
    NatsTimeout,
    NoResponders,
)
from pycomnet.nats.messages import NatsMessage
from pycomnet.net.backoff import Backoff
from pycomnet.text.logs import Logger

log = Logger()

#: JetStream's numbers of errors.
NO_STREAM, NO_CONSUMER, STREAM_IN_USE = 10059, 10014, 10058
#: JetStream has times in nanoseconds.
SECOND = 1_000_000_000
#: Seconds that a pull lasts, and between signs of life meanwhile.
PULL, HEARTBEAT = 30, 5
#: Messages of a pull, and bytes of one, at most.
BATCH, PULL_BYTES = 500, 4 << 20


class JetStream:
    """Requests to JetStream.

    :param timeout: seconds for each.
    """

    def __init__(self, client: NatsClient, timeout: float = 5.0) -> None:
        self.client = client
        self._timeout = timeout

    @deferred
    async def call(self, what: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request to JetStream's API.

        :param what: such as ``STREAM.INFO.orders``.
        :returns: fires with the answer. Fails with :class:`~pycomnet.nats.JetStreamError`, also if
            the server has no JetStream, or as :meth:`~pycomnet.nats.NatsClient.request`.
        """
        body = b"" if arguments is None else encode_json(arguments)
        try:
            message = await self.client.request(f"$JS.API.{what}", body, self._timeout)
        except NoResponders:
            raise JetStreamError(
                "the NATS server has no JetStream (start it with -js), or this account has not"
            ) from None
        return read_answer(message)

    def stream_info(self, stream: str) -> defer.Deferred[dict[str, Any]]:
        """A stream's configuration and state; fails with ``JetStreamError``, 10059, without it."""
        return self.call(f"STREAM.INFO.{stream}")

    @deferred
    async def ensure_stream(self, config: dict[str, Any]) -> dict[str, Any]:
        """Create a stream, or change it to this configuration, if there is one of its name.

        :returns: fires with its state, as :meth:`stream_info`.
        """
        name = config["name"]
        try:
            found = await self.stream_info(name)
        except JetStreamError as problem:
            if problem.number != NO_STREAM:
                raise
            try:
                return await self.call(f"STREAM.CREATE.{name}", config)
            except JetStreamError as other:
                if other.number != STREAM_IN_USE:
                    raise
                found = await self.stream_info(name)  # another publisher was faster
        have = found.get("config")
        if not isinstance(have, dict):
            raise NatsProtocolError("JetStream has told nothing of the stream")
        if all(have.get(key) == value for key, value in config.items()):
            return found
        return await self.call(f"STREAM.UPDATE.{name}", {**have, **config})

    @deferred
    async def create_consumer(self, stream: str, config: dict[str, Any]) -> tuple[str, int]:
        """Create a consumer, or find the durable one of its name.

        :returns: fires with its name, and how many messages wait for it.
        """
        durable = config.get("durable_name")
        what = f"DURABLE.CREATE.{stream}.{durable}" if durable else f"CREATE.{stream}"
        found = await self.call(f"CONSUMER.{what}", {"stream_name": stream, "config": config})
        name = found.get("name")
        if not isinstance(name, str) or not name.isprintable() or set(name) & set(" .*>"):
            raise NatsProtocolError("JetStream has given a consumer no name")
        pending = found.get("num_pending")
        return name, pending if type(pending) is int else 0

    def consumer_info(self, stream: str, consumer: str) -> defer.Deferred[dict[str, Any]]:
        """A consumer's configuration and state."""
        return self.call(f"CONSUMER.INFO.{stream}.{consumer}")

    def delete_consumer(self, stream: str, consumer: str) -> defer.Deferred[dict[str, Any]]:
        """Delete a consumer."""
        return self.call(f"CONSUMER.DELETE.{stream}.{consumer}")


def read_answer(message: NatsMessage) -> dict[str, Any]:
    """An answer of JetStream.

    :raises JetStreamError: it is an error.
    :raises NatsProtocolError: it can't be read.
    """
    try:
        found = json.loads(message.payload)
    except (ValueError, RecursionError):
        raise NatsProtocolError("an answer of JetStream is no JSON") from None
    if not isinstance(found, dict):
        raise NatsProtocolError("an answer of JetStream is no JSON object")
    error = found.get("error")
    if isinstance(error, dict):
        number = error.get("err_code")
        text = f"JetStream: {error.get('description', 'it failed')}"
        raise JetStreamError(text, number if type(number) is int else 0)
    return found


@attrs.frozen
class Delivery:
    """What a consumer says of a message that it delivers.

    :ivar consumer: the consumer's name.
    :ivar stream_sequence: the message's number in the stream.
    :ivar consumer_sequence: how many this consumer has delivered.
    :ivar pending: how many wait for the consumer behind this one.
    """

    consumer: bytes
    stream_sequence: int
    consumer_sequence: int
    pending: int


def read_delivery(message: NatsMessage) -> Delivery:
    """What a consumer says of a message.

    :raises NatsProtocolError: it is not from a consumer.
    """
    words = message.raw_reply.split(b".")
    # Later servers have the domain and the account before the stream, and may add to the end.
    first = 5 if len(words) == 9 else 7
    numbers = words[first : first + 4]
    if len(words) < 9 or words[:2] != [b"$JS", b"ACK"] or len(numbers) < 4:
        raise NatsProtocolError("a message of JetStream without its number")
    if not all(one.isdigit() and len(one) < 21 for one in numbers):
        raise NatsProtocolError("a message of JetStream with another number")
    return Delivery(words[first - 2], int(numbers[0]), int(numbers[1]), int(numbers[3]))


class ConsumerReader:
    """Pulls what a consumer hands out, as fast as its user takes it.

    :param make: creates the consumer, or finds it; returns its name. It is called again when the
        consumer may be gone, or may have delivered what was lost on the way.
    :param came: called with messages.
    :param has_room: whether the user takes more by now; :meth:`check` says that it may.
    """

    def __init__(
        self,
        jetstream: JetStream,
        stream: str,
        make: Callable[[], Awaitable[str]],
        came: Callable[[list[NatsMessage]], object],
        has_room: Callable[[], bool],
        batch: int = BATCH,
    ) -> None:
        self._jetstream = jetstream
        self._client = jetstream.client
        self._stream = stream
        self._make = make
        self._came = came
        self._has_room = has_room
        self._batch = batch
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._pulls = 0
        self._left = 0
        #: whether the next message is longer than a pull may be
        self._is_long = False
        self._arrived = 0.0
        self._waiting: defer.Deferred[str] | None = None
        self._room: defer.Deferred[None] | None = None
        self._subscription: Any = None
        self._running: defer.Deferred[None] | None = None
        #: fires once there is a consumer; fails if there can't be one
        self.ready: defer.Deferred[None] = defer.Deferred()

    def start(self) -> defer.Deferred[None]:
        """Begin. Returns a Deferred that fails if the consumer can't be created."""
        name = f"{self._inbox}.*"
        self._subscription = self._client.subscribe(name, self._messages)
        self._client.connected.append(self._reconnected)
        self._running = defer.Deferred.fromCoroutine(self._run())
        return self._running

    def stop(self) -> None:
        """End."""
        if self._reconnected in self._client.connected:
            self._client.connected.remove(self._reconnected)
        if self._subscription is not None:
            self._subscription.close()
        running, self._running = self._running, None
        if running is not None:
            running.addErrback(lambda failure: failure.trap(defer.CancelledError) and None)
            running.cancel()

    def again(self) -> None:
        """Have the consumer made again: what it has delivered has not all come."""
        self._over("make")

    def check(self) -> None:
        """The user may have room again."""
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)

    async def _run(self) -> None:
        reactor = self._client.reactor
        backoff = Backoff(reactor, 0.05, 5.0)
        while True:
            try:
                consumer = await self._make()
            except NatsError as problem:
                passes = self.ready.called or isinstance(problem, (NatsTimeout, NatsClosed))
                if self._client.is_over or not passes:
                    raise
                log.warn("{stream}: {why}", stream=self._stream, why=str(problem))
                await backoff.wait()
                continue
            if not self.ready.called:
                self.ready.callback(None)
            while True:
                while not self._has_room():
                    self._room = defer.Deferred()
                    await self._room
                why = await self._pull(consumer)
                if why == "again":
                    backoff.reset()
                elif why == "later":
                    await deferLater(reactor, 0.1)
                else:
                    break
            await backoff.wait()

    async def _pull(self, consumer: str) -> str:
        """Ask for some messages. Returns what to do next: ``again``, ``later`` or ``make``."""
        client, reactor = self._client, self._client.reactor
        if client.connection is None:
            return "make"
        self._pulls += 1
        self._left = 1 if self._is_long else self._batch
        self._arrived = reactor.seconds()
        waiting = self._waiting = defer.Deferred()
        asked = {
            "batch": self._left,
            "expires": PULL * SECOND,
            "idle_heartbeat": HEARTBEAT * SECOND,
        }
        if not self._is_long:
            asked["max_bytes"] = PULL_BYTES
        self._is_long = False
        client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}",
            encode_json(asked),
            f"{self._inbox}.{self._pulls}",
        )
        self._timer: Any = reactor.callLater(HEARTBEAT, self._watch, waiting)
        try:
            return await waiting
        finally:
            self._waiting = None
            if self._timer.active():
                self._timer.cancel()

    def _watch(self, waiting: defer.Deferred[str]) -> None:
        reactor = self._client.reactor
        if reactor.seconds() - self._arrived > 3 * HEARTBEAT:
            waiting.callback("make")
        else:
            self._timer = reactor.callLater(HEARTBEAT, self._watch, waiting)

    def _over(self, what: str) -> None:
        waiting = self._waiting
        if waiting is not None and not waiting.called:
            waiting.callback(what)

    def _reconnected(self) -> None:
        self._over("make")

    def _messages(self, batch: list[NatsMessage]) -> None:
        self._arrived = self._client.reactor.seconds()
        mine = f"{self._inbox}.{self._pulls}".encode()
        found: list[NatsMessage] = []
        what = ""
        for message in batch:
            status = message.status if message.raw_headers else None
            if status is None:
                found.append(message)
                self._left -= 1
                if self._left <= 0:
                    what = "again"
            elif message.raw_subject == mine and status != 100:
                what = self._ended(status, message.description.lower())
        if found:
            self._came(found)
        if what:
            self._over(what)

    def _ended(self, status: int, why: str) -> str:
        if status == 409 and "bytes" in why:
            self._is_long = True
            return "again"
        if status in (404, 408):
            return "again"
        if status == NO_RESPONDERS or "deleted" in why or "leadership" in why or "push" in why:
            return "make"
        return "later"


class _Unacknowledged:
    __slots__ = ("begun", "headers", "payload", "reply", "size", "subject", "waiting")

    def __init__(
        self, subject: bytes, reply: bytes, headers: bytes, payload: bytes, begun: float
    ) -> None:
        self.subject = subject
        self.reply = reply
        self.headers = headers
        self.payload = payload
        self.size = len(payload) + 300
        self.begun = begun
        self.waiting: defer.Deferred[int] = defer.Deferred(lambda _: None)


class StreamPublisher:
    """Publishes to a stream, in order, and waits for JetStream's acknowledgements.

    What was not acknowledged is sent again, in its order, when the connection was lost or no
    acknowledgement has come. Each message has an identity, by which JetStream stores it once.

    :param bound: bytes that may wait for acknowledgements.
    :param retry: seconds after which a message is sent again, and
    :param give_up: ... after which it fails.
    """

    def __init__(
        self,
        client: NatsClient,
        bound: int = 64 << 20,
        retry: float = 5.0,
        give_up: float = 60.0,
    ) -> None:
        self._client = client
        self._bound = bound
        self._retry = retry
        self._give_up = give_up
        self.size = 0
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._numbers = 0
        #: by the last part of their replies, in their order
        self._waiting: dict[bytes, _Unacknowledged] = {}
        self._unsent: dict[bytes, _Unacknowledged] = {}
        self._is_blocked = False
        self._timer: Any = None
        self._sent_at = 0.0
        self._empty = Condition()
        self._subscription = client.subscribe(f"{self._inbox}.*", self._came)
        client.connected.append(self._again)

    @property
    def is_full(self) -> bool:
        """Whether too much waits."""
        return self.size >= self._bound

    @property
    def pending(self) -> int:
        """How many messages wait for acknowledgements."""
        return len(self._waiting)

    def publish(self, subject: bytes, payload: bytes, headers: bytes) -> defer.Deferred[int]:
        """Publish a message.

        :param headers: as they are sent; they have its ``Nats-Msg-Id``.
        :returns: fires with its number in the stream, once JetStream has stored it. Fails with
            :class:`~pycomnet.nats.JetStreamError` or :class:`~pycomnet.nats.NatsTimeout`; then it
            may be stored nevertheless. Cancelling it does not take it back.
        """
        self._numbers += 1
        token = b"%x" % self._numbers
        reply = self._inbox.encode() + b"." + token
        made = _Unacknowledged(subject, reply, headers, payload, self._client.reactor.seconds())
        self.size += made.size
        self._waiting[token] = made
        self._unsent[token] = made
        if not self._is_blocked:
            self._send()
        if self._timer is None:
            self._sent_at = made.begun
            self._timer = self._client.reactor.callLater(self._retry, self._tick)
        return made.waiting

    async def when_empty(self) -> None:
        """Wait until nothing waits."""
        while self._waiting:
            await self._empty.wait()

    def close(self) -> None:
        """Give up what waits."""
        if self._again in self._client.connected:
            self._client.connected.remove(self._again)
        self._subscription.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for token in list(self._waiting):
            self._done(token, Failure(NatsClosed("closed before it was acknowledged")))

    def _send(self, _: object = None) -> None:
        client = self._client
        self._is_blocked = False
        while self._unsent and client.connection is not None:
            if client.is_congested:
                self._is_blocked = True
                client.when_writable().addCallbacks(self._send, lambda _: None)
                return
            token, one = next(iter(self._unsent.items()))
            del self._unsent[token]
            try:
                client.publish_raw(one.subject + b" " + one.reply, one.payload, one.headers)
            except Exception:
                self._done(token, Failure())

    def _again(self) -> None:
        """Send all that is not acknowledged, in its order."""
        self._sent_at = self._client.reactor.seconds()
        self._unsent = dict(self._waiting)
        self._send()

    def _tick(self) -> None:
        self._timer = None
        now = self._client.reactor.seconds()
        for token, one in list(self._waiting.items()):
            if now - one.begun < self._give_up:
                break
            self._done(token, Failure(NatsTimeout("JetStream has not acknowledged in time")))
        if not self._waiting:
            return
        oldest = next(iter(self._waiting.values()))
        if now - max(oldest.begun, self._sent_at) >= self._retry:
            self._again()
        self._timer = self._client.reactor.callLater(self._retry, self._tick)

    def _came(self, batch: list[NatsMessage]) -> None:
        for message in batch:
            token = message.raw_subject.rpartition(b".")[2]
            if token not in self._waiting or message.status == NO_RESPONDERS:
                continue  # without JetStream at the moment: it is sent again
            try:
                number = read_answer(message).get("seq")
                if type(number) is not int:
                    raise NatsProtocolError("JetStream has acknowledged without a number")
            except Exception:
                self._done(token, Failure())
            else:
                self._done(token, number)

    def _done(self, token: bytes, result: Any) -> None:
        one = self._waiting.pop(token, None)
        self._unsent.pop(token, None)
        if one is None:
            return
        self.size -= one.size
        if not one.waiting.called:
            one.waiting.callback(result)
        if not self._waiting:
            self._empty.notify_all()


__all__ = [
    "BATCH",
    "ConsumerReader",
    "Delivery",
    "JetStream",
    "NO_STREAM",
    "SECOND",
    "StreamPublisher",
    "read_answer",
    "read_delivery",
]
