"""What tests of the drop-in's short way need: both ends of a connection, turned by the test."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.channels.connection import Connection
from pycomnet.channels.core import ChannelCore
from pycomnet.execnet import reactorbypass as bypass_module
from pycomnet.execnet.callbackthread import CallbackThread
from pycomnet.execnet.channel import Channel
from pycomnet.execnet.inbox import Inbox
from pycomnet.execnet.outbox import Outbox
from pycomnet.gateways.transports.pipes import ProcessTransport
from pycomnet.wire.mux import EV_CLOSED, EV_DATA, EV_OPENED, EV_RUN, Mux

#: Seconds for what comes at once.
SOON = 10.0
#: Seconds for which a thread reads itself here.
ANSWER_WAIT = 2.0


class Reactor(MemoryReactorClock):
    """Is turned by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: list[Callable[[], object]] = []

    def callFromThread(self, call: Callable[..., Any], *args: object) -> None:
        """Keep it for the next turn."""
        self.from_threads.append(lambda: call(*args))

    def turn(self) -> None:
        """Do what is to be done now."""
        calls, self.from_threads = self.from_threads, []
        for call in calls:
            call()
        self.advance(0)
        for reader in list(self.readers):
            if select.select([reader], [], [], 0)[0]:
                self._done(reader, reader.doRead())
        for writer in list(self.writers):
            if select.select([], [writer], [], 0)[1]:
                self._done(writer, writer.doWrite())

    def _done(self, descriptor: Any, why: Any) -> None:
        if why is not None:
            self.removeReader(descriptor)
            self.removeWriter(descriptor)
            descriptor.connectionLost(Failure(why))


class Gateway:
    """What channels need of one."""

    era = -1

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.callbacks = CallbackThread("test")

    def is_connected(self) -> bool:
        """Whether it is not lost."""
        return True

    def inbox(self) -> Inbox:
        """What takes all that comes over one channel."""
        return Inbox(self.callbacks)


class Threads:
    """Runs functions in threads, while the reactor turns and the far side answers."""

    def __init__(self, turn: Callable[[], None]) -> None:
        self._turn = turn

    def run(self, *functions: Callable[[], Any]) -> list[Any]:
        """What they return, or the errors that they raise."""
        results: list[Any] = [None] * len(functions)

        def run(number: int, function: Callable[[], Any]) -> None:
            try:
                results[number] = function()
            except BaseException as problem:
                results[number] = problem

        threads = [
            threading.Thread(target=run, args=arguments, daemon=True)
            for arguments in enumerate(functions)
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + SOON
        for thread in threads:
            while thread.is_alive():
                if time.monotonic() > end:
                    raise AssertionError("a thread waits for ever")
                self._turn()
                thread.join(0.0002)
        self._turn()  # for what a thread did at its end
        return results


class BypassCase(SynchronousTestCase):
    """A connection between two pipes, whose reactor and far side the test turns."""

    def setUp(self) -> None:
        # The far side here may get its turn late, when the machine is busy.
        self.patch(bypass_module, "ANSWER_WAIT", ANSWER_WAIT)
        self.far_in, near_out = os.pipe()
        near_in, self.far_out = os.pipe()
        os.set_blocking(self.far_in, False)
        self.reactor = reactor = Reactor()
        untyped: Any = reactor
        self.connection = Connection(untyped)
        self.transport = ProcessTransport(near_out, near_in, self.connection, untyped)
        self.addCleanup(self.close)
        self.far = Mux(False)
        #: what the far side got
        self.came: list[bytes] = []
        self.closed: list[int] = []
        #: how it answers a value: with bytes for the pipe
        self.answer: Callable[[Any, bytes], None] = self.echo
        self.outbox = Outbox(untyped, self.connection)
        self.bypass = self.outbox.bypass
        self.gateway: Any = Gateway(self.outbox)
        for _ in range(3):
            self.turn()  # the hellos
        self.channel = self.open()
        self.core: ChannelCore = self.channel.core
        self.threads = Threads(self.turn)

    def close(self) -> None:
        """Close the pipes."""
        self.transport.abortConnection()
        self.reactor.advance(0)
        for fd in (self.far_in, self.far_out):
            if fd >= 0:
                os.close(fd)

    def open(self) -> Channel:
        """Open a channel."""
        channel = Channel.of(self.gateway, self.connection.open("channel"))
        self.turn()
        return channel

    def turn(self) -> None:
        """Both ends do what there is to do."""
        self.reactor.turn()
        self.far_turn()

    def far_turn(self) -> None:
        """The far side does."""
        try:
            data = os.read(self.far_in, 1 << 20)
        except OSError:
            data = b""
        for event in self.far.receive_data(data) if data else ():
            if event[0] == EV_OPENED:
                continue
            if event[0] in (EV_DATA, EV_RUN):
                payloads: Any = [event[2]] if event[0] == EV_DATA else event[2]
                self.far.consumed(event[1], event[3])
                for payload in payloads:
                    self.came.append(payload)
                    self.answer(event[1], payload)
            elif event[0] == EV_CLOSED:
                self.closed.append(event[1].id)
        self.far_write()

    def far_write(self) -> None:
        """The far side writes what it has to."""
        data = self.far.data_to_send()
        if data and self.far_out >= 0:
            os.write(self.far_out, data)

    def echo(self, stream: Any, payload: bytes) -> None:
        """Answer with the same."""
        self.far.send(stream, bytes(payload))

    def send_all(self, payloads: list[bytes], stream: Any, _: bytes) -> None:
        """Answer with several values."""
        for payload in payloads:
            self.far.send(stream, payload)

    def silent(self, stream: Any, payload: bytes) -> None:
        """Do not answer."""

    def far_stream(self, channel: Channel | None = None) -> Any:
        """The far side's end of a channel."""
        return self.far.streams[(channel or self.channel).id]

    def ask(self, value: object, channel: Channel | None = None) -> Any:
        """In a thread: send a value, and return the answer."""
        channel = channel or self.channel

        def do() -> Any:
            channel.send(value)
            return channel.receive(SOON)

        return self.threads.run(do)[0]

    def lend(self) -> None:
        """Let it be lent to the channel's thread."""
        for number in range(1000):
            self.assertEqual(self.ask(number), number)
            if self.bypass.core is self.core:
                return
        self.fail("it is not lent")

    def user(self, function: Callable[[], Any]) -> Any:
        """What a thread returns, or raises, while the reactor stands still and the far end goes."""
        return Threads(self.far_turn).run(function)[0]

    def in_reactor(self, function: Callable[[], list[Any]]) -> list[Any]:
        """Call a function in the reactor's thread."""
        found: list[list[Any]] = []
        done = threading.Event()

        def call() -> None:
            found.append(function())
            done.set()

        self.reactor.callFromThread(call)
        done.wait(SOON)
        return found[0]
