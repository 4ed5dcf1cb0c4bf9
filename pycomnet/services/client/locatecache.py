"""The last answers of nameservers, for when none can be reached."""

from __future__ import annotations

from collections import OrderedDict

import attrs

#: Interfaces and services whose answers are kept, and the instances of each.
MOST_ANSWERS, MOST_KEPT_INSTANCES = 1_000, 1_000

#: The nameserver, the interface and the service's name.
Key = tuple[str, str, str | None]


@attrs.frozen
class KnownInstances:
    """An answer.

    :ivar instances: the addresses of each instance.
    :ivar time: when it was given, or when it was up to date if the nameserver was cut off.
    """

    instances: tuple[tuple[str, ...], ...]
    time: float


class LocateCache:
    """The last answers, the latest used ones.

    :param keep: seconds for which one is used; 0 for none.
    """

    def __init__(self, keep: float) -> None:
        self.keep = keep
        self._answers: OrderedDict[Key, KnownInstances] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def put(self, key: Key, answer: KnownInstances) -> None:
        """Keep an answer."""
        if not self.keep or len(answer.instances) > MOST_KEPT_INSTANCES:
            self._answers.pop(key, None)
            return
        self._answers[key] = answer
        self._answers.move_to_end(key)
        if len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)

    def forget(self, key: Key) -> None:
        """The nameserver has none any more."""
        self._answers.pop(key, None)

    def get(self, key: Key, now: float) -> KnownInstances | None:
        """The last answer, unless it is too old."""
        found = self._answers.get(key)
        return found if found is not None and now - found.time <= self.keep else None
