"""The factory service as a process: programs are killed, and others go on; nothing is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycomnet
from pycomnet.test.processes import still_there
from pycomnet.test.system.daemons import Daemon, Daemons, daemons
from pycomnet.test.system.nearby import near

PROGRAM = str(Path(__file__).with_name("factory_program.py"))
NEAR_SIDE = str(Path(__file__).with_name("near_side.py"))
#: What of the gateway suite is run through the factory: what differs most with what lies between.
CASES = ("AnyChannels", "AnyFlowControl", "AnyDeaths", "AnyGroups", "AnyValues")


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons in a directory whose name is short enough for a socket's."""
    with daemons(tmp_path_factory.mktemp("f")) as running:
        yield running


def start(started: Daemons, *options: str) -> tuple[Daemon, str]:
    """A factory on a unix socket; its address."""
    address = f"unix:{started.directory}/sock"
    daemon = started.start("pycomnet-factory", "--listen", address, *options)
    daemon.wait_for("listening on")
    return daemon, address


def group_of(address: str, **options: Any) -> pycomnet.Group:
    """A group whose factory is there."""
    from twisted.internet import reactor

    group = pycomnet.Group(reactor)
    group.setlocalfactory(endpoint=address, **options)
    return group


async def resumable(group: pycomnet.Group, *ids: str) -> list[Any]:
    """What can be resumed, once it is this."""
    while True:
        found = await group.resumable()
        if [item.id for item in found] == list(ids):
            return found


def test_killed_in_mid_stream(started: Daemons) -> None:
    """A program is killed with -9 while it takes and sends; the next one misses nothing."""
    _, address = start(started)
    with near(PROGRAM, address, "stream", "popen//id=build//linger=60") as program:
        pid = program.line()
        seen = [program.line() for _ in range(300)]
        program.signal(signal.SIGKILL)
        _, rest, _ = program.ended()
    # It was killed within a line, perhaps; what it had taken and not printed yet is one number.
    seen += [int(line) for line in rest.splitlines()[:-1] if line]
    assert seen == list(range(len(seen)))
    with near(PROGRAM, address, "resume", "popen//id=build//resume=yes") as program:
        assert program.line() == pid
        again = [program.line() for _ in range(500)]
        assert again == list(range(again[0], again[0] + 500))
        # At most what it took in its last turn comes twice.
        assert len(seen) - 3 <= again[0] <= len(seen) + 1, (again[0], len(seen))
        assert program.process.stdout is not None
        last = again[-1]
        while True:
            value = program.line()
            if isinstance(value, list):
                break
            assert value == last + 1
            last = value
        # What the first had sent and what the second has, each once, in order.
        came = value
        assert len(came) >= len(seen) + 499 - 3
        assert came[-500:] == again
        assert came[:-500] == list(range(len(came) - 500))
        assert program.ended()[0] == 0
    assert still_there([pid], 6) == []
