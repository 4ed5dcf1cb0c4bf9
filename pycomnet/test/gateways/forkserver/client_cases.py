"""What gateways of one fork server don't share; how the fork server comes and goes."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.internet.task import deferLater

import pycomnet
from pycomnet.channels.channel import Channel
from pycomnet.gateways.forkserver import client, local
from pycomnet.gateways.spec import STARTUP
from pycomnet.test.gateways.forkserver.case import ForkServerCase, fingerprint
from pycomnet.test.processes import children, stop
from pycomnet.test.waiting import until


def descriptors() -> dict[str, str]:
    """What this process has open."""
    links = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links[name] = os.readlink(f"/proc/self/fd/{name}")
    return links


class NotShared(ForkServerCase):
    """What a fork would share, and these don't."""

    async def test_forked_process_is_as_if_started_alone(self) -> None:
        """Signal handlers, descriptors, session, arguments ... are as if it was started alone."""
        alone = await self.gateway(fork=False)
        expected = await alone.remote_exec(fingerprint).receive()
        forked = [await self.gateway() for _ in range(3)]
        for gw in forked:
            got = await gw.remote_exec(fingerprint).receive()
            # The connection's pipes have numbers of their own.
            for links in (got["links"], expected["links"]):
                links[:] = sorted(link.partition(":")[0] for link in links)
            self.assertEqual(got, expected)

    async def test_forked_gateways_have_random_numbers_of_their_own(self) -> None:
        """Each has random numbers of its own, also where the module was loaded before."""
        gateways = [await self.gateway() for _ in range(3)]
        numbers = [await gw.call("random:random") for gw in gateways]
        self.assertEqual(len(set(numbers)), 3)

    async def test_random_module_loaded_before_is_reseeded(self) -> None:
        """A generator that the supervisor had is seeded anew."""
        python = [sys.executable, "-X", "importtime=0"]
        self.patch(local, "STARTUP", (*STARTUP, "PYCOMNET_TEST"))
        script = Path(self.mktemp()).absolute()
        script.mkdir()
        (script / "sitecustomize.py").write_text("import random\nrandom.seed(1)\n")
        options = {"python": python, "env": {"PYTHONPATH": str(script)}}
        gateways = [await self.gateway(**options) for _ in range(2)]
        self.assertEqual(len(self.supervisors()), 1)
        one, two = [await gw.call("random:random") for gw in gateways]
        self.assertNotEqual(one, two)

    async def test_directory_is_the_near_sides_at_that_time(self) -> None:
        """The working directory is the near side's at that time."""
        await self.gateway()
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory)
        gw = await self.gateway()
        self.assertEqual(await gw.call("os:getcwd"), str(directory))
        await gw.remote_exec("import os; os.chdir('/')").waitclose()
        self.assertEqual(await (await self.gateway()).call("os:getcwd"), str(directory))

    async def test_umask_is_the_near_sides_at_that_time(self) -> None:
        """So is the umask: what a program makes private its gateways make private."""
        source = "import os; mask = os.umask(0); os.umask(mask); channel.send(mask)"
        self.addCleanup(os.umask, os.umask(0o022))
        await self.gateway()
        for mask in (0o077, 0o002, 0o022):
            os.umask(mask)
            gw = await self.gateway()
            self.assertEqual(await gw.remote_exec(source).receive(), mask)
            self.assertEqual(os.umask(mask), mask)
        self.assertEqual(len(self.supervisors()), 1)

    async def test_environment_is_the_near_sides_at_that_time(self) -> None:
        """So is the environment, and what one changes no other has."""
        first = await self.gateway()
        self.patch(os, "environ", {**os.environ, "PYCOMNET_NEW": "\udcff new"})
        os.environ.pop("HOME", None)
        second = await self.gateway(env={"PYCOMNET_OWN": "x"})
        self.assertEqual(self.fork_server_of(first), self.fork_server_of(second))
        names = ("PYCOMNET_NEW", "HOME", "PYCOMNET_OWN")
        got = [await second.call("os:getenv", name) for name in names]
        self.assertEqual(got, ["\udcff new", None, "x"])
        source = "import subprocess; channel.send(subprocess.check_output('env'))"
        env = await second.remote_exec(source).receive()
        self.assertIn(b"PYCOMNET_NEW=\xff new\n", env)
        self.assertNotIn(b"\nHOME=", env)
        third = await self.gateway()
        self.assertIsNone(await third.call("os:getenv", "PYCOMNET_OWN"))

    async def test_interpreter_variables_take_another_fork_server(self) -> None:
        """What an interpreter reads when it starts takes another one."""
        gateways = [await self.gateway(env={"PYTHONHASHSEED": seed}) for seed in ("1", "2", "1")]
        self.assertEqual(len(self.supervisors()), 2)
        hashes = [await gw.call("builtins:hash", "x") for gw in gateways]
        self.assertEqual(hashes[0], hashes[2])
        self.assertNotEqual(hashes[0], hashes[1])

    async def test_forked_gateways_share_no_modules(self) -> None:
        """What one imports or sets, no other has."""
        one = await self.gateway()
        await one.remote_exec("import sys, decimal; sys.own = 1").waitclose()
        two = await self.gateway()
        source = "import sys; channel.send([hasattr(sys, 'own'), 'decimal' in sys.modules])"
        self.assertEqual(await two.remote_exec(source).receive(), [False, False])

    async def test_output_comes_under_each_gateways_own_name(self) -> None:
        """What each prints comes under its own name, from C and child processes too."""
        gateways = [await self.gateway(id=f"w{n}") for n in range(3)]
        source = "import os; print(word); os.write(1, word.encode()); os.system('echo ' + word)"
        for gw in gateways:
            await gw.remote_exec(source, word=f"-{gw.id}-").waitclose()
        for gw in gateways:
            await self.until_printed(f"-{gw.id}--{gw.id}-\n", 2)
        for output in self.outputs:
            self.assertEqual(output.text.replace("\n", "").replace(f"-{output.gateway}-", ""), "")


