"""What a nameserver is measured by, and what it must reach: the rows of its table."""

from __future__ import annotations

from rows import Job, Row, Target

PEERS = ("pycomnet", "pyro5")
PACKAGES: dict[str, str | None] = {"pycomnet": "pycomnet", "pyro5": "Pyro5"}
OURS = ("pycomnet",)

_FASTER = Target("times", 1.5)


def _locate(job: str, among: str) -> Job:
    return Job(
        job,
        (
            Row(
                f"{job}_one", f"locate {among}, one by one", "us", "less", _FASTER, against="pyro5"
            ),
            Row(
                f"{job}_flight",
                f"locate {among}, 64 in flight",
                "/s",
                "more",
                _FASTER,
                against="pyro5",
            ),
        ),
        peers=PEERS,
        timeout=300.0,
    )


JOBS = (
    _locate("locate_1", "the only one"),
    _locate("locate_10k", "among 10,000"),
    _locate("locate_1m", "among 1,000,000"),
    Job(
        "flat",
        (
            Row(
                "flat",
                "locate among 1,000,000: its time, to that of the only one",
                "times",
                "less",
                Target("below", 1.2),
                against="pyro5",
            ),
        ),
        peers=PEERS,
        timeout=400.0,
    ),
    Job(
        "million",
        (
            Row(
                "resident",
                "1,000,000 records: resident memory",
                "MB",
                "less",
                Target("below", 1000),
                against="pyro5",
            ),
            Row(
                "start",
                "... start from the file, until it answers",
                "s",
                "less",
                Target("below", 20),
                against="pyro5",
            ),
            Row("stop", "... stop", "s", "less", against="pyro5"),
        ),
        peers=OURS,
        timeout=400.0,
    ),
    Job(
        "register",
        (
            Row(
                "register",
                "registrations on disk and acknowledged, 64 clients",
                "/s",
                "more",
                Target("above", 5000),
                against="pyro5",
            ),
        ),
        peers=PEERS,
        timeout=300.0,
    ),
    Job(
        "renew",
        (
            Row(
                "renew",
                "100,000 leases renewed every 15 s: of one core",
                "%",
                "less",
                Target("below", 50),
                against="pyro5",
            ),
        ),
        peers=OURS,
        timeout=300.0,
    ),
)
