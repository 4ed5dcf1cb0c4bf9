"""Encodes and decodes events and notices in NATS messages. docs/protocol.rst has the arrays."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import PycomnetError, error_map, from_map
from pycomnet.ext.pubsub.publishermessages import MAX_EPOCH, is_block
from pycomnet.wire.codec import make_codec
from pycomnet.wire.values import InvalidValue, ValueNotReceivable

_codec = make_codec()
_encode, _decode = _codec.encode, _codec.decode
#: Notices of publishers: that they exist (also as a reply), begin again, end or go.
HERE, RESTARTED, END, GONE = "here", "restarted", "end", "gone"


class UnreadableMessage(PycomnetError):
    """A message that does not follow this protocol."""


class EventHead:
    """The beginning of the messages of a publisher's events, encoded once.

    :param epoch: the publisher's epoch.
    """

    def __init__(self, epoch: str) -> None:
        self._begin = b"\x93" + _encode(epoch)

    def message(self, previous: int | None, payload: bytes) -> bytes:
        """Encode an event's message.

        :param previous: the number of the last event with the same subject; 0 if there was none,
            None if that is not known.
        :param payload: the event, encoded.
        """
        return b"%b%b%b" % (self._begin, _encode(previous), payload)


def read_event(payload: bytes) -> tuple[str, int | None, list[Any]]:
    """Decode an event's message.

    :returns: the epoch, the number of the previous event with the same subject, and the event.
    :raises UnreadableMessage: it is not an event.
    """
    try:
        epoch, previous, item = _decode(payload)
        number, subject, key = item[:3]
        if (
            type(item) is list
            and 5 <= len(item) <= 6
            and type(number) is int
            and type(subject) is str
            and type(epoch) is str
            and len(epoch) <= MAX_EPOCH
            and (key is None or type(key) is str)
            and (previous is None or type(previous) is int)
            and (len(item) == 5 or (type(item[5]) is list and all(map(is_block, item[5]))))
            and isinstance(item[3], (int, float))
        ):
            return epoch, previous, item
    except (InvalidValue, ValueNotReceivable, TypeError, ValueError, KeyError) as problem:
        raise UnreadableMessage(f"a message that is no event: {problem}") from None
    raise UnreadableMessage("a message that is no event")


def notice(
    what: str, epoch: str, sequence: int, text: str = "", problem: BaseException | None = None
) -> bytes:
    """Encode a publisher's notice.

    :param what: one of :data:`HERE`, :data:`RESTARTED`, :data:`END` and :data:`GONE`.
    :param sequence: the number of its last event.
    :param text: with ``restarted``: the reason.
    :param problem: with ``end``: the error that has ended it.
    """
    error = None if problem is None else error_map(problem)
    return _encode([what, epoch, sequence, text, error])


def read_notice(payload: bytes) -> tuple[str, str, int, str, PycomnetError | None]:
    """Decode a publisher's notice.

    :returns: the arguments of :func:`notice`.
    :raises UnreadableMessage: it is not a notice.
    """
    try:
        found = _decode(payload)
        what, epoch, sequence, text, error = found[:5]
        if [type(one) for one in (what, epoch, sequence, text)] == [str, str, int, str] and len(
            epoch
        ) <= MAX_EPOCH:
            return what, epoch, sequence, text, None if error is None else from_map(error)
    except (InvalidValue, ValueNotReceivable, TypeError, ValueError, KeyError) as problem:
        raise UnreadableMessage(f"a message that is no notice: {problem}") from None
    raise UnreadableMessage("a message that is no notice")
