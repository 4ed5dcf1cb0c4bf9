"""What can be run at a far side, and where in it that runs."""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path
from types import ModuleType

from twisted.internet.defer import CancelledError

import pycomnet
from pycomnet.test.gateways.case import GatewayCase


def add_received(channel, times, offset=0):
    total = offset
    for _ in range(times):
        total += channel.receive()
    channel.send(total)


def describe(*args, **kwargs):
    return [args, kwargs]


def annotated(channel: NotThere, value: AlsoNot = 5) -> None:  # type: ignore[name-defined]  # noqa: F821
    channel.send(value)


def who_runs(channel):
    import threading

    current = threading.current_thread()
    channel.send((current is threading.main_thread(), current.name))
    channel.receive()


def where():
    import threading

    return threading.current_thread() is threading.main_thread()


class Code(GatewayCase):
    """Source text, functions, modules and calls."""

    async def test_source_finds_its_channel_as_a_global(self) -> None:
        """Source text finds its channel as a global."""
        gw = await self.gateway()
        channel = gw.remote_exec("channel.send(channel.receive() + 1)")
        await channel.send(41)
        self.assertEqual(await channel.receive(), 42)
        await channel.waitclose()

    async def test_source_may_be_indented(self) -> None:
        """Source text may be indented as the code around it is."""
        gw = await self.gateway()
        channel = gw.remote_exec(
            """
            def double(x):
                return 2 * x
            channel.send(double(21))
            """
        )
        self.assertEqual(await channel.receive(), 42)

    async def test_keyword_arguments_are_globals_of_source(self) -> None:
        """Keyword arguments are global names of source text, and its module's name is fixed."""
        gw = await self.gateway()
        channel = gw.remote_exec("channel.send([a, b, __name__])", a=1, b={"x": (2,)})
        self.assertEqual(await channel.receive(), [1, {"x": (2,)}, "__channelexec__"])

    async def test_source_leaves_no_globals_to_the_next(self) -> None:
        """What one source text defines is not there for the next."""
        gw = await self.gateway()
        await gw.remote_exec("leftover = 1").waitclose()
        channel = gw.remote_exec("channel.send('leftover' in globals())")
        self.assertIs(await channel.receive(), False)

    async def test_function_gets_channel_arguments_and_defaults(self) -> None:
        """A function gets the channel and its keyword arguments; defaults stay."""
        gw = await self.gateway()
        for kwargs, total in (({"times": 2}, 7), ({"times": 2, "offset": 10}, 17)):
            channel = gw.remote_exec(add_received, **kwargs)
            await channel.send(3)
            await channel.send(4)
            self.assertEqual(await channel.receive(), total)
            await channel.waitclose()

    async def test_indented_functions_strings_stay_as_they_are(self) -> None:
        """An indented function is sent as it is, the strings in it too."""

        def text(channel):
            channel.send(
                """one
  two
            three"""
            )

        gw = await self.gateway()
        channel = gw.remote_exec(text)
        self.assertEqual(await channel.receive(), "one\n  two\n            three")

    async def test_annotations_need_not_exist_at_the_far_side(self) -> None:
        """Annotations name what is not at the far side, and need not."""
        gw = await self.gateway()
        self.assertEqual(await gw.remote_exec(annotated).receive(), 5)

    async def test_function_that_needs_other_names_is_refused_with_them(self) -> None:
        """A function that can't run on its own is refused with the name that it needs."""
        local = 5

        def closure(channel):
            channel.send(local)

        def uses_global(channel):
            channel.send(textwrap.dedent("x"))

        gw = await self.gateway()
        with self.assertRaisesRegex(pycomnet.CodeNotSendable, r"closure .*\blocal\b"):
            gw.remote_exec(closure)
        with self.assertRaisesRegex(pycomnet.CodeNotSendable, r"uses_global .*'textwrap'"):
            gw.remote_exec(uses_global)
        with self.assertRaisesRegex(pycomnet.CodeNotSendable, "lambda"):
            gw.remote_exec(lambda channel: local)
        await self.failure(gw.call(closure), pycomnet.CodeNotSendable)
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)

    async def test_module_is_run_under_its_own_file_name(self) -> None:
        """A module's source is run, not imported, with its own file name."""
        module = self._module("if __name__ == '__channelexec__':\n    channel.send(__file__)\n")
        gw = await self.gateway()
        channel = gw.remote_exec(module)
        self.assertEqual(await channel.receive(), module.__file__)
        await channel.waitclose()

    def _module(self, source: str) -> ModuleType:
        path = Path(self.mktemp() + ".py").absolute()
        path.write_text(source)
        spec = importlib.util.spec_from_file_location("sent", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    async def test_call_passes_arguments_and_returns_the_result(self) -> None:
        """A call's arguments arrive, and its result comes back."""
        gw = await self.gateway()
        self.assertEqual(await gw.call(describe, 1, (2,), x=b"3"), [(1, (2,)), {"x": b"3"}])
        self.assertEqual(await gw.call(describe), [(), {}])
        self.assertIsNone(await gw.call("time:sleep", 0))

    async def test_call_by_name_imports_at_the_far_side(self) -> None:
        """A call by name imports at the far side; names may have dots."""
        gw = await self.gateway()
        self.assertEqual(await gw.call("os.path:join", "a", "b"), "a/b")
        found = await gw.call("collections:OrderedDict.fromkeys.__name__.upper")
        self.assertEqual(found, "FROMKEYS")
        error = await self.failure(gw.call("no_such_module:f"), pycomnet.RemoteError)
        self.assertIn("no_such_module", error.message)
        error = await self.failure(gw.call("os:no_such_name"), pycomnet.RemoteError)
        self.assertIn("no_such_name", error.message)
        await self.failure(gw.call("os"), pycomnet.CodeNotSendable)

    async def test_arguments_and_result_may_exceed_frame_and_window(self) -> None:
        """Arguments and results may be longer than any frame or window."""
        gw = await self.gateway()
        blob = bytes(range(256)) * 20_000
        [args, _] = await gw.call(describe, blob)
        self.assertTrue(args[0] == blob)

    async def test_cancelled_call_leaves_the_gateway_working(self) -> None:
        """A cancelled call's result is dropped, and the gateway goes on."""
        gw = await self.gateway()
        channel = gw.newchannel()

        def wait(channel):
            return channel.receive()

        call = gw.call(wait, channel)
        call.cancel()
        await self.failure(call, CancelledError)
        await channel.send(1)
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)

    async def test_far_side_puts_no_modules_of_ours_in_the_way(self) -> None:
        """The far side's own modules stand in the way of no name."""
        gw = await self.gateway()

        def names():
            import sys

            return [name for name in sys.modules if name.split(".")[0] == "pycomnet"]

        self.assertEqual(await gw.call(names), [])

    async def test_info_and_repr_say_what_the_far_side_is(self) -> None:
        """A far side says what it is, and its code can ask for its own gateway's id."""
        gw = await self.gateway(id="named")
        self.assertEqual(gw.info["python"].split(".")[0], "3")
        self.assertEqual(gw.info["pid"], await gw.call("os:getpid"))
        channel = gw.remote_exec("channel.send(channel.gateway.id)")
        self.assertEqual(await channel.receive(), "named")
        self.assertIn("named", repr(gw))
        self.assertIn(str(gw.info["pid"]), repr(gw))


