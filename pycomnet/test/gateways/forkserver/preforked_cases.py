"""A pre-forked worker: it is as others are, and it leaves when nobody asks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.internet.task import deferLater

import pycomnet
from pycomnet.test.gateways.forkserver.case import ForkServerCase, fingerprint
from pycomnet.test.processes import children, stop
from pycomnet.test.waiting import until

#: A program whose fork server has a pre-forked worker.
PROGRAM = """
import time
from pycomnet import blocking
with blocking.Group() as group:
    group.makegateway("popen//fork=yes//id=first")
    group.makegateway("popen//via=first")
    print("ready", flush=True)
    time.sleep(1000)
"""


class PreforkedCase(ForkServerCase):
    """Gateways that were pre-forked workers."""

    spec = "popen//via=first"

    async def reserve(self) -> int:
        """Have the fork server keep one; its process id."""
        await self.group.makegateway("popen//fork=yes//id=first")
        await self.gateway()
        return await self.in_reserve()

    async def in_reserve(self, *taken: int) -> int:
        """Wait until there is a worker in reserve; its process id.

        :param taken: what was one before, and may still be there.
        """
        [preforked] = await until(
            lambda: self.preforked_workers() - {*taken}, "a worker is in reserve"
        )
        return preforked

    def preforked_workers(self) -> set[int]:
        """The workers of the fork server that are no gateway's."""
        [server] = self.supervisors()
        known = {gateway.info["pid"] for gateway in self.group}
        workers = {pid for supervisor in children(server) for pid in children(supervisor)}
        return workers - known

    def descendants(self, pid: int) -> set[int]:
        """A process and all below it."""
        return {pid}.union(*(self.descendants(child) for child in children(pid)))

    async def taken(self, *before: int, **options: Any) -> pycomnet.Gateway:
        """A gateway that is the worker in reserve, which these were before it."""
        preforked = await self.in_reserve(*before)
        gateway = await self.gateway(**options)
        self.assertEqual(gateway.info["pid"], preforked)
        return gateway


class NotShared(PreforkedCase):
    """What a fork would share, and these don't."""

    async def test_preforked_process_is_as_if_started_alone(self) -> None:
        """Signal handlers, descriptors, session, arguments ... are as if it was started alone."""
        await self.reserve()
        alone = await self.group.makegateway("popen//fork=no")
        expected = await alone.remote_exec(fingerprint).receive()
        gateway = await self.taken()
        got = await gateway.remote_exec(fingerprint).receive()
        for links in (got["links"], expected["links"]):
            links[:] = sorted(link.partition(":")[0] for link in links)
        self.assertEqual(got, expected)

    async def test_preforked_workers_have_random_numbers_of_their_own(self) -> None:
        """Each has random numbers of its own."""
        await self.reserve()
        gateways = [await self.taken() for _ in range(3)]
        numbers = [await gateway.call("random:random") for gateway in gateways]
        self.assertEqual(len(set(numbers)), 3)

    async def test_preforked_worker_takes_the_options_asked_for(self) -> None:
        """It has the environment, directory, priority and model that are asked for."""
        await self.reserve()
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        gateway = await self.taken(
            env={"PYCOMNET_OWN": "x"}, chdir=str(directory), nice=3, execmodel="main_thread_only"
        )
        self.assertEqual(await gateway.call("os:getenv", "PYCOMNET_OWN"), "x")
        self.assertEqual(await gateway.call("os:getcwd"), str(directory))
        self.assertEqual(await gateway.call("os:nice", 0), os.nice(0) + 3)
        self.assertEqual((await gateway.remote_status())["execmodel"], "main_thread_only")
        after = await self.taken()
        self.assertIsNone(await after.call("os:getenv", "PYCOMNET_OWN"))
        self.assertEqual(await after.call("os:getcwd"), os.getcwd())

    async def test_preforked_workers_errors_and_output_are_its_own(self) -> None:
        """What can't be done for it is said as ever, and what it prints comes under its name."""
        first = await self.reserve()
        failed = await self.failure(self.gateway(chdir="/no/such"), pycomnet.GatewayNotStarted)
        self.assertIn("/no/such", str(failed))
        gateway = await self.taken(first, id="printing")
        await gateway.remote_exec("print('from the reserve')").waitclose()
        await self.until_printed("from the reserve\n")
        printed = [output.gateway for output in self.outputs if output.stream == 1]
        self.assertEqual(set(printed), {"printing"})
        channel = gateway.remote_exec("def f():\n    raise ValueError('x')\nf()\n")
        error = await self.failure(channel.waitclose(), pycomnet.RemoteError)
        self.assertIn("<remote_exec 2>", str(error))


class Ending(PreforkedCase):
    """How it leaves."""

    async def test_first_gateway_has_no_preforked_worker(self) -> None:
        """A fork server with one gateway has none, nor one whose gateways are of this machine."""
        await self.group.makegateway("popen//fork=yes//id=first")
        await self.group.makegateway("popen")
        gateway = await self.group.makegateway("popen")
        self.assertEqual(await gateway.call("operator:add", 1, 2), 3)
        self.assertEqual(self.preforked_workers(), set())

    async def test_worker_killed_when_taken_is_replaced(self) -> None:
        """One that dies when it is taken, before it knows for what: another takes its place."""
        preforked = await self.reserve()
        stop(preforked)  # it reads nothing any more
        making = defer.ensureDeferred(self.gateway(env={"PYCOMNET_OWN": "x"}))
        while self.preforked_workers() == {preforked}:  # until the fork server has the next
            await deferLater(self.reactor, 0.01)
        self.assertFalse(making.called)
        os.kill(preforked, signal.SIGKILL)
        gateway = await making
        self.assertNotEqual(gateway.info["pid"], preforked)
        self.assertEqual(await gateway.call("os:getenv", "PYCOMNET_OWN"), "x")

    async def test_killed_preforked_worker_is_forgotten(self) -> None:
        """One that somebody kills is forgotten, and the next gateway is forked."""
        preforked = await self.reserve()
        [server] = self.supervisors()
        os.kill(preforked, signal.SIGKILL)
        while len(children(server)) > len(self.group):  # until the fork server knows
            await deferLater(self.reactor, 0.01)
        gateway = await self.gateway()
        self.assertNotEqual(gateway.info["pid"], preforked)
        self.assertEqual(await gateway.call("operator:add", 1, 2), 3)

    async def test_preforked_worker_ends_with_its_fork_server(self) -> None:
        """It goes with its fork server."""
        await self.reserve()
        [server] = self.supervisors()
        pids = self.descendants(server)
        await self.group.terminate()
        await self.assert_gone(*pids)

    async def test_preforked_worker_ends_with_a_killed_near_side(self) -> None:
        """It goes when the program that the fork server is for is killed."""
        near = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
        self.addCleanup(near.communicate)
        self.addCleanup(near.kill)
        assert near.stdout is not None
        self.assertEqual(near.stdout.readline(), b"ready\n")
        # The fork server, and of each worker and the pre-forked one the supervisor and itself.
        while len(pids := self.descendants(near.pid)) < 1 + 1 + 2 * (2 + 1):
            await deferLater(self.reactor, 0.01)
        near.kill()
        await self.assert_gone(*pids - {near.pid})

    async def test_preforked_worker_ends_with_a_killed_fork_server(self) -> None:
        """It goes when its fork server is killed."""
        preforked = await self.reserve()
        [server] = self.supervisors()
        pids = self.descendants(server)
        self.assertIn(preforked, pids)
        os.kill(server, signal.SIGKILL)
        await self.assert_gone(*pids)
