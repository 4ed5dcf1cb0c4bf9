"""What sending trees of files is measured by."""

from __future__ import annotations

from rows import Job, Row, Target

COPIERS = ("pycomnet", "execnet", "rsync")
#: With a loop that copies the files without any of them: what nobody can be faster than.
PEERS = ("bare", *COPIERS)
#: rsync is a program; the row fails where it is not installed.
PACKAGES: dict[str, str | None] = {
    "bare": None,
    "pycomnet": "pycomnet",
    "execnet": "execnet",
    "rsync": None,
}


def _pair(name: str, title: str, times: float, share: float) -> tuple[Row, Row]:
    """A row that execnet is compared with, and the same beside rsync."""
    return (
        Row(name, title, "ms", "less", Target("times", times)),
        Row(
            f"{name}_rsync",
            "... beside rsync",
            "ms",
            "less",
            Target("share", share),
            measure=name,
            against="rsync",
        ),
    )


def _wire(name: str, most: float) -> Row:
    return Row(
        name, "... on the wire, of its size", "%", "less", Target("below", most), against="rsync"
    )


JOBS = (
    Job(
        "many",
        (
            *_pair("many", "3,000 files of 1 kB, new", 4, 1.5),
            Row("many_made", "... only making them", "ms", "less"),
        ),
        peers=PEERS,
        times=2,
    ),
    Job(
        "new",
        (
            *_pair("new", "a file of 200 MiB, new", 3, 1.5),
            Row("new_pair", "... a bare pair with a pipe and hashes", "ms", "less"),
            Row("new_near", "... the near process grows by", "MB", "less", Target("below", 32)),
            Row("new_far", "... the far process grows by", "MB", "less", Target("below", 32)),
        ),
        peers=PEERS,
    ),
    Job(
        "changed",
        (
            *_pair("changed", "2 bytes of 200 MiB changed", 5, 1),
            _wire("changed_wire", 1),
        ),
        peers=COPIERS,
    ),
    Job(
        "front",
        (
            *_pair("front", "a byte put in front of 200 MiB", 1, 1),
            _wire("front_wire", 2),
        ),
        peers=COPIERS,
    ),
    Job("same", _pair("same", "10,000 files, nothing changed", 2, 1.2), peers=COPIERS, times=2),
    Job(
        "ssh",
        (
            Row(
                "ssh",
                "3,000 files of 1 kB over ssh, new",
                "ms",
                "less",
                Target("share", 1.2),
                against="rsync",
            ),
        ),
        peers=("pycomnet", "rsync"),
        times=2,
    ),
    Job(
        "hops",
        (
            Row(
                "hops",
                "37 MB through 2 hops, each of 50 ms each way",
                "ms",
                "less",
                Target("share", 1.3),
                against="rsync",
            ),
        ),
        peers=("pycomnet", "rsync"),
    ),
    Job(
        "jython",
        (
            Row(
                "jython",
                "3,000 files of 1 kB to Jython, to the time to CPython",
                "times",
                "less",
                Target("below", 5),
            ),
            Row("jython_ms", "... to Jython", "ms", "less"),
            Row(
                "jython_warm",
                "... the fourth time, by when the JVM has compiled it",
                "times",
                "less",
                Target("below", 5),
            ),
            Row("jython_warm_ms", "... to Jython, the fourth time", "ms", "less"),
        ),
        peers=("pycomnet",),
        timeout=300.0,
    ),
    Job(
        "targets",
        (
            Row(
                "targets",
                "3,000 files and 50 MiB to 8 targets, to the time for one",
                "times",
                "less",
                Target("below", 2.5),
            ),
            Row("targets_8", "... 8 targets", "ms", "less"),
        ),
        peers=("bare", "pycomnet", "execnet"),
        timeout=180.0,
    ),
)
