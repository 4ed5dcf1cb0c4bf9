"""What a supervisor that was killed leaves: it is told to end first, and killed a second later."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from twisted.internet.threads import deferToThread

import pycomnet
from pycomnet.far import supervisor
from pycomnet.far.forkserver.server import STRAY_GRACE
from pycomnet.test.gateways.forkserver.case import ForkServerCase
from pycomnet.test.processes import children, command_line, parent, still_there

#: Times that two fork servers are killed at once.
ROUNDS = 6


def start_strays(channel, path):
    """Far code: start two processes with sessions of their own; one of them ends by SIGTERM."""
    import os
    import subprocess
    import sys

    source = """
import os, signal, sys, time
def note(number, frame):
    with open(sys.argv[1] + "-" + sys.argv[2], "w") as file:
        file.write(str(time.monotonic()))
    if sys.argv[2] == "ends":
        os._exit(0)
signal.signal(signal.SIGTERM, note)
os.write(1, b".")
while True:
    signal.pause()
"""
    for name in ("ends", "stays"):
        process = subprocess.Popen(
            [sys.executable, "-c", source, path, name],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        process.stdout.read(1)
        channel.send(process.pid)
    channel.send(os.getpid())


def start_sleeper(channel):
    """Far code: start a process with a session of its own."""
    import subprocess

    channel.send(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)


class Left(ForkServerCase):
    """What is left by a supervisor that is killed."""

    async def strays(self, gw: pycomnet.Gateway) -> tuple[Path, list[int], int]:
        """Have a gateway start two; the file that they write, they, and their supervisor."""
        path = Path(self.mktemp()).absolute()
        channel = gw.remote_exec(start_strays, path=str(path))
        ends, stays, worker = [await channel.receive() for _ in range(3)]
        return path, [ends, stays], parent(worker)

    async def check(self, gw: pycomnet.Gateway, grace: float) -> None:
        """Kill the supervisor of a gateway: both are told to end, and the deaf one is killed."""
        path, (ends, stays), above = await self.strays(gw)
        killed: list[float] = []

        def wait() -> None:
            killed.append(supervisor.now())
            os.kill(above, signal.SIGKILL)
            self.assertEqual(still_there([ends, stays]), [])
            killed.append(supervisor.now())

        await deferToThread(wait)
        for name in ("ends", "stays"):
            told = float(Path(f"{path}-{name}").read_text())
            self.assertLess(told, killed[1])
        # Both are told after the supervisor was killed; when they note it is the system's choice.
        self.assertGreater(killed[1] - killed[0], grace * 0.9)

    async def test_fork_server_ends_strays_of_a_killed_supervisor(self) -> None:
        """The fork server ends it."""
        await self.check(await self.gateway(), STRAY_GRACE)

    async def test_process_above_ends_strays_of_a_killed_supervisor(self) -> None:
        """So does the process above a supervisor that no fork server has forked."""
        gw = await self.gateway(fork=False)
        await self.check(gw, supervisor.REST_GRACE)


class TwoForkServers(ForkServerCase):
    """Two fork servers, one behind the other, that are killed within microseconds."""

    timeout = 120

    async def test_two_fork_servers_killed_at_once_leave_nothing(self) -> None:
        """Nothing is left, whichever is the first."""
        for turn in range(ROUNDS):
            async with pycomnet.Group(self.reactor) as group:
                outer = await group.makegateway("popen//fork=yes//id=outer")
                python = [sys.executable, "-X", "hop=2"]
                inner = await group.makegateway("popen//via=outer", python=python)
                sleepers = [await gw.remote_exec(start_sleeper).receive() for gw in (outer, inner)]
                [first] = self.supervisors()
                second = self.behind(first)
                pids = {first, second, *sleepers} | self.below(first)
                for pid in (first, second) if turn % 2 else (second, first):
                    os.kill(pid, signal.SIGKILL)
                await self.assert_gone(*pids)

    def behind(self, server: int) -> int:
        """The fork server that is behind one."""
        [found] = [pid for pid in children(server) if b"hop=2" in command_line(pid)]
        return found

    def below(self, pid: int) -> set[int]:
        """All below a process."""
        found = children(pid)
        return found.union(*(self.below(child) for child in found))
