"""What a test needs of the machine: it skips where that is missing, and fails there in CI.

A skip belongs before the fixtures: one that is raised within a fixture of pytest-twisted leaves
the fixture half set up, and every later test with another parameter of it fails.
"""

from __future__ import annotations

import glob
import os
import shutil

import pytest

#: Set in CI: there nothing may be missing.
REQUIRE_ALL = "PYCOMNET_REQUIRE_ALL"


#: Where Debian has programs that are not on the path.
ELSEWHERE = ("/usr/lib/postgresql/*/bin",)


def found(program: str) -> str | None:
    """Where a program is, on the path or where Debian has it; None if it is not there."""
    there = [os.environ.get("PATH", os.defpath)]
    for pattern in ELSEWHERE:
        there += sorted(glob.glob(pattern), reverse=True)
    return shutil.which(program, path=os.pathsep.join(there))


def missing(what: str) -> None:
    """Skip the test that asks, as something is not here; fail it where nothing may be missing.

    :param what: a sentence that says what is missing.
    """
    if os.environ.get(REQUIRE_ALL):
        pytest.fail(what)
    pytest.skip(what)


def require(*programs: str) -> None:
    """Look for programs, in the body of a test.

    :param programs: names that have to be on the path.
    """
    for program in programs:
        if found(program) is None:
            missing(f"{program} is not installed")


def needs(*programs: str) -> pytest.MarkDecorator:
    """Mark a test, or one parameter, to skip before its fixtures are set up.

    Where nothing may be missing the test runs, and fails by itself.

    :param programs: names that have to be on the path.
    """
    lacking = [program for program in programs if found(program) is None]
    return pytest.mark.skipif(
        bool(lacking) and not os.environ.get(REQUIRE_ALL),
        reason=f"{', '.join(lacking)} is not installed",
    )
