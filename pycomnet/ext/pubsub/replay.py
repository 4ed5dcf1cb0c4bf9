"""Replays events from a publisher's store, when the history in memory does not reach back far
enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from pycomnet.errors import Overloaded, StoreFailed
from pycomnet.ext.pubsub.events import EncodedEvent
from pycomnet.ext.pubsub.subscriberqueue import SubscriberQueue
from pycomnet.text.logs import Logger

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.topic import Topic

log = Logger()


def replay_from_store(topic: Topic, intake: SubscriberQueue, recipient: Any) -> None:
    """Read the events after a queue's cursor from the store, if the history in memory lacks them.

    :param intake: the queue.
    :param recipient: the subscription or group of the queue; it is flushed when they were read.
    """
    cursor = intake.cursor
    if cursor is None or not intake.lacking:
        return
    store = topic.store
    if store is None or cursor + 1 < store.first:
        _lose(topic, intake, recipient, topic.history.first if store is None else store.first)
        topic.flush_later(recipient)
        return
    if topic.history.budget <= 0:
        topic.flush_later(recipient)  # the budget of this turn is used up
        return
    if topic.waiting.size > topic.waiting.most:
        # Events that are read from the store take memory for this recipient alone. Its subscriber
        # may subscribe again later.
        recipient.close(
            Overloaded(f"{topic.interface}: too many bytes of events wait for its subscribers")
        )
        return
    intake.lacking = False
    intake.reading = True
    store.read(cursor).addCallbacks(
        _was_read, _was_not_read, (topic, intake, recipient, cursor), {}, (topic, intake, recipient)
    )


def _was_read(
    events: list[EncodedEvent], topic: Topic, intake: SubscriberQueue, recipient: Any, cursor: int
) -> None:
    intake.reading = False
    if intake.cursor != cursor:
        return  # the stream has ended meanwhile, or continues elsewhere
    match, skip = intake.patterns.match, intake.skip
    for event in events:
        if event.sequence > topic.history.last:
            break  # stored, and not published yet
        if event.sequence != intake.cursor + 1:
            # The store has dropped some meanwhile.
            _lose(topic, intake, recipient, event.sequence)
        intake.cursor = event.sequence
        if match(event.subject) and event.sequence not in skip:
            intake.preload([event])
    topic.history.budget -= len(events) * intake.patterns.cost
    if not events:
        _lose(topic, intake, recipient, topic.history.first)
    topic.flush_later(recipient)


def _lose(topic: Topic, intake: SubscriberQueue, recipient: Any, first: int) -> None:
    """Add a gap for the events before a number, and the retained ones of them."""
    assert intake.cursor is not None
    begin = intake.cursor + 1
    intake.lost(first)
    if topic.settings.retain and recipient.wants_retained:
        intake.preload(topic.retained.between(intake.patterns, begin, first))


def _was_not_read(failure: Failure, topic: Topic, intake: SubscriberQueue, recipient: Any) -> None:
    intake.reading = False
    text = "{interface}: the history can't be read"
    if failure.check(StoreFailed) is None:
        log.failure(text, failure, interface=topic.interface)
    else:
        log.error(text + ": {why}", interface=topic.interface, why=str(failure.value))
    recipient.close(failure.value)
