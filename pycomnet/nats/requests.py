"""Requests and their replies: one subscription for all requests of a client."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.nats.errors import NatsTimeout, NoResponders
from pycomnet.nats.messages import NatsMessage

if TYPE_CHECKING:
    from pycomnet.nats.client import NatsClient

#: Status of the server's reply when a subject has no responders.
NO_RESPONDERS = 503


class NatsRequests:
    """The requests of a client that wait for replies."""

    def __init__(self, client: NatsClient) -> None:
        self._client = client
        self._name = secrets.token_hex(11)
        self._waiting: dict[bytes, defer.Deferred[NatsMessage]] = {}
        self._last = 0
        self._has_inbox = False

    def new_token(self) -> str:
        """Make a part of a subject that is unique to this client."""
        self._last += 1
        return f"{self._name}-{self._last:x}"

    def reply(self, token: bytes) -> str:
        """The subject for the reply to a request."""
        return f"_INBOX.{self._name}.{token.decode()}"

    def expect(self) -> tuple[bytes, defer.Deferred[NatsMessage]]:
        """Begin to wait for a reply. Returns its token, and a Deferred that fires with the
        reply."""
        if not self._has_inbox:
            self._client.subscribe(f"_INBOX.{self._name}.*", self._answered)
            self._has_inbox = True
        self._last += 1
        token = b"%x" % self._last
        waiting: defer.Deferred[NatsMessage] = defer.Deferred(lambda _: self.forget(token))
        self._waiting[token] = waiting
        return token, waiting

    def forget(self, token: bytes) -> None:
        """Ignore the reply to a request."""
        self._waiting.pop(token, None)

    def _answered(self, batch: list[NatsMessage]) -> None:
        for message in batch:
            token = message.raw_subject.rpartition(b".")[2]
            waiting = self._waiting.pop(token, None)
            if waiting is None or waiting.called:
                continue
            if message.status == NO_RESPONDERS and not message.payload:
                waiting.errback(Failure(NoResponders("nobody answers to this subject")))
            else:
                waiting.callback(message)

    def fail(self, problem: Exception) -> None:
        """Fail all requests."""
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            if not one.called:
                one.errback(Failure(problem))


def to_timeout(what: str) -> Callable[[Any, float], Any]:
    """Make a function for ``addTimeout`` that turns the cancellation into :class:`NatsTimeout`.

    :param what: what was waited for, and how long; the end of the message.
    """

    def turn(result: Any, _: float) -> Any:
        if isinstance(result, Failure) and result.check(defer.CancelledError) is not None:
            raise NatsTimeout(f"NATS: no answer in time: {what}")
        return result

    return turn
