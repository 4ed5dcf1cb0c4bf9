"""Services for asyncio programs, on asyncio's own loop and on uvloop's."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import trustme
from twisted.internet import defer
from twisted.trial.unittest import SynchronousTestCase

import pycomnet
from pycomnet import aio
from twisted import internet

PATIENCE = 120


@pycomnet.interface("org.example.aio")
class Example(pycomnet.Service):
    """Awaits what is asyncio's and what is Twisted's."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.began: Any = None
        self.closed: Any = None

    @pycomnet.method()
    async def mixed(self, request: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        first = await asyncio.wait_for(asyncio.sleep(0.01, "slept"), PATIENCE)
        second = await defer.succeed("fired")
        later: defer.Deferred[str] = defer.Deferred()
        asyncio.get_running_loop().call_soon(later.callback, "later")
        return [first, second, await later]

    @pycomnet.method()
    def future(self, request: Any) -> Any:
        return asyncio.ensure_future(asyncio.sleep(0.01, request.args))

    @pycomnet.method()
    async def fails(self, request: Any) -> Any:
        waiting: defer.Deferred[Any] = defer.Deferred()
        asyncio.get_running_loop().call_soon(waiting.errback, ValueError("no"))
        try:
            await waiting
        except ValueError as problem:
            raise KeyError(*problem.args) from problem

    @pycomnet.method()
    async def hangs(self, request: Any) -> Any:
        self.began.set()
        try:
            await (asyncio.sleep(3600) if request.args == "asyncio" else defer.Deferred())
        except asyncio.CancelledError:
            self.ended.append(request.args)
            self.closed.set()
            raise

    @pycomnet.method(stream=True)
    async def ticks(self, request: Any) -> Any:
        try:
            number = 0
            while True:
                yield number
                number += 1
                await asyncio.sleep(0)
        finally:
            self.ended.append("ticks")
            self.closed.set()

    @pycomnet.method()
    async def blocks(self, request: Any) -> Any:
        await asyncio.sleep(0)
        return "blocks", *(pycomnet.Binary(file.read()) for file in request.files)


Body = Callable[[Example, Any, aio.Context], Awaitable[None]]


class AioTests(SynchronousTestCase):
    """Each test is a program: a server, a context, and what it does with them."""

    def run_program(self, body: Body) -> None:
        async def program() -> None:
            service = Example()
            service.began, service.closed = asyncio.Event(), asyncio.Event()
            async with aio.ServiceServer() as server, aio.Context(timeout=PATIENCE) as context:
                await server.add(service)
                address = await server.listen("tcp:0:interface=127.0.0.1")
                remote = await context.connect(address, "org.example.aio")
                await body(service, remote, context)

        asyncio.run(asyncio.wait_for(program(), PATIENCE))

    def test_async_method_awaits_futures_and_deferreds(self) -> None:
        """An async method awaits futures and Deferreds alike, and is a task."""

        async def body(service: Example, remote: Any, context: aio.Context) -> None:
            self.assertEqual(await remote.invoke("mixed"), ["slept", "fired", "later"])
            self.assertEqual(await remote.invoke("future", "result"), "result")
            with self.assertRaises(pycomnet.RemoteError) as caught:
                await remote.invoke("fails")
            self.assertEqual(caught.exception.type, "KeyError")
            sleeping = [remote.invoke("future", number) for number in range(10)]
            self.assertEqual(await asyncio.gather(*sleeping), list(range(10)))

        self.run_program(body)

    def test_client_has_futures_for_deferreds(self) -> None:
        """What the Deferred API has, each with a future in place of a Deferred."""

        async def body(service: Example, remote: Any, context: aio.Context) -> None:
            self.assertEqual(remote.interface, "org.example.aio")
            self.assertIn("org.example.aio", await remote.introspect())
            blocks = [pycomnet.Binary(b"x" * 1_000_000), pycomnet.Binary(b"y")]
            result, files = await remote.invoke("blocks", attachments=blocks, with_binary=True)
            self.assertEqual(result, "blocks")
            self.assertEqual([file.size for file in files], [1_000_000, 1])
            for call in (remote.invoke("nothing"), context.connect("tcp:127.0.0.1:1")):
                with self.assertRaises(pycomnet.ServiceError):
                    await call
            with self.assertRaises(pycomnet.PycomnetError):
                await context.locate("org.example.aio")

        self.run_program(body)

    def test_cancel_or_deadline_cancels_the_method(self) -> None:
        """Cancelling cancels the method, whatever it awaits; so does a deadline."""

        async def body(service: Example, remote: Any, context: aio.Context) -> None:
            for kind in ("asyncio", "twisted"):
                call = remote.invoke("hangs", kind, timeout=None)
                await service.began.wait()
                with self.assertRaises(asyncio.TimeoutError):
                    await asyncio.wait_for(call, 0.05)
                await service.closed.wait()
                service.began.clear()
                service.closed.clear()
                for timeout in (0.05, 1, 20):  # until it is enough for the method to begin
                    with self.assertRaises(pycomnet.DeadlineExceeded):
                        await remote.invoke("hangs", kind, timeout=timeout)
                    if service.began.is_set():
                        break
                await service.closed.wait()
                service.began.clear()
                service.closed.clear()
            self.assertEqual(service.ended, ["asyncio", "asyncio", "twisted", "twisted"])

        self.run_program(body)

    def test_stream_that_is_left_is_closed(self) -> None:

        async def body(service: Example, remote: Any, context: aio.Context) -> None:
            async for value in remote.stream("ticks"):
                if value == 3:
                    break
            await service.closed.wait()
            self.assertEqual(service.ended, ["ticks"])

        self.run_program(body)

    def test_several_loops_leave_nothing_behind(self) -> None:
        """Several loops, one after the other, each leave nothing behind."""

        async def body(service: Example, remote: Any, context: aio.Context) -> None:
            await remote.invoke("mixed")

        self.run_program(body)
        descriptors = Path("/proc/self/fd")
        before = len(os.listdir(descriptors)) if descriptors.exists() else 0
        for _ in range(3):
            self.run_program(body)
        if before:
            self.assertLessEqual(len(os.listdir(descriptors)), before)

    def test_names_and_tls_install_no_other_reactor(self) -> None:
        """By a host's name, with TLS and without: no other reactor is installed for that."""
        authority = trustme.CA()
        with tempfile.TemporaryDirectory() as directory:
            key, roots = f"{directory}/key.pem", f"{directory}/ca.pem"
            authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(key)
            authority.cert_pem.write_to_path(roots)

            async def program() -> None:
                async with aio.ServiceServer() as server, aio.Context(timeout=PATIENCE) as context:
                    await server.add(Example())
                    for kind, own, more in (
                        ("tcp", "", ""),
                        ("tls", f":privateKey={key}", f":trustRoots={roots}"),
                    ):
                        address = await server.listen(f"{kind}:0:interface=127.0.0.1{own}")
                        named = address.replace("127.0.0.1", "localhost") + more
                        remote = await context.connect(named, "org.example.aio")
                        self.assertEqual(await remote.invoke("future", kind), kind)

            # As in a program that has no Twisted reactor: to import one fails.
            with (
                mock.patch.dict(vars(internet)),
                mock.patch.dict(sys.modules, {"twisted.internet.reactor": None}),
            ):
                vars(internet).pop("reactor", None)
                asyncio.run(asyncio.wait_for(program(), PATIENCE))

    def test_aio_works_on_uvloop(self) -> None:
        """On uvloop's loop, too."""
        try:
            import uvloop
        except ImportError:
            if os.environ.get("PYCOMNET_REQUIRE_ALL"):
                raise
            self.skipTest("there is no uvloop")

        async def body(service: Example, remote: Any, context: aio.Context) -> None:
            self.assertEqual(type(asyncio.get_running_loop()).__module__, "uvloop")
            self.assertEqual(await remote.invoke("mixed"), ["slept", "fired", "later"])

        self.addCleanup(asyncio.set_event_loop_policy, None)
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        self.run_program(body)

    def test_error_outside_of_a_coroutine_says_how_to_begin(self) -> None:
        problem = self.assertRaises(RuntimeError, aio.Context)
        self.assertIn("asyncio.run", str(problem))
