"""Pools of gateways: calls that fail, gateways that die, and what is cancelled."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from twisted.internet import defer
from twisted.trial.unittest import TestCase

import pycomnet
from pycomnet.gateways.output import Output
from pycomnet.gateways.pool.pool import CallQueue
from pycomnet.wire.values import ValueNotSendable


def square(x: int) -> int:
    return x * x


def uses_module(x: int) -> int:
    return square(x)


def quotient(x: int, divisor: int) -> int:
    return x // divisor


async def doubled_later(x: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return 2 * x


#: What is told of a call that nobody waits for.
NOBODY = (lambda: True, lambda payload, error: None)


def pid(_: Any) -> int:
    import os

    return os.getpid()


def die_once(path: str) -> str:
    import os

    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "second"
    os._exit(7)


def die(_: Any) -> None:
    import os

    os._exit(7)


def wait_for(path: str) -> str:
    import os
    import time

    while not os.path.exists(path):
        time.sleep(0.01)
    return path


def unsendable() -> object:
    return object()


def interrupt() -> None:
    raise KeyboardInterrupt


def turn() -> defer.Deferred[None]:
    """Fires in the reactor's next turn."""
    from twisted.internet import reactor, task

    return task.deferLater(reactor, 0)  # type: ignore[arg-type]


class PoolCase(TestCase):
    """A test with a group of two gateways."""

    timeout = 120

    async def pool(self, number: int = 2, **options: Any) -> pycomnet.GatewayPool:
        """A pool over some gateways."""
        from twisted.internet import reactor

        self.output: list[Output] = []
        self.group = pycomnet.Group(reactor, output=self.output.append)
        self.addCleanup(self.group.terminate)
        await self.group.makegateways(["popen"] * number)
        return pycomnet.GatewayPool(reactor, self.group, **options)

    def path(self, name: str) -> Path:
        """A file that is not there."""
        directory = Path(self.mktemp())
        directory.mkdir()
        return (directory / name).resolve()


