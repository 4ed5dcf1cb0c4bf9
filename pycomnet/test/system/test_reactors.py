"""The connection and its gateways work under each reactor."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from pycomnet.test.needs import missing
from pycomnet.test.system.nearby import near
from pycomnet.test.system.reactor_checks import CHECKS

PROGRAM = str(Path(__file__).with_name("reactor_checks.py"))
#: The reactor's class, and where its event loop comes from.
REACTORS = {
    "epoll": "EPollReactor builtins",
    "select": "SelectReactor builtins",
    "asyncio": "AsyncioSelectorReactor asyncio",
    "uvloop": "AsyncioSelectorReactor uvloop",
}


@pytest.mark.parametrize("name", REACTORS)
def test_all_checks_pass_on_this_reactor(name: str) -> None:
    """All checks pass in a process that runs this reactor, and nothing else is said."""
    if name == "uvloop" and find_spec("uvloop") is None:
        missing("uvloop is not installed")
    with near(PROGRAM, name) as program:
        status, out, err = program.ended()
    assert (status, err) == (0, ""), out + err
    assert out.splitlines() == [REACTORS[name], *(check.__name__ for check in CHECKS)]
