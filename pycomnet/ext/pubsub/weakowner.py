"""The base of objects that refer to their subscriber weakly, so that it can be collected."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from twisted.internet import defer

if TYPE_CHECKING:
    from pycomnet.ext.pubsub.subscriber import Subscriber


class OwnedBySubscriber:
    """Refers weakly to the subscriber that owns it.

    When nothing else refers to the subscriber any more, it is collected, and this object ends.
    """

    def __init__(self, owner: Subscriber) -> None:
        self._reference = weakref.ref(owner)

    @property
    def _owner(self) -> Subscriber:
        """The subscriber.

        :raises CancelledError: the subscriber was collected, so the calling code has to stop.
        """
        owner = self._reference()
        if owner is None:
            raise defer.CancelledError
        return owner
