"""The gateway suite on this machine: forked, alone, and through another gateway.

Those of the other transports are with their other tests, and with their daemons.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pycomnet.test.system.suites import run_endings, run_suite

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


def test_passes_the_suite_alone(tmp_path: Path) -> None:
    """With ``fork=no``: what differs from the first popen gateway of a group.

    That is a new interpreter as well, and test_popen.py has the whole suite on it.
    """
    run_endings("popen//fork=no", tmp_path)
