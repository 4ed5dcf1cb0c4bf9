"""Publishes messages to a JetStream stream in order, and waits until JetStream has stored them."""

from __future__ import annotations

import secrets
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.deferred import Condition
from pycomnet.nats.client import NatsClient
from pycomnet.nats.errors import (
    NatsClosed,
    NatsPermissionDenied,
    NatsProtocolError,
    NatsTimeout,
)
from pycomnet.nats.jetstream import read_answer
from pycomnet.nats.messages import NatsMessage
from pycomnet.nats.requests import NO_RESPONDERS

#: Seconds after which a message is sent again, and after which publishing it fails.
RETRY, GIVE_UP = 5.0, 60.0


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

    Unacknowledged messages are sent again, in their order, when the connection was lost or no
    acknowledgement has come in time. Each message has an identity, by which JetStream recognises a
    repetition and stores the message once.

    :ivar bound: bytes that may wait for acknowledgements.
    """

    bound = 64 << 20

    def __init__(self, client: NatsClient) -> None:
        self._client = client
        self.size = 0
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._numbers = 0
        #: unacknowledged messages, by the last part of their reply subjects, in their order
        self._waiting: dict[bytes, _Unacknowledged] = {}
        self._unsent: dict[bytes, _Unacknowledged] = {}
        self._is_blocked = False
        self._timer: Any = None
        self._sent_at = 0.0
        self._empty = Condition()
        self._subscription = client.subscribe(f"{self._inbox}.*", self._came)
        client.connected.append(self._again)
        client.refused.append(self._refused)

    @property
    def is_full(self) -> bool:
        """Whether the bound is reached."""
        return self.size >= self.bound

    @property
    def pending(self) -> int:
        """How many messages wait for acknowledgements."""
        return len(self._waiting)

    def publish(self, subject: bytes, payload: bytes, headers: bytes) -> defer.Deferred[int]:
        """Publish a message.

        :param headers: the encoded headers, with the message's ``Nats-Msg-Id``.
        :returns: fires with the message's number in the stream, once JetStream has stored it. Fails
            with :class:`~pycomnet.nats.NatsPermissionDenied`,
            :class:`~pycomnet.nats.JetStreamError` or :class:`~pycomnet.nats.NatsTimeout`; after the
            last two the message may be stored nevertheless. Cancelling it does not withdraw the
            message.
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
            self._timer = self._client.reactor.callLater(RETRY, self._tick)
        return made.waiting

    async def when_empty(self) -> None:
        """Wait until all messages are acknowledged."""
        while self._waiting:
            await self._empty.wait()

    def close(self) -> None:
        """Fail the unacknowledged messages."""
        if self._again in self._client.connected:
            self._client.connected.remove(self._again)
        if self._refused in self._client.refused:
            self._client.refused.remove(self._refused)
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
        """Send all unacknowledged messages again, in their order."""
        self._sent_at = self._client.reactor.seconds()
        self._unsent = dict(self._waiting)
        self._send()

    def _tick(self) -> None:
        self._timer = None
        now = self._client.reactor.seconds()
        for token, one in list(self._waiting.items()):
            if now - one.begun < GIVE_UP:
                break
            self._done(token, Failure(NatsTimeout("JetStream has not acknowledged in time")))
        if not self._waiting:
            return
        oldest = next(iter(self._waiting.values()))
        if now - max(oldest.begun, self._sent_at) >= RETRY:
            self._again()
        self._timer = self._client.reactor.callLater(RETRY, self._tick)

    def _refused(self, problem: NatsPermissionDenied) -> None:
        """Fail the messages to a subject that the server refuses."""
        if problem.publishing and problem.subject:
            subject = problem.subject.encode()
            for token, one in list(self._waiting.items()):
                if one.subject == subject and token not in self._unsent:
                    self._done(token, Failure(problem))

    def _came(self, batch: list[NatsMessage]) -> None:
        for message in batch:
            token = message.raw_subject.rpartition(b".")[2]
            if token not in self._waiting or message.status == NO_RESPONDERS:
                continue  # JetStream is not available now: `_tick` sends the message again
            try:
                number = read_answer(message).get("seq")
                if type(number) is not int:
                    raise NatsProtocolError("JetStream's acknowledgement lacks a number")
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
