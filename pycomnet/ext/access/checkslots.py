"""Limits how many credentials are checked at a time, and lets the waiting origins take turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable

from twisted.internet import defer
from twisted.python.failure import Failure

from pycomnet.errors import Unauthenticated

_Waiting = deque["defer.Deferred[None]"]


class CheckSlots:
    """A number of slots, and queues of the checks that wait for one.

    Each origin has a queue of its own, and the queues take turns. So a check waits for one check of
    each other origin, however long their queues are. When too many wait, the newest of the longest
    queue are refused.

    A holder may release its slot at once. With :class:`~twisted.internet.defer.DeferredSemaphore`
    each release would call the next holder from within the previous one: a thousand such calls
    overflow Python's stack.

    :param count: the number of slots.
    :param most: how many may wait; ``most_here`` is the limit for one origin.
    :ivar free: how many are free.
    :ivar waiting: how many wait.
    """

    def __init__(self, count: int, most: int, most_here: int) -> None:
        self.free = count
        self.waiting = 0
        self._most = most
        self._most_here = most_here
        #: origin -> its waiting checks; the next origin is the first
        self._queues: OrderedDict[Hashable, _Waiting] = OrderedDict()
        self._giving = False

    def acquire(self, origin: Hashable) -> defer.Deferred[None]:
        """Fires when a slot is free. Fails with :class:`Unauthenticated`, ``busy``, if too many
        wait. Cancelling it gives up.
        """
        if self.free and not self.waiting:
            self.free -= 1
            return defer.succeed(None)
        queue = self._queues.get(origin)
        here = 0 if queue is None else len(queue)
        if here >= self._most_here or (self.waiting >= self._most and not self._refuse_one(here)):
            return defer.fail(_busy())
        waiting: defer.Deferred[None] = defer.Deferred(lambda one: self._forget(origin, one))
        self._queues.setdefault(origin, deque()).append(waiting)
        self.waiting += 1
        return waiting

    def _refuse_one(self, here: int) -> bool:
        """Refuse the newest of the longest queue, if that is longer than the newcomer's."""
        origin, longest = max(self._queues.items(), key=lambda one: len(one[1]))
        if len(longest) <= here + 1:
            return False
        newest = longest[-1]
        self._forget(origin, newest)
        newest.errback(_busy())
        return True

    def _forget(self, origin: Hashable, waiting: defer.Deferred[None]) -> None:
        queue = self._queues[origin]
        queue.remove(waiting)
        self.waiting -= 1
        if not queue:
            del self._queues[origin]

    def release(self) -> None:
        """Release a slot."""
        self.free += 1
        if self._giving:
            return
        self._giving = True
        try:
            while self.free and self._queues:
                self.free -= 1
                origin, queue = next(iter(self._queues.items()))
                waiting = queue[0]
                self._forget(origin, waiting)
                if queue:
                    self._queues.move_to_end(origin)
                waiting.callback(None)
        finally:
            self._giving = False


def _busy() -> Failure:
    return Failure(Unauthenticated("too many logins wait here: try again later", "busy"))
