"""Popen gateways: the suite, and starting local processes.

All of it runs real processes: pycomnet/test/system/test_popen.py has trial run it, and what looks
for unit tests does not find it.
"""

from __future__ import annotations

import importlib
import os
import resource
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from twisted.internet import defer
from twisted.internet.utils import getProcessOutputAndValue

import pycomnet
from pycomnet.errors import ProtocolViolation
from pycomnet.far import execnet
from pycomnet.gateways.modules import ModuleOffer
from pycomnet.gateways.spec import Spec
from pycomnet.test.gateways import suite
from pycomnet.test.gateways.case import GatewayCase
from pycomnet.test.processes import status_field

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

    async def not_started_in_time(
        self, text: str, begun: Callable[[pycomnet.GatewayNotStarted], bool]
    ) -> pycomnet.GatewayNotStarted:
        """The error of a script that says no hello, from a try in which it had the time to begin.

        :param begun: whether it had.
        """
        for timeout in (0.3, 3.0, 30.0):
            error = await self.not_started("popen", python=self.script(text), timeout=timeout)
            if begun(error):
                break
        self.assertIn(f"no hello in {timeout:g} seconds", str(error))
        return error

    def script(self, text: str) -> str:
        """An executable shell script."""
        path = Path(self.mktemp()).absolute()
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return str(path)


class Trust(PopenCase):
    """What a far side that can't be trusted may send."""

    async def test_too_long_or_too_many_items_end_the_gateway(self) -> None:
        """Too long a value, or one of too many items, ends its gateway with a named error, and no
        other."""
        other = await self.gateway()
        for source in (
            "channel.send(bytes(bytearray(64 << 20)))",
            "channel.send([{}] * (1 << 19))",
            "channel.send({'x': ([[]] * (1 << 19),)})",
        ):
            for options in ({"trusted": False}, {"max_value": 1 << 20, "max_items": 1 << 16}):
                gw = await self.gateway(**options)
                channel = gw.remote_exec(source)
                waiting = gw.remote_exec("channel.receive()").receive()
                error = await self.failure(channel.receive(), ProtocolViolation)
                self.assertEqual(error.code, "value")
                error = await self.failure(waiting, ProtocolViolation)
                self.assertIn("max_value and max_items", str(error))
                await gw.exit()
        self.assertEqual(await other.call("operator:add", 1, 2), 3)
        self.assertEqual(len(await other.call("operator:mul", [{}], 1 << 19)), 1 << 19)

    async def test_six_million_empty_maps_are_refused_by_default(self) -> None:
        """Six million empty maps, 6 MB on their way that would be half a gigabyte here, are refused
        without any option; a million items are not."""
        gw = await self.gateway()
        self.assertEqual(len(await gw.call("operator:mul", [None], 1 << 20)), 1 << 20)
        waiting = gw.call("operator:mul", [{}], 6_000_000)
        error = await self.failure(waiting, ProtocolViolation)
        self.assertEqual(error.code, "value")
        self.assertIn("more than 4194304 elements", str(error))

    async def test_untrusted_far_side_may_open_64_channels(self) -> None:
        """It may open few channels, which would each hold a window of what nobody takes."""
        async with pycomnet.Group(self.reactor, trusted=False) as group:
            gw = await group.makegateway("popen")
            self.assertIn("trusted=no", repr(gw))
            channel = gw.remote_exec(
                "kept = [channel.gateway.newchannel() for n in range(40)]; channel.send(len(kept))"
            )
            self.assertEqual(await channel.receive(), 40)
            source = "kept = [channel.gateway.newchannel() for n in range(100)]"
            error = await self.failure(gw.remote_exec(source).waitclose(), pycomnet.RemoteError)
            self.assertIn("the peer allows 64 open channels", str(error))
            trusting = await group.makegateway("popen//trusted=yes")
            self.assertEqual(len(await trusting.call("operator:mul", [1], 1 << 19)), 1 << 19)


