"""Makes guessing slow for the guesser alone.

Failed tries are counted for a user from a place (an address, a network, a user of this machine),
for a place, and for a user from everywhere. Each further failure doubles the delay before the reply
to it, and nothing more is tried for that user from that place meanwhile. Nothing waits in a thread,
and a success is never delayed by the failures of others: the user who logs in from elsewhere, or
who has logged in from that place before, does not notice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import attrs
from twisted.internet.interfaces import IReactorTime

#: Seconds that the reply to the first failure is delayed; each further one doubles that, up to so
#: many.
FIRST_DELAY = 0.25
LONGEST_DELAY = 30.0
#: Failures that a place has free, and a user from everywhere: there are users who mistype, and
#: places with many users.
PLACE_FREE = 20
USER_FREE = 20
#: Seconds after which a failure is forgotten.
FORGET = 900.0
#: How many users and places are known; the one that has failed longest ago is forgotten first.
KNOWN = 10_000


@attrs.define
class _Failures:
    count: int = 0
    #: the reactor's time of the last, and that until which nothing is tried
    last: float = 0.0
    until: float = 0.0


def delay_after(count: int) -> float:
    """The seconds of delay after so many failures."""
    if count <= 0:
        return 0.0
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(count - 1, 30))


class Throttle:
    """Counts failed tries.

    :param reactor: for the time.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._failures: OrderedDict[Hashable, _Failures] = OrderedDict()
        #: users that have logged in from a place, the latest last
        self._trusted: OrderedDict[Hashable, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures) + len(self._trusted)

    def wait(self, place: str, user: str) -> float:
        """Seconds until credentials may be checked; 0 if they may be now.

        :param user: whom they claim to be of.
        """
        now = self._reactor.seconds()
        until = self._until((place, user))
        if (place, user) not in self._trusted:
            until = max(until, self._until(place))
        return max(0.0, until - now)

    def _until(self, key: Hashable) -> float:
        found = self._failures.get(key)
        return 0.0 if found is None else found.until

    def failed(self, place: str, user: str) -> float:
        """Credentials were wrong. Returns the seconds to delay the reply."""
        here = self._count((place, user))
        at_place = self._count(place)
        # A name's failures from everywhere don't stop anybody; they delay replies to failures.
        everywhere = self._count(("user", user, None)) if user else None
        delay = max(
            delay_after(here.count),
            delay_after(at_place.count - PLACE_FREE),
            delay_after(0 if everywhere is None else everywhere.count - USER_FREE),
        )
        now = self._reactor.seconds()
        here.until = now + delay
        at_place.until = now + delay_after(at_place.count - PLACE_FREE)
        self._trusted.pop((place, user), None)
        return delay

    def succeeded(self, place: str, user: str) -> None:
        """Credentials were right."""
        self._failures.pop((place, user), None)
        self._trusted[place, user] = None
        self._trusted.move_to_end((place, user))
        if len(self._trusted) > KNOWN:
            self._trusted.popitem(last=False)

    def _count(self, key: Hashable) -> _Failures:
        now = self._reactor.seconds()
        found = self._failures.pop(key, None)
        if found is None or now - found.last > FORGET:
            found = _Failures()
        self._failures[key] = found
        found.count += 1
        found.last = now
        while len(self._failures) > KNOWN or (
            now - next(iter(self._failures.values())).last > FORGET
        ):
            self._failures.popitem(last=False)
        return found


__all__ = ["FIRST_DELAY", "KNOWN", "LONGEST_DELAY", "Throttle", "delay_after"]
