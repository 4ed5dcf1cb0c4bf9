"""Checks and decodes the messages that a subscriber gets from a publisher."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from twisted.internet import defer

from pycomnet.errors import CallInterrupted, PycomnetError
from pycomnet.ext.pubsub.events import Gap, Restarted

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.feeds import PublisherFeed

#: The largest number of an event.
MAX_NUMBER = (1 << 53) - 1
#: The most characters of an epoch, of why events are missing, and of a generator's error.
MAX_EPOCH, MAX_WHY, MAX_MESSAGE = 64, 64, 10_000
#: The most numbers of received events that a group's member keeps, to recognise repeated ones.
MOST_HAD = 20_000


class EventSequence:
    """A publisher's sequence of events, identified by its epoch, and how far it was received.

    Each event refers to its sequence: a later acknowledgement belongs to this sequence and no
    other.

    :ivar position: the number up to which all events have been received.
    :ivar had: in a group: the numbers of the received events, and whether the user has acknowledged
        them.
    """

    def __init__(
        self, feed: PublisherFeed, epoch: str, before: EventSequence | None = None
    ) -> None:
        self.feed = feed
        self.epoch = epoch
        self.position: int = 0 if before is None else before.position
        self.had: OrderedDict[int, bool] = OrderedDict() if before is None else before.had

    @property
    def name(self) -> str | None:
        """The publisher's."""
        return self.feed.name

    def consumed(self) -> None:
        """The user has taken all of a batch."""
        self.feed.consumed()

    def acknowledge(self, number: int) -> defer.Deferred[None]:
        """Acknowledge an event."""
        if self.feed.count is not self:
            text = f"{self.feed.service} has begun a new sequence of events since that event"
            return defer.fail(CallInterrupted(text))
        self.had[number] = True
        return self.feed.acknowledge(number)

    def new_ones(self, batch: list[Any]) -> list[Any]:
        """Remove the events of a group's batch that were received before.

        The publisher repeats events that were not acknowledged when the connection was lost. Those
        that the user has acknowledged are acknowledged again; the others are still with the user.
        """
        had = self.had
        left = []
        for item in batch:
            if type(item) is not list:
                left.append(item)
            elif item[0] not in had:
                had[item[0]] = False
                left.append(item)
            elif had[item[0]]:
                self.acknowledge(item[0]).addErrback(lambda _: None)
        while len(had) > MOST_HAD:
            had.popitem(last=False)
        return left


class Welcome:
    """The first value of a stream.

    :raises PycomnetError: the value is not a welcome.
    """

    def __init__(self, value: Any, sender: object) -> None:
        if not (
            isinstance(value, dict)
            and all(is_number(value.get(key)) for key in ("id", "begins"))
            and type(value.get("epoch")) is str
            and len(value["epoch"]) <= MAX_EPOCH
        ):
            raise PycomnetError(f"{sender} is no publisher: its first message is no welcome")
        self.id: int = value["id"]
        self.begins: int = value["begins"]
        self.epoch: str = value["epoch"]
        self.is_resumed = value.get("resumed") is True
        self.is_durable = value.get("durable") is True


def is_number(value: Any) -> bool:
    """Whether a value may be the number of an event."""
    return type(value) is int and 0 <= value <= MAX_NUMBER


def decode_batch(batch: Any, count: EventSequence) -> int:
    """Check a batch, and convert it in place: to a list of events, which are the arrays of
    docs/protocol.rst, and of :class:`Gap` and :class:`Restarted` objects.

    :returns: the number up to which no event is missing after this batch.
    :raises PycomnetError: it is not a batch.
    """
    if type(batch) is not list or not batch or not is_number(batch[0]):
        raise PycomnetError(f"{count.feed.service} has sent something that is no batch of events")
    upto: int = batch[0]
    del batch[0]
    others = []
    for place, item in enumerate(batch):
        # Almost all are events without blocks.
        if type(item) is list and len(item) == 5:
            number, subject, key, time, _ = item
            if (
                type(number) is int
                and 0 < number <= MAX_NUMBER
                and type(subject) is str
                and (key is None or type(key) is str)
                and type(time) is float
            ):
                continue
        others.append(place)
    for place in reversed(others):
        item = batch[place]
        notice = _with_blocks_or_notice(item, count)
        if notice is None:
            if item[1] == "again" and place + 1 < len(batch):
                _delivered_before(item, batch[place + 1])
            del batch[place]  # unknown: of a later version of the protocol
        else:
            batch[place] = notice
    return upto


def _with_blocks_or_notice(item: Any, count: EventSequence) -> Any:
    """Read an item that is not a usual event; returns None for an item to ignore."""
    if type(item) is list and len(item) > 1 and item[0] is None and type(item[1]) is str:
        return _notice(item, count)
    if (
        type(item) is list
        and len(item) == 6
        and is_number(item[0])
        and type(item[1]) is str
        and (item[2] is None or type(item[2]) is str)
        and type(item[3]) is float
        and type(item[5]) is list
        and all(map(is_block, item[5]))
    ):
        return item
    raise PycomnetError(f"{count.feed.service} has sent something that is no event")


def _delivered_before(notice: list[Any], event: Any) -> None:
    """Append the number of deliveries to the event that a notice is about."""
    number, deliveries = (*notice[2:4], None, None)[:2]
    if type(event) is list and event[0] == number and is_number(deliveries) and len(event) < 7:
        event.extend([deliveries] if len(event) == 6 else [[], deliveries])


def is_block(block: Any) -> bool:
    """Whether a value is a block of binary data with its name."""
    return (
        type(block) is list
        and len(block) == 2
        and (block[0] is None or type(block[0]) is str)
        and type(block[1]) is bytes
    )


def _notice(item: list[Any], count: EventSequence) -> Gap | Restarted | None:
    kind = item[1]
    if kind == "gap":
        missing, first, last, key, why = (*item[2:7], *[None] * 5)[:5]
        if not (
            (missing is None or is_number(missing))
            and is_number(first)
            and is_number(last)
            and (key is None or type(key) is str)
            and type(why) is str
            and len(why) <= MAX_WHY
        ):
            raise PycomnetError(f"{count.feed.service} has sent an invalid gap")
        return Gap(missing, first, last, key, why, count.name)
    if kind == "restarted":
        if len(item) < 3 or type(item[2]) is not str:
            raise PycomnetError(f"{count.feed.service} has sent an invalid notice of a restart")
        return Restarted(item[2][:MAX_MESSAGE], count.name)
    return None