class Types(PopenCase):
    """Registered types, at a real far side."""

    async def test_sent_module_registers_its_types_there(self) -> None:
        """A module is sent, registers its types there, and can be imported there."""
        name = f"coins{os.getpid()}"
        path = Path(self.mktemp())
        path.mkdir()
        (path / f"{name}.py").write_text(COINS)
        self.addCleanup(sys.modules.pop, name, None)
        sys.path.insert(0, str(path))
        self.addCleanup(sys.path.remove, str(path))
        module = importlib.import_module(name)
        module.register(pycomnet.register_type)
        gw = await self.gateway(chdir="/")
        source = f"import {name}; channel.send({name}.Coin(channel.receive().cents + 1))"
        unknown = gw.remote_exec("channel.receive()")
        await unknown.send(module.Coin(5))
        error = await self.failure(unknown.waitclose(), pycomnet.RemoteError)
        self.assertIn("register_type", error.message)
        await gw.register_types(module)
        channel = gw.remote_exec(source)
        await channel.send(module.Coin(5))
        back = await channel.receive()
        self.assertEqual((type(back), back.cents), (module.Coin, 6))
        # What is registered there alone can't be had here, and the channel goes on.
        channel = gw.remote_exec(
            "class Odd(object): pass\n"
            "channel.gateway.register_type(Odd, 'odd', lambda odd: 1, lambda value: Odd())\n"
            "channel.send(Odd())\n"
            "channel.send('next')\n"
        )
        odd = await self.failure(channel.receive(), pycomnet.ValueNotReceivable)
        self.assertIn("'odd'", str(odd))
        self.assertEqual(await channel.receive(), "next")
        async with pycomnet.Group(self.reactor, types=[module]) as group:
            for _ in range(2):
                gw = await group.makegateway("popen", chdir="/")
                channel = gw.remote_exec(source)
                await channel.send(module.Coin(1))
                self.assertEqual((await channel.receive()).cents, 2)

    async def test_module_without_register_is_refused(self) -> None:
        """A module that registers nothing is refused here; what it raises there is told."""
        gw = await self.gateway()
        error = await self.failure(gw.register_types(suite), pycomnet.CodeNotSendable)
        self.assertIn("register", str(error))


COINS = """
class Coin(object):
    def __init__(self, cents):
        self.cents = cents

def register(register_type):
    register_type(Coin, "test.coins", lambda coin: coin.cents, Coin)
"""


class Options(PopenCase):
    """What the keys of a spec do."""

    async def test_chdir_is_the_far_sides_directory(self) -> None:
        """``chdir`` is where the far side works, relative to the near side's directory."""
        directory = Path(self.mktemp())
        directory.mkdir()
        gw = await self.gateway(chdir=str(directory))
        self.assertEqual(await gw.call("os:getcwd"), str(directory.resolve()))

    async def test_missing_directory_is_named_in_the_error(self) -> None:
        """A directory that isn't there is named in the error."""
        error = await self.not_started("popen", chdir="/no/such/directory")
        self.assertIn("/no/such/directory", str(error))
        self.assertEqual(error.exit_status, 2)

    async def test_env_adds_variables_to_the_near_sides(self) -> None:
        """``env:NAME`` sets a variable beside those that the near side has."""
        gw = await self.group.makegateway("popen//env:PYCOMNET_A=1", env={"PYCOMNET_B": "x//y= z"})
        got = [await gw.call("os:getenv", name) for name in ("PYCOMNET_A", "PYCOMNET_B", "PATH")]
        self.assertEqual(got, ["1", "x//y= z", os.environ["PATH"]])

    async def test_nice_is_added_to_the_near_sides(self) -> None:
        """``nice`` is added to the near side's niceness."""
        gw = await self.group.makegateway("popen//nice=3")
        self.assertEqual(await gw.call("os:nice", 0), min(os.nice(0) + 3, 19))

    async def test_python_is_split_in_a_text_and_a_list_as_an_option(self) -> None:
        """``python`` in a text is split as a shell does, as an option it is a list of arguments."""
        words = [sys.executable, "-X", "an option=with a space", "-O"]
        self.assertEqual(Spec.parse(f"popen//python={shlex.join(words)}").python, tuple(words))
        gw = await self.gateway(python=words)
        source = "import sys; channel.send([sys._xoptions, __debug__])"
        got = await gw.remote_exec(source).receive()
        self.assertEqual(got, [{"an option": "with a space"}, False])

    async def test_python_option_is_a_path_as_it_is(self) -> None:
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

    async def test_script_around_the_interpreter_is_ended_with_it(self) -> None:
        """A script that starts the interpreter and stays is ended with it."""
        script = self.script(f'"{sys.executable}" "$@"; echo after >&2; exit 4')
        gw = await self.gateway(python=script, fork=True)
        source = "import os; channel.send([os.getpid(), os.getppid()]); channel.receive()"
        ids = await gw.remote_exec(source).receive()
        fork_server = cast(Any, gw.link.transport).fork_server
        await self.group.terminate()
        await self.assert_gone(*ids, fork_server.link.transport.process.pid)

    async def test_later_gateways_are_forked_unless_fork_is_no(self) -> None:
        """The first is started alone, those after it are forked, but for ``fork=no``."""
        source = "import os; channel.send([os.getppid(), os.getpid()]); channel.receive()"
        options = (None, None, None, False, True)
        gateways = [await self.gateway(fork=fork) for fork in options]
        fork_servers = [
            cast(Any, gw.link.transport).fork_server for gw in (*gateways[:3], gateways[4])
        ]
        self.assertIsNone(fork_servers[0])
        self.assertIsNotNone(fork_servers[1])
        self.assertEqual(fork_servers[1:], [fork_servers[1]] * 3)
        self.assertNotIsInstance(gateways[3].link.transport, type(gateways[1].link.transport))
        ids = [await gw.remote_exec(source).receive() for gw in gateways]
        await self.group.terminate()
        await self.assert_gone(*(pid for pair in ids for pid in pair))

    async def test_closed_stderr_or_full_disk_harms_that_code_alone(self) -> None:
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


