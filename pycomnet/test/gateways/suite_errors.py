"""What far code raises arrives with all that says where and why."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pycomnet
from pycomnet.test.gateways.case import GatewayCase


def divide(channel, by):
    def inner(x):
        return x // by  # the line to blame

    channel.send(inner(1))


def chain():
    try:
        try:
            {}["missing"]
        except KeyError as error:
            raise ValueError("first") from error
    except ValueError:
        raise TypeError("second")  # noqa: B904


def notes():
    error = ValueError("noted")
    error.add_note("the note")
    raise error


def group():
    import builtins

    kind = vars(builtins)["ExceptionGroup"]  # Python 3.10 has none
    raise kind("several", [ValueError("one"), KeyError("two")])


def line_of(function: Callable[..., Any], text: str) -> int:
    """The line of this file at which a function has some text."""
    lines, first = inspect.getsourcelines(function)
    return first + next(number for number, line in enumerate(lines) if text in line)


class Errors(GatewayCase):
    """RemoteError: its type, message and traceback."""

    async def error(self, code: Any, **kwargs: Any) -> pycomnet.RemoteError:
        """What a remote_exec fails with."""
        gw = await self.gateway()
        error = await self.failure(gw.remote_exec(code, **kwargs).receive(), pycomnet.RemoteError)
        assert isinstance(error, pycomnet.RemoteError)
        # It harmed nothing.
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)
        return error

    async def test_functions_traceback_has_its_own_file_and_lines(self) -> None:
        """A function's traceback names the file and lines it was written at, and shows them."""
        error = await self.error(divide, by=0)
        self.assertEqual(error.type, "ZeroDivisionError")
        self.assertIn("by zero", error.message)
        file = inspect.getsourcefile(divide)
        line = line_of(divide, "to blame")
        self.assertIn(f'File "{file}", line {line}, in inner', error.formatted)
        self.assertIn("return x // by  # the line to blame", error.formatted)
        line = line_of(divide, "channel.send")
        self.assertIn(f'File "{file}", line {line}, in divide', error.formatted)
        self.assertTrue(error.formatted.startswith("Traceback (most recent call last):\n"))
        self.assertIn("ZeroDivisionError", error.formatted.splitlines()[-1])
        self.assertNotIn("far/", error.formatted)
        self.assertIn("line to blame", str(error))

    async def test_indented_functions_traceback_has_its_own_lines(self) -> None:
        """So does an indented function's."""

        def fails(channel):
            raise LookupError("deep")  # within

        error = await self.error(fails)
        where = f"line {line_of(fails, '# within')}, in fails"
        self.assertIn(where, error.formatted)
        self.assertIn('raise LookupError("deep")  # within', error.formatted)

    async def test_sources_traceback_shows_its_own_lines(self) -> None:
        """Source text's traceback shows its own lines."""
        error = await self.error("x = 1\ny = 2\nraise RuntimeError(x + y)")
        self.assertIn("line 3, in <module>", error.formatted)
        self.assertIn("raise RuntimeError(x + y)", error.formatted)
        self.assertEqual((error.type, error.message), ("RuntimeError", "3"))

    async def test_each_sources_traceback_shows_its_own_lines(self) -> None:
        """Each of several source texts shows its own lines, also when a later one has run."""
        gw = await self.gateway()
        first = gw.remote_exec("channel.receive()\nraise ValueError('the first')")
        second = gw.remote_exec("channel.send(1)\nraise ValueError('the second')")
        error = await self.failure(second.waitclose(), pycomnet.RemoteError)
        self.assertIn("raise ValueError('the second')", error.formatted)
        await first.send(None)
        error = await self.failure(first.waitclose(), pycomnet.RemoteError)
        self.assertIn("raise ValueError('the first')", error.formatted)

    async def test_ever_new_sources_leave_no_memory_behind(self) -> None:
        """Running ever new source texts leaves no memory behind at the far side."""
        gw = await self.gateway()

        async def run(start: int) -> None:
            # More than is kept: 80 of these (CACHE_CHARACTERS of far/execute.py).
            for n in range(start, start + 150):
                text = f"x = {n}\n" + "#" * 50_000
                channel = gw.remote_exec(text)
                await channel.waitclose()

        peak = "import resource; channel.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        await run(0)
        before = await gw.remote_exec(peak).receive()
        await run(150)
        after = await gw.remote_exec(peak).receive()
        self.assertLess(after - before, 4096)

    async def test_functions_of_a_source_keep_their_lines(self) -> None:
        """A module's traceback has its file."""
        path = Path(self.mktemp() + ".py").absolute()
        path.write_text("def f():\n    raise OSError(2, 'gone')\n")
        namespace: dict[str, Any] = {}
        source = path.read_text() + "f()\n"
        exec(compile(path.read_text(), str(path), "exec"), namespace)
        error = await self.error(source)
        self.assertEqual(error.type, "FileNotFoundError")
        self.assertIn("line 2, in f", error.formatted)

    async def test_syntax_error_has_its_line_and_nothing_of_ours(self) -> None:
        """Text that can't be compiled says so, with the line."""
        error = await self.error("x = 1\ny = = 2\n")
        self.assertEqual(error.type, "SyntaxError")
        self.assertIn("line 2", error.formatted)
        self.assertIn("y = = 2", error.formatted)
        for source in ("x y", "y = = 2"):
            error = await self.error(source)
            first, second = error.formatted.splitlines()[:2]
            self.assertEqual(first, "Traceback (most recent call last):")
            self.assertTrue(second.startswith("  File "), error.formatted)
            self.assertEqual(error.formatted.count("Traceback"), 1)

    async def test_error_type_has_its_module_unless_builtin(self) -> None:
        """An exception's class has its module; a builtin one has none."""
        source = "class Own(Exception): pass\nraise Own('mine')"
        error = await self.error(source)
        self.assertEqual((error.type, error.message), ("__channelexec__.Own", "mine"))
        error = await self.error("import subprocess; subprocess.run(['false'], check=True)")
        self.assertEqual(error.type, "subprocess.CalledProcessError")

    async def test_traceback_has_causes_and_contexts(self) -> None:
        """The traceback has the causes and contexts, with their own lines."""
        gw = await self.gateway()
        error = await self.failure(gw.call(chain), pycomnet.RemoteError)
        self.assertEqual(error.type, "TypeError")
        parts = [
            '{}["missing"]',
            "KeyError: 'missing'",
            "direct cause",
            'raise ValueError("first") from error',
            "During handling",
            'raise TypeError("second")',
        ]
        places = [error.formatted.find(part) for part in parts]
        self.assertNotIn(-1, places)
        self.assertEqual(places, sorted(places))

    async def test_traceback_has_notes_and_group_members(self) -> None:
        """The traceback has the notes of an exception and the members of a group."""
        gw = await self.gateway()
        major, minor = gw.info["python"].split(".")[:2]
        if (int(major), int(minor)) < (3, 11):
            self.skipTest("the far side's Python has neither")
        error = await self.failure(gw.call(notes), pycomnet.RemoteError)
        self.assertIn("ValueError: noted\nthe note", error.formatted)
        error = await self.failure(gw.call(group), pycomnet.RemoteError)
        self.assertEqual(error.type, "ExceptionGroup")
        for part in ("several", "ValueError: one", "KeyError: 'two'"):
            self.assertIn(part, error.formatted)

    async def test_exception_with_bad_str_is_reported_nevertheless(self) -> None:
        """An exception that can't be shown is reported nevertheless, whatever its __str__ does."""
        for what in ("raise ValueError('no')", "raise SystemExit(3)", "return 5"):
            error = await self.error(
                "class Rude(Exception):\n"
                "    def __str__(self):\n"
                f"        {what}\n"
                "    __repr__ = __str__\n"
                "raise Rude()"
            )
            self.assertEqual(error.type, "__channelexec__.Rude")
            self.assertIn("__str__", error.message)
            self.assertIn("raise Rude()", error.formatted)

    async def test_huge_message_is_cut_in_the_middle(self) -> None:
        """A huge message is cut in the middle, whatever its characters take."""
        for character in ("x", "\u20ac", "\U0001f600", "\ud800"):
            error = await self.error(
                "raise ValueError('begin ' + c * 300000 + ' end')", c=character
            )
            self.assertEqual(error.type, "ValueError")
            self.assertTrue(error.message.startswith("begin " + character))
            self.assertTrue(error.message.endswith(character + " end"))
            self.assertIn("cut", error.message)
            self.assertLess(len(error.message), 20_000)
            self.assertIn("Traceback", error.formatted)
            self.assertIn("raise ValueError", error.formatted)

    async def test_endless_recursion_is_an_error(self) -> None:
        """Endless recursion is an error as any other."""
        error = await self.error("def f(): f()\nf()")
        self.assertEqual(error.type, "RecursionError")

    async def test_memory_error_is_an_error(self) -> None:
        """So is asking for more memory than there is."""
        error = await self.error("x = bytearray(1 << 60)")
        self.assertEqual(error.type, "MemoryError")

    async def test_system_exit_and_keyboard_interrupt_are_errors(self) -> None:
        """SystemExit and KeyboardInterrupt in far code are errors; the far side goes on."""
        for source, kind, message in (
            ("import sys; sys.exit(3)", "SystemExit", "3"),
            ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
            ("raise GeneratorExit('x')", "GeneratorExit", "x"),
        ):
            error = await self.error(source)
            self.assertEqual((error.type, error.message), (kind, message))

    async def test_errors_in_further_threads_are_reported(self) -> None:
        """What is raised in a further thread is reported as well, SystemExit too."""
        gw = await self.gateway()
        first = gw.remote_exec("channel.receive()")
        for source, kind in (("1/0", "ZeroDivisionError"), ("raise SystemExit(3)", "SystemExit")):
            error = await self.failure(gw.remote_exec(source).waitclose(), pycomnet.RemoteError)
            self.assertEqual(error.type, kind)
        self.assertEqual((await gw.remote_status())["running"], 1)
        first.close()

    async def test_error_comes_after_the_values_before_it(self) -> None:
        """What was sent before the error comes before it."""
        gw = await self.gateway()
        channel = gw.remote_exec("channel.send(1); channel.send('x' * 200000); 1/0")
        await self.failure(channel.waitclose(), pycomnet.RemoteError)
        self.assertEqual(await channel.receive(), 1)
        self.assertEqual(len(await channel.receive()), 200_000)
        for _ in range(2):
            await self.failure(channel.receive(), pycomnet.RemoteError)

    async def test_send_fails_with_what_far_code_raised(self) -> None:
        """Sending to code that has raised fails with what it raised."""
        gw = await self.gateway()
        channel = gw.remote_exec("1/0")
        await self.failure(channel.waitclose(), pycomnet.RemoteError)
        error = await self.failure(channel.send(1), pycomnet.RemoteError)
        self.assertEqual(error.type, "ZeroDivisionError")

    async def test_near_close_with_error_is_raised_at_far_receive(self) -> None:
        """An error that the near side closes with is raised where far code receives."""
        gw = await self.gateway()
        report = gw.newchannel()
        source = """
        channel.send("ready")
        try:
            channel.receive()
        except channel.RemoteError as error:
            report.send([error.type, error.message])
        try:
            channel.send(1)
        except EOFError:
            report.send("eof")
        except channel.RemoteError as error:
            report.send(error.message)
        """
        channel = gw.remote_exec(source, report=report)
        self.assertEqual(await channel.receive(), "ready")
        channel.close("not wanted any more")
        self.assertEqual(await report.receive(), ["", "not wanted any more"])
        self.assertEqual(await report.receive(), "not wanted any more")

    async def test_exception_given_to_close_arrives_with_its_class(self) -> None:
        """An exception instance given to ``close`` arrives with its class's name."""
        gw = await self.gateway()
        report = gw.newchannel()
        source = """
        try:
            channel.receive()
        except channel.RemoteError as error:
            report.send([error.type, error.message])
        """
        channel = gw.remote_exec(source, report=report)
        channel.close(LookupError("no such job"))
        self.assertEqual(await report.receive(), ["LookupError", "no such job"])

    async def test_huge_error_given_to_close_is_cut(self) -> None:
        """A huge error of the near side is cut, too, and harms nothing."""
        gw = await self.gateway()
        source = """
        try:
            channel.receive()
        except channel.RemoteError as error:
            report.send(error.message[:5])
        """
        for error in ("begin" * 100_000, ValueError("begin" + "\U0001f600" * 100_000)):
            report = gw.newchannel()
            channel = gw.remote_exec(source, report=report)
            channel.close(error)
            self.assertEqual(await report.receive(), "begin")

    async def test_far_code_closes_with_its_own_message(self) -> None:
        """Far code can close with an error of its own words."""
        gw = await self.gateway()
        channel = gw.remote_exec("channel.close('enough'); channel.close()")
        error = await self.failure(channel.waitclose(), pycomnet.RemoteError)
        self.assertEqual((error.message, str(error)), ("enough", "enough"))

    async def test_error_after_far_close_is_told_and_printed(self) -> None:
        """What far code raises after it has closed its channel is told, and printed."""
        for way in ("close", "send_end"):
            gw = await self.gateway()
            printed = self.told_by(gw)
            source = f"channel.send(1)\nchannel.{way}()\nraise ValueError('late')"
            channel = gw.remote_exec(source)
            error = await self.failure(channel.waitclose(), pycomnet.RemoteError)
            self.assertEqual((error.type, error.message), ("ValueError", "late"))
            self.assertEqual(await channel.receive(), 1)
            await gw.exit()
            self.assertEqual("".join(printed).count("ValueError: late"), 1)

    async def test_error_after_near_close_is_printed_but_not_eof(self) -> None:
        """So is what it raises when the near side has closed it, but not that it was closed."""
        gw = await self.gateway()
        printed = self.told_by(gw)
        for source in ("for value in channel: pass", "channel.receive()", "channel.send(1)"):
            done = gw.newchannel()  # it is closed when nobody there holds it any more
            text = f"done.send(1)\n{source}\n"
            channel = gw.remote_exec(text, done=done)
            await done.receive()
            channel.close()
        channel = gw.remote_exec("for _ in channel: pass\nraise ValueError('alone')")
        channel.close()
        await gw.exit(grace=60)
        self.assertEqual("".join(printed).count("Error: "), 1, printed)
        self.assertIn("ValueError: alone", "".join(printed))

    def told_by(self, gw: pycomnet.Gateway) -> list[str]:
        """What is printed at a gateway from now on."""
        printed: list[str] = []
        gw.setoutput(lambda output: printed.append(output.text))
        return printed

    async def test_error_passed_on_to_another_far_side_keeps_its_parts(self) -> None:
        """An error of one far side that the near side gives to another keeps its parts."""
        first, second = await self.gateway(), await self.gateway()
        error = await self.failure(first.call(chain), pycomnet.RemoteError)
        report = second.newchannel()
        source = """
        try:
            channel.receive()
        except channel.RemoteError as error:
            report.send([error.type, error.message, error.formatted])
        """
        channel = second.remote_exec(source, report=report)
        channel.close(error)
        self.assertEqual(await report.receive(), [error.type, error.message, error.formatted])
