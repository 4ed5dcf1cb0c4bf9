"""Objects that work for a subscriber, without keeping it alive."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from twisted.internet import defer

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.subscriber import Subscriber


class OwnedBySubscriber:
    """Has a subscriber as its owner. When nothing refers to the subscriber any more, it ends, and
    so does this object."""

    def __init__(self, owner: Subscriber) -> None:
        self._reference = weakref.ref(owner)

    @property
    def _owner(self) -> Subscriber:
        """The subscriber, for code that runs only on its behalf.

        :raises CancelledError: nothing refers to the subscriber any more: the code is to stop.
        """
        owner = self._reference()
        if owner is None:
            raise defer.CancelledError
        return owner


__all__ = ["OwnedBySubscriber"]