class Calls(PoolCase):
    """What comes of calls."""

    async def test_map_results_are_in_order_from_all_gateways(self) -> None:
        """Results come in order, and more than one gateway works."""
        async with await self.pool() as pool:
            found = [value async for value in pool.map(square, range(3000))]
            self.assertEqual(found, [x * x for x in range(3000)])
            pids = {value async for value in pool.map(pid, range(2000), buffersize=50)}
            self.assertEqual(len(pids), 2)

    async def test_functions_are_called_by_value_or_by_name(self) -> None:
        """Several functions, keyword arguments, and what is imported there."""
        async with await self.pool() as pool:
            calls = [
                pool.submit(square, x=3),
                pool.submit("operator:add", 1, 2),
                pool.submit("os.path:join", "a", "b"),
            ]
            self.assertEqual(await defer.gatherResults(calls), [9, 3, "a/b"])

    async def test_each_call_has_its_own_error(self) -> None:
        """Each call has its own error; the others go on."""
        async with await self.pool(1) as pool:
            calls = [
                pool.submit(square, "x"),
                pool.submit("os:nosuch", 1),
                pool.submit(unsendable),
                pool.submit(interrupt),
                pool.submit(square, 4),
            ]
            types = [(await self.assertFailure(c, pycomnet.RemoteError)).type for c in calls[:4]]
            name = [one.rpartition(".")[2] for one in types]
            expected = ["TypeError", "AttributeError", "ValueNotSendable", "KeyboardInterrupt"]
            self.assertEqual(name, expected)
            self.assertEqual(await calls[4], 16)

    async def test_traceback_has_the_users_frames_alone(self) -> None:
        """A far traceback has the user's frames, with their lines, and none of ours."""
        async with await self.pool(1) as pool:
            for function, line in ((square, "return x * x"), (interrupt, "raise Keyb")):
                args = ("x",) if function is square else ()
                call = pool.submit(function, *args)
                error = await self.assertFailure(call, pycomnet.RemoteError)
                self.assertIn(line, error.formatted)
                self.assertEqual(error.formatted.count('File "'), 1, error.formatted)

    async def test_async_functions_result_is_awaited(self) -> None:
        """An async function's result is awaited there."""
        async with await self.pool(1) as pool:
            self.assertEqual(await pool.submit("asyncio:sleep", 0, "done"), "done")
            self.assertEqual(await pool.submit(doubled_later, 4), 8)
            gateway = next(iter(self.group))
            self.assertRaises(pycomnet.CodeNotSendable, gateway.request_for, doubled_later)
            call = gateway.call(doubled_later, 4)
            await self.assertFailure(call, pycomnet.CodeNotSendable)

    async def test_function_of_an_offered_module_is_imported(self) -> None:
        """A function of a module that was offered is imported, and finds what it uses there."""
        pool = await self.pool()
        self.assertRaises(pycomnet.CodeNotSendable, pool.encoder.call, uses_module, (), {}, *NOBODY)
        call = pool.submit(uses_module, 4)
        self.assertIn("send_modules", str(await self.assertFailure(call, pycomnet.CodeNotSendable)))
        await defer.gatherResults([one.send_modules("pycomnet") for one in self.group])
        async with pool:
            self.assertEqual(await pool.submit(uses_module, 4), 16)
            self.assertEqual([value async for value in pool.map(uses_module, range(9))][8], 64)

    async def test_function_that_not_all_gateways_can_run_is_refused(self) -> None:
        """Where only some of its gateways can run a function, it is refused when it is submitted;
        and a call alone fails whose gateway turns out not to be able to."""
        async with await self.pool() as pool:
            first, second = self.group
            await first.send_modules("pycomnet")
            await self.assertFailure(pool.submit(uses_module, 4), pycomnet.CodeNotSendable)
            await second.send_modules("pycomnet")
            calls = [pool.submit(uses_module, 4)]
            await calls[0]
            # As a gateway that replaces another, and that nothing was offered to.
            await self.group.makegateway("popen//id=new")
            queue = CallQueue(3)
            ends: list[Any] = []
            call = pool.encoder.call(
                uses_module, (1,), {}, lambda: True, lambda *end: ends.append(end)
            )
            other = pool.encoder.call(square, (1,), {}, *NOBODY)
            queue.put(call)
            queue.put(other)
            suited = queue.suited(queue.take(2, True), set(), self.group["new"])
            self.assertEqual((suited, queue.outstanding), ([other], 1))
            self.assertIsInstance(ends[0][1], pycomnet.CodeNotSendable)

    async def test_lambda_goes_as_compiled_code(self) -> None:
        """A lambda goes as compiled code, as for calls."""
        async with await self.pool() as pool:
            self.assertEqual([n async for n in pool.map(lambda x: x + 1, range(3))], [1, 2, 3])

    async def test_partials_arguments_go_before_the_calls(self) -> None:
        """A partial's arguments go before the call's own."""
        async with await self.pool(1) as pool:
            half = functools.partial(quotient, 20)
            self.assertEqual(await pool.submit(half, 5), 4)
            by_name = functools.partial(quotient, divisor=2)
            self.assertEqual(await pool.submit(by_name, 10), 5)

    async def test_unsendable_argument_fails_before_anything_is_sent(self) -> None:
        """What can't be sent fails before anything is."""
        async with await self.pool(1) as pool:
            await self.assertFailure(pool.submit(square, object()), ValueNotSendable)
            await self.assertFailure(pool.submit(lambda: 1, 1, 2, 3), Exception)

    async def test_more_functions_than_are_kept_still_work(self) -> None:
        """More functions than a loop keeps."""
        async with await self.pool(1) as pool:
            names = [f"builtins:{name}" for name in ("abs", "float", "int")]
            self.patch(pycomnet.gateways.pool.pool, "MAX_KNOWN", 1)
            found = await defer.gatherResults([pool.submit(names[n % 3], n) for n in range(50)])
            self.assertEqual(found, list(range(50)))

    async def test_pool_of_specs_is_refused_with_advice(self) -> None:
        """A pool of specs, or of what else is no gateway, is refused, with what to do."""
        from twisted.internet import reactor

        with self.assertRaisesRegex(TypeError, "not 'popen': make them with group.makegateway"):
            pycomnet.GatewayPool(reactor, ["popen"])  # type: ignore[list-item]


