"""What works for a subscriber, which it does not keep alive."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from twisted.internet import defer

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.subscriber import Subscriber


class OwnedBySubscriber:
    """Has a subscriber as its owner. One that nobody holds ends, and this with it."""

    def __init__(self, owner: Subscriber) -> None:
        self._reference = weakref.ref(owner)

    @property
    def _owner(self) -> Subscriber:
        """The subscriber, for what runs for it only.

        :raises CancelledError: nobody holds it any more: what runs is over.
        """
        owner = self._reference()
        if owner is None:
            raise defer.CancelledError
        return owner


__all__ = ["OwnedBySubscriber"]