class ExecutionModels(GatewayCase):
    """Which thread runs what."""

    async def test_main_thread_takes_the_first_request_others_get_threads(self) -> None:
        """The main thread takes the first request; what comes meanwhile gets threads."""
        gw = await self.gateway()
        first = gw.remote_exec(who_runs)
        self.assertEqual(await first.receive(), (True, "MainThread"))
        others = [gw.remote_exec(who_runs) for _ in range(3)]
        names = [await channel.receive() for channel in others]
        self.assertEqual([main for main, _ in names], [False] * 3)
        self.assertEqual(len({name for _, name in names}), 3)
        await first.send(None)
        await first.waitclose()
        again = gw.remote_exec(who_runs)
        self.assertEqual((await again.receive())[0], True)

    async def test_sequential_requests_all_run_in_the_main_thread(self) -> None:
        """Requests that come one after the other all run in the main thread."""
        gw = await self.gateway()
        self.assertEqual([await gw.call(where) for _ in range(50)], [True] * 50)

    async def test_main_thread_only_queues_the_second_request(self) -> None:
        """With ``main_thread_only`` a request waits until the one before it is done."""
        gw = await self.gateway(execmodel="main_thread_only")
        first, second = gw.remote_exec(who_runs), gw.remote_exec(who_runs)
        self.assertEqual(await first.receive(), (True, "MainThread"))
        status = await gw.remote_status()
        self.assertEqual((status["running"], status["queued"]), (1, 1))
        self.assertEqual(status["execmodel"], "main_thread_only")
        waiting = second.receive()
        self.assertNoResult(waiting)
        await first.send(None)
        self.assertEqual(await waiting, (True, "MainThread"))

    async def test_main_thread_only_runs_requests_in_order(self) -> None:
        """Queued requests run in the order in which they were made."""
        gw = await self.gateway(execmodel="main_thread_only")
        source = "import sys; sys.seen = getattr(sys, 'seen', []) + [n]; channel.send(sys.seen)"
        channels = [gw.remote_exec(source, n=n) for n in range(5)]
        self.assertEqual(await channels[-1].receive(), [0, 1, 2, 3, 4])

    async def test_threads_left_behind_delay_neither_request_nor_exit(self) -> None:
        """Threads that far code leaves behind keep neither their request nor the end waiting."""
        gw = await self.gateway()
        source = """
        import threading, time
        threading.Thread(target=time.sleep, args=(1000,)).start()
        """
        await gw.remote_exec(source).waitclose()
        await gw.exit(60, grace=0)
        self.assertEqual(await gw.join(), 0)