class Losses(PoolCase):
    """Gateways that are lost."""

    async def test_lost_gateways_calls_are_done_elsewhere(self) -> None:
        """All results come, and the gateway is replaced."""
        marker = str(self.path("died"))
        async with await self.pool() as pool:
            calls = [pool.submit(square, n) for n in range(500)]
            calls.append(pool.submit(die_once, marker))
            calls += [pool.submit(square, n) for n in range(500)]
            found = await defer.gatherResults(calls)
            self.assertEqual(found.count("second"), 1)
        self.assertEqual(len(self.group), 2)

    async def test_call_that_kills_gateways_fails_after_its_tries(self) -> None:
        """A call that ends each gateway fails after its tries; its neighbours do not."""
        async with await self.pool(tries=3) as pool:
            calls = [pool.submit(square, n) for n in range(10)]
            bad = pool.submit(die, 1)
            calls += [pool.submit(square, n) for n in range(10, 20)]
            error = await self.assertFailure(bad, pycomnet.GatewayDied)
            self.assertIn("3 gateways died of it", str(error))
            found = await defer.gatherResults(calls)
            self.assertEqual(found, [n * n for n in range(20)])

    async def test_call_that_may_not_be_repeated_is_lost_alone(self) -> None:
        """What may not be repeated isn't: only the call that ran is lost."""
        marker = str(self.path("died"))
        async with await self.pool(1, idempotent=False) as pool:
            calls = [pool.submit(square, 1), pool.submit(die_once, marker), pool.submit(square, 2)]
            self.assertEqual(await calls[0], 1)
            await self.assertFailure(calls[1], pycomnet.GatewayDied)
            self.assertEqual(await calls[2], 4)

    async def test_all_calls_fail_when_no_gateway_is_left(self) -> None:
        """When all are gone, what waits fails, and so does what comes later."""
        pool = await self.pool(1, replace=0, tries=5)
        calls = [pool.submit(die, 1), *(pool.submit(square, n) for n in range(600))]
        for call in calls:
            await self.assertFailure(call, pycomnet.NoGatewayLeft)
        await self.assertFailure(pool.submit(square, 1), pycomnet.NoGatewayLeft)
        await pool.shutdown()

    async def test_gateway_ended_by_its_owner_is_not_replaced(self) -> None:
        pool = await self.pool()
        await pool.submit(square, 1)
        await next(iter(self.group)).exit()
        self.assertEqual(await pool.submit(square, 2), 4)
        self.assertEqual(len(self.group), 1)
        await pool.shutdown()

    async def test_terminated_group_fails_every_call(self) -> None:
        """A group that is terminated leaves no call without an answer."""
        pool = await self.pool()
        path = str(self.path("never"))
        calls = [pool.submit(wait_for, path) for _ in range(5)]
        await self.group.terminate(0)
        for call in calls:
            await self.assertFailure(call, pycomnet.NoGatewayLeft)


class Cancelling(PoolCase):
    """What nobody wants any more."""

    async def test_cancelled_call_that_has_not_begun_never_runs(self) -> None:
        """A call that has not begun never runs; the result of one that has is dropped."""
        pool = await self.pool(1, idempotent=False)
        go, never = self.path("go"), self.path("never")
        first = pool.submit(wait_for, str(go))
        second = pool.submit("os:mkdir", str(never))
        second.cancel()
        await self.assertFailure(second, defer.CancelledError)
        first.cancel()
        await self.assertFailure(first, defer.CancelledError)
        go.touch()
        self.assertEqual(await pool.submit(square, 3), 9)
        self.assertFalse(never.exists())
        await pool.shutdown()

    async def test_shutdown_waits_for_what_runs_and_withdraws_the_rest(self) -> None:
        """Shutting down waits for what runs, withdraws the rest when asked, and takes no more."""
        pool = await self.pool(1, idempotent=False)
        go = self.path("go")
        self.assertEqual(await pool.submit(square, 2), 4)
        first, second = pool.submit(wait_for, str(go)), pool.submit(square, 1)
        while len(pool.pending()) > 1:
            await turn()
        over = pool.shutdown(cancel=True)
        await self.assertFailure(second, defer.CancelledError)
        await self.assertFailure(pool.submit(square, 1), RuntimeError)
        self.assertFalse(over.called)
        go.touch()
        self.assertEqual(await first, str(go))
        await over

    async def test_senseless_numbers_are_refused(self) -> None:
        """Numbers that make no sense are refused, and a pool of nothing."""
        await self.pool(1)
        from twisted.internet import reactor

        for options in ({"jobs": 0}, {"tries": 0}, {"replace": -1}, {"jobs": 1.5}):
            self.assertRaises(ValueError, pycomnet.GatewayPool, reactor, self.group, **options)
        self.assertRaises(ValueError, pycomnet.GatewayPool, reactor, [])

    async def test_map_without_room_for_a_call_is_refused(self) -> None:
        """It would give no results, as if there were no items."""
        pool = await self.pool(1)
        sizes: tuple[Any, ...] = (0, -1, 1.5)
        for size in sizes:
            with self.assertRaises(ValueError):
                [value async for value in pool.map(square, [1, 2], buffersize=size)]
        self.assertEqual([n async for n in pool.map(square, [1, 2], buffersize=1)], [1, 4])

    async def test_cancelled_shutdown_still_shuts_down(self) -> None:
        """Cancelling it only stops the waiting, also when the first of several waiters does it."""
        pool = await self.pool(1)
        go = self.path("go")
        first = pool.submit(wait_for, str(go))
        waiting = [pool.shutdown(), pool.shutdown(), pool.when_over(), pool.when_over()]
        waiting[0].cancel()
        await self.assertFailure(waiting[0], defer.CancelledError)

        def cancel_rest(_: None) -> None:
            for one in waiting[2:]:
                one.cancel()

        waiting[1].addCallback(cancel_rest)
        go.touch()
        self.assertEqual(await first, str(go))
        await waiting[1]
        for one in waiting[2:]:
            await self.assertFailure(one, defer.CancelledError)
        await pool.when_over()
        await self.assertFailure(pool.submit(square, 1), RuntimeError)
