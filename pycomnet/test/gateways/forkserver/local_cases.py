"""A fork server that is started before there is a group."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from pycomnet.gateways.forkserver.local import EarlyForkServer, Imports
from pycomnet.test.gateways.forkserver.case import ForkServerCase


class Early(ForkServerCase):
    """Who gets it, and how it ends."""

    spec = "popen"

    def early(self, imports: Imports | None = None) -> EarlyForkServer:
        """One that this group may take."""
        imports = Imports.of(["colorsys"], sys.path) if imports is None else imports
        early = EarlyForkServer(imports)
        self.addCleanup(early.end)
        self.group.fork_servers.imports = imports
        self.group.fork_servers.early = early
        return early

    async def test_gateways_are_forked_from_it(self) -> None:
        """From the first one on; with its modules, and the present directory and environment."""
        self.addCleanup(os.umask, os.umask(0o022))
        early = self.early()
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory)
        os.umask(0o027)
        self.patch(os, "environ", {**os.environ, "PYCOMNET_NEW": "new"})
        gateways = [await self.gateway() for _ in range(2)]
        self.assertEqual(self.supervisors(), {early.process.pid})
        for gw in gateways:
            source = (
                "import os, sys; mask = os.umask(0); channel.send([os.getcwd(), mask, "
                "os.environ['PYCOMNET_NEW'], 'colorsys' in sys.modules])"
            )
            got = await gw.remote_exec(source).receive()
            self.assertEqual(got, [str(directory), 0o027, "new", True])
        early.end()  # it is the group's now
        self.assertEqual(await (await self.gateway()).call("operator:add", 1, 2), 3)
        await self.group.terminate()
        await self.assert_gone(early.process.pid)

    async def test_gateways_of_another_kind_are_not(self) -> None:
        """What an interpreter reads when it starts can't be given to a fork; it ends unused."""
        early = self.early()
        gw = await self.gateway(env={"PYTHONHASHSEED": "1"})
        source = "import sys; channel.send('colorsys' in sys.modules)"
        self.assertFalse(await gw.remote_exec(source).receive())
        await self.group.terminate()
        self.assertIsNotNone(early.process.returncode)

    async def test_it_may_have_died(self) -> None:
        """Then nobody takes it: another one is started, and nothing is left of it."""
        early = self.early()
        os.killpg(early.process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, early.process.pid, os.WEXITED | os.WNOWAIT)
        self.assertEqual(await (await self.gateway()).call("operator:add", 1, 2), 3)
        self.assertIsNotNone(early.process.returncode)
        self.assertEqual(early.socket.fileno(), -1)

    async def test_gateways_with_other_limits_are_not(self) -> None:
        """What a process inherits, and a conftest file may have changed, is that of now."""
        early = self.early()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
        gw = await self.gateway()
        got = await gw.call("resource:getrlimit", resource.RLIMIT_NOFILE)
        self.assertEqual(tuple(got), (soft - 1, hard))
        await self.group.terminate()
        self.assertIsNotNone(early.process.returncode)

    async def test_it_ends_unless_it_is_taken(self) -> None:
        """Nothing of it is left, and nobody can take it any more."""
        early = EarlyForkServer(Imports())
        early.end()
        self.assertEqual(early.process.returncode, -signal.SIGKILL)
        self.assertEqual(early.socket.fileno(), -1)
        self.assertFalse(early.take())
        early.end()
