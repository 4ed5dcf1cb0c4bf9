"""What is measured, and what it must reach: the rows of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: The peers, in the order of the table's columns.
PEERS = ("bare", "pycomnet", "execnet", "mitogen")
#: The one that the others are compared with.
OURS = "pycomnet"
#: In place of a peer's name: the best of all but the bare one.
BEST = "the best"


@dataclass(frozen=True, slots=True)
class Target:
    """What a row must reach.

    :ivar kind: ``times``: at least so many times as good as the other; ``share``: at most this
        share of the other's figure; ``below`` and ``above``: less or more than this, whatever the
        other has.
    """

    kind: Literal["times", "share", "below", "above"]
    value: float

    def text(self, unit: str) -> str:
        """The target in words."""
        if self.kind == "times":
            return f"{self.value:g} times" if self.value != 1 else "better"
        if self.kind == "share":
            return f"at most {self.value:g} of it"
        return f"{'over' if self.kind == 'above' else 'under'} {self.value:g} {unit}"


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    :ivar name: what ``--only`` and the JSON call it.
    :ivar measure: which of the job's measures it shows; most are called as the row.
    :ivar better: whether less or more of it is better.
    :ivar against: the peer that it is compared with, or :data:`BEST`.
    """

    name: str
    title: str
    unit: str
    better: Literal["less", "more"]
    target: Target | None = None
    measure: str = ""
    against: str = "execnet"

    @property
    def key(self) -> str:
        """The measure's name."""
        return self.measure or self.name

    def factor(self, ours: float, other: float) -> float:
        """How many times as good ours is."""
        good, bad = (ours, other) if self.better == "more" else (other, ours)
        return good / bad if bad > 0 else float("inf")

    def reached(self, ours: float, other: float | None) -> bool | None:
        """Whether the target is reached; None when there is none, or nothing to compare with."""
        target = self.target
        if target is None:
            return None
        if target.kind == "below":
            return ours < target.value
        if target.kind == "above":
            return ours > target.value
        if other is None:
            return None
        if target.kind == "times":
            return self.factor(ours, other) >= target.value
        return ours <= target.value * other


@dataclass(frozen=True, slots=True)
class Job:
    """What one process of a peer measures, and the rows that come of it.

    :ivar peers: who does it.
    :ivar times: processes for each round; more where one gives a single figure.
    :ivar heavy: only with ``--heavy``.
    :ivar once: only in the first round: it is long, and has thousands of values.
    :ivar timeout: seconds that a process has.
    """

    name: str
    rows: tuple[Row, ...]
    peers: tuple[str, ...] = ("pycomnet", "execnet", "mitogen")
    times: int = 1
    heavy: bool = False
    once: bool = False
    timeout: float = 60.0


def _times(value: float) -> Target:
    return Target("times", value)


def _share(value: float) -> Target:
    return Target("share", value)


BOTH = ("pycomnet", "execnet")
EIGHT_MB = Target("below", 8)
_CODEC = (
    ("int", "an int"),
    ("dict", "a small dict"),
    ("bytes", "1 MB bytes"),
    ("list", "a list of 1,000 dicts"),
)

JOBS = (
    Job(
        "roundtrip",
        (
            Row("roundtrip", "round trip of a small value", "us", "less", _times(3)),
            Row(
                "roundtrip_bare",
                "the same, to a bare socket pair",
                "us",
                "less",
                _share(3),
                measure="roundtrip",
                against="bare",
            ),
        ),
        peers=PEERS,
    ),
    Job(
        "roundtrips_first",
        (
            Row(
                "roundtrips_first",
                "the same, the mean of a gateway's first 1,000",
                "us",
                "less",
                _times(3),
            ),
        ),
        times=3,
    ),
    Job("dicts_in", (Row("dicts_in", "small dicts, far to near", "/s", "more", _times(8)),)),
    Job("dicts_out", (Row("dicts_out", "small dicts, near to far", "/s", "more", _times(8)),)),
    Job(
        "burst",
        (
            Row(
                "burst",
                "1,000 small dicts, sent in one turn, near to far",
                "us",
                "less",
                _times(5),
            ),
        ),
    ),
    Job("bytes_in", (Row("bytes_in", "1 MB bytes, far to near", "MB/s", "more", _times(2.5)),)),
    Job("bytes_out", (Row("bytes_out", "1 MB bytes, near to far", "MB/s", "more", _times(2.5)),)),
    Job("list", (Row("list", "a list of 1,000 small dicts, echoed", "ms", "less", _times(20)),)),
    Job(
        "start",
        (Row("start", "first gateway, to the first value", "ms", "less", _share(0.6)),),
        times=3,
    ),
    Job(
        "memory",
        (
            Row("memory_pss", "idle far side, its share (PSS)", "MB", "less", _share(1)),
            Row("memory_rss", "idle far side, resident (RSS)", "MB", "less"),
        ),
    ),
    Job(
        "held_in",
        (
            Row("held_in", "300 MB to near, not received: it grows", "MB", "less", EIGHT_MB),
            Row("held_in_sent", "... what far sent before it blocked", "MB", "less"),
        ),
        peers=BOTH,
    ),
    Job(
        "held_out",
        (
            Row("held_out", "300 MB to far, not received: it grows", "MB", "less", EIGHT_MB),
            Row("held_out_sent", "... what near sent before it waited", "MB", "less"),
        ),
        peers=BOTH,
    ),
    Job(
        "codec",
        tuple(
            Row(f"{verb}_{name}", f"pure codec: {verb} {title}", "us", "less", _times(1))
            for name, title in _CODEC
            for verb in ("dumps", "loads")
        ),
        peers=BOTH,
    ),
    *(
        Job(
            f"big_{way}",
            (
                Row(
                    f"big_{way}_p99",
                    f"ping-pong beside 1 GB to {to}: p99",
                    "ms",
                    "less",
                    Target("below", 20),
                ),
                Row(f"big_{way}_max", "... the longest", "ms", "less"),
                Row(f"big_{way}_stalled", "... time in pings over 20 ms", "%", "less"),
                Row(f"big_{way}_rate", "... the 1 GB itself", "MB/s", "more"),
            ),
            peers=BOTH,
            heavy=True,
            timeout=180.0,
        )
        for way, to in (("in", "near"), ("out", "far"))
    ),
)
