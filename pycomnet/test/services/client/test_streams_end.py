"""Streams that are not read to their end: the generator at the server is closed at once."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet import defer

from pycomnet.errors import ChannelClosed, DeadlineExceeded
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.services.network import ServiceCase

KINDS = ("gen", "agen", "waiting", "thread", "iterator")


class Endless:
    """An iterator that is no generator, and can be closed."""

    def __init__(self, closed: list[str]) -> None:
        self.closed = closed

    def __iter__(self) -> Endless:
        return self

    def __next__(self) -> int:
        return 0

    def close(self) -> None:
        self.closed.append("iterator")


@interface("t.w")
class Worker(Service):
    """Endless streams that note when they are closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.late: list[int] = []

    def endless(self, name: str) -> Any:
        try:
            yield 0
            while True:
                yield bytes(100_000)
        finally:
            self.closed.append(name)

    @method(stream=True)
    def gen(self, request: Any) -> Any:
        return self.endless("gen")

    @method(stream=True, thread=True)
    def thread(self, request: Any) -> Any:
        return self.endless("thread")

    @method(stream=True)
    def iterator(self, request: Any) -> Any:
        return Endless(self.closed)

    @method(stream=True)
    async def agen(self, request: Any) -> Any:
        try:
            while True:
                yield 0
        finally:
            self.closed.append("agen")

    @method(stream=True)
    async def waiting(self, request: Any) -> Any:
        try:
            yield 0
            await defer.Deferred()
        finally:
            self.closed.append("waiting")

    @method(stream=True)
    async def stubborn(self, request: Any) -> Any:
        """Goes on when it is cancelled."""
        while True:
            try:
                yield 0
                await defer.Deferred()
            except defer.CancelledError:
                self.late.append(1)


class EndTests(ServiceCase):
    """Each way to want no more, for each kind of generator."""

    services = (Worker,)

    def setUp(self) -> None:
        super().setUp()
        self.call_worker()
        # What is closed by being collected is closed too late.
        gc.disable()
        self.addCleanup(gc.enable)

    def assert_closed(self, name: str) -> None:
        self.network.deliver()
        self.assertEqual(self.worker.closed, [name])
        self.assertEqual(self.server._active, set())
        self.worker.closed.clear()

    def test_ends_by_close_before_and_after_a_value(self) -> None:
        """By ``close``, after a value and before any."""
        for name in KINDS:
            stream = self.remote.stream(name)
            self.assertEqual(self.result(stream.receive()), 0)
            stream.close()
            self.assert_closed(name)

    def test_ends_by_leaving_the_loop(self) -> None:
        """By leaving an ``async for``."""

        async def first(name: str) -> Any:
            async for value in self.remote.stream(name):
                return value

        for name in KINDS:
            self.assertEqual(self.result(defer.Deferred.fromCoroutine(first(name))), 0)
            self.assert_closed(name)

    def test_ends_by_being_dropped(self) -> None:
        """By being held by nobody; a deadline does not hold it, what waits for a value does."""
        for name in KINDS:
            stream = self.remote.stream(name, timeout=1000)
            self.assertEqual(self.result(stream.receive()), 0)
            del stream
            self.assert_closed(name)
        waiting = self.remote.stream("waiting").receive()
        self.assertEqual(self.result(waiting), 0)
        self.assert_closed("waiting")

    def test_ends_by_deadline_and_by_connection(self) -> None:
        """By its deadline, and by the end of the connection."""
        for name in KINDS:
            stream = self.remote.stream(name, timeout=1.0)
            self.assertEqual(self.result(stream.receive()), 0)
            self.network.wait(1.5)
            self.failure(stream.receive(), DeadlineExceeded)
            self.assert_closed(name)
            stream = self.remote.stream(name)
            self.assertEqual(self.result(stream.receive()), 0)
            self.network.cut()
            self.assert_closed(name)

    def test_stubborn_stream_ends_with_the_next_value(self) -> None:
        """One that goes on when it is cancelled ends with the next value."""
        stream = self.remote.stream("stubborn")
        self.assertEqual(self.result(stream.receive()), 0)
        stream.close()
        self.network.deliver()
        self.assertEqual(self.worker.late, [1])
        self.assertEqual(self.server._active, set())

    def test_at_the_end(self) -> None:
        """One that has ended closes nothing twice."""
        stream = self.remote.stream("waiting")
        self.assertEqual(self.result(stream.receive()), 0)
        stream.close()
        stream.close()
        self.failure(stream.receive(), ChannelClosed)
        del stream
        self.assert_closed("waiting")
