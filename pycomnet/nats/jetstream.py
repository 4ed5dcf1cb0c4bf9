"""JetStream: streams that keep messages, and consumers that deliver them."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet import defer

from pycomnet.deferred import deferred
from pycomnet.nats.client import NatsClient
from pycomnet.nats.errors import (
    JetStreamError,
    NatsProtocolError,
    NoResponders,
)
from pycomnet.nats.messages import NatsMessage, encode_json
from pycomnet.text.logs import Logger

log = Logger()

#: JetStream's numbers of errors.
NO_STREAM, STREAM_IN_USE = 10059, 10058
#: ... if the account, or the server, has no JetStream.
NO_JETSTREAM = (10039, 10076)
#: JetStream has times in nanoseconds.
SECOND = 1_000_000_000


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
        :returns: fires with the reply. Fails with :class:`~pycomnet.nats.JetStreamError`, also if
            the server has no JetStream, or as :meth:`~pycomnet.nats.NatsClient.request`.
        """
        body = b"" if arguments is None else encode_json(arguments)
        try:
            message = await self.client.request(f"$JS.API.{what}", body, self._timeout)
        except NoResponders:
            raise JetStreamError(
                "the NATS server has no JetStream (start it with -js), or none for this account"
            ) from None
        return read_answer(message)

    def stream_info(self, stream: str) -> defer.Deferred[dict[str, Any]]:
        """A stream's configuration and state; fails with ``JetStreamError``, 10059, if there is no
        such stream."""
        return self.call(f"STREAM.INFO.{stream}")

    @deferred
    async def ensure_stream(self, config: dict[str, Any]) -> dict[str, Any]:
        """Create a stream, or change the stream of this name to this configuration.

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
            raise NatsProtocolError("JetStream's answer lacks the stream's configuration")
        if all(have.get(key) == value for key, value in config.items()):
            return found
        return await self.call(f"STREAM.UPDATE.{name}", {**have, **config})

    @deferred
    async def create_consumer(self, stream: str, config: dict[str, Any]) -> tuple[str, int]:
        """Create a consumer, or find the durable one of its name.

        :returns: fires with its name, and the number of messages that wait for it.
        """
        durable = config.get("durable_name")
        what = f"DURABLE.CREATE.{stream}.{durable}" if durable else f"CREATE.{stream}"
        found = await self.call(f"CONSUMER.{what}", {"stream_name": stream, "config": config})
        name = found.get("name")
        if not isinstance(name, str) or not name.isprintable() or set(name) & set(" .*>"):
            raise NatsProtocolError("JetStream's answer lacks the consumer's name")
        pending = found.get("num_pending")
        return name, pending if type(pending) is int else 0

    def consumer_info(self, stream: str, consumer: str) -> defer.Deferred[dict[str, Any]]:
        """A consumer's configuration and state."""
        return self.call(f"CONSUMER.INFO.{stream}.{consumer}")

    def delete_consumer(self, stream: str, consumer: str) -> defer.Deferred[dict[str, Any]]:
        """Delete a consumer."""
        return self.call(f"CONSUMER.DELETE.{stream}.{consumer}")


def read_answer(message: NatsMessage) -> dict[str, Any]:
    """Decode an answer of JetStream.

    :raises JetStreamError: the answer is an error.
    :raises NatsProtocolError: the answer can't be decoded.
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
    """The metadata of a message that a consumer delivers.

    :ivar consumer: the consumer's name.
    :ivar deliveries: how often it has delivered this message, this time included.
    :ivar stream_sequence: the message's number in the stream.
    :ivar consumer_sequence: how many messages this consumer has delivered.
    :ivar pending: how many messages wait for the consumer after this one.
    """

    consumer: bytes
    deliveries: int
    stream_sequence: int
    consumer_sequence: int
    pending: int


def read_delivery(message: NatsMessage) -> Delivery:
    """Read the metadata of a consumer's message.

    :raises NatsProtocolError: it is not from a consumer.
    """
    words = message.raw_reply.split(b".")
    # Newer servers put the domain and the account before the stream, and may append words.
    first = 5 if len(words) == 9 else 7
    numbers = words[first - 1 : first + 4]
    if len(words) < 9 or words[:2] != [b"$JS", b"ACK"] or len(numbers) < 5:
        raise NatsProtocolError("a message lacks the metadata of JetStream")
    if not all(one.isdigit() and len(one) < 21 for one in numbers):
        raise NatsProtocolError("a message has invalid metadata of JetStream")
    deliveries, stream, consumer, _, pending = map(int, numbers)
    return Delivery(words[first - 2], deliveries, stream, consumer, pending)
