"""A lock that a thread holds around a system call, and that can't stop the reactor."""

from __future__ import annotations

import threading
from collections.abc import Sized

#: Seconds between two looks at a thread that holds the lock.
STEP = 0.01
#: Seconds after which the reactor overrules a thread if it can't see whether the call is done. The
#: call does not block.
LONGEST = 2.0


class CallLock:
    """A lock for one system call at a time that does not block.

    Python may run other code in a thread that holds the lock: a signal handler, or a ``__del__``.
    This code may wait for the reactor. If the reactor waited for the lock, neither would ever go
    on. So the reactor *overrules* such a thread: it goes on without the lock.

    A thread enters ``with lock.held:``. The last thing that it does before the call is to look at
    ``overruled``: if that is true, it does not make the call. Between the look and the call there
    is no other call, so no other code can run there. The thread adds the call's result to ``done``
    in the same step. The reactor enters ``with lock:``.

    :param done: has elements once the call is done; the thread empties it before the call.
    :ivar held: the lock, as a thread takes it.
    :ivar overruled: whether a thread holds the lock, and the reactor does not wait for it.
    """

    __slots__ = ("_done", "_taken", "held", "overruled")

    def __init__(self, done: Sized) -> None:
        self.held = threading.RLock()
        self.overruled = False
        self._done = done
        #: for each block that the reactor is in: whether it has the lock
        self._taken: list[bool] = []

    def __enter__(self) -> None:
        self._taken.append(self.held.acquire(blocking=False) or self._wait())
        if self._taken[-1]:
            self.overruled = False

    def __exit__(self, *_: object) -> None:
        if self._taken.pop():
            self.held.release()

    def _wait(self) -> bool:
        """Wait until the call is done.

        :returns: whether the lock is taken.
        """
        if self.overruled:
            return False
        for _ in range(round(LONGEST / STEP)):
            if self.held.acquire(timeout=STEP):
                return True
            if self._done:
                break
        self.overruled = True
        return False
