"""``map``: lines over real gateways that fail, die, and are replaced."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import SkipTest

from pycomnet.cli import linequeue
from pycomnet.cli.gatewayoutput import output_shown_by
from pycomnet.cli.map import read_target
from pycomnet.cli.maprun import MapRun
from pycomnet.cli.program import CommandProgram
from pycomnet.cli.stdstreams import InputLines
from pycomnet.gateways.pool.scheduler import Bell
from pycomnet.test.cli.case import PYPY, CommandCase

FUNCTIONS = """\
import os
import signal
import threading
import time

HERE = os.path.dirname(__file__)
BARRIER = threading.Barrier(4)
LOADED = []

def double(line):
    return 2 * int(line)

def kill(line):
    if "killer" in line:
        os.kill(os.getpid(), signal.SIGKILL)
    return line

def kill_once(line):
    if line == "500":
        try:
            os.close(os.open(os.path.join(HERE, "killed"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return "second"
        os.kill(os.getpid(), signal.SIGKILL)
    return line

def together(line):
    return BARRIER.wait(60) >= 0

def large(line):
    return line * 200000

def talk(line):
    print("about", line)
    return line

async def later(line):
    return line + "!"

async def fails(line):
    raise ValueError(line)

def many(line):
    yield line

def gives(line):
    return many(line)

def interrupt(line):
    raise KeyboardInterrupt

def leave(line):
    raise SystemExit(line)

def pid(line):
    return os.getpid()

class Nested:
    @staticmethod
    def function(line):
        return line
"""


class MapCase(CommandCase):
    """A test of maps."""

    def setUp(self) -> None:
        super().setUp()
        self.functions = self.file("functions.py", FUNCTIONS)

    async def map_it(
        self,
        function: str,
        *lines: str,
        on: tuple[str, ...] = ("popen",),
        jobs: int = 1,
        replacements: int = 5,
        as_json: bool = False,
        **options: Any,
    ) -> int:
        """Map a function of the file, or any; the exit status."""
        path = self.file("input", "".join(f"{line}\n" for line in lines))
        target = read_target(function if ":" in function else f"{self.functions}:{function}")
        specs = self.specs(*on)
        fd = os.open(path, os.O_RDONLY)
        options = {"fail_fast": False, "traceback": False, **options}

        async def main(program: CommandProgram) -> int:
            mapping = MapRun(program, InputLines(fd, self.reactor), **options)
            shown = output_shown_by(program, to_stderr=True)
            found = {**target, "as_json": as_json}
            return await mapping.run(specs, found, jobs, replacements, shown)

        try:
            return await self.status_of(main)
        finally:
            os.close(fd)


class Results(MapCase):
    """What comes out."""

    async def test_results_are_in_order_of_the_lines(self) -> None:
        """Each line's result, in the order of the lines, from several gateways."""
        lines = [str(number) for number in range(3000)]
        self.assertEqual(await self.map_it("double", *lines, on=("2xpopen",), jobs=2), 0)
        self.assertEqual(self.stdout.split(), [str(2 * number) for number in range(3000)])
        self.assertEqual(self.stderr, "")

    async def test_no_lines_give_no_results(self) -> None:
        """Nothing to do is soon done."""
        self.assertEqual((await self.map_it("double"), self.stdout), (0, ""))

    async def test_imported_function_is_mapped(self) -> None:
        """A function that is imported there, from the working directory or the library."""
        self.assertEqual(await self.map_it("os.path:basename", "/a/b", "", "c"), 0)
        self.assertEqual(self.stdout, "b\n\nc\n")
        on = (f"popen//chdir={self.directory}",)
        self.assertEqual(await self.map_it("functions:Nested.function", "x", on=on), 0)
        self.assertEqual(self.stdout, "b\n\nc\nx\n")

    async def test_bad_json_is_its_lines_failure(self) -> None:
        """JSON in, JSON out; what isn't JSON is that line's failure."""
        lines = ['"abc"', "[1, 2]", "{", '{"a": 1}', "7"]
        self.assertEqual(await self.map_it("builtins:len", *lines, as_json=True), 1)
        self.assertEqual([json.loads(line) for line in self.stdout.split()], [3, 2, 1])
        first, second = self.stderr.splitlines()
        self.assertIn("pycomnet: line 3: JSONDecodeError: ", first)
        self.assertIn("pycomnet: line 5: TypeError: ", second)

    async def test_lines_that_are_not_utf8_come_back(self) -> None:
        """Lines that are not UTF-8 come back as they are."""
        path = self.directory / "input"
        path.write_bytes(b"\xff\xfe\n\xc3\xa4\n")
        fd = os.open(path, os.O_RDONLY)
        self.addCleanup(os.close, fd)

        async def main(program: CommandProgram) -> int:
            mapping = MapRun(program, InputLines(fd, self.reactor), False, False)
            target = {**read_target("builtins:str"), "as_json": False}
            return await mapping.run(self.specs(), target, 1, 0, output_shown_by(program))

        self.assertEqual(await self.status_of(main), 0)
        self.assertEqual((self.directory / "stdout").read_bytes(), b"\xff\xfe\n\xc3\xa4\n")

    async def test_at_the_same_time(self) -> None:
        """``--jobs``: four lines wait for each other on one gateway."""
        self.assertEqual(await self.map_it("together", *"abcdefgh", jobs=4), 0)
        self.assertEqual(self.stdout, "True\n" * 8)

    async def test_printed_text_is_no_result(self) -> None:
        """What the function prints is not among the results."""
        self.assertEqual(await self.map_it("talk", "x"), 0)
        self.assertEqual((self.stdout, self.stderr), ("x\n", "[gw0] about x\n"))

    async def test_maps_in_pypy(self) -> None:
        """What is sent runs in PyPy as well."""
        if not shutil.which("pypy3"):
            raise SkipTest("there is no pypy3 here")
        status = await self.map_it("double", *"123", on=(PYPY, "popen"))
        self.assertEqual((status, self.stdout), (0, "2\n4\n6\n"), self.stderr)


class Failures(MapCase):
    """Lines without a result."""

    async def test_raised_error_names_its_line_and_others_go_on(self) -> None:
        """The others go on; the report has the line's number."""
        self.assertEqual(await self.map_it("double", "1", "x", "3"), 1)
        self.assertEqual(self.stdout, "2\n6\n")
        message = "invalid literal for int() with base 10: 'x'"
        self.assertEqual(self.stderr, f"pycomnet: line 2: ValueError: {message}\n")

    async def test_traceback_begins_at_the_function(self) -> None:
        """``--traceback`` shows where, from the function's own first line on."""
        self.assertEqual(await self.map_it("double", "x", traceback=True), 1)
        self.assertIn(
            "pycomnet: line 1: Traceback (most recent call last):\n"
            f'  File "{self.functions}", line 11, in double\n'
            "    return 2 * int(line)\n",
            self.stderr,
        )

    async def test_async_function_is_awaited(self) -> None:
        """An async function is awaited at the far side."""
        self.assertEqual(await self.map_it("later", "a", "b"), 0)
        self.assertEqual(self.stdout, "a!\nb!\n")
        self.assertEqual(await self.map_it("fails", "x", traceback=True), 1)
        self.assertEqual(self.stderr.count('  File "'), 1, self.stderr)

    async def test_generator_function_is_refused(self) -> None:
        """A generator function is refused at once, and a generator is no result."""
        self.assertEqual(await self.map_it("many", "a", "b"), 2)
        self.assertEqual(self.stderr.count("is a generator function"), 1)
        self.assertEqual(await self.map_it("gives", "a"), 1)
        self.assertIn("line 1: TypeError: the function returned a generator", self.stderr)
        self.assertEqual(self.stdout, "")

    async def test_keyboard_interrupt_is_its_lines_failure(self) -> None:
        """KeyboardInterrupt is a line's failure as any other, with the user's frames only."""
        self.assertEqual(await self.map_it("interrupt", "1", "2", traceback=True), 1)
        self.assertEqual(self.stderr.count("KeyboardInterrupt"), 4, self.stderr)
        self.assertEqual(self.stderr.count('  File "'), 2, self.stderr)

    async def test_sys_exit_fails_its_line_and_the_gateway_lives(self) -> None:
        """A function that calls ``sys.exit`` fails, and the gateway lives."""
        self.assertEqual(await self.map_it("leave", "1", "2", replacements=0), 1)
        self.assertEqual(self.stderr.count("SystemExit"), 2)

    async def test_fail_fast_gives_all_before_and_nothing_after(self) -> None:
        """All before it, nothing after it."""
        lines = ["1", "2", "x", *map(str, range(1000))]
        self.assertEqual(await self.map_it("double", *lines, fail_fast=True, on=("2xpopen",)), 1)
        self.assertEqual(self.stdout, "2\n4\n")
        self.assertEqual(self.stderr.count("\n"), 1)

    async def test_missing_function_is_one_error(self) -> None:
        """A function that can't be imported is one error, not one for each line."""
        broken = self.file("broken.py", "def f(line):\n    pass\n\nraise KeyError('at import')\n")
        for target, message in (
            ("nosuchmodule:f", "ModuleNotFoundError: No module named 'nosuchmodule'"),
            ("os.path:nosuch", "AttributeError: module 'posixpath' has no attribute 'nosuch'"),
            ("os:sep", "TypeError: os:sep is not a function, but of type str"),
            (f"{broken}:f", f'File "{broken}", line 4, in <module>'),
        ):
            before = len(self.stderr)
            status = await self.map_it(target, "1", "2", on=("2xpopen",), jobs=2)
            said = self.stderr[before:]
            self.assertEqual((status, said.count("can't begin"), self.stdout), (2, 1, ""), said)
            self.assertIn(message, said)
            self.assertNotIn("farside.py", said)


class Losses(MapCase):
    """Gateways that die."""

    async def test_unfinished_lines_go_to_others(self) -> None:
        """All results, in order, and the user is told."""
        lines = [str(number) for number in range(1000)]
        self.assertEqual(await self.map_it("kill_once", *lines, on=("2xpopen",), jobs=2), 0)
        expected = ["second" if line == "500" else line for line in lines]
        self.assertEqual(self.stdout.split(), expected)
        self.assertRegex(
            self.stderr,
            r"gateway gw\d: its process is gone: it was killed by SIGKILL .*; unfinished and given "
            r"to others: \d+ lines?\npycomnet: gateway gw2 takes its place\n",
        )

    async def test_line_that_kills_its_gateway_is_reported_alone(self) -> None:
        """A line that kills whoever has it is reported, and those beside it are not."""
        lines = ["a", "killer", "b", *"cdefgh", "another killer", "i"]
        self.assertEqual(await self.map_it("kill", *lines, on=("2xpopen",), jobs=2), 1)
        self.assertEqual(self.stdout.split(), list("abcdefghi"))
        gave_up = [line for line in self.stderr.splitlines() if "given up" in line]
        self.assertEqual(
            gave_up,
            [f"pycomnet: line {n}: given up: 3 gateways died of it" for n in (2, 10)],
        )

    async def test_no_gateway_left(self) -> None:
        """They are not replaced for ever."""
        status = await self.map_it("kill", *["killer"] * 9, "a", replacements=4)
        self.assertEqual((status, self.stdout), (1, ""))
        self.assertEqual(self.stderr.count("takes its place"), 4)
        self.assertIn("no gateway is left: stopped at line 2\n", self.stderr)

    async def test_the_others_go_on(self) -> None:
        """A gateway that may not be replaced leaves its work to the others."""
        lines = [str(number) for number in range(1000)]
        status = await self.map_it("kill_once", *lines, on=("2xpopen//id=w",), replacements=0)
        self.assertEqual(status, 0)
        self.assertEqual(len(self.stdout.split()), 1000)
        self.assertRegex(self.stderr, "gateway w[01] is not replaced any more; the others go on\n")

    async def test_an_id_is_kept(self) -> None:
        """What takes the place of a gateway with a name has that name."""
        lines = [str(number) for number in range(1000)]
        self.assertEqual(await self.map_it("kill_once", *lines, on=("popen//id=w",)), 0)
        self.assertIn("gateway w takes its place", self.stderr)


class Endless(InputLines):
    """An input without end."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(os.open(os.devnull, os.O_RDONLY), reactor)
        self.size = None

    def next_lines(self) -> defer.Deferred[list[bytes]]:
        """A hundred lines."""
        self.taken += 100
        return defer.succeed([b"x"] * 100)


class Bounds(MapCase):
    """What is kept, however much comes in and however little goes out."""

    async def stalled(self, function: str, **options: Any) -> MapRun:
        """A map whose output nobody takes, once it has stopped reading."""
        never: defer.Deferred[None] = defer.Deferred()
        self.patch(self.program.stdout, "put", lambda data: never)
        source = Endless(self.reactor)
        self.addCleanup(os.close, source.fileno())
        mapping = MapRun(self.program, source, False, False)
        target = {**read_target(f"{self.functions}:{function}"), "as_json": False}

        async def main(program: CommandProgram) -> int:
            return await mapping.run(
                self.specs("2xpopen"), target, 1, 0, output_shown_by(program), **options
            )

        running = self.program.start(main)
        await self.until(lambda: mapping.queue.full)
        self.addCleanup(lambda: running)
        self.addCleanup(self.program.end, 1)
        return mapping

    async def until(self, predicate: Any) -> None:
        """Let the reactor turn until something is so."""
        bell = Bell(self.reactor)
        while not predicate():
            bell.ring()
            await bell.wait()

    async def turns(self, number: int) -> None:
        """Let the reactor turn so many times."""
        left = iter(range(number))
        await self.until(lambda: next(left, None) is None)

    async def test_no_more_is_read_than_may_be_under_way(self) -> None:
        """It reads no further than what may be under way."""
        mapping = await self.stalled("double")
        queue = mapping.queue
        # Some came out, and more was read in their place; then all have results and none comes out.
        await self.until(
            lambda: queue.done and queue.full and all(i.result for i in queue._under_way)
        )
        taken, done = mapping.source.taken, queue.done
        self.assertLess(taken, 2 * linequeue.MAX_ITEMS)
        await self.turns(20)
        self.assertEqual((mapping.source.taken, queue.done), (taken, done))

    async def test_results_that_nobody_takes_stay_at_the_far_side(self) -> None:
        """Results that nobody takes stay at the far side, but for a few."""
        self.patch(linequeue, "MAX_TEXT", 3_000_000)
        mapping = await self.stalled("large")
        queue = mapping.queue
        await self.until(lambda: queue.crowded)
        await self.turns(3000)
        kept = sum(len(item.result) for item in queue._under_way if isinstance(item.result, str))
        self.assertLess(kept, 4_000_000)
