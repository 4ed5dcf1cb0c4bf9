"""``run``: scripts on real gateways, as the interpreter itself would run them."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from typing import Any

import attrs
from twisted.internet import defer
from twisted.trial.unittest import SkipTest

from pycomnet.cli import program
from pycomnet.cli.gatewayoutput import GatewayFiles, output_shown_by
from pycomnet.cli.program import CommandProgram
from pycomnet.cli.run import read_script, run_script
from pycomnet.cli.stdstreams import InputBlocks
from pycomnet.test.cli.case import PYPY, CommandCase


class RunCase(CommandCase):
    """A test of scripts."""

    async def run_it(
        self,
        *args: str,
        on: tuple[str, ...] = ("popen",),
        prefix: bool = True,
        timeout: float | None = None,
        files: GatewayFiles | None = None,
        elsewhere: bool = False,
        source: InputBlocks | None = None,
        **options: Any,
    ) -> int:
        """Run a script; its exit status.

        :param elsewhere: the far side has no such file and no such directory.
        """
        specs = self.specs(*on)
        script = read_script(args, **options)
        if elsewhere:
            script = attrs.evolve(script, filename="/nowhere/script.py", directory="/nowhere")

        async def main(program: CommandProgram) -> int:
            lines = output_shown_by(program, prefix, alone=len(specs) == 1)
            return await run_script(program, specs, script, lines, files, timeout, source)

        return await self.status_of(main)


POOL = """
import multiprocessing, sys
from beside import square

def work(n):
    return square(n)

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(pool.map(work, [1, 2, 3]))
"""


class Elsewhere(RunCase):
    """A machine that has neither the script's file nor its directory."""

    def script(self, text: str) -> str:
        """A script with a module beside it, which has a name that nothing else has."""
        self.file("beside.py", "def square(n):\n    return n * n\n")
        return self.file("script.py", text)

    async def test_sibling_module_is_imported_from_here(self) -> None:
        """What lies beside it is imported from here."""
        script = self.script("import beside; print(beside.square(4), __file__)")
        self.assertEqual(await self.run_it(script, elsewhere=True), 0, self.stderr)
        self.assertEqual(self.stdout, "[gw0] 16 /nowhere/script.py\n")

    async def test_no_modules_keeps_modules_here(self) -> None:
        """With ``--no-modules`` it is not there."""
        script = self.script("import beside")
        self.assertEqual(await self.run_it(script, elsewhere=True, modules=False), 1)
        self.assertIn("No module named 'beside'", self.stderr)

    async def test_script_that_is_there_has_its_own_directory(self) -> None:
        """Where the script's file is, its own directory is."""
        script = self.script("import beside; print(type(beside.__loader__).__name__)")
        self.assertEqual(await self.run_it(script), 0, self.stderr)
        self.assertEqual(self.stdout, "[gw0] SourceFileLoader\n")

    async def test_forked_pool_works_and_spawned_one_says_why_not(self) -> None:
        """A pool that is forked works; one that would look for the script's file says so."""
        script = self.script(POOL)
        self.assertEqual(await self.run_it(script, "fork", elsewhere=True), 0, self.stderr)
        self.assertEqual(self.stdout, "[gw0] [1, 4, 9]\n")
        for how in ("spawn", "forkserver"):
            self.assertEqual(await self.run_it(script, how, elsewhere=True, timeout=50), 1)
            self.assertIn("multiprocessing can't start an interpreter here", self.stderr)
            self.assertIn("pycomnet run --send DIR", self.stderr)

    async def test_spawned_pool_works_where_the_file_is(self) -> None:
        """Where the file is, it works."""
        script = self.script(POOL)
        self.assertEqual(await self.run_it(script, "spawn", timeout=50), 0, self.stderr)
        self.assertEqual(self.stdout, "[gw0] [1, 4, 9]\n")

    async def test_pool_with_files(self) -> None:
        """And where its directory was sent."""
        script = self.script(POOL)
        send = (os.path.dirname(script),)
        status = await self.run_it(script, "spawn", elsewhere=True, send=send, timeout=50)
        self.assertEqual(status, 0, self.stderr)
        self.assertEqual(self.stdout, "[gw0] [1, 4, 9]\n")

    async def test_data_beside_the_script_is_found_and_removed(self) -> None:
        """Data beside it is found by ``__file__``, and is gone afterwards."""
        script = self.script(
            "import os, beside\nhere = os.path.dirname(__file__)\n"
            "print(open(os.path.join(here, 'data', 'text.txt')).read(), beside.square(2), here)\n"
        )
        data = os.path.join(os.path.dirname(script), "data")
        os.mkdir(data)
        self.file(os.path.join("data", "text.txt"), "some data")
        status = await self.run_it(script, elsewhere=True, send=(data,))
        self.assertEqual(status, 0, self.stderr)
        words = self.stdout.split()
        self.assertEqual(words[1:4], ["some", "data", "4"])
        self.assertFalse(os.path.exists(words[4]))


