"""What far code prints comes back as events, and never touches the connection."""

from __future__ import annotations

import io
from typing import Any
from unittest.mock import patch

from twisted.internet import defer

import pycomnet
from pycomnet.gateways.output import PrefixedLines
from pycomnet.test.gateways.case import GatewayCase


class Printing(GatewayCase):
    """print() and everything else that writes where a program prints."""

    async def test_printed_text_is_there_when_the_channel_closes(self) -> None:
        """What is printed is there when the channel is closed, with its stream and gateway."""
        gw = await self.gateway(id="printer")
        source = "import sys; print('out', 1); print('err', file=sys.stderr)"
        await gw.remote_exec(source).waitclose()
        self.assertEqual(self.printed(1), "out 1\n")
        self.assertEqual(self.printed(2), "err\n")
        self.assertEqual({output.gateway for output in self.outputs}, {"printer"})

    async def test_output_comes_before_what_is_sent_after_it(self) -> None:
        """Output comes in the order in which it was printed, before what is sent after it."""
        gw = await self.gateway()
        channel = gw.remote_exec("for n in range(100): print(n); channel.send(n)")
        async for n in channel:
            self.assertIn(f"{n}\n", self.printed())
        self.assertEqual(self.printed().split(), [str(n) for n in range(100)])

    async def test_unfinished_line_is_there_when_the_code_has_run(self) -> None:
        """Output without a line's end is there at the latest when the code has run."""
        gw = await self.gateway()
        source = "import sys; sys.stdout.write('no end'); sys.stderr.write('nor here')"
        await gw.remote_exec(source).waitclose()
        self.assertEqual((self.printed(1), self.printed(2)), ("no end", "nor here"))
        channel = gw.remote_exec("print('x', end='', flush=True); channel.receive()")
        await self.until_printed("no endx")
        await channel.send(1)

    async def test_output_before_an_error_is_there_with_it(self) -> None:
        """What was printed before an error is there when the error is."""
        gw = await self.gateway()
        call = gw.call("builtins:exec", "print('before', end=''); 1/0")
        error = await self.failure(call, pycomnet.RemoteError)
        self.assertEqual(error.type, "ZeroDivisionError")
        self.assertEqual(self.printed(), "before")

    async def test_any_characters_can_be_printed(self) -> None:
        """Any text can be printed: other scripts, lone surrogates, a character in two pieces."""
        gw = await self.gateway()
        source = r"""
        import sys
        print("ünï €\U0001f600")
        sys.stdout.buffer.write("€".encode()[:1]); sys.stdout.flush()
        sys.stdout.buffer.write("€".encode()[1:]); sys.stdout.flush()
        sys.stdout.buffer.write(b"bad \xff\xfe!\n"); sys.stdout.flush()
        print("\udce4"); print("\ud800", file=sys.stderr)
        """
        await gw.remote_exec(source).waitclose()
        self.assertEqual(self.printed(1), "ünï €\U0001f600\n€bad \ufffd\ufffd!\n\ufffd\n")
        self.assertEqual(self.printed(2), "\\ud800\n")

    async def test_bytes_written_to_descriptors_come_as_stderr(self) -> None:
        """What goes to the descriptors themselves comes as standard error, as bad as it may be."""
        gw = await self.gateway()
        source = r"""
        import os, sys
        os.write(1, b"to 1\n")
        os.write(2, b"to 2 \xff\n")
        sys.__stdout__.write("to __stdout__\n"); sys.__stdout__.flush()
        """
        channel = gw.remote_exec(source)
        await channel.waitclose()
        await self.until_printed("to __stdout__\n", 2)
        self.assertEqual(self.printed(2), "to 1\nto 2 \ufffd\nto __stdout__\n")

    async def test_childrens_output_comes_as_stderr_and_stdin_is_empty(self) -> None:
        """So does what child processes print, and their standard input is empty."""
        gw = await self.gateway()
        source = """
        import subprocess
        subprocess.check_call("cat; echo child out; echo child err >&2", shell=True)
        channel.send(subprocess.check_output(["echo", "captured"]))
        """
        channel = gw.remote_exec(source)
        self.assertEqual(await channel.receive(), b"captured\n")
        await self.until_printed("child err\n", 2)
        self.assertEqual(self.printed(2), "child out\nchild err\n")
        await channel.waitclose()

    async def test_forked_child_does_not_touch_the_connection(self) -> None:
        """A forked child that prints, raises and exits does not touch the connection."""
        gw = await self.gateway()
        source = """
        import os
        def forked(what):
            pid = os.fork()
            if not pid:
                exec(what, globals())
                raise SystemExit(3)
            return os.WEXITSTATUS(os.waitpid(pid, 0)[1])
        channel.send(forked("print('from the child')"))
        channel.send(forked("raise ValueError('in the child')"))
        channel.send(forked("channel.send('not from here')"))
        channel.send(forked("channel.close(); channel.gateway.newchannel()"))
        """
        channel = gw.remote_exec(source)
        self.assertEqual([status async for status in channel], [3, 1, 1, 1])
        for text in ("from the child\n", "ValueError: in the child", "EOFError"):
            await self.until_printed(text, 2)
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)

    async def test_forked_child_that_returns_ends_alone(self) -> None:
        """A forked child that returns from the code that was sent ends, and nothing else does."""
        gw = await self.gateway()
        source = """
        import os
        pid = os.fork()
        if pid:
            channel.send(os.waitpid(pid, 0)[1])
        """
        channel = gw.remote_exec(source)
        self.assertEqual([status async for status in channel], [0])
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)

    async def test_multiprocessing_children_print_and_give_results(self) -> None:
        """multiprocessing's children print and give results as anywhere."""
        gw = await self.gateway()
        source = """
        import multiprocessing
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        def work(n):
            print("work", n)
            results.put(n * n)
        workers = [context.Process(target=work, args=(n,)) for n in range(4)]
        for worker in workers:
            worker.start()
        channel.send(sorted(results.get() for _ in workers))
        for worker in workers:
            worker.join()
        channel.send([worker.exitcode for worker in workers])
        """
        channel = gw.remote_exec(source)
        self.assertEqual(await channel.receive(), [0, 1, 4, 9])
        self.assertEqual(await channel.receive(), [0, 0, 0, 0])
        for n in range(4):
            await self.until_printed(f"work {n}\n", 2)
        await channel.waitclose()

    async def test_lines_that_threads_print_come_whole(self) -> None:
        gw = await self.gateway()
        source = """
        import threading
        def show(n):
            for _ in range(50):
                print(("%d" % n) * 100)
        threads = [threading.Thread(target=show, args=(n,)) for n in range(5)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """
        await gw.remote_exec(source).waitclose()
        lines = self.printed().split()
        self.assertEqual(sorted(lines), sorted(str(n) * 100 for n in range(5) for _ in range(50)))

    async def test_code_that_prints_too_fast_waits_for_the_callback(self) -> None:
        """Code that prints faster than the callback takes waits for it."""
        gw = await self.gateway()
        gate: defer.Deferred[None] = defer.Deferred()
        got: list[str] = []

        def slow(output: pycomnet.Output) -> Any:
            got.append(output.text)
            return gate

        gw.setoutput(slow)
        source = """
        import sys
        sys.printed = 0
        for _ in range(channel.receive()):
            print("x" * 999)
            sys.printed += 1
        """
        lines = 2000 * self.wideness(gw)
        channel = gw.remote_exec(source)
        channel.send(lines)

        def printed():
            import sys

            return getattr(sys, "printed", 0)

        while (count := await gw.call(printed)) < 900 * self.wideness(gw):
            pass
        for _ in range(20):
            count = await gw.call(printed)
        self.assertLess(count, 1200 * self.wideness(gw))
        self.assertEqual(len(got), 1)
        gate.callback(None)
        await channel.waitclose()
        self.assertEqual(sum(map(len, got)), 1000 * lines)

    async def test_descriptor_flood_waits_and_pings_go_on(self) -> None:
        """So does what writes to the descriptor, and the rest of the near side goes on."""
        gw = await self.gateway()
        gate: defer.Deferred[None] = defer.Deferred()
        size = 0

        def slow(output: pycomnet.Output) -> Any:
            nonlocal size
            size += len(output.text)
            return gate

        gw.setoutput(slow)
        channel = gw.remote_exec("import os\nfor _ in range(24000): os.write(2, b'y' * 1000)")
        for _ in range(50):
            await gw.ping()
        self.assertLess(size, 1_000_000)
        self.assertFalse((closed := channel.waitclose()).called)
        gate.callback(None)
        await closed
        while size < 24_000_000:
            await gw.ping()

    async def test_raising_output_callback_harms_output_alone(self) -> None:
        """An output callback that raises harms nothing but the output."""
        gw = await self.gateway()

        def broken(output: pycomnet.Output) -> None:
            raise ValueError("broken callback")

        gw.setoutput(broken)
        for _ in range(2):
            await gw.remote_exec("import os; print('x'); os.write(2, b'y')").waitclose()
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)
        await gw.exit()
        self.flushLoggedErrors(ValueError)

    async def test_default_output_prefixes_lines_with_the_gateway(self) -> None:
        """By default each line is shown under the gateway's id, an unfinished last one too."""
        out, err = io.StringIO(), io.StringIO()
        with patch("sys.stdout", out), patch("sys.stderr", err):
            gw = await self.gateway(id="shown")
            default = pycomnet.Group(self.reactor)._output
            self.assertIsInstance(default, PrefixedLines)
            gw.setoutput(default)
            source = """
            import sys
            print("one\\ntwo"); sys.stderr.write("error\\n"); sys.stdout.write("rest")
            """
            await gw.remote_exec(source).waitclose()
            await gw.exit()
        self.assertEqual(out.getvalue(), "[shown] one\n[shown] two\n[shown] rest\n")
        self.assertEqual(err.getvalue(), "[shown] error\n")

    async def test_far_side_prints_nothing_of_its_own(self) -> None:
        """A far side whose code prints nothing shows nothing, from its start to its end."""
        gw = await self.gateway()
        await gw.call("operator:add", 1, 2)
        await gw.exit()
        self.assertEqual(self.outputs, [])
