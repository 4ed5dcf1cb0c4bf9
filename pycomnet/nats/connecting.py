"""Makes a connected client of NATS."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.deferred import deferred
from pycomnet.nats.client import NatsClient
from pycomnet.nats.errors import NatsAddressError
from pycomnet.nats.settings import NatsSettings
from pycomnet.net.reactors import EndpointReactor


@deferred
async def connect(servers: Any, reactor: EndpointReactor, **options: Any) -> NatsClient:
    """Connect to NATS.

    :param servers: ``"nats://a:4222,nats://b:4222"``, a list of such addresses, or
        :class:`~pycomnet.nats.NatsSettings`.
    :param options: the options of :class:`~pycomnet.nats.NatsSettings`.
    :returns: fires with a client that is connected. Fails as :meth:`NatsClient.start`. Cancelling
        it ends the attempt.
    """
    if isinstance(servers, NatsSettings):
        if options:
            raise NatsAddressError("give options to NatsSettings, or to connect")
        settings = servers
    else:
        settings = NatsSettings(servers=servers, **options)
    client = NatsClient(settings, reactor)
    try:
        await client.start()
    except defer.CancelledError:
        await client.close()
        raise
    return client