class StandardInput(RunCase):
    """``--stdin``."""

    def source(self, data: bytes) -> InputBlocks:
        """Standard input with this in it."""
        path = self.directory / "input"
        path.write_bytes(data)
        fd = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        return InputBlocks(fd, self.reactor)

    async def test_each_gets_it(self) -> None:
        """Each script reads all of it, up to its end, and so do processes that it starts."""
        code = (
            "import subprocess, sys; first = sys.stdin.readline(); "
            "print(repr(first), flush=True); subprocess.call(['cat'])"
        )
        source = self.source(b"one\ntwo\n\xc3\xa4 no end")
        status = await self.run_it(code=code, on=("2xpopen",), source=source)
        # The script reads ahead, as any: what it has read cat does not get.
        self.assertEqual((status, self.stderr), (0, ""))
        self.assertEqual(sorted(self.stdout.splitlines()), ["[gw0] 'one\\n'", "[gw1] 'one\\n'"])

    async def test_megabytes_of_input_arrive(self) -> None:
        """Megabytes arrive as they are, also when one of the scripts reads nothing and ends."""
        data = os.urandom(3_000_000)
        code = (
            "import hashlib, os, sys\n"
            "if os.environ['X'] == '1':\n"
            "    print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
        )
        on = ("popen//env:X=1", "popen//env:X=2", "popen//env:X=1")
        status = await self.run_it(code=code, on=on, source=self.source(data), prefix=False)
        self.assertEqual((status, self.stderr), (0, ""))
        self.assertEqual(self.stdout.split(), [hashlib.sha256(data).hexdigest()] * 2)

    async def test_script_that_closes_its_input_holds_up_nobody(self) -> None:
        """A script that closes its standard input holds up nobody."""
        code = (
            "import os, sys\n"
            "if os.environ['X'] == '1':\n    print(len(sys.stdin.buffer.read()))\n"
            "else:\n    os.close(0); print(0)"
        )
        on = ("popen//env:X=1", "popen//env:X=2")
        source = self.source(bytes(4_000_000))
        status = await self.run_it(code=code, on=on, source=source, prefix=False)
        self.assertEqual((status, sorted(self.stdout.split())), (0, ["0", "4000000"]))

    async def test_not_asked_for(self) -> None:
        """Without it there is none."""
        self.assertEqual(await self.run_it(code="import sys; print(sys.stdin.read())"), 0)
        self.assertEqual(self.stdout, "[gw0] \n")


