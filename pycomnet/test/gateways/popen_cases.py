"""Popen gateways: the suite, and starting local processes.

All of it runs real processes: pycomnet/test/system/test_popen.py has trial run it, and what looks
for unit tests does not find it.
"""

from __future__ import annotations

import os
import resource
import shlex
import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet import defer

import pycomnet
from pycomnet.gateways.spec import Spec
from pycomnet.test.gateways import suite
from pycomnet.test.gateways.case import GatewayCase

globals().update(suite.cases("Popen", "popen", __name__))


class PopenCase(GatewayCase):
    """What the cases below have in common."""

    async def not_started(self, spec: str, **options: Any) -> pycomnet.GatewayNotStarted:
        """The error that making a gateway fails with; the group is left as it was."""
        making = self.group.makegateway(spec, **options)
        error = await self.failure(making, pycomnet.GatewayNotStarted)
        assert isinstance(error, pycomnet.GatewayNotStarted)
        self.assertEqual(len(self.group), 0)
        return error

    def script(self, text: str) -> str:
        """An executable shell script."""
        path = Path(self.mktemp()).absolute()
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return str(path)


class Options(PopenCase):
    """What the keys of a spec do."""

    async def test_chdir(self) -> None:
        """``chdir`` is where the far side works, relative to the near side's directory."""
        directory = Path(self.mktemp())
        directory.mkdir()
        gw = await self.gateway(chdir=str(directory))
        self.assertEqual(await gw.call("os:getcwd"), str(directory.resolve()))

    async def test_chdir_missing(self) -> None:
        """A directory that isn't there is named in the error."""
        error = await self.not_started("popen", chdir="/no/such/directory")
        self.assertIn("/no/such/directory", str(error))
        self.assertEqual(error.exit_status, 2)

    async def test_env(self) -> None:
        """``env:NAME`` sets a variable beside those that the near side has."""
        gw = await self.group.makegateway("popen//env:PYCOMNET_A=1", env={"PYCOMNET_B": "x//y= z"})
        got = [await gw.call("os:getenv", name) for name in ("PYCOMNET_A", "PYCOMNET_B", "PATH")]
        self.assertEqual(got, ["1", "x//y= z", os.environ["PATH"]])

    async def test_nice(self) -> None:
        """``nice`` is added to the near side's niceness."""
        gw = await self.group.makegateway("popen//nice=3")
        self.assertEqual(await gw.call("os:nice", 0), min(os.nice(0) + 3, 19))

    async def test_python(self) -> None:
        """``python`` in a text is split as a shell does, as an option it is a list of arguments."""
        words = [sys.executable, "-X", "an option=with a space", "-O"]
        self.assertEqual(Spec.parse(f"popen//python={shlex.join(words)}").python, tuple(words))
        gw = await self.gateway(python=words)
        source = "import sys; channel.send([sys._xoptions, __debug__])"
        got = await gw.remote_exec(source).receive()
        self.assertEqual(got, [{"an option": "with a space"}, False])

    async def test_python_is_a_path(self) -> None:
        """``python`` as an option is a path as it is, whatever is in it; the error says so."""
        path = Path(self.mktemp()).absolute() / "a blank 'and' quotes"
        path.parent.mkdir()
        path.symlink_to(self.script(f'exec "{sys.executable}" "$@"'))
        for python in (str(path), path, [path.as_posix(), "-O"]):
            gw = await self.gateway(python=python)
            self.assertEqual(await gw.call("operator:add", 1, 2), 3)
        making = self.group.makegateway("popen", python=f"{sys.executable} -O")
        error = await self.failure(making, pycomnet.GatewayNotStarted)
        self.assertIn("list of it and its arguments", str(error))

    async def test_wrapped(self) -> None:
        """A script that starts the interpreter and stays is ended with it."""
        script = self.script(f'"{sys.executable}" "$@"; echo after >&2; exit 4')
        gw = await self.gateway(python=script, fork=True)
        source = "import os; channel.send([os.getpid(), os.getppid()]); channel.receive()"
        ids = await gw.remote_exec(source).receive()
        place = cast(Any, gw._link.carrier).place
        await self.group.terminate()
        await self.assert_gone(*ids, place.link.carrier.process.pid)

    async def test_fork(self) -> None:
        """The first is started alone, those after it are forked, but for ``fork=no``."""
        source = "import os; channel.send([os.getppid(), os.getpid()]); channel.receive()"
        options = (None, None, None, False, True)
        gateways = [await self.gateway(fork=fork) for fork in options]
        places = [cast(Any, gw._link.carrier).place for gw in (*gateways[:3], gateways[4])]
        self.assertIsNone(places[0])
        self.assertIsNotNone(places[1])
        self.assertEqual(places[1:], [places[1]] * 3)
        self.assertNotIsInstance(gateways[3]._link.carrier, type(gateways[1]._link.carrier))
        ids = [await gw.remote_exec(source).receive() for gw in gateways]
        await self.group.terminate()
        await self.assert_gone(*(pid for pair in ids for pid in pair))

    async def test_no_standard_error(self) -> None:
        """Far code that closes the standard error, or whose disk is full, harms only itself."""
        gw = await self.gateway()
        source = """
        import os, sys
        os.close(2)
        print("printed")
        print("an error", file=sys.stderr)
        channel.send(1)
        with open("/dev/full", "w") as full:
            full.write("x" * 10)
        """
        channel = gw.remote_exec(source)
        self.assertEqual(await channel.receive(), 1)
        error = await self.failure(channel.receive(), pycomnet.RemoteError)
        self.assertIn("No space left", error.message)
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)
        self.assertEqual((self.printed(1), self.printed(2)), ("printed\n", "an error\n"))