class Supervisors(ForkServerCase):
    """How a supervisor comes and goes."""

    async def test_gateways_of_an_interpreter_share_a_fork_server(self) -> None:
        """All gateways of an interpreter have one; another interpreter has another."""
        await self.group.makegateways([self.spec] * 5)
        self.assertEqual(len(self.supervisors()), 1)
        await self.gateway(python=[sys.executable, "-O"])
        self.assertEqual(len(self.supervisors()), 2)
        await self.gateway(fork=False)
        self.assertEqual(len(self.supervisors()), 2)
        pids = self.supervisors()
        await self.group.terminate()
        self.assertEqual(self.supervisors(), set())
        await self.assert_gone(*pids)
        self.assertEqual(await (await self.gateway()).call("operator:add", 1, 2), 3)

    async def test_only_a_first_gateway_is_started_alone(self) -> None:
        """Of several that are started together none is started alone; one that is the first is."""
        before = children(os.getpid())
        together = await self.group.makegateways(["popen"] * 3)
        self.assertEqual(len({self.fork_server_of(gw) for gw in together}), 1)
        self.assertEqual(children(os.getpid()) - before, self.supervisors())
        await self.group.terminate()
        async with pycomnet.Group(self.reactor) as group:
            await group.makegateway("popen")
            self.assertEqual(self.supervisors(), set())
        async with pycomnet.Group(self.reactor) as group:
            await group.makegateways(["popen"])
            self.assertEqual(self.supervisors(), set())

    async def test_senseless_request_fails_alone(self) -> None:
        """A request that makes no sense fails; the fork server and its gateways go on."""
        gw = await self.gateway()
        near = self.fork_server_of(gw).link.connection
        channel = Channel(near.open("start", near.encode({"config": {}})), self.fork_server_of(gw))
        error = await self.failure(channel.waitclose(), pycomnet.RemoteError)
        self.assertIn("Error: ", str(error))
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)
        self.assertEqual(await (await self.gateway()).call("operator:add", 1, 2), 3)

    async def test_worker_unwanted_before_its_fork_is_gone(self) -> None:
        """A worker that nobody wants any more before it was forked is gone at once."""
        gw = await self.gateway()
        [server] = self.supervisors()
        [supervisor] = children(server)
        near = self.fork_server_of(gw).link.connection
        for _ in range(20):
            io = Channel(near.open("channel", raw=True), self.fork_server_of(gw))
            asked = {"config": {"id": "unwanted"}, "io": io}
            near.open("start", near.encode(asked)).close()
        other = await self.gateway()  # is asked for after those, and so is there after them
        self.assertEqual(await other.call("operator:add", 1, 2), 3)
        await other.exit()
        # One more is in reserve for the next of their kind, and stays for twenty seconds.
        while len(children(server) - {supervisor}) > 1:
            await deferLater(self.reactor, 0.01)

    async def test_idle_fork_server_ends_after_a_while(self) -> None:
        """One without gateways stays for a while, and then ends."""
        self.patch(client, "IDLE_TIMEOUT", 0.01)
        gw = await self.gateway()
        ended = self.fork_server_of(gw).link.transport.when_ended()
        other = await self.gateway()
        await gw.exit()
        self.assertEqual(await other.call("operator:add", 1, 2), 3)
        self.assertNoResult(ended)
        await other.exit()
        await ended
        self.assertEqual(await (await self.gateway()).call("operator:add", 1, 2), 3)

    async def test_fork_server_used_again_in_time_stays(self) -> None:
        """One that is used again in time stays."""
        gw = await self.gateway()
        [supervisor] = self.supervisors()
        await gw.exit()
        again = await self.gateway()
        self.assertEqual(self.supervisors(), {supervisor})
        self.assertIsNone(self.fork_server_of(again)._idle)

    async def test_interpreter_without_fork_is_started_each_time(self) -> None:
        """An interpreter that can't fork is started for each gateway, and not asked twice."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        (directory / "sitecustomize.py").write_text("import os\ndel os.fork\n")
        env = {"PYTHONPATH": str(directory)}
        for _ in range(2):
            gw = await self.gateway(env=env)
            self.assertEqual(await gw.call("operator:add", 1, 2), 3)
            self.assertEqual(self.supervisors(), set())
        self.assertEqual(len(self.group.fork_servers.without_fork), 1)

    async def test_fork_server_without_descriptors_forwards_bytes(self) -> None:
        """A fork server that can't be given descriptors forks, too, and forwards the bytes."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        script = "import _socket\n_socket.socket = type('socket', (), {})\n"
        (directory / "sitecustomize.py").write_text(script)
        env = {"PYTHONPATH": str(directory), "PYCOMNET_OWN": "x"}
        gw = await self.gateway(env=env)
        self.assertIsNone(self.fork_server_of(gw).descriptor_socket)
        self.assertEqual(await gw.call("os:getenv", "PYCOMNET_OWN"), "x")
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory)
        other = await self.gateway(env=env)
        self.assertEqual(await other.call("os:getcwd"), str(directory))
        self.assertEqual(len(self.supervisors()), 1)

    async def test_worker_of_a_killed_supervisor_ends_alone(self) -> None:
        """A worker whose own supervisor is killed ends, even while that of its place is stopped."""
        gw = await self.gateway()
        [server] = self.supervisors()
        [supervisor] = children(server)
        [worker] = children(supervisor)
        stop(server)
        try:
            os.kill(supervisor, signal.SIGKILL)
            await self.assert_gone(worker)
        finally:
            os.kill(server, signal.SIGCONT)
        await self.failure(gw.call("os:getpid"), pycomnet.ConnectionLost)

    async def test_cancelled_start_leaves_the_fork_server_to_others(self) -> None:
        """Cancelling one that waits for the supervisor leaves it to the others."""
        one, two = self.group.makegateway(self.spec), self.group.makegateway(self.spec)
        one.cancel()
        await self.failure(one, defer.CancelledError)
        self.assertEqual(await (await two).call("operator:add", 1, 2), 3)

    async def test_missing_descriptors_fail_the_start_with_the_reason(self) -> None:
        """A fork server without a descriptor-passing socket is not started: the error says why."""

        def refuse(*args: Any) -> Any:
            raise OSError(errno.EMFILE, "Too many open files")

        patched = self.patch(socket, "socketpair", refuse)
        error = await self.failure(
            self.group.makegateway("popen//fork=yes"), pycomnet.GatewayNotStarted
        )
        self.assertIn("Too many open files", str(error))
        patched.restore()
        gw = await self.group.makegateway("popen//fork=yes")
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)

    async def test_fork_server_that_ends_while_its_socket_is_full_fails_the_start(self) -> None:
        """Who waits for room in its socket gets an error of the gateway's start."""
        gw = await self.gateway()
        transport: Any = gw.link.transport
        fork_server = transport.fork_server

        def full(fds: list[int]) -> int:
            fork_server._close_descriptor_socket()
            del fork_server.send
            raise BlockingIOError

        fork_server.send = full
        error = await self.failure(self.group.makegateway(self.spec), pycomnet.GatewayNotStarted)
        self.assertIn("the fork server was ended", str(error))

    async def test_70_gateways_at_once_leave_no_descriptors(self) -> None:
        """More at once than may be asked for at a time; each has descriptors of its own."""
        # The reactor's own are there once it has run threads.
        await self.gateway()
        await self.group.terminate()
        await deferLater(self.reactor, 0)
        before = descriptors()
        gateways = await self.group.makegateways([self.spec] * 70, parallel=70)
        pids = await defer.gatherResults([gw.call("os:getpid") for gw in gateways])
        self.assertEqual(len(set(pids)), 70)
        await self.group.terminate()

        def left() -> Counter[str]:
            # Numbers are used again, pipes are others; what another test left may be closed by now.
            now, then = (
                Counter(x.partition("[")[0] for x in y.values()) for y in (descriptors(), before)
            )
            return now - then

        # A number is given back only when no other event of its turn can be taken for it.
        await until(lambda: not left(), "no more descriptors are open than before")

    async def test_failed_starts_are_told_together(self) -> None:
        """Those that fail are told of together; a follower waits for its master, and fails so."""
        told: list[Any] = []
        specs = [
            "popen//via=b//id=c",
            "popen//python=/no/such//id=a",
            "popen//id=b",
            "popen//via=a//id=d",
        ]
        making = self.group.makegateways(specs, progress=told.append)
        error = await self.failure(making, pycomnet.GatewaysNotStarted)
        self.assertEqual([gw and gw.id for gw in error.gateways], ["c", None, "b", None])
        self.assertEqual([spec.id for spec, _ in error.failed], ["a", "d"])
        self.assertIn("2 of 4 gateways could not be started:\n", str(error))
        self.assertIn("there is no gateway 'a' in this group", str(error))
        self.assertEqual({progress.id for progress in told}, {"a", "b", "c", "d"})
        self.assertEqual([progress.done for progress in told], [1, 2, 3, 4])
        self.assertEqual(await error.gateways[0].call("operator:add", 1, 2), 3)

    async def test_cancelled_makegateways_ends_all_that_start(self) -> None:
        """Cancelling ends those that are being started."""
        making = self.group.makegateways(["popen"] * 3)
        making.cancel()
        await self.failure(making, defer.CancelledError)
        self.assertEqual(len(self.group), 0)
