"""Continues to read a history from its store, where the one in memory does not reach back far
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
    """Read the events after the intake's cursor from the store, if the intake needs that.

    :param recipient: the subscription or the group that the intake belongs to; it is flushed then.
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
        topic.flush_later(recipient)  # others have had much read in this turn
        return
    if topic.waiting.size > topic.waiting.most:
        # It may come again; events that are read for it are in memory for it alone.
        recipient.close(Overloaded(f"{topic.interface}: too much waits for subscribers"))
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
        return  # it has ended, or begun elsewhere
    match, skip = intake.patterns.match, intake.skip
    for event in events:
        if event.sequence > topic.history.last:
            break  # it is durable, and not published yet
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
    """The events before a number are lost, except the retained ones."""
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


__all__ = ["replay_from_store"]
