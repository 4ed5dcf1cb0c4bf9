"""Cases of the gateway suite, run by trial in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pycomnet.test.system.daemons import environment

#: Seconds for a whole suite on a busy machine.
TIMEOUT = 1200.0
#: How many tests the gateway suite has at least.
WHOLE = 145
#: Cases of the gateway suite in which a group has several gateways, or processes end: enough for
#: a transport that differs from a whole one only in how its gateways start and end.
ENDINGS = ("AnyChannels", "AnyDeaths", "AnyEndings", "AnyErrors", "AnyGroups")
#: Modules with trial's test cases that need real far sides or programs, and how many of their tests
#: pass at least where some skip: without PyPy, watchfiles or a small disk.
REAL = {
    "cli.demo_cases": 4,
    "cli.map_cases": 22,
    "cli.run_cases": 26,
    "gateways.forkserver.client_cases": 22,
    "gateways.forkserver.local_cases": 5,
    "gateways.forkserver.preforked_cases": 10,
    "gateways.pool_cases": 20,
    "gateways.strays_cases": 3,
    "rsync.fetch_cases": 28,
    "rsync.reports_cases": 6,
    "rsync.targets_cases": 23,
    "rsync.watch_cases": 13,
    "services.default_cases": 2,
    "tap.exitstatus_cases": 5,
    "xdeploy.deploy_cases": 6,
}


def run_suite(
    spec: str,
    directory: Path,
    least: int = WHOLE,
    jobs: int = 1,
    env: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run the whole gateway suite on gateways of a spec, and see that it passes.

    :param least: how many tests have to pass at least, where some can't run.
    :param jobs: processes that they run in.
    :param env: further environment variables, as any_spec.py knows them.
    """
    names = ["pycomnet.test.gateways.any_spec"]
    run_cases(names, directory, least, jobs, {"PYCOMNET_TEST_SPEC": spec, **env})


def run_endings(spec: str, directory: Path) -> None:
    """Run the cases of :data:`ENDINGS` on gateways of a spec, and see that they pass."""
    names = [f"pycomnet.test.gateways.any_spec.{name}" for name in ENDINGS]
    run_cases(names, directory, least=90, env={"PYCOMNET_TEST_SPEC": spec})


def run_cases(
    names: Sequence[str],
    directory: Path,
    least: int,
    jobs: int = 1,
    env: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run tests and see that they pass.

    :param names: of modules, cases or tests, as trial takes them.
    :param directory: where trial leaves what it does.
    :param least: how many tests have to pass at least, so that none gets lost unseen.
    :param jobs: processes that they run in.
    :param env: environment variables, such as ``PYCOMNET_TEST_SPEC``.
    """
    options = [f"-j{jobs}"] if jobs > 1 else []
    ran = subprocess.run(
        [sys.executable, "-m", "twisted.trial", *options, *names],
        env=environment(**env),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    passed = re.search(r"^PASSED \(.*successes=(\d+)\)", ran.stdout, re.M)
    assert passed is not None and int(passed[1]) >= least, ran.stdout