class Environment(RunCase):
    """What a script finds when it runs."""

    async def test_script_runs_as_main(self) -> None:
        """It is ``__main__``, with its arguments, its file, and its directory on the path."""
        self.file("sibling.py", "name = 'sibling'")
        script = self.file(
            "script.py",
            "import sys, sibling\n"
            "print(__name__, sys.argv[1:], __file__ == sys.argv[0], sibling.name)\n"
            "print(sys.modules['__main__'].__dict__ is globals())\n",
        )
        self.assertEqual(await self.run_it(script, "-x", "a b"), 0)
        self.assertEqual(
            self.stdout, "[gw0] __main__ ['-x', 'a b'] True sibling\n[gw0] True\n", self.stderr
        )

    async def test_code_and_module(self) -> None:
        """``-c`` and ``-m`` have their arguments, too."""
        status = await self.run_it("a", code="import sys; print(sys.argv, __name__)")
        self.assertEqual((status, self.stdout), (0, "[gw0] ['-c', 'a'] __main__\n"))
        path = self.file("amodule.py", "import sys; print(__name__, sys.argv[1:])")
        on = (f"popen//chdir={os.path.dirname(path)}",)
        self.assertEqual(await self.run_it("b", module="amodule", on=on), 0)
        self.assertTrue(self.stdout.endswith("[gw0] __main__ ['b']\n"), self.stderr)

    async def test_script_runs_on_every_gateway(self) -> None:
        """It runs on all, under the ids that they have."""
        on = ("popen//id=a//env:X=1", "popen//id=b//env:X=2")
        self.assertEqual(await self.run_it(code="import os; print(os.environ['X'])", on=on), 0)
        self.assertEqual(sorted(self.stdout.splitlines()), ["[a] 1", "[b] 2"])

    async def test_script_runs_in_pypy(self) -> None:
        """What is sent runs in PyPy as well."""
        if not shutil.which("pypy3"):
            raise SkipTest("there is no pypy3 here")
        code = "import sys; print(sys.implementation.name); sys.exit(5)"
        self.assertEqual(await self.run_it(code=code, on=(PYPY,)), 5)
        self.assertEqual(self.stdout, "[gw0] pypy\n")


class Output(RunCase):
    """What a script prints."""

    async def test_output_of_children_is_on_its_stream(self) -> None:
        """Its own output and that of its children, each on its stream."""
        code = (
            "import os, subprocess, sys\n"
            "print('out'); print('err', file=sys.stderr)\n"
            "subprocess.run(['sh', '-c', 'echo child; echo child-err >&2'])\n"
            "if os.fork() == 0:\n"
            "    print('forked'); print('forked-err', file=sys.stderr)\n"
            "else:\n"
            "    os.wait()\n"
            "    print('last', end='')\n"
        )
        self.assertEqual(await self.run_it(code=code), 0, self.stderr)
        out, err = self.stdout.splitlines(), self.stderr.splitlines()
        self.assertEqual(sorted(out), ["[gw0] child", "[gw0] forked", "[gw0] last", "[gw0] out"])
        self.assertEqual(sorted(err), ["[gw0] child-err", "[gw0] err", "[gw0] forked-err"])

    async def test_last_line_last(self) -> None:
        """What was written to the descriptor before a last line without end comes before that."""
        # Nobody else gets the interpreter until all is over.
        code = (
            "import os, sys\nsys.setswitchinterval(10)\n"
            "os.write(1, b'first\\n'); print('last', end='')"
        )
        self.assertEqual(await self.run_it(code=code), 0, self.stderr)
        self.assertEqual(self.stdout.splitlines(), ["[gw0] first", "[gw0] last"])

    async def test_all_of_it(self) -> None:
        """Much output, and the last of it before a sudden end, is not lost."""
        code = "import os\nfor i in range(20000): print(i)\nos._exit(3)"
        self.assertEqual(await self.run_it(code=code, prefix=False), 3)
        self.assertEqual(self.stdout, "".join(f"{i}\n" for i in range(20000)))

    async def test_processes_that_are_left(self) -> None:
        """A child that still has the output open does not keep the command from ending."""
        code = "import subprocess; subprocess.Popen(['sleep', '1000']); print('done')"
        self.assertEqual(await self.run_it(code=code), 0)
        self.assertEqual(self.stdout, "[gw0] done\n")

    async def test_output_dir_shows_nothing(self) -> None:
        """``--output-dir``: nothing is shown."""
        files = GatewayFiles(str(self.directory / "out"))
        status = await self.run_it(code="print('x'); 1/0", on=("2xpopen//id=w",), files=files)
        self.assertEqual((status, self.stdout, self.stderr), (1, "", ""))
        for name in ("w0", "w1"):
            self.assertEqual((self.directory / "out" / f"{name}.out").read_text(), "x\n")
            self.assertIn("ZeroDivision", (self.directory / "out" / f"{name}.err").read_text())


