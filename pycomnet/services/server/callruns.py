"""Runs: consecutive calls of one method in a batch, whose arguments are encoded as one array.

They halve the processor time of the row "1,000 such calls in a batch".

docs/protocol.rst, "Calls of services", has the format. A client can send anything as a run: the
counts and lengths are checked before anything is decoded.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

from pycomnet.errors import InvalidArguments
from pycomnet.wire.values import InvalidValue


class CallRuns:
    """The runs of a batch.

    :param payloads: the encodings, each of an array of its calls' arguments.
    :param counts: how many calls each has.
    :param longest: the most bytes of one with several calls.
    :ivar count: the calls of all runs.
    :raises TypeError: they are not runs.
    :raises InvalidArguments: one is too long.
    """

    def __init__(self, payloads: list[bytes], counts: Any, longest: int) -> None:
        if type(counts) is not list or len(counts) != len(payloads):
            raise TypeError("there is a number of calls for each run")
        if not all(type(count) is int and count > 0 for count in set(counts)):
            raise TypeError("a run has a call at least")
        for payload, count in zip(payloads, counts, strict=True):
            if count > 1 and len(payload) > longest:
                text = f"a run of {len(payload)} bytes; the limit for several calls is {longest}"
                raise InvalidArguments(text)
            if count > len(payload):  # before it is believed: each takes a byte
                raise TypeError("a run has fewer bytes than calls")
        self._payloads = payloads
        self._counts = counts
        #: the number of the call behind each run
        self._ends = list(accumulate(counts))
        self.count = self._ends[-1] if counts else 0
        #: the parts of the run that was taken apart last, and the number of its first call
        self._parts: list[bytes] | None = None
        self._first = 0

    def each(self, values: list[int]) -> list[int]:
        """For each call the value of its run."""
        found: list[int] = []
        for value, count in zip(values, self._counts, strict=True):
            found += [value] * count
        return found

    def at(self, place: int) -> tuple[bytes, int]:
        """The run in which a call is, and how many of its calls are before that one."""
        run = bisect_right(self._ends, place)
        return self._payloads[run], place - self._ends[run] + self._counts[run]

    def length(self, place: int) -> int:
        """How many calls there are in the run in which a call is."""
        count: int = self._counts[bisect_right(self._ends, place)]
        return count

    def split(self, place: int) -> list[bytes]:
        """The encoded arguments of a call, and of those behind it in its run.

        :raises InvalidValue: the run is no array of so many values.
        """
        payload, skipped = self.at(place)
        if self._parts is None or self._first != place - skipped:
            count = self.length(place)
            at, said = _array(payload)
            if said != count:
                raise InvalidValue(f"a run is an array of {count} values, not of {said}")
            # The arguments of a single call may be long: they are not looked at here.
            self._parts = [payload[at:]] if count == 1 else elements(payload)
            self._first = place - skipped
        return self._parts[skipped:]


def _array(payload: bytes) -> tuple[int, int]:
    """Where an array's first element is, and how many elements its head says."""
    found = _step(payload, 0)
    if payload[:1] not in _ARRAYS:
        raise InvalidValue("a run is an array")
    return found


def elements(payload: bytes) -> list[bytes]:
    """The encodings of an array's elements, which are not decoded.

    :raises InvalidValue: it is no array, or ends too early or too late.
    """
    at, count = _array(payload)
    found = []
    for _ in range(min(count, len(payload))):
        start = at
        left = 1
        while left:
            at, inside = _step(payload, at)
            left += inside - 1
            if left > len(payload):
                raise InvalidValue("a run ends too early")
        found.append(payload[start:at])
    if at != len(payload) or len(found) != count:
        raise InvalidValue("a run does not end where its array ends")
    return found


_ARRAYS = frozenset(bytes((first,)) for first in (*range(0x90, 0xA0), 0xDC, 0xDD))
#: first byte -> the bytes of the length that follows, the bytes between that and the content, and
#: how many bytes (or, negative, values) each unit of the length is
_SIZED = {
    **{0xC4 + n: (1 << n, 0, 1) for n in range(3)},  # bin
    **{0xC7 + n: (1 << n, 1, 1) for n in range(3)},  # ext
    **{0xD9 + n: (1 << n, 0, 1) for n in range(3)},  # str
    **{0xDC + n: (2 << n, 0, -1) for n in range(2)},  # array
    **{0xDE + n: (2 << n, 0, -2) for n in range(2)},  # map
}
#: first byte -> the bytes behind it: floats, integers and extensions of a fixed length
_FIXED = {
    **{0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8},
    **{0xCC + n: 1 << n for n in range(4)},
    **{0xD0 + n: 1 << n for n in range(4)},
    **{0xD4 + n: 1 + (1 << n) for n in range(5)},
}


def _step(payload: bytes, at: int) -> tuple[int, int]:
    """What follows a value's head.

    :returns: where that is, and how many values are within it.
    """
    if at >= len(payload):
        raise InvalidValue("a run ends too early")
    first = payload[at]
    at += 1
    inside = 0
    if first < 0x80 or first >= 0xE0:
        pass
    elif first < 0x90:
        inside = 2 * (first & 15)
    elif first < 0xA0:
        inside = first & 15
    elif first < 0xC0:
        at += first & 31
    elif first in _FIXED:
        at += _FIXED[first]
    elif first in _SIZED:
        width, between, unit = _SIZED[first]
        size = int.from_bytes(payload[at : at + width], "big")
        at += width + between
        if unit > 0:
            at += size
        else:
            inside = -unit * size
    else:
        raise InvalidValue(f"no value begins with the byte {first:#x}")
    if at > len(payload):
        raise InvalidValue("a run ends too early")
    return at, inside
