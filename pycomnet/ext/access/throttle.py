"""Slows down guessers, and no other users.

Tries are counted for a user from a place (an address, a network, a user of this machine), for a
place, for the wider networks of an IPv6 address, and for a user from everywhere. Each try counts as
a failure when its check begins; this is undone if the credentials were right. So a client that
gives up, or tries many at the same time, does not guess for free. Each further failure doubles the
delay before its reply, and meanwhile nothing more is tried for that user from that place. No thread
waits for a delay, and failures from other places do not delay a success: a user who logs in from
elsewhere does not notice, nor does a user who has logged in before from a place where others guess.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable, Iterator

import attrs
from twisted.internet.interfaces import IReactorTime

#: Seconds by which the reply to the first failure is delayed; each further failure doubles the
#: delay, up to the second value.
FIRST_DELAY = 0.25
LONGEST_DELAY = 30.0
#: Failures without a delay for a place, and for a user from everywhere: there are users who
#: mistype, and places with many users.
PLACE_FREE = 20
USER_FREE = 20
#: ... and for tokens, which nobody can guess: a program with an old token tries it again and again.
TOKENS_FREE = 500
#: The wider networks for which a failure from an IPv6 network counts, by bits, and the factor of
#: their free failures: a provider gives its customers a network of one of these sizes.
NETWORKS = {56: 4, 48: 16}
#: Seconds after which a failure is forgotten; and a success.
FORGET = 900.0
TRUST = 7 * 86_400.0
#: How many users and places are kept; the one whose last failure is oldest is forgotten first.
KNOWN = 10_000


@attrs.define
class _Failures:
    """The failures of one key.

    :ivar count: how many, including those in progress.
    :ivar under_way: how many of them are in progress.
    :ivar last: the reactor's time of the last failure.
    :ivar until: the reactor's time until which nothing is tried.
    """

    count: int = 0
    under_way: int = 0
    last: float = 0.0
    until: float = 0.0


@attrs.define
class Try:
    """A try that has begun.

    :ivar delay: seconds to delay the reply, if it has failed.
    :ivar counted: the keys that it was counted for: key -> its part of the delay, and the previous
        time until which nothing was tried.
    """

    place: str
    user: str
    delay: float = 0.0
    counted: dict[Hashable, tuple[float, float]] = attrs.Factory(dict)


def delay_after(count: int) -> float:
    """The delay in seconds after ``count`` failures."""
    if count <= 0:
        return 0.0
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(count - 1, 30))


def _everywhere(user: str) -> Hashable:
    return ("user", user, None)


def wider(place: str) -> Iterator[tuple[str, int]]:
    """The networks that a place is in, each with the factor of its free failures."""
    if "/" in place:
        network = ipaddress.ip_network(place)
        for bits, times in NETWORKS.items():
            yield str(network.supernet(new_prefix=bits)), times


class Throttle:
    """Counts failed tries.

    :param reactor: for the time.
    :param free: failures of a place without a delay.
    :param names: whether a user is a name, for which others may guess; otherwise a secret, which is
        its own user.
    """

    def __init__(self, reactor: IReactorTime, free: int = PLACE_FREE, names: bool = True) -> None:
        self._reactor = reactor
        self._free = free
        self._names = names
        self._failures: OrderedDict[Hashable, _Failures] = OrderedDict()
        #: users that have logged in from a place -> when, the latest last
        self._trusted: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures) + len(self._trusted)

    def is_trusted(self, place: str, user: str) -> bool:
        """Whether a user has logged in from a place."""
        last = self._trusted.get((place, user))
        return last is not None and self._reactor.seconds() - last <= TRUST

    def wait(self, place: str, user: str) -> float:
        """Seconds until credentials may be checked; 0 if they may be now.

        :param user: the user whose credentials they claim to be.
        """
        now = self._reactor.seconds()
        until = self._until((place, user))
        if not self.is_trusted(place, user):
            until = max(until, *(self._until(key) for key, _ in self._places(place)))
        return max(0.0, until - now)

    def _places(self, place: str) -> list[tuple[Hashable, int]]:
        """The keys for which a place counts, each with its free failures."""
        return [(place, self._free), *((one, n * self._free) for one, n in wider(place))]

    def _until(self, key: Hashable) -> float:
        found = self._failures.get(key)
        return 0.0 if found is None else found.until

    def begin(self, place: str, user: str) -> Try:
        """Credentials are about to be checked. That counts as a failure until they are right."""
        now = self._reactor.seconds()
        found = Try(place, user)
        counts: list[tuple[Hashable, int]] = [((place, user), 0), *self._places(place)]
        if self._names:
            counts.append((_everywhere(user), USER_FREE))
        # A user who has logged in from here may do so with several programs at the same time.
        here = self._failures.get((place, user))
        several = self.is_trusted(place, user) and (here is None or here.count == here.under_way)
        for key, free in counts:
            failures = self._count(key)
            failures.under_way += 1
            delay = delay_after(failures.count - free)
            found.counted[key] = delay, failures.until
            found.delay = max(found.delay, delay)
            if not (several and key == (place, user)):
                self._stop(key, failures, now + delay)
        return found

    def _stop(self, key: Hashable, failures: _Failures, until: float) -> None:
        # Failures of a name from everywhere do not stop tries; they delay replies to failures.
        if not (isinstance(key, tuple) and key[0] == "user"):
            failures.until = max(failures.until, until)

    def failed(self, one: Try) -> float:
        """The credentials of a try were wrong, or the client has not waited for the result.

        :returns: the seconds to delay the reply.
        """
        now = self._reactor.seconds()
        for key, (delay, _) in one.counted.items():
            failures = self._failures.get(key)
            if failures is not None:
                failures.under_way -= 1
                self._stop(key, failures, now + delay)
        return one.delay

    def succeeded(self, one: Try) -> None:
        """The credentials of a try were right."""
        self.undo(one)
        key = one.place, one.user
        failures = self._failures.get(key)
        if failures is not None:  # some are under way: whether they are right is still to be seen
            failures.count, failures.until = failures.under_way, 0.0
            if not failures.count:
                del self._failures[key]
        self._trusted[key] = self._reactor.seconds()
        self._trusted.move_to_end(key)
        if len(self._trusted) > KNOWN:
            self._trusted.popitem(last=False)

    def undo(self, one: Try) -> None:
        """The credentials of a try were not found to be wrong: the try does not count."""
        for key, (_, until) in one.counted.items():
            failures = self._failures.get(key)
            if failures is None:
                continue
            failures.count -= 1
            failures.under_way -= 1
            if failures.count <= 0:
                del self._failures[key]
            else:
                failures.until = until

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
