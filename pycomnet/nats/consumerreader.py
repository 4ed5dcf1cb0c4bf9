"""Pulls messages from a JetStream stream, through a consumer."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.task import deferLater

from pycomnet.nats.errors import NatsClosed, NatsError, NatsTimeout
from pycomnet.nats.jetstream import SECOND, JetStream
from pycomnet.nats.messages import NatsMessage, encode_json
from pycomnet.nats.requests import NO_RESPONDERS
from pycomnet.net.backoff import Backoff
from pycomnet.text.logs import Logger

log = Logger()

#: Seconds that a pull lasts, and between its heartbeats.
PULL, HEARTBEAT = 30, 5
#: The most messages of a pull, and the most bytes.
BATCH, PULL_BYTES = 500, 4 << 20


class ConsumerReader:
    """Pulls messages from a consumer, as fast as its user takes them.

    :param make: creates or finds the consumer; returns its name. It is called again when the
        consumer may be gone, or when messages that it has delivered were lost.
    :param came: called with the messages that have arrived.
    :param has_room: returns whether the user takes more messages now; call :meth:`check` when that
        may have changed.
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
        """Start to pull. Returns a Deferred that fails if the consumer can't be created."""
        name = f"{self._inbox}.*"
        self._subscription = self._client.subscribe(name, self._messages)
        self._client.connected.append(self._reconnected)
        self._running = defer.Deferred.fromCoroutine(self._run())
        return self._running

    def stop(self) -> None:
        """Stop to pull."""
        if self._reconnected in self._client.connected:
            self._client.connected.remove(self._reconnected)
        if self._subscription is not None:
            self._subscription.close()
        running, self._running = self._running, None
        if running is not None:
            running.addErrback(lambda failure: failure.trap(defer.CancelledError) and None)
            running.cancel()

    def again(self) -> None:
        """Make the consumer again, as messages that it has delivered were lost."""
        self._over("make")

    def check(self) -> None:
        """Continue if the user has room again."""
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
        """Request some messages. Returns the next step: ``again``, ``later`` or ``make``."""
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
