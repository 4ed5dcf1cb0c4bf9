"""What the test cases of the gateway suite have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

import pycomnet
from pycomnet.test.processes import still_there
from pycomnet.wire.frames import WINDOW

#: The address of the factory service that the gateways are made by, if there is one.
FACTORY = os.environ.get("PYCOMNET_TEST_FACTORY")


def pids(channel):
    """Far code: say which processes are there, and wait to be ended."""
    import os

    channel.send((os.getpid(), os.getppid()))
    channel.receive()


class GatewayCase(TestCase):
    """A test of gateways made from :attr:`spec`, in a group that is closed at the end.

    :cvar spec: what the gateways are made from.
    """

    spec = "popen"
    #: Seconds for one test: more than what it waits for may take on a busy machine.
    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.outputs: list[pycomnet.Output] = []
        self._watchers: list[tuple[Callable[[], bool], defer.Deferred[None]]] = []
        self.group = pycomnet.Group(reactor, output=self._output)
        if FACTORY is not None:
            self.group.setlocalfactory(endpoint=FACTORY)
        self.addCleanup(self.group.close)

    async def gateway(self, **options: Any) -> pycomnet.Gateway:
        """A gateway, made from the spec and further keys; it may take as long as the test."""
        return await self.group.makegateway(self.spec, **{"timeout": self.timeout, **options})

    @staticmethod
    def wideness(gateway: pycomnet.Gateway) -> int:
        """How many times as wide as usual the windows of its channels are."""
        return gateway._connection.mux.limits.window // WINDOW

    def _output(self, output: pycomnet.Output) -> None:
        self.outputs.append(output)
        for watcher in list(self._watchers):
            predicate, deferred = watcher
            if predicate():
                self._watchers.remove(watcher)
                deferred.callback(None)

    def printed(self, stream: int = 1) -> str:
        """What far code has printed so far."""
        return "".join(output.text for output in self.outputs if output.stream == stream)

    async def until_printed(self, text: str, stream: int = 1) -> None:
        """Wait until what far code printed has this in it."""

        def predicate() -> bool:
            return text in self.printed(stream)

        if not predicate():
            deferred: defer.Deferred[None] = defer.Deferred()
            self._watchers.append((predicate, deferred))
            await deferred

    async def assert_gone(self, *pids: int) -> None:
        """Fail unless these processes end."""
        self.assertEqual(await deferToThread(still_there, pids), [])

    async def failure(self, awaitable: Any, *errors: type[BaseException]) -> Any:
        """The exception that a Deferred fails with, which must be one of these."""
        try:
            result = await awaitable
        except errors as error:
            return error
        self.fail(f"expected {[error.__name__ for error in errors]}, got {result!r}")