class NotStarted(PopenCase):
    """What is no interpreter, or none that works, is told with what it said."""

    async def test_missing(self) -> None:
        """No such program."""
        error = await self.not_started("popen//python=/no/such/python")
        self.assertIn("/no/such/python", str(error))
        self.assertIn("No such file", str(error))

    async def test_not_executable(self) -> None:
        """A file that may not be run."""
        path = Path(self.mktemp()).absolute()
        path.write_text("")
        self.assertIn("Permission denied", str(await self.not_started(f"popen//python={path}")))

    async def test_no_program(self) -> None:
        """A file that the system can't run."""
        path = Path(self.mktemp()).absolute()
        path.write_bytes(b"\0\1\2")
        path.chmod(0o755)
        self.assertIn("Exec format", str(await self.not_started(f"popen//python={path}")))

    async def test_cat(self) -> None:
        """A program that refuses the arguments: its status and what it said."""
        error = await self.not_started("popen//python=/bin/cat")
        self.assertEqual(error.exit_status, 1)
        self.assertIn("exited with status 1", str(error))
        self.assertIn("invalid option", error.stderr)
        self.assertIn("invalid option", str(error))

    async def test_echo(self) -> None:
        """A program that prints something else."""
        error = await self.not_started("popen//python=/bin/echo")
        self.assertIn("before its hello it had printed:\n-c import", str(error))

    async def test_mirror(self) -> None:
        """A program that sends back what it gets, the near side's hello too."""
        error = await self.not_started("popen", python=self.script("exec cat"), timeout=0.3)
        self.assertIn("no hello in 0.3 seconds", str(error))
        self.assertIn("before its hello it had printed", str(error))

    async def test_yes(self) -> None:
        """A program that prints without end."""
        error = await self.not_started("popen", python=self.script("exec yes"))
        self.assertIn("printed more than 1048576 bytes and no hello", str(error))

    async def test_noise(self) -> None:
        """A program that complains without end."""
        error = await self.not_started("popen", python=self.script("exec yes bad >&2"), timeout=0.3)
        self.assertIn("no hello in 0.3 seconds", str(error))
        self.assertIn("bad\nbad\n", error.stderr)
        self.assertLess(len(error.stderr), 1000)

    async def test_garbage_before(self) -> None:
        """A wrapper that prints before it starts the interpreter: that is shown, and it starts."""
        text = f'echo "Welcome here"; echo "a banner" >&2; exec {sys.executable} "$@"'
        for fork in (True, False):
            self.outputs.clear()
            gw = await self.gateway(python=self.script(text), fork=fork)
            self.assertEqual(await gw.call("operator:add", 1, 2), 3)
            await gw.exit()
            self.assertIn("Welcome here\n", self.printed(2))
            self.assertIn("a banner\n", self.printed(2))

    async def test_sitecustomize(self) -> None:
        """What ``sitecustomize`` prints, also what stays in a buffer, is shown, too."""
        site = Path(self.mktemp()).absolute()
        site.mkdir()
        (site / "sitecustomize.py").write_text("print('custom site')")
        await self.group.makegateway("popen", id="master")
        for spec in ("popen//fork=yes", "popen//fork=no", "popen//via=master"):
            for number, flush in enumerate(("", "1")):
                self.outputs.clear()
                env = {"PYTHONPATH": str(site), "PYTHONUNBUFFERED": flush}
                python = None
                if "via" in spec:  # another machine's environment is what it is started with there
                    python = ["env", f"PYTHONPATH={site}", sys.executable, "-X", f"n={number}"]
                gw = await self.group.makegateway(spec, env=env, python=python)
                self.assertEqual(await gw.call("operator:add", 1, 2), 3)
                await gw.exit()
                self.assertEqual(self.printed(2), "custom site\n", (spec, flush))

    async def test_binary_garbage(self) -> None:
        """What looks like the longest of frames."""
        text = r"printf '\377\377\377\377\000\000\000\000\000'; exec sleep 1000"
        error = await self.not_started("popen", python=self.script(text), timeout=0.3)
        self.assertIn("no hello in 0.3 seconds", str(error))

    async def test_half_a_hello(self) -> None:
        """The beginning of a hello, and then its end."""
        text = r"printf '\000\000\000\100\000\000\000\000\000PYCOMNET'; exit 9"
        error = await self.not_started("popen", python=self.script(text))
        self.assertEqual(error.exit_status, 9)

    async def test_hangs(self) -> None:
        """A program that says nothing, and what it started, are ended after the timeout."""
        pids = Path(self.mktemp()).absolute()
        text = f"sleep 1000 & echo $$ $! >{pids}; wait"
        error = await self.not_started("popen", python=self.script(text), timeout=0.3)
        self.assertIn("no hello in 0.3 seconds", str(error))
        await self.assert_gone(*map(int, pids.read_text().split()))

    async def test_hangs_stubbornly(self) -> None:
        """The same for one that can't be interrupted or terminated."""
        pids = Path(self.mktemp()).absolute()
        text = f"trap '' TERM INT HUP; echo $$ >{pids}; while :; do sleep 1; done"
        self.patch(sys.modules["pycomnet.gateways.gateway"], "EXIT_TIMEOUT", 0.3)
        error = await self.not_started("popen", python=self.script(text), timeout=0.3)
        self.assertIn("no hello", str(error))
        await self.assert_gone(int(pids.read_text()))

    async def test_leaves_something(self) -> None:
        """What it started before it failed is ended, too."""
        pids = Path(self.mktemp()).absolute()
        await self.not_started("popen", python=self.script(f"sleep 1000 & echo $! >{pids}; exit 1"))
        await self.assert_gone(int(pids.read_text()))

    async def test_broken_python(self) -> None:
        """An interpreter that can't import its own library says so."""
        python = ["env", "-u", "PYTHONPATH", "PYTHONHOME=/nowhere", sys.executable]
        error = await self.not_started("popen", python=python)
        self.assertEqual(error.exit_status, 1)
        self.assertIn("encodings", str(error))

    async def test_output_too(self) -> None:
        """What it said on standard error is also shown as output."""
        await self.not_started("popen//python=/bin/cat//id=cat")
        self.assertIn("invalid option", self.printed(2))
        self.assertEqual({output.gateway for output in self.outputs}, {"cat"})

    async def test_cancelled(self) -> None:
        """Cancelling ``makegateway`` ends a process that hangs."""
        pids = Path(self.mktemp()).absolute()
        fifo = str(pids) + ".fifo"
        os.mkfifo(fifo)
        making = self.group.makegateway("popen", python=self.script(f"echo $$ >{fifo}; sleep 1000"))
        with open(fifo) as started:
            pid = int(started.read())
        making.cancel()
        await self.failure(making, defer.CancelledError)
        await self.assert_gone(pid)

    async def test_no_descriptors(self) -> None:
        """Running out of descriptors is an error of making a gateway, and of nothing else."""
        gw = await self.gateway()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2, hard))
        try:
            making = self.group.makegateway("popen")
            error = await self.failure(making, pycomnet.GatewayNotStarted)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.assertIn("Too many open files", str(error))
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)
        self.assertEqual(len(os.listdir("/proc/self/fd")), used)

    async def test_misspelt(self) -> None:
        """A misspelt key suggests the right one, and starts nothing."""
        making = self.group.makegateway("popen//chdri=/tmp")
        error = await self.failure(making, pycomnet.SpecError)
        self.assertIn("did you mean 'chdir'", str(error))
