"""What calls are measured by, and what they must reach: the rows of the services' table."""

from __future__ import annotations

from rows import BEST, Job, Row, Target

#: The peers, in the order of the table's columns.
PEERS = ("bare", "pycomnet", "pyro5", "rpyc", "amp", "grpc")
#: What each is in Python's words; None is what Twisted itself is.
PACKAGES = {
    "bare": None,
    "pycomnet": "pycomnet",
    "pyro5": "Pyro5",
    "rpyc": "rpyc",
    "amp": "twisted",
    "grpc": "grpc",
}

_QUICKER = Target("times", 1.3)
_FLIGHT = Target("times", 4)
_HALF = Target("times", 0.5)


def _small(name: str, title: str) -> Job:
    """A job of small calls."""
    flight = f"{name}_flight"
    return Job(
        name,
        (
            Row(f"{name}_one", f"{title}, one by one", "us", "less", _QUICKER, against=BEST),
            Row(flight, f"{title}, 64 in flight", "/s", "more", _FLIGHT, against=BEST),
            Row(
                f"{name}_flight_bare",
                "... to bare Twisted, 64 messages in flight",
                "/s",
                "more",
                _HALF,
                measure=flight,
                against="bare",
            ),
            Row(
                f"{name}_flight_awaited",
                "... to the same, each awaited in a coroutine",
                "/s",
                "more",
                _HALF,
                measure=f"{name}_flight_awaited",
                against="bare",
            ),
        ),
        peers=PEERS,
    )


JOBS = (
    _small("null", "null call"),
    _small("dict", "small dict echoed"),
    Job(
        "bytes",
        (
            Row(
                "bytes_one",
                "1 MB bytes echoed, one by one",
                "us",
                "less",
                Target("times", 1),
                against="pyro5",
            ),
            Row("bytes_flight", "1 MB bytes echoed, 64 in flight", "/s", "more", against=BEST),
        ),
        peers=PEERS,
        timeout=120.0,
    ),
    Job(
        "proxy",
        (
            Row(
                "proxy_one",
                "two ints added through a proxy, one by one",
                "us",
                "less",
                Target("times", 3),
                against=BEST,
            ),
            Row(
                "proxy_invoke",
                "... to invoke, the processor time of 64 in flight",
                "times",
                "less",
                Target("below", 1.1),
                against="pycomnet",
            ),
        ),
        peers=("bare", "pycomnet", "pyro5", "rpyc"),
    ),
    Job(
        "proxy_blocking",
        (
            Row(
                "proxy_blocking",
                "... through a proxy of the API without Deferreds",
                "us",
                "less",
                against=BEST,
            ),
        ),
        peers=("bare", "pycomnet", "pyro5", "rpyc"),
    ),
    Job(
        "proxy_first",
        (
            Row(
                "proxy_first",
                "a proxy's first call: requests beside that of the call",
                "requests",
                "less",
                Target("below", 1.01),
                against="pycomnet",
            ),
        ),
        peers=("pycomnet",),
    ),
    Job(
        "batch",
        (
            Row(
                "batch",
                "1,000 such calls in a batch",
                "ms",
                "less",
                Target("times", 5),
                against="pyro5",
            ),
            Row(
                "batch_bare",
                "... to a bare loop with an object, a request and a checked call for each",
                "ms",
                "less",
                measure="batch_objects",
                against="bare",
            ),
        ),
        peers=("bare", "pycomnet", "pyro5"),
    ),
    Job(
        "idle",
        (
            Row(
                "idle",
                "10,000 idle client connections: the server's memory for each",
                "kB",
                "less",
                Target("below", 30),
                against="bare",
            ),
        ),
        peers=("bare", "pycomnet"),
        timeout=180.0,
    ),
    Job(
        "rule",
        (
            Row(
                "rule",
                "a call with an access rule on its method: the processor time of one without",
                "times",
                "less",
                Target("below", 1.03),
                against=BEST,
            ),
        ),
        peers=("pycomnet",),
        timeout=180.0,
    ),
    Job(
        "logins",
        (
            Row(
                "logins_p99",
                "200 logins at once (bcrypt, 12 rounds): a call of another client, p99",
                "ms",
                "less",
                Target("below", 20),
                against=BEST,
            ),
            Row("logins_p50", "... the median", "ms", "less", against=BEST),
            Row("quiet_p99", "... p99 without logins", "ms", "less", against=BEST),
            Row("quiet_p50", "... the median without logins", "ms", "less", against=BEST),
            Row("logins_took", "... the logins themselves", "s", "less", against=BEST),
        ),
        peers=("pycomnet",),
        once=True,
        timeout=300.0,
    ),
)