class Terminated(PopenCase):
    """Groups whose gateways are started from each other."""

    async def test_gateway_on_the_way_stays_while_those_behind_complete(self) -> None:
        """A gateway that runs nothing stays until those have ended whose way leads through it."""
        first = await self.gateway()
        second = await self.group.makegateway("popen", via=first.id)
        third = await self.group.makegateway("popen", via=second.id)
        source = """
        import time
        channel.send("begun")
        time.sleep(0.3)
        channel.send("complete")
        """
        channels = [gw.remote_exec(source) for gw in (second, third)]
        for channel in channels:
            await channel.receive()
        await self.group.terminate(60)
        for channel in channels:
            self.assertEqual(await channel.receive(), "complete")


class NotStarted(PopenCase):
    """What is no interpreter, or none that works, is told with what it said."""

    async def test_missing_program_is_named(self) -> None:
        """No such program."""
        error = await self.not_started("popen//python=/no/such/python")
        self.assertIn("/no/such/python", str(error))
        self.assertIn("No such file", str(error))

    async def test_file_without_permission_is_refused(self) -> None:
        """A file that may not be run."""
        path = Path(self.mktemp()).absolute()
        path.write_text("")
        self.assertIn("Permission denied", str(await self.not_started(f"popen//python={path}")))

    async def test_file_of_unknown_format_is_refused(self) -> None:
        """A file that the system can't run."""
        path = Path(self.mktemp()).absolute()
        path.write_bytes(b"\0\1\2")
        path.chmod(0o755)
        self.assertIn("Exec format", str(await self.not_started(f"popen//python={path}")))

    async def test_program_refusing_the_arguments_is_quoted(self) -> None:
        """A program that refuses the arguments: its status and what it said."""
        error = await self.not_started("popen//python=/bin/cat")
        self.assertEqual(error.exit_status, 1)
        self.assertIn("exited with status 1", str(error))
        self.assertIn("invalid option", error.stderr)
        self.assertIn("invalid option", str(error))

    async def test_program_printing_something_else_is_quoted(self) -> None:
        error = await self.not_started("popen//python=/bin/echo")
        self.assertIn("before its hello it had printed:\n", str(error))
        self.assertTrue(str(error).rstrip().endswith("))"), "the end of what it printed")

    async def test_program_echoing_the_hello_is_no_far_side(self) -> None:
        """A program that sends back what it gets, the near side's hello too."""
        said = "before its hello it had printed"
        error = await self.not_started_in_time("exec cat", lambda error: said in str(error))
        self.assertIn(said, str(error))

    async def test_program_printing_without_end_is_given_up(self) -> None:
        error = await self.not_started("popen", python=self.script("exec yes"))
        self.assertIn("printed more than 1048576 bytes and no hello", str(error))

    async def test_program_complaining_without_end_is_cut_and_quoted(self) -> None:
        error = await self.not_started_in_time(
            "exec yes bad >&2", lambda error: "bad\nbad\n" in error.stderr
        )
        self.assertIn("bad\nbad\n", error.stderr)
        self.assertLess(len(error.stderr), 1000)

    async def test_what_a_wrapper_prints_before_the_hello_is_shown(self) -> None:
        """A wrapper that prints before it starts the interpreter: that is shown, and it starts."""
        text = f'echo "Welcome here"; echo "a banner" >&2; exec {sys.executable} "$@"'
        for fork in (True, False):
            self.outputs.clear()
            gw = await self.gateway(python=self.script(text), fork=fork)
            self.assertEqual(await gw.call("operator:add", 1, 2), 3)
            await gw.exit()
            self.assertIn("Welcome here\n", self.printed(2))
            self.assertIn("a banner\n", self.printed(2))

    async def test_what_sitecustomize_prints_is_shown(self) -> None:
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

    async def test_start_of_an_endless_frame_times_out(self) -> None:
        """What looks like the longest of frames."""
        text = r"printf '\377\377\377\377\000\000\000\000\000'; exec sleep 1000"
        error = await self.not_started("popen", python=self.script(text), timeout=0.3)
        self.assertIn("no hello in 0.3 seconds", str(error))

    async def test_exit_within_the_hello_has_its_status(self) -> None:
        """The beginning of a hello, and then its end."""
        text = r"printf '\000\000\000\100\000\000\000\000\000PYCOMNET'; exit 9"
        error = await self.not_started("popen", python=self.script(text))
        self.assertEqual(error.exit_status, 9)

    async def test_silent_program_and_its_children_are_ended(self) -> None:
        """A program that says nothing, and what it started, are ended after the timeout."""
        pids = Path(self.mktemp()).absolute()
        text = f"sleep 1000 & echo $$ $! >{pids}; wait"
        await self.not_started_in_time(text, lambda _: pids.exists() and bool(pids.read_text()))
        await self.assert_gone(*map(int, pids.read_text().split()))

    async def test_program_ignoring_signals_is_killed(self) -> None:
        """The same for one that can't be interrupted or terminated."""
        pids = Path(self.mktemp()).absolute()
        text = f"trap '' TERM INT HUP; echo $$ >{pids}; while :; do sleep 1; done"
        self.patch(sys.modules["pycomnet.gateways.transportend"], "EXIT_TIMEOUT", 0.3)
        await self.not_started_in_time(text, lambda _: pids.exists() and bool(pids.read_text()))
        await self.assert_gone(int(pids.read_text()))

    async def test_what_a_failed_program_started_is_ended(self) -> None:
        """What it started before it failed is ended, too."""
        pids = Path(self.mktemp()).absolute()
        await self.not_started("popen", python=self.script(f"sleep 1000 & echo $! >{pids}; exit 1"))
        await self.assert_gone(int(pids.read_text()))

    async def test_interpreter_without_library_says_so(self) -> None:
        """An interpreter that can't import its own library says so."""
        python = ["env", "-u", "PYTHONPATH", "PYTHONHOME=/nowhere", sys.executable]
        error = await self.not_started("popen", python=python)
        self.assertEqual(error.exit_status, 1)
        self.assertIn("encodings", str(error))

    async def test_failed_programs_stderr_is_shown_as_output(self) -> None:
        """What it said on standard error is also shown as output."""
        await self.not_started("popen//python=/bin/cat//id=cat")
        self.assertIn("invalid option", self.printed(2))
        self.assertEqual({output.gateway for output in self.outputs}, {"cat"})

    async def test_cancelled_makegateway_ends_a_hanging_process(self) -> None:
        pids = Path(self.mktemp()).absolute()
        fifo = str(pids) + ".fifo"
        os.mkfifo(fifo)
        making = self.group.makegateway("popen", python=self.script(f"echo $$ >{fifo}; sleep 1000"))
        with open(fifo) as started:
            pid = int(started.read())
        making.cancel()
        await self.failure(making, defer.CancelledError)
        await self.assert_gone(pid)

    async def test_no_free_descriptors_fails_only_the_new_gateway(self) -> None:
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

    async def test_misspelt_key_suggests_the_right_one(self) -> None:
        """A misspelt key suggests the right one, and starts nothing."""
        making = self.group.makegateway("popen//chdri=/tmp")
        error = await self.failure(making, pycomnet.SpecError)
        self.assertIn("did you mean 'chdir'", str(error))


