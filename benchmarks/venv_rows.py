"""What virtual environments are measured by."""

from __future__ import annotations

from rows import Job, Row, Target

PEERS = ("pycomnet", "venv", "pip", "uv")
PACKAGES: dict[str, str | None] = {"pycomnet": "pycomnet", "venv": None, "pip": "pip", "uv": "uv"}
OURS = ("pycomnet",)

JOBS = (
    Job(
        "there",
        (
            Row(
                "there",
                "a gateway in an environment that is there, to a plain makegateway",
                "times",
                "less",
                Target("below", 1.5),
                against="pip",
            ),
            Row("there_ms", "... the time itself", "ms", "less", against="pip"),
        ),
        peers=OURS,
    ),
    Job(
        "empty",
        (
            Row(
                "empty", "an empty environment", "ms", "less", Target("share", 1.5), against="venv"
            ),
            Row("empty_inside", "... and a gateway in it", "ms", "less", against="venv"),
        ),
        peers=("pycomnet", "venv"),
    ),
    Job(
        "cached",
        (
            Row(
                "cached",
                "20 wheels that are in the cache",
                "ms",
                "less",
                Target("times", 5),
                against="pip",
            ),
            Row(
                "cached_uv",
                "the same, to uv pip install --offline",
                "ms",
                "less",
                Target("share", 2),
                measure="cached",
                against="uv",
            ),
            Row(
                "new_host", "20 wheels to a host that has none of them", "ms", "less", against="pip"
            ),
            Row(
                "new_host_plain", "... without compiling their modules", "ms", "less", against="uv"
            ),
        ),
        peers=("pycomnet", "pip", "uv"),
        timeout=300.0,
    ),
    Job(
        "creators",
        (
            Row(
                "creators",
                "16 creators at once, to one",
                "times",
                "less",
                Target("below", 1.2),
                against="pip",
            ),
            Row("creators_ms", "... the time itself", "ms", "less", against="pip"),
        ),
        peers=OURS,
        timeout=300.0,
    ),
)