class Status(RunCase):
    """The exit status."""

    async def test_sys_exit_status_is_as_in_the_interpreter(self) -> None:
        """As ``sys.exit`` makes it of its argument."""
        for argument, status in (("", 0), ("0", 0), ("3", 3), ("-1", 255), ("True", 1)):
            code = f"import sys; sys.exit({argument})"
            self.assertEqual((await self.run_it(code=code), self.stderr), (status, ""), argument)
        self.assertEqual(await self.run_it(code="import sys; sys.exit('a message')"), 1)
        self.assertEqual(self.stderr, "[gw0] a message\n")

    async def test_exception_shows_the_scripts_traceback(self) -> None:
        """A traceback as the interpreter's: with source lines, from the script's own first one."""
        script = self.file("script.py", "def f():\n    raise ValueError('bad')  # here\nf()\n")
        self.assertEqual(await self.run_it(script), 1)
        lines = [line.removeprefix("[gw0] ") for line in self.stderr.splitlines()]
        lines = [line for line in lines if set(line.strip()) - set("~^")]
        self.assertEqual(
            lines,
            [
                "Traceback (most recent call last):",
                f'  File "{script}", line 3, in <module>',
                "    f()",
                f'  File "{script}", line 2, in f',
                "    raise ValueError('bad')  # here",
                "ValueError: bad",
            ],
        )

    async def test_syntax_error_shows_its_line_alone(self) -> None:
        """Its line is shown, and nothing of what runs the script."""
        self.assertEqual(await self.run_it(code="x = (\n"), 1)
        self.assertIn('[gw0]   File "<string>", line 1\n[gw0]     x = (\n', self.stderr)
        self.assertNotIn("pycomnet", self.stderr)

    async def test_as_an_interpreter_ends(self) -> None:
        """It waits for threads, and runs the exit functions."""
        code = (
            "import atexit, threading, time\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
            "atexit.register(print, 'at exit')\n"
            "go = threading.Event()\n"
            "def late():\n"
            "    go.wait(60); print('thread')\n"
            "threading.Thread(target=late).start()\n"
            "ThreadPoolExecutor(1).submit(print, 'pool').add_done_callback(lambda _: go.set())\n"
            "raise SystemExit(4)\n"
        )
        self.assertEqual(await self.run_it(code=code, prefix=False), 4)
        self.assertEqual(self.stdout, "pool\nthread\nat exit\n")

    async def test_first_that_is_not_0(self) -> None:
        """In the order of ``--on``, whichever ends first."""
        on = tuple(f"popen//env:STATUS={status}" for status in (0, 7, 8))
        code = "import os, sys; sys.exit(int(os.environ['STATUS']))"
        self.assertEqual(await self.run_it(code=code, on=on), 7)

    async def test_killed_is_128_and_the_signal(self) -> None:
        """128 and the signal's number, and a message that says so."""
        code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        self.assertEqual(await self.run_it(code=code), 137)
        self.assertIn("pycomnet: gateway gw0: its process is gone: it was killed", self.stderr)

    async def test_gateway_that_does_not_start_is_reported_last(self) -> None:
        """Its process's own words, and status 1; the others go on, and it is reported last."""
        on = ("popen", f"popen//python={sys.executable} -c 'exit(\"no, thanks\")'")
        self.assertEqual(await self.run_it(code="print('ran')", on=on), 1)
        self.assertEqual(self.stdout, "[gw0] ran\n")
        self.assertIn("[gw1] no, thanks\n", self.stderr)
        self.assertEqual(self.stderr.count("no, thanks\n"), 1)
        last = "pycomnet: 1 of 2 gateways could not be started:\n  gateway gw1 (popen//python="
        self.assertIn(last, self.stderr)

    async def test_timeout_is_status_124(self) -> None:
        """124, also when the script swallows what should end it."""
        self.patch(program, "END_TIMEOUT", 1.0)
        code = (
            "import time\n"
            "print('begun', flush=True)\n"
            "while True:\n"
            "    try: time.sleep(1000)\n"
            "    except KeyboardInterrupt: pass\n"
        )
        self.assertEqual(await self.run_it(code=code, timeout=0.5), 124)
        self.assertIn("--timeout: not done in 0.5 seconds", self.stderr)

    async def test_ended_from_outside_has_that_status(self) -> None:
        """Ended from outside, the status is what was said, and the gateways are gone."""
        running = defer.ensureDeferred(
            self.run_it(code="import time; time.sleep(1000)", on=("2xpopen",))
        )
        self.program.end(130)
        self.assertEqual(await running, 130)