#: What the far side itself imports, at once or when it first needs it, and what those import.
IMPORTED = (
    *("struct", "select", "threading", "types", "tokenize", "linecache", "token", "collections"),
    *("fcntl", "traceback", "socket", "os", "re", "binascii", "base64", "zlib", "mmap", "array"),
    *("signal", "functools", "contextlib", "textwrap", "codeop", "ast", "keyword", "string"),
    *("stat", "errno", "time", "copyreg", "operator", "reprlib", "heapq", "__future__", "random"),
    *("ormsgpack", "multiprocessing", "subprocess", "shlex", "hashlib", "gc", "termios"),
    *("enum", "colorsys", "io", "abc", "queue", "importlib"),
)


class Surroundings(PopenCase):
    """Where a far side is started, and what it finds there."""

    def directory(self) -> Path:
        """A directory whose modules are none."""
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        for name in IMPORTED:
            (path / f"{name}.py").write_text(f"raise RuntimeError('the user's {name}')")
        (path / "own_module.py").write_text("value = 5")
        return path

    def enter(self, path: Path) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(path)

    async def check_imports(self, spec: str, **options: Any) -> None:
        """Have a far side do all that makes it import something."""
        gw = await self.group.makegateway(spec, **options)
        code = "for n in range(3000): channel.send([n])\nundefined"
        channel, other = gw.remote_exec(code), gw.remote_exec("channel.send(1)")
        self.assertEqual(await other.receive(), 1)  # in a thread
        error = await self.failure(self.all_of(channel), pycomnet.RemoteError)
        self.assertIn("line 2, in <module>\n    undefined\n", str(error.formatted))
        # The user's code has plain Python's path.
        source = "import sys, own_module; channel.send([sys.path[0], own_module.value])"
        self.assertEqual(await gw.remote_exec(source).receive(), ["", 5])
        # Modules that are loaded after the user's code was let in.
        maker = "from _pycomnet.far.gateways import niceness; channel.send(niceness('popen', '3'))"
        self.assertEqual(await gw.remote_exec(maker).receive(), 3)
        await gw.offer_modules(ModuleOffer.far_package("execnet", execnet))
        offered = "import execnet; channel.send(execnet.loads(execnet.dumps(5)))"
        self.assertEqual(await gw.remote_exec(offered).receive(), 5)
        error = await self.failure(gw.call("colorsys:rgb_to_hsv", 1, 1, 1), pycomnet.RemoteError)
        self.assertIn("the user's colorsys", str(error))

    async def all_of(self, channel: pycomnet.Channel) -> list[Any]:
        return [value async for value in channel]

    async def test_modules_in_chdir_hide_no_others(self) -> None:
        """Files there that are named as modules of the standard library are not imported by us."""
        path = str(self.directory())
        for spec in ("popen//fork=no", "popen//fork=yes"):
            await self.check_imports(spec, chdir=path)

    async def test_modules_in_the_working_directory_hide_no_others(self) -> None:
        """Nor those in the working directory."""
        self.enter(self.directory())
        for spec in ("popen//fork=no", "popen//fork=yes"):
            await self.check_imports(spec)

    async def test_far_sides_have_the_near_sides_interpreter_flags(self) -> None:
        """Options of the near side's interpreter are those of its far sides."""
        code = """if 1:
            import sys
            from pycomnet.blocking import Group
            def flags():
                import sys
                kept = "isolated", "safe_path", "utf8_mode", "optimize", "dev_mode", "no_user_site"
                found = [getattr(sys.flags, name, None) for name in kept]
                return [found, list(sys.warnoptions), sys.path[:1] == [""]]
            here = flags()[:2]
            with Group() as group:
                for spec in ("popen", "popen"):
                    assert group.makegateway(spec).call(flags)[:2] == here, here
            print(flags())
        """
        for options in ("-I", "-s -O -W error::UserWarning", "-X utf8 -E", "-X dev"):
            script = Path(self.mktemp())
            script.write_text(code)
            argv = (*options.split(), str(script))
            _out, err, status = await getProcessOutputAndValue(sys.executable, argv, os.environ)
            self.assertEqual(status, 0, err)

    async def test_removed_working_directory_does_not_prevent_gateways(self) -> None:
        """The working directory was removed: it is what it would be for a plain Python there."""
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        await self.group.makegateway("popen//fork=yes//id=before")
        self.enter(path)
        path.rmdir()
        for spec in ("popen", "popen//fork=no", "popen//fork=yes", "popen//via=before"):
            gw = await self.group.makegateway(spec)
            self.assertEqual(await gw.call("operator:add", 1, 2), 3)
            if "via" not in spec:
                error = await self.failure(gw.call("os:getcwd"), pycomnet.RemoteError)
                self.assertEqual(error.type, "FileNotFoundError")
            gw = await self.group.makegateway(spec, chdir="/")
            self.assertEqual(await gw.call("os:getcwd"), "/")

    async def test_time_zone_is_that_of_the_environment(self) -> None:
        """``TZ`` of a spec, or of this process now, is the time zone of a forked gateway, too."""
        source = "import time; channel.send([time.timezone, time.localtime(0).tm_hour])"
        await self.group.makegateway("popen//fork=yes//id=before")
        for spec in ("popen//fork=no", "popen//fork=yes", "popen//via=before"):
            gw = await self.group.makegateway(spec, env={"TZ": "XYZ-9"})
            self.assertEqual(await gw.remote_exec(source).receive(), [-9 * 3600, 9], spec)
        with patch.dict(os.environ, TZ="XYZ-9"):
            for spec in ("popen//fork=no", "popen//fork=yes"):
                gw = await self.group.makegateway(spec)
                self.assertEqual(await gw.remote_exec(source).receive(), [-9 * 3600, 9], spec)
            # from now on a fork server has this one
            await self.group.makegateway("popen//fork=yes", env={"LC_ALL": "C"})
        with patch.dict(os.environ, TZ="UTC0"):
            gw = await self.group.makegateway("popen//fork=yes", env={"LC_ALL": "C"})
            self.assertEqual(await gw.remote_exec(source).receive(), [0, 0])

    async def test_limits_are_those_of_this_process_now(self) -> None:
        """What a process inherits is the same with and without a fork server."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        await self.group.makegateway("popen//fork=yes//id=before")
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
        for spec in ("popen//fork=no", "popen//fork=yes"):
            gw = await self.group.makegateway(spec)
            got = await gw.call("resource:getrlimit", resource.RLIMIT_NOFILE)
            self.assertEqual(tuple(got), (soft - 1, hard), spec)

    async def test_variables_too_long_for_a_process_arrive(self) -> None:
        """Variables that are too long for a process, each or together, are there all the same."""
        await self.group.makegateway("popen//fork=yes//id=before")
        one = {"BIG": "x" * 200_000}
        many = {f"BIG{number}": "x" * 100_000 for number in range(40)}
        for env in (one, many):
            for spec in ("popen//fork=no", "popen", "popen//via=before//fork=no"):
                gw = await self.group.makegateway(spec, env=env)
                for name, value in env.items():
                    self.assertEqual(await gw.call("os:getenv", name), value)
        with patch.dict(os.environ, one):  # this process's own
            for spec in ("popen//fork=no", "popen//fork=yes//python=python3"):
                gw = await self.group.makegateway(spec)
                self.assertEqual(len(await gw.call("os:getenv", "BIG")), 200_000)
        making = self.group.makegateway("popen", env={"PYTHONBIG": "x" * 200_000})
        error = await self.failure(making, pycomnet.SpecError)
        self.assertIn("the environment variable PYTHONBIG has 200010 bytes", str(error))
        making = self.group.makegateway("popen", python=[sys.executable, "-c" + "x" * 200_000])
        failed = await self.failure(making, pycomnet.GatewayNotStarted)
        self.assertIn("argument 1, of 200002 bytes", str(failed))


class Descriptors(PopenCase):
    """What far code does to descriptors, and how they arrive."""

    async def test_closed_or_replaced_descriptor_is_named_in_the_error(self) -> None:
        """Code that closes or replaces the connection's descriptor is told apart from an end."""
        replaced = "for n in range(3, 200): os.dup2(null, n)"
        for spec in ("popen//fork=no", "popen//fork=yes"):
            for code in ("os.closerange(3, 200)", "os.closerange(0, 200)", replaced):
                gw = await self.group.makegateway(spec)
                channel = gw.remote_exec(f"import os; null = os.open(os.devnull, 2)\n{code}")
                error = await self.failure(channel.waitclose(), pycomnet.GatewayDied)
                self.assertIn("closed the connection's descriptor", str(error))
            gw = await self.group.makegateway(spec)
            error = await self.failure(gw.call("os:_exit", 0), pycomnet.GatewayDied)
            self.assertIn("it exited with status 0", str(error))

    async def test_standard_descriptors_may_be_closed(self) -> None:
        """The standard descriptors are not the connection's: they may be closed."""
        for spec in ("popen//fork=no", "popen//fork=yes"):
            gw = await self.group.makegateway(spec)
            code = "import os; os.close(0); os.close(1); os.dup2(os.open(os.devnull, 2), 1)"
            await gw.remote_exec(code).waitclose()
            self.assertEqual(await gw.call("operator:add", 1, 2), 3)

    async def test_nonblocking_standard_descriptors_make_no_difference(self) -> None:
        """Standard descriptors that arrive non-blocking, or become so later, make no difference."""
        wrapper = Path(self.mktemp()).absolute()
        wrapper.write_text(
            "import os, sys\n"
            "for fd in 0, 1, 2: os.set_blocking(fd, False)\n"
            "os.execv(sys.executable, [sys.executable] + sys.argv[1:])\n"
        )
        later = (
            "import os\n"
            "io = channel.link.io\n"
            "for fd in io.read_fd, io.write_fd: os.set_blocking(fd, False)\n"
            "for value in channel: channel.send(value)\n"
        )
        for fork in (True, False):
            gw = await self.gateway(python=[sys.executable, str(wrapper)], fork=fork)
            for code in ("for value in channel: channel.send(value)", later):
                channel = gw.remote_exec(code)
                for value in (b"x" * 5_000_000, 1, [1, 2]):
                    await channel.send(value)
                    self.assertEqual(await channel.receive(), value)
                channel.close()


class KilledSupervisors(PopenCase):
    """A supervisor that is killed with SIGKILL leaves nothing, whoever is above it."""

    async def test_killing_any_process_above_leaves_nothing(self) -> None:
        """What has a session of its own, and a daemon, are ended whichever process is killed."""
        code = """if 1:
            import os, subprocess
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            out, into = os.pipe()
            if os.fork() == 0:
                os.setsid()
                daemon = os.fork()
                if daemon:
                    os.write(into, b"%d" % daemon)
                    os._exit(0)
                os.execvp("sleep", ["sleep", "1001"])
            channel.send([child.pid, int(os.read(out, 20)), os.getpid()])
            channel.receive()
        """
        for generation in range(3):  # the worker, its supervisor, what is above that
            gw = await self.group.makegateway("popen//fork=no")
            pids = await gw.remote_exec(code).receive()
            for _ in range(2):
                pids.append(status_field(pids[-1], "PPid"))
            os.kill(pids[2 + generation], signal.SIGKILL)
            await self.assert_gone(*pids)
