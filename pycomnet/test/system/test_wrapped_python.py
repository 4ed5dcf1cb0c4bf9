"""Far sides that another program starts, as a user who can't read this package's files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycomnet
from pycomnet.test.needs import missing

#: Another user, and a Python that it may run.
USER = 65534
PYTHON = "/usr/bin/python3"
AS_USER = f"setpriv --reuid={USER} --regid={USER} --clear-groups"
#: Prints the far sides' users and results; the arguments are specs. The last line is an error.
PROGRAM = """
import sys
from pycomnet import blocking as pycomnet
with pycomnet.Group() as group:
    for number, spec in enumerate(sys.argv[1:]):
        gateway = group.makegateway(spec + "//chdir=/", timeout=240)
        print(gateway.remote_exec("import os; channel.send(os.getuid())").receive(), spec)
"""
#: Closes all but the standard streams, as sudo does, and runs its arguments as the other user.
CLOSING = f"""#!{PYTHON}
import os, sys
os.closerange(3, 256)
os.execvp("setpriv", {AS_USER.split()} + sys.argv[1:])
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def private() -> Iterator[Path]:
    """A copy of the package, which only this user can read."""
    if shutil.which("setpriv") is None or not os.access(PYTHON, os.X_OK):
        missing(f"setpriv or {PYTHON} is not installed")
    with tempfile.TemporaryDirectory() as made:
        path = Path(made)  # its mode is 0700
        here = Path(pycomnet.__file__).parent
        shutil.copytree(here, path / "pycomnet", ignore=shutil.ignore_patterns("test"))
        yield path


def run(private: Path, *specs: str) -> subprocess.CompletedProcess[str]:
    """Run the program with that copy of the package."""
    env = {**os.environ, "PYTHONPATH": str(private)}
    argv = [sys.executable, "-c", PROGRAM, *specs]
    return subprocess.run(
        argv, env=env, cwd=private, capture_output=True, text=True, timeout=300, check=False
    )


def test_far_side_of_another_user_is_sent_the_package(private: Path) -> None:
    """Alone, from a fork server, and with a wrapper that closes what it was given."""
    closing = private / "sudo"
    closing.write_text(CLOSING)
    closing.chmod(0o755)
    specs = [
        f"popen//python={AS_USER} {PYTHON}//fork=no",
        f"popen//python={AS_USER} {PYTHON}//fork=yes",
        f"popen//python={closing} {PYTHON}//fork=yes",
    ]
    ran = run(private, *specs)
    assert (ran.stdout.splitlines(), ran.stderr) == ([f"{USER} {spec}" for spec in specs], "")


def test_interpreter_that_can_not_read_the_package_says_what_to_do(private: Path) -> None:
    """A wrapper that has an interpreter's name is taken for one: the error names the way out."""
    wrapper = private / "python3"
    wrapper.write_text(f'#!/bin/sh\nexec {AS_USER} {PYTHON} "$@"\n')
    wrapper.chmod(0o755)
    ran = run(private, f"popen//python={wrapper}")
    assert f"can't read the files in {private}" in ran.stderr
    assert "name the program that starts it in python=, before the interpreter" in ran.stderr
    assert "No module named" not in ran.stderr
