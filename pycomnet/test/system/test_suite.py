"""The gateway suite on this machine: forked, alone, and through another gateway.

Those of the other transports are with their other tests, and with their daemons.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pycomnet.test.system.suites import run_cases, run_suite

#: Specs, and for each that of the gateway ``master``, if it goes through one.
WAYS = {
    "fork=yes": ("popen//fork=yes", None),
    "via": ("popen//via=master", "popen"),
}


@pytest.mark.parametrize("way", WAYS)
def test_passes_the_suite(way: str, tmp_path: Path) -> None:
    """The whole gateway suite."""
    spec, master = WAYS[way]
    env = {} if master is None else {"PYCOMNET_TEST_MASTER": master}
    run_suite(spec, tmp_path, env=env)


#: The cases of the suite in which a group has several gateways, or processes end.
OF_SEVERAL = ("AnyChannels", "AnyDeaths", "AnyEndings", "AnyErrors", "AnyGroups")


def test_passes_the_suite_alone(tmp_path: Path) -> None:
    """With ``fork=no``: what differs from the first popen gateway of a group.

    That is a new interpreter as well, and test_popen.py has the whole suite on it.
    """
    names = [f"pycomnet.test.gateways.any_spec.{name}" for name in OF_SEVERAL]
    run_cases(names, tmp_path, 90, env={"PYCOMNET_TEST_SPEC": "popen//fork=no"})
