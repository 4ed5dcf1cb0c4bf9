"""Methods in threads: real ones, and what becomes of them when the server ends."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from pycomnet.errors import CallInterrupted
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.limits import ServerLimits
from pycomnet.services.server.server import ServiceServer


@interface("t.w")
class Worker(Service):
    """Blocks until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.threads: list[threading.Thread] = []

    @method(thread=True)
    def block(self, request: Any) -> bool:
        self.threads.append(threading.current_thread())
        self.begun.set()
        return self.go.wait(60)

    @method(thread=True, stream=True)
    def values(self, request: Any) -> Any:
        for _ in range(3):
            self.threads.append(threading.current_thread())
            yield len(self.threads)


class ThreadTests(TestCase):
    """One server on a loopback port."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.worker = Worker()
        self.server = ServiceServer(self.reactor, limits=ServerLimits(threads=1))
        await self.server.add(self.worker)
        address = await self.server.listen("tcp:0:interface=127.0.0.1")
        self.context = Context(self.reactor)
        self.remote = await self.context.connect(address)
        self.addCleanup(self.end)

    async def end(self) -> None:
        self.worker.go.set()
        await self.context.close()
        await self.server.close()

    async def test_closing_server_does_not_wait_longer_for_threads(self) -> None:
        """A server that ends does not wait for a thread longer than for other calls."""
        call = self.remote.invoke("block", timeout=None)
        waiting = self.remote.invoke("block", timeout=None)
        await deferToThread(self.worker.begun.wait, 60)
        await self.server.close(0.05)
        await self.assertFailure(call, CallInterrupted)
        await self.assertFailure(waiting, CallInterrupted)
        (thread,) = self.worker.threads  # the second had to wait for the only one
        self.assertTrue(thread.is_alive())
        self.assertTrue(thread.daemon)

    async def test_stream_values_are_made_in_threads(self) -> None:
        """A stream's values are made in threads, too: they may block."""
        found = [value async for value in self.remote.stream("values")]
        self.assertEqual(found, [1, 2, 3])
        self.assertNotIn(threading.current_thread(), self.worker.threads)
