"""The subscriber through NATS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycomnet.ext.pubsub.nats.feed import NatsFinder
from pycomnet.ext.pubsub.subscriber import Subscriber
from pycomnet.nats.settings import NatsSettings

if TYPE_CHECKING:
    from pycomnet.services.client.context import Context


class NatsSubscriber(Subscriber):
    """A subscriber whose events come through NATS.

    :param settings: the servers.
    """

    def __init__(self, settings: NatsSettings, *args: Any) -> None:
        super().__init__(*args)
        self._settings = settings

    def _make_finder(self, context: Context) -> NatsFinder:
        return NatsFinder(self, context, self._settings)


__all__ = ["NatsSubscriber"]
