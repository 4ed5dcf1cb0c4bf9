"""Publish and subscribe without Deferreds: subscribers for scripts, threads and the REPL.

What :func:`pycomnet.ext.pubsub.subscriber` makes can be used so as well; this is what it uses then.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from pycomnet import forks
from pycomnet.blocking.waiting import running_reactor, wait_for
from pycomnet.blocking.wrapper import Blocking, to_deferred_api
from pycomnet.errors import ChannelClosed
from pycomnet.ext import pubsub as _pubsub
from pycomnet.ext.pubsub import Gap, Restarted, publisher

#: How many values are taken from the reactor's thread at a time.
AT_ONCE = 1000


class Subscriber(Blocking):
    """A subscriber without Deferreds.

    Iterate over it for one value after the other; ``subscriber[:10]`` are the next ten, and
    ``subscriber[5:10]`` the five that come after the next five. Slices have values alone: no
    :class:`~pycomnet.ext.pubsub.Gap`.
    """

    __slots__ = ("_taken",)

    def __init__(self, wrapped: _pubsub.Subscriber) -> None:
        self._wrapped = wrapped
        self._taken = wrapped.taken

    def get(self, timeout: float | None = None) -> Any:
        """The next value, :class:`Gap` or :class:`Restarted`.

        :raises ChannelClosed: the publishers have ended.
        :raises TimeoutExpired: none has come in ``timeout`` seconds.
        """
        return self._take(1, timeout)

    def _take(self, most: int, timeout: float | None = None) -> Any:
        while True:
            try:
                return self._taken.popleft()  # another thread may have taken what this one got
            except IndexError:
                self._check()
            running_reactor()
            # In a group, what is taken counts as done with when the next is asked for.
            many = 1 if self._wrapped.group is not None else most
            receive = functools.partial(self._wrapped.receive_many, many)
            self._taken.extend(wait_for(receive, timeout, "get"))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._take(AT_ONCE)
        except ChannelClosed:
            raise StopIteration from None

    def __getitem__(self, index: int | slice) -> Any:
        """The next value, after ``index`` others, or a list of the next ones.

        At the end of all publishers a list is shorter.
        """
        if isinstance(index, int):
            return self._slice(index, index + 1, 1)[0]
        start, step = index.start or 0, index.step or 1
        if index.stop is None:
            raise ValueError("a slice of a subscriber has an end: its values do not end")
        return self._slice(start, index.stop, step)

    def _slice(self, start: int, stop: int, step: int) -> list[Any]:
        if start < 0 or stop < 0 or step < 1:
            raise ValueError("a subscriber has no end from which to count")
        found: list[Any] = []
        place = 0
        while place < stop:
            try:
                value = self._take(min(AT_ONCE, stop - place))
            except ChannelClosed:
                break
            if isinstance(value, (Gap, Restarted)):
                continue
            if place >= start and not (place - start) % step:
                found.append(value)
            place += 1
        if self._wrapped.group is not None:
            wait_for(self._wrapped.acknowledge_last, None, "slice")
        return found

    def change(self, subjects: Any, timeout: float | None = None) -> None:
        """Get other subjects from now on."""
        self._check()
        wait_for(lambda: self._wrapped.change(subjects), timeout, "change")

    def when_subscribed(self, timeout: float | None = None) -> None:
        """Wait until a subscription counts."""
        self._check()
        wait_for(self._wrapped.when_subscribed, timeout, "when_subscribed")

    def close(self) -> None:
        """Get no more events. In a forked child it does nothing: the parent's goes on."""
        if self._era != forks.era:
            return
        self._taken.clear()
        wait_for(self._wrapped.close, None, "close")

    @property
    def missed(self) -> int:
        """How many events are missing so far, as far as that is known."""
        return int(self._wrapped.missed)

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@functools.wraps(_pubsub.subscriber)
def subscriber(*args: Any, **options: Any) -> Subscriber:
    """As :func:`pycomnet.ext.pubsub.subscriber`, without Deferreds."""
    given = {key: to_deferred_api(value) for key, value in options.items()}
    return Subscriber(_pubsub.subscriber(*args, **given))


__all__ = ["Subscriber", "publisher", "subscriber"]
