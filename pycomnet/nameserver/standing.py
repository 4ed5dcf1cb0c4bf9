"""A registration's weight, draining and health: whether it takes callers, and how many."""

from __future__ import annotations

from typing import Any

import attrs

from pycomnet.services.client.weights import MAX_WEIGHT, WEIGHT
from pycomnet.services.health import MAX_SAID

_DRAINS, _DRAINED, _WEIGHED, _FAILING = 1, 2, 4, 8


@attrs.frozen
class Standing:
    """The weight, draining and health of a registration. Most have the usual values, and no object.

    :ivar weight: it gets callers in proportion to this; with 0 only if there is no other.
    :ivar drains: whether its owner has said that it takes no new callers.
    :ivar drained: whether an operator has said so.
    :ivar weighed: whether an operator has set the weight.
    :ivar failing: whether its health check fails.
    :ivar said: the health check's text.
    """

    weight: int = WEIGHT
    drains: bool = False
    drained: bool = False
    weighed: bool = False
    failing: bool = False
    said: str = ""
    #: the weight by which it is chosen; None if it takes no callers
    share: int | None = attrs.field(init=False, eq=False, repr=False)

    @share.default
    def _find_share(self) -> int | None:
        return None if self.drains or self.drained or self.failing else self.weight

    @property
    def is_draining(self) -> bool:
        """Whether its owner or an operator has said that it takes no new callers."""
        return self.drains or self.drained

    def as_map(self) -> dict[str, Any]:
        """The entries for a record's map: only the unusual values."""
        found: dict[str, Any] = {}
        if self.weight != WEIGHT:
            found["weight"] = self.weight
        if self.is_draining:
            found["draining"] = True
        if self.failing:
            found["failing"] = True
        if self.said:
            found["said"] = self.said
        return found

    def as_list(self) -> list[Any]:
        """The list that a store keeps."""
        flags = (
            self.drains * _DRAINS
            | self.drained * _DRAINED
            | self.weighed * _WEIGHED
            | self.failing * _FAILING
        )
        return [self.weight, flags, self.said]


USUAL = Standing()


def standing_of(kept: object) -> Standing | None:
    """Read the list that a store has kept; returns None for nothing, or the usual values.

    :raises ValueError: the list is not valid.
    """
    if kept is None or kept == []:
        return None
    if (
        not isinstance(kept, (list, tuple))
        or list(map(type, kept)) != [int, int, str]
        or not 0 <= kept[0] <= MAX_WEIGHT
        or not 0 <= kept[1] < 2 * _FAILING
        or len(kept[2]) > MAX_SAID
    ):
        raise ValueError(f"expected a weight, flags and what the check said, got {kept!r:.60}")
    weight, flags, said = kept
    return or_none(
        Standing(
            weight,
            bool(flags & _DRAINS),
            bool(flags & _DRAINED),
            bool(flags & _WEIGHED),
            bool(flags & _FAILING),
            said,
        )
    )


def or_none(standing: Standing) -> Standing | None:
    """A standing, or None if it has the usual values."""
    return None if standing == USUAL else standing


def after_operator(new: Standing | None, held: Standing | None) -> Standing | None:
    """The standing after an owner has registered again: what an operator has set stays.

    :param new: the owner's new standing.
    :param held: the registered standing.
    """
    if held is None or not (held.drained or held.weighed):
        return new
    changed = attrs.evolve(new or USUAL, drained=held.drained)
    if held.weighed:
        changed = attrs.evolve(changed, weight=held.weight, weighed=True)
    return changed
