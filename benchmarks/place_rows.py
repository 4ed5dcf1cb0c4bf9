"""What many gateways, on other machines and through each other, are measured by."""

from __future__ import annotations

from rows import Job, Row, Target

PEERS = ("pycomnet", "execnet", "mitogen")
PACKAGES: dict[str, str | None] = {name: name for name in PEERS}
OURS = ("pycomnet",)


def _times(value: float) -> Target:
    return Target("times", value)


JOBS = (
    Job(
        "many",
        (Row("many", "50 popen gateways, to the first value from each", "ms", "less", _times(10)),),
    ),
    Job(
        "ssh",
        (
            Row(
                "ssh_further",
                "a further gateway on an ssh host, to its first value",
                "ms",
                "less",
                _times(10),
            ),
            Row(
                "ssh_fork",
                "the same, beside Mitogen's fork there",
                "ms",
                "less",
                _times(1),
                measure="ssh_further",
                against="mitogen",
            ),
            Row("ssh_first", "the first gateway on an ssh host", "ms", "less"),
        ),
    ),
    Job(
        "hops",
        (
            *(
                Row(
                    f"hop_{depth}",
                    f"round trip through {depth} hop{'s' * (depth > 1)}",
                    "us",
                    "less",
                    _times(1),
                    against="mitogen",
                )
                for depth in (1, 2, 3)
            ),
            Row(
                "hop_added",
                "what a hop adds to it, in popen round trips",
                "of one",
                "less",
                Target("below", 1),
                against="mitogen",
            ),
        ),
    ),
    Job(
        "bulk",
        (
            Row(
                "bulk_share",
                "bulk through 2 hops, to the direct rate",
                "of it",
                "more",
                Target("above", 0.5),
                against="mitogen",
            ),
            Row("bulk_2", "... the rate itself", "MB/s", "more", against="mitogen"),
        ),
    ),
    Job(
        "factory",
        (
            Row(
                "factory",
                "round trip of a gateway of the factory's, to the direct one",
                "times",
                "less",
                Target("below", 2),
            ),
            Row("factory_lingers", "... of one that lingers", "times", "less", Target("below", 2)),
            Row("factory_direct", "... the direct one itself", "us", "less"),
        ),
        peers=OURS,
    ),
    Job(
        "fleet",
        (
            Row(
                "fleet_private",
                "500 workers: private memory of each",
                "MB",
                "less",
                Target("below", 6),
            ),
            Row(
                "fleet_last",
                "... round trip of the last, to that of the first",
                "times",
                "less",
                Target("below", 1.25),
            ),
            Row("fleet_start", "... all started", "s", "less"),
        ),
        peers=OURS,
        timeout=180.0,
    ),
    Job(
        "tree",
        (
            Row(
                "tree",
                "a tree of 27 leaves, 3 hosts away: round trips that it waits for",
                "trips",
                "less",
                Target("below", 4),
            ),
            Row("tree_start", "... without the delay of the network", "ms", "less"),
        ),
        peers=OURS,
    ),
    Job(
        "forest",
        (
            Row(
                "forest",
                "1,000 leaves on 100 hosts, 2 away: trips that 50 ms add (0: starting hides them)",
                "trips",
                "less",
                Target("below", 4),
            ),
            Row("forest_away", "... until all have answered", "s", "less"),
            Row("forest_start", "... the same without the delay of the network", "s", "less"),
        ),
        peers=OURS,
        timeout=300.0,
    ),
)
