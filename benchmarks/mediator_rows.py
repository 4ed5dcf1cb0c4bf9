"""What gateways through the http mediator are measured by, and what they must reach."""

from __future__ import annotations

from rows import Job, Row, Target

#: The peers, in the order of the table's columns. The first is pycomnet's too: a gateway without
#: anything in between.
PEERS = ("popen", "pycomnet", "jupyter")
PACKAGES: dict[str, str | None] = {
    "popen": "pycomnet",
    "pycomnet": "pycomnet",
    "jupyter": "kernel_gateway",
}
OURS = ("pycomnet",)

_QUARTER = Target("times", 0.25)


def _way(name: str, title: str, most: float, rival: Target | None) -> Job:
    """A job of one way to a far side.

    :param most: how many times popen's round trip one may take.
    :param rival: what must be reached beside Jupyter.
    """
    trip = f"{name}_trip"
    return Job(
        name,
        (
            Row(
                trip,
                f"round trip over {title}",
                "us",
                "less",
                Target("share", most),
                against="popen",
            ),
            Row(
                f"{name}_jupyter",
                "... to a statement and its answer",
                "us",
                "less",
                rival,
                measure=trip,
                against="jupyter",
            ),
            *(
                Row(
                    f"{name}_{way}",
                    f"1 MB bytes over {title}, {words}",
                    "MB/s",
                    "more",
                    _QUARTER,
                    against="popen",
                )
                for way, words in (("in", "far to near"), ("out", "near to far"))
            ),
        ),
        peers=PEERS,
        timeout=120.0,
    )


JOBS = (
    _way("websocket", "a WebSocket", 5, None),
    _way("post", "POST and GET", 15, Target("times", 5)),
    Job(
        "many",
        (
            Row(
                "many_memory",
                "200 gateways at once: the server's memory for each",
                "MB",
                "less",
                Target("below", 1),
                against="popen",
            ),
            Row("many_start", "... all started", "s", "less", against="popen"),
            Row("many_trip", "... all echoing: a round trip of all", "ms", "less", against="popen"),
        ),
        peers=OURS,
        timeout=300.0,
    ),
    Job(
        "unread",
        (
            Row(
                "unread_grown",
                "100 MB that nobody reads: the server grows by",
                "MB",
                "less",
                Target("below", 16),
                against="popen",
            ),
        ),
        peers=OURS,
    ),
    *(
        Job(
            f"cuts_{name}",
            (
                Row(
                    f"cuts_{name}_grown",
                    f"1,000 cuts, 200 MB each way over {title}: the server grows by",
                    "MB",
                    "less",
                    Target("below", 16),
                    against="popen",
                ),
                Row(f"cuts_{name}_time", "... every byte right, in", "s", "less", against="popen"),
            ),
            peers=OURS,
            heavy=True,
            timeout=600.0,
        )
        for name, title in (("websocket", "a WebSocket"), ("post", "POST and GET"))
    ),
)
