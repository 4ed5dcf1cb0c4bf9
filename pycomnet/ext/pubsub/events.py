"""Events: as subscribers get them, and in their encoded form, which all subscribers share."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from pycomnet.errors import InvalidArguments, PycomnetError
from pycomnet.services.binary import Binary
from pycomnet.wire.codec import make_codec

#: The most characters of a key.
MAX_KEY = 255
#: About how many bytes of memory an event takes beside its payload: bounds count them.
OVERHEAD = 200
_ARRAY16, _ARRAY32 = struct.Struct(">BH").pack, struct.Struct(">BI").pack
_encode: Callable[[object], bytes] = make_codec().encode


class EncodedEvent:
    """An event at its publisher.

    :ivar payload: the array of docs/protocol.rst, encoded.
    :ivar size: the bytes that it counts for in bounds: the payload, and the memory of the object.
    """

    __slots__ = ("_alone", "key", "payload", "sequence", "size", "subject", "time")

    def __init__(
        self, sequence: int, subject: str, key: str | None, time: float, payload: bytes
    ) -> None:
        self.sequence = sequence
        self.subject = subject
        self.key = key
        self.time = time
        self.payload = payload
        self.size = len(payload) + OVERHEAD
        self._alone: bytes | None = None

    def __repr__(self) -> str:
        return f"<EncodedEvent {self.sequence} {self.subject!r}>"

    def alone(self) -> bytes:
        """The batch that contains only this event: the same bytes for all subscribers. The row
        "1 MB, one to 10" needs it."""
        if self._alone is None:
            self._alone = batch(self.sequence, [self.payload])
        return self._alone


def check_key(key: str | None) -> None:
    """Raise InvalidArguments unless an event may have this key."""
    if key is not None and not (type(key) is str and len(key) <= MAX_KEY):
        raise InvalidArguments(f"a key is a str of at most {MAX_KEY} characters")


def encode_event(
    sequence: int, subject: str, key: str | None, time: float, value: Any, most: int
) -> EncodedEvent:
    """Encode an event; see :func:`encode_payload`."""
    payload = encode_payload(sequence, subject, key, time, value, most)
    return EncodedEvent(sequence, subject, key, time, payload)


def encode_payload(
    sequence: int, subject: str, key: str | None, time: float, value: Any, most: int
) -> bytes:
    """Encode the array of an event.

    :param value: a value, or a tuple of a value and blocks of binary data.
    :param most: the most bytes of the encoded event.
    :raises ValueNotSendable: the value can't be sent.
    :raises InvalidArguments: the event is too long.
    """
    if type(value) is tuple and value and type(value[-1]) is Binary:
        first = next(place for place, part in enumerate(value) if type(part) is Binary)
        plain = value[0] if first == 1 else None if first == 0 else value[:first]
        blocks = [_read(block, most) for block in value[first:]]
        payload = _encode([sequence, subject, key, time, plain, blocks])
    else:
        payload = _encode([sequence, subject, key, time, value])
    if len(payload) > most:
        raise InvalidArguments(
            f"an event of {len(payload)} bytes; the limit is {most}: publish its location instead"
        )
    return payload


def _read(block: Any, most: int) -> list[Any]:
    """A block of binary data, as it is sent within an event."""
    if type(block) is not Binary:
        raise PycomnetError(f"expected only blocks of binary data after the first, got {block!r}")
    if block.data is not None:
        return [block.name, block.data]
    file, _ = block.open()
    try:
        data = file.read(most + 1)
    finally:
        block.close(file)
    return [block.name, data]


def batch(upto: int, items: Sequence[bytes]) -> bytes:
    """A batch of docs/protocol.rst, of encoded items."""
    count = len(items) + 1
    if count < 16:
        head = bytes([0x90 | count])
    else:
        head = _ARRAY16(0xDC, count) if count < 1 << 16 else _ARRAY32(0xDD, count)
    return b"".join([head, _encode(upto), *items])


def gap(count: int | None, first: int, last: int, key: str | None, why: str) -> bytes:
    """The notice of events that are missing."""
    return _encode([None, "gap", count, first, last, key, why])


def restarted(message: str) -> bytes:
    """The notice of a generator that runs again."""
    return _encode([None, "restarted", message])


def again(sequence: int, deliveries: int) -> bytes:
    """The notice that the next event was handed out before, to this member or another."""
    return _encode([None, "again", sequence, deliveries])


# -- at a subscriber -----------------------------------------------------------------------------


@attrs.frozen
class Gap:
    """Events are missing here.

    :ivar count: how many; None if that is not known.
    :ivar first: the number of the first that may be missing, and
    :ivar last: ... of the last one; None if that is not known.
    :ivar key: with the policy ``latest``: the key whose newer event follows.
    :ivar why: ``bound`` (the subscriber was slow), ``history`` (it was away for longer than the
        publisher keeps events), ``restarted`` (the publisher has begun a new sequence), ``gone``
        (the publisher has ended without a notice), or ``lost`` (NATS has not delivered them).
    :ivar publisher: the publisher's name; None if there is only one address.
    """

    count: int | None
    first: int = 0
    last: int | None = None
    key: str | None = None
    why: str = "bound"
    publisher: str | None = None


@attrs.frozen
class Restarted:
    """The publisher's generator raised an error, or ended, and runs again.

    :ivar message: the error; or that it had ended.
    """

    message: str
    publisher: str | None = None


class Event:
    """A received event: its value, and its metadata.

    :ivar value: what was published.
    :ivar subject: its subject under the interface; empty if it has none.
    :ivar key: its key, or None.
    :ivar sequence: its number at its publisher.
    :ivar time: when it was published, in seconds since 1970, by the publisher's clock.
    :ivar publisher: the publisher's name; None if there is only one address.
    :ivar deliveries: in a group: how often it was handed out, this time included. More than 1 means
        that a member that had it was lost, or late: that member may have begun, or even finished,
        to process it.
    """

    __slots__ = ("_blocks", "_source", "deliveries", "key", "sequence", "subject", "time", "value")

    def __init__(self, item: Sequence[Any], source: Any) -> None:
        self.sequence, self.subject, self.key, self.time, self.value = item[:5]
        self._blocks = item[5] if len(item) > 5 else ()
        self.deliveries = item[6] if len(item) > 6 else 1
        self._source = source

    def __repr__(self) -> str:
        return f"<Event {self.sequence} {self.subject!r}: {self.value!r}>"

    @property
    def source(self) -> Any:
        """The publisher's sequence that it belongs to."""
        return self._source

    @property
    def publisher(self) -> str | None:
        name: str | None = self._source.name
        return name

    @property
    def files(self) -> list[tuple[str | None, bytes]]:
        """The blocks of binary data that came with it, each with its name."""
        return [(name, data) for name, data in self._blocks]

    def acknowledge(self) -> Any:
        """Acknowledge this event to the publisher; in a group only.

        :returns: a Deferred that fires when the publisher has confirmed it, in its store if the
            group is a durable one. Fails with ``CallInterrupted`` if the connection is lost before:
            then the event may come again to another member. It also fails so if the publisher has
            begun a new sequence since. Fails as a call does if the publisher refuses it for good.
        """
        return self._source.acknowledge(self.sequence)
