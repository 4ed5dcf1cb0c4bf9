"""A client of NATS on Twisted.

.. code-block:: python

    from pycomnet.nats import connect

    client = await connect("nats://a:4222,nats://b:4222", reactor)
    subscription = client.subscribe("orders.>")
    client.publish("orders.created", b"...")
    message = await subscription.receive()

docs/howto/pubsub.rst describes publishers and subscribers on it, and docs/architecture/nats.rst its
design.
"""

from __future__ import annotations

from pycomnet.nats.client import NatsClient
from pycomnet.nats.connecting import connect
from pycomnet.nats.errors import (
    JetStreamError,
    NatsAddressError,
    NatsAuthFailed,
    NatsBufferFull,
    NatsClosed,
    NatsError,
    NatsPermissionDenied,
    NatsProtocolError,
    NatsTimeout,
    NatsUnreachable,
    NoResponders,
)
from pycomnet.nats.jetstream import JetStream
from pycomnet.nats.messages import NatsMessage
from pycomnet.nats.settings import NatsSettings
from pycomnet.nats.subscription import NatsSubscription

__all__ = [
    "JetStream",
    "JetStreamError",
    "NatsAddressError",
    "NatsAuthFailed",
    "NatsBufferFull",
    "NatsClient",
    "NatsClosed",
    "NatsError",
    "NatsMessage",
    "NatsPermissionDenied",
    "NatsProtocolError",
    "NatsSettings",
    "NatsSubscription",
    "NatsTimeout",
    "NatsUnreachable",
    "NoResponders",
    "connect",
]
