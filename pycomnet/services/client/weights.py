"""How the instances of a service share its calls, by the weights in a nameserver's records."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycomnet.services.client.pool import PooledServer

#: The weight of a record without one, and the highest that counts.
WEIGHT, MAX_WEIGHT = 100, 1_000


def weight_of(record: Any) -> int | None:
    """The weight in a nameserver's record; None if its service takes no new callers,
    0 if the nameserver doubts that it lives."""
    if record.get("draining") or record.get("failing"):
        return None
    if record.get("doubtful"):
        return 0
    weight = record.get("weight", WEIGHT)
    if not isinstance(weight, int) or isinstance(weight, bool):
        return WEIGHT
    return min(max(weight, 0), MAX_WEIGHT)


def shares_of(weights: Mapping[PooledServer, int | None]) -> Shares | None:
    """How instances share the calls; None if each gets as many, in turn.

    :param weights: as :func:`weight_of` gives them.
    """
    return Shares(weights) if len(set(weights.values())) > 1 else None


class Shares:
    """Instances with weights.

    Those of weight 0 get calls if there is no other; those that take no new callers, if there is
    none of these either.

    :param weights: as :func:`weight_of` gives them.
    """

    def __init__(self, weights: Mapping[PooledServer, int | None]) -> None:
        self._weights = dict(weights)
        #: what :attr:`_sums` is of
        self._able: Sequence[PooledServer] = ()
        self._sums: list[int] = []

    def is_last(self, peer: PooledServer) -> bool:
        """Whether an instance is tried after the others."""
        return not self._weights.get(peer)

    def able(self, some: Sequence[PooledServer]) -> list[PooledServer]:
        """Those that get calls now.

        :param some: those that are not set aside, or all if all are.
        """
        weights = self._weights
        weighted = [peer for peer in some if weights.get(peer)]
        return weighted or [peer for peer in some if weights.get(peer) == 0] or list(some)

    def pick(
        self, able: Sequence[PooledServer], random: Random, least_pending: bool
    ) -> PooledServer:
        """The instance for the next call, in proportion to the weights.

        :param able: what :meth:`able` has found.
        :param least_pending: pick the one with the fewest pending calls for its weight instead.
        """
        if least_pending:
            return min(able, key=lambda peer: (peer.pending + 1) / (self._weights.get(peer) or 1))
        if able is not self._able:
            self._able = able
            self._sums = list(accumulate(self._weights.get(peer) or 1 for peer in able))
        return able[bisect(self._sums, random.randrange(self._sums[-1]))]
