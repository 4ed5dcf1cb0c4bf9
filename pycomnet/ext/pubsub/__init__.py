"""Publish and subscribe, on the connections of services.

.. code-block:: python

    from pycomnet.ext.pubsub import publisher, subscriber

    @publisher("demo.interface.name")
    def pub_demo():
        while True:
            yield random.random()
            time.sleep(1)

    print(subscriber("demo.interface.name")[:10])

docs/howto/pubsub.rst says how to use it; docs/architecture/pubsub.rst how it works.
"""

from __future__ import annotations

from pycomnet.ext.pubsub.errors import InvalidSubject, PublisherGone, SlowSubscriber
from pycomnet.ext.pubsub.events import Event, Gap, Restarted
from pycomnet.ext.pubsub.limits import TopicLimits, TopicSettings
from pycomnet.ext.pubsub.permissions import Grant, allow
from pycomnet.ext.pubsub.publisherrun import Publication
from pycomnet.ext.pubsub.service import PublisherService, publisher
from pycomnet.ext.pubsub.stores import EventStore
from pycomnet.ext.pubsub.stores.sqlite import SQLiteEventStore
from pycomnet.ext.pubsub.subscribe import subscriber
from pycomnet.ext.pubsub.subscriber import Subscriber
from pycomnet.ext.pubsub.topic import Topic

__all__ = [
    "Event",
    "EventStore",
    "Gap",
    "Grant",
    "InvalidSubject",
    "Publication",
    "PublisherGone",
    "PublisherService",
    "Restarted",
    "SQLiteEventStore",
    "SlowSubscriber",
    "Subscriber",
    "Topic",
    "TopicLimits",
    "TopicSettings",
    "allow",
    "publisher",
    "subscriber",
]
