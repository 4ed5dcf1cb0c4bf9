"""One subprocess and the streams to and from it, which outlive the connections of its client."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet import defer
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from pycomnet.gateways.lifecycle import step
from pycomnet.gateways.spec import Spec
from pycomnet.mediator.queues import IncomingQueue, OffsetError, OutgoingQueue
from pycomnet.mediator.server.child import Launch, Subprocess
from pycomnet.mediator.server.idle import IdleTimer
from pycomnet.mediator.server.model import (
    End,
    HttpError,
    InputConnection,
    OutputConnection,
    User,
    wrong_offset,
)
from pycomnet.mediator.server.states import SESSION, SessionEffect, SessionEvent, SessionState
from pycomnet.net import eager

#: The most bytes of standard error that are kept for their reader.
STDERR_QUEUE = 1 << 18
#: Seconds for which output may be silent once the subprocess has ended, before it is closed:
#: processes that it left behind may hold it open.
DRAIN_TIMEOUT = 2.0
#: Seconds that a subprocess has to end once its output has, before it gets a signal.
STATUS_TIMEOUT = 5.0
#: Seconds that a subprocess has to end by itself once its input is closed; its supervisor needs at
#: most four. Also the seconds for which a reader that is slow may take none of the output of a
#: subprocess that has ended as it was asked to, before the rest is dropped.
GRACE = 5.0
#: Seconds from SIGTERM to SIGKILL.
KILL_TIMEOUT = 6.0
#: A write of up to this many bytes may be a small call: use busy polling for the reply.
SMALL = 1 << 12


@implementer(IPushProducer)
class MediatorSession(TwistedProtocol):
    """A subprocess that a client started.

    :param pid: its id for the client.
    :param owner: the user who started it.
    :param launch: starts the subprocess.
    :param ended: called with the session when the subprocess has ended.
    :param gone: called with the session when its remaining state is not needed.
    :param busy: returns how many seconds of processor time a process has used, or None.
    :param linger: seconds that it is kept without a client, if that is less than the owner's limit.
    :ivar state: the state in the table of :mod:`pycomnet.mediator.server.states`.
    :ivar end: how it ended, once it has.
    :ivar child: the subprocess, once it was launched.
    """

    def __init__(
        self,
        pid: str,
        owner: User,
        spec: Spec,
        launch: Launch,
        reactor: IReactorTime,
        ended: Callable[[MediatorSession], object],
        gone: Callable[[MediatorSession], object],
        busy: Callable[[int], float | None] = lambda pid: None,
        linger: float | None = None,
    ) -> None:
        limits = owner.limits
        self.pid = pid
        self.owner = owner
        self.spec = spec
        self.linger = limits.linger if linger is None else min(linger, limits.linger)
        self.stdin = IncomingQueue()
        self.streams = {
            "stdout": OutgoingQueue(limits.queue),
            "stderr": OutgoingQueue(min(STDERR_QUEUE, limits.queue)),
        }
        self.state = SessionState.NEW
        self.end: End | None = None
        self.reason = "exited"
        self.started = time.time()
        self._begun = reactor.seconds()
        #: called when more input was received, on any connection; they must not change this set
        self.took: set[Callable[[], object]] = set()
        #: called with each message that connections should send to the client
        self.listeners: set[Callable[[dict[str, Any]], object]] = set()
        self._reactor = reactor
        self._ended = ended
        self._gone = gone
        self._busy = busy
        self._readers: dict[str, OutputConnection] = {}
        self._writers: dict[InputConnection, None] = {}
        self._congested = False
        self._present = 0
        self._input_ended = False
        self._reading = True
        self._write_now: Callable[[eager.Pieces], None] = eager.nowhere
        self._look_for_answer: Callable[[], object] = lambda: None
        #: whether output has arrived since the last write
        self.answered = False
        self._status: int | None = None
        self._stderr_taken: Any = None
        self._lingering: Any = None
        #: the timer of the state, and the requested signal
        self._timer: Any = None
        self._signal: int = signal.SIGTERM
        self._idle = IdleTimer(
            limits.idle_timeout, self._activity, (0, 0.0), self._be_idle, reactor
        )
        self._launch = launch
        self.child: Subprocess | None = None

    def launch(self) -> None:
        """Start the subprocess. If anything fails afterwards, it is ended, as nobody else knows of
        it.

        :raises HttpError: it can't be started.
        """
        self._happens(SessionEvent.LAUNCH)
        try:
            self.child = self._launch(self.spec, self.spec.id or self.pid[:8], self, self._stderr)
        except BaseException:
            self._happens(SessionEvent.NOT_LAUNCHED)
            raise
        self.child.when_ended().addCallback(self._process_ended)
        try:
            self._idle.start()
            self._linger()
        except BaseException:
            self.terminate("it could not be started", signal.SIGKILL)
            raise

    def __repr__(self) -> str:
        return f"<Session {self.pid} of {self.owner.name}>"

    # -- input -----------------------------------------------------------------------------------

    def write(self, offset: int, data: bytes) -> None:
        """Pass bytes that begin at this offset to it. Bytes that it got before are dropped.

        :raises HttpError: 409 when bytes before them are missing.
        """
        if self._input_ended and offset + len(data) > self.stdin.received:
            raise HttpError(409, "input_ended", "its standard input was closed")
        try:
            new = self.stdin.accept(offset, data)
        except OffsetError as problem:
            raise HttpError(409, "offset", str(problem), received=self.stdin.received) from None
        if new:
            for took in self.took:
                took()
            if self.transport is not None:
                self.answered = False
                self._write_now((new,))
                if len(new) <= SMALL and self._reading:
                    self._look_for_answer()

    def end_input(self) -> None:
        """No more input will arrive: close its standard input."""
        if not self._input_ended:
            self._input_ended = True
            # To the far side, this is the end of its near side. Its output may still be read.
            close: Any = getattr(self.transport, "loseWriteConnection", None)
            if close is not None:
                close()

    def add_writer(self, writer: InputConnection) -> None:
        """Add a connection that writes; it is paused and resumed for back pressure."""
        self._writers[writer] = None
        if self._congested:
            writer.pause()

    def remove_writer(self, writer: InputConnection) -> None:
        """Remove a connection that wrote."""
        self._writers.pop(writer, None)

    def pauseProducing(self) -> None:
        self._congested = True
        for writer in list(self._writers):
            writer.pause()

    def resumeProducing(self) -> None:
        self._congested = False
        for writer in list(self._writers):
            writer.resume()

    def stopProducing(self) -> None:
        self._congested = False

    # -- output ----------------------------------------------------------------------------------

    def add_reader(self, stream: str, reader: OutputConnection) -> None:
        """Add the connection that a stream is read over. It replaces one of the same client.

        :raises HttpError: 409 when another client reads it.
        """
        before = self._readers.get(stream)
        if before is not None:
            if before.key != reader.key or not reader.key:
                raise HttpError(409, "reader", f"another client reads {stream} already")
            self.remove_reader(stream, before)
            before.replace()
        self._readers[stream] = reader

    def remove_reader(self, stream: str, reader: OutputConnection) -> None:
        """Remove a connection that read."""
        if self._readers.get(stream) is reader:
            del self._readers[stream]

    def confirm(self, stream: str, offset: int) -> None:
        """Drop the bytes before this offset, which the client has received.

        :raises HttpError: 409 if that much was not sent.
        """
        queue = self.streams[stream]
        try:
            queue.confirm(offset)
        except OffsetError as problem:
            raise wrong_offset(problem) from None
        if not queue.full:
            self._read_on(stream)

    def read(self, stream: str, offset: int, size: int) -> bytes | memoryview:
        """Read some of its output.

        :raises HttpError: 409 when there is nothing at that offset.
        """
        try:
            return self.streams[stream].read(offset, size)
        except OffsetError as problem:
            raise wrong_offset(problem) from None

    def read_all(self, stream: str, offset: int, size: int) -> bytes:
        """As much of its output as there is, up to a size; as :meth:`read`."""
        parts = []
        while size > 0:
            piece = self.read(stream, offset, size)
            if not piece:
                break
            parts.append(piece)
            offset += len(piece)
            size -= len(piece)
        return b"".join(parts)

    def _read_on(self, stream: str) -> None:
        if stream == "stderr":
            taken, self._stderr_taken = self._stderr_taken, None
            if taken is not None:
                taken.callback(None)
        elif not self._reading:
            self._reading = True
            if self.transport is not None:
                producer: Any = self.transport
                producer.startReading()
                if self._status is not None:
                    self._drain()

    def dataReceived(self, data: bytes) -> None:
        queue = self.streams["stdout"]
        queue.append(data)
        self.answered = True
        if queue.full and self._reading:
            self._reading = False
            producer: Any = self.transport
            producer.stopReading()
        if self._status is not None:
            self._drain()
        self._wake("stdout")

    def _stderr(self, text: str) -> Any:
        queue = self.streams["stderr"]
        queue.append(text.encode("utf-8", "replace"))
        self._wake("stderr")
        if queue.full and self._stderr_taken is None:
            self._stderr_taken = defer.Deferred()
            return self._stderr_taken
        return None

    def _wake(self, stream: str) -> None:
        reader = self._readers.get(stream)
        if reader is not None:
            reader.wake()

    # -- its client's connections ----------------------------------------------------------------

    def attach(self) -> None:
        """Note that a connection of its client has opened."""
        self._present += 1
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def detach(self) -> None:
        """Note that a connection of its client has closed."""
        self._present -= 1
        self._linger()

    def _linger(self) -> None:
        if not self._present and self._lingering is None:
            self._lingering = self._reactor.callLater(self.linger, self._nobody_came)

    def _nobody_came(self) -> None:
        self._lingering = None
        if self.end is None:
            self.terminate("nobody was connected to it")
        else:
            self.forget()

    def _activity(self) -> tuple[int, float | None]:
        """A value that changes with any activity: of bytes transferred and processor time.

        Where the system does not report processor time, only transferred bytes are activity.
        """
        assert self.child is not None
        moved = self.stdin.received + sum(queue.end for queue in self.streams.values())
        return moved, self._busy(self.child.pid)

    def _be_idle(self) -> None:
        self.terminate("it was idle")

    # -- its end ---------------------------------------------------------------------------------

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message to the client over the connections that can."""
        for listener in list(self.listeners):
            listener(message)

    def terminate(self, reason: str, number: int | None = None) -> None:
        """End the subprocess.

        :param reason: the reason for the 410 response.
        :param number: a signal; None closes its input first, and gives it some seconds.
        """
        if self.end is None and self.reason == "exited":
            self.reason = reason
        if number is None:
            self._happens(SessionEvent.CLOSE)
        elif number == signal.SIGKILL:
            self._happens(SessionEvent.KILL)
        else:
            self._signal = number
            self._happens(SessionEvent.TERM)

    def _happens(self, event: SessionEvent) -> None:
        self.state, effect = step(SESSION, self.state, event)
        if effect is not None:
            self._effects[effect](self)

    def _wait(self, seconds: float) -> None:
        """Set the timer of this state."""
        self._stop_timer()
        self._timer = self._reactor.callLater(seconds, self._timed_out)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _timed_out(self) -> None:
        self._timer = None
        self._happens(SessionEvent.TIMEOUT)

    def _close_input(self) -> None:
        self.end_input()
        self._wait(GRACE)

    def _send_signal(self) -> None:
        self._repeat_signal()
        self._wait(KILL_TIMEOUT)

    def _repeat_signal(self) -> None:
        if self.child is not None:
            self.child.kill(self._signal)

    def _send_sigkill(self) -> None:
        self._stop_timer()
        if self.child is not None:
            self.child.kill(signal.SIGKILL)

    def _await_status(self) -> None:
        self._wait(STATUS_TIMEOUT)

    def _expire(self) -> None:
        if self.reason == "exited":
            self.reason = "it closed its standard output"
        self._send_signal()

    def _drain(self) -> None:
        """Wait for the end of its output; for its reader only if it was not asked to end."""
        if self._reading:
            self._wait(DRAIN_TIMEOUT)
        elif self.state is SessionState.CUTTING:
            self._wait(GRACE)
        else:
            self._stop_timer()

    def _cut(self) -> None:
        if self.transport is not None:
            transport: Any = self.transport
            transport.abortConnection()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.registerProducer(self, True)
        self._write_now = eager.writer(transport)
        self._look_for_answer = getattr(transport, "look", self._look_for_answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport = None
        self._write_now, self._look_for_answer = eager.nowhere, lambda: None
        self._happens(SessionEvent.OUTPUT_ENDED)

    def _process_ended(self, status: int) -> None:
        self._status = status
        self._happens(SessionEvent.PROCESS_ENDED)

    def _finish(self) -> None:
        assert self.child is not None
        self._stop_timer()
        self._idle.stop()
        self.end = End(self._status, self.reason, self.child.stderr_tail())
        self._congested = False
        for queue in self.streams.values():
            queue.finish()
        self._ended(self)
        for writer in list(self._writers):
            writer.resume()
        self._wake("stderr")
        self._wake("stdout")
        self._linger()  # late clients may ask how it ended

    def forget(self) -> None:
        """Drop the session's state, which nobody needs any more."""
        self._happens(SessionEvent.FORGET)

    def _forget(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        for queue in self.streams.values():
            queue.confirm(queue.end)
        self._gone(self)

    def delivered(self) -> bool:
        """Whether its client has received all output and the end."""
        return self.end is not None and not any(len(queue) for queue in self.streams.values())

    def as_map(self) -> dict[str, Any]:
        """The map that ``status`` and the list show."""
        end = self.end
        return {
            "pid": self.pid,
            "state": "running" if end is None else "ended",
            "started": self.started,
            "seconds": round(self._reactor.seconds() - self._begun, 3),
            "connections": self._present,
            "received": self.stdin.received,
            "stdout": _stream_map(self.streams["stdout"]),
            "stderr": _stream_map(self.streams["stderr"]),
            "python": shlex.join(self.spec.python) if self.spec.python else None,
            "id": self.spec.id,
            "linger": self.linger,
            **({} if end is None else {"end": end.as_map()}),
        }

    #: the function for each effect in the table of states
    _effects: ClassVar[dict[SessionEffect, Callable[[MediatorSession], None]]] = {
        SessionEffect.CLOSE_INPUT: _close_input,
        SessionEffect.SIGNAL: _send_signal,
        SessionEffect.REPEAT: _repeat_signal,
        SessionEffect.SIGKILL: _send_sigkill,
        SessionEffect.AWAIT_STATUS: _await_status,
        SessionEffect.EXPIRE: _expire,
        SessionEffect.DRAIN: _drain,
        SessionEffect.CUT: _cut,
        SessionEffect.FINISH: _finish,
        SessionEffect.STOP: _stop_timer,
        SessionEffect.FORGET: _forget,
    }


def _stream_map(queue: OutgoingQueue) -> dict[str, int]:
    return {"base": queue.base, "end": queue.end, "queued": len(queue)}
