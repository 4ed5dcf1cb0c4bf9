"""A batch's calls that have not returned at once, and its outcomes that wait to be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pycomnet.services.server.request import ServerCall

if TYPE_CHECKING:
    from pycomnet.services.server.batches import ServerBatch


class PartOfBatch(ServerCall):
    """A call of a batch that has failed, or that has not returned at once."""

    __slots__ = ("_batch", "_place")

    def __init__(self, batch: ServerBatch, place: int) -> None:
        super().__init__(batch.connection, None, False)
        self.asked = True
        self._batch = batch
        self._place = place

    def reply(self, payload: bytes) -> None:
        """It has an encoded result."""
        self.over = True
        self._batch.part_ended(self, self._place, payload, False)

    def fail(self, payload: bytes) -> None:
        """It has an encoded error."""
        self.over = True
        self._batch.part_ended(self, self._place, payload, True)


class RefusedCall:
    """Stands for the arguments of a call that may not begin.

    :ivar problem: why it may not.
    """

    __slots__ = ("problem",)

    def __init__(self, problem: Exception) -> None:
        self.problem = problem


class Outcomes:
    """The outcomes of a batch that have not been sent yet.

    :ivar size: about how many bytes they have.
    """

    __slots__ = ("_payloads", "_places", "_results", "size")

    def __init__(self) -> None:
        #: the calls' numbers, and the encodings
        self._places: list[int] = []
        self._payloads: list[bytes] = []
        #: of results that were not encoded yet: the first call's number, the results, and so on
        self._results: list[Any] = []
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._places or self._results)

    def add(self, place: int, payload: bytes) -> None:
        """A call has an outcome, which is encoded."""
        self._places.append(place)
        self._payloads.append(payload)
        self.size += len(payload)

    def results_from(self, place: int) -> list[Any]:
        """The list of the results of a call and of those behind it, which are encoded later."""
        if self._results:
            last: list[Any] = self._results[-1]
            if self._results[-2] + len(last) == place:
                return last
            if not last:
                del self._results[-2:]
        results: list[Any] = []
        self._results += (place, results)
        return results

    def take(self, encode: Callable[[object], bytes]) -> bytes:
        """Encode them, as docs/protocol.rst has it; then there are none."""
        places = self._places
        first = places[0] if places else 0
        row = places == list(range(first, first + len(places)))
        outcomes: list[Any] = [first if row else places, self._payloads]
        if self._results:
            outcomes.append(self._results)
        value = encode(outcomes)
        self._places, self._payloads, self._results = [], [], []
        self.size = 0
        return value
