"""A connection that another program can go on with: it counts what its user has taken.

What it says of that goes to the factory service beside the connection (docs/protocol.rst, "The
factory"). A value is taken when its user has it, not when it has come: until then it would be
delivered again to whoever resumes the gateway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from pycomnet.channels.channel import ChannelCore
from pycomnet.channels.connection import Connection
from pycomnet.errors import ConnectionLost
from pycomnet.wire import mux as wire
from pycomnet.wire.frames import RESULT

#: Seconds after which it is looked again whether somebody has seen the ends of channels that came.
LOOK_AGAIN = 0.5
#: What that grows to while nobody does.
MAX_DELAY = 30.0


class CountingMux(wire.Mux):
    """Counts the values that come on each channel.

    :ivar counts: how many have come, of the channels in :attr:`touched`.
    :ivar touched: channels of which there may be something to say.
    """

    def __init__(self, initiator: bool, limits: wire.Limits | None = None) -> None:
        super().__init__(initiator, limits)
        self.counts: dict[int, int] = {}
        self.touched: dict[int, wire.Stream] = {}

    def receive_data(self, data: bytes) -> list[wire.Event]:
        events = super().receive_data(data)
        counts, touched = self.counts, self.touched
        event: Any
        for event in events:
            kind = event[0]
            if kind == wire.EV_DATA:
                number = 1
            elif kind == wire.EV_RUN:
                number = len(event[2])
            elif kind == wire.EV_CLOSED:
                number = int(event[2] == RESULT)
            elif kind == wire.EV_END:
                number = 0
            else:
                continue
            stream = event[1]
            counts[stream.id] = counts.get(stream.id, 0) + number
            touched[stream.id] = stream
        return events


class ResumableConnection(Connection):
    """The program's end of a connection that a factory keeps.

    :param limits: what the far side is allowed; its channels and window are the factory's.
    :param lingers: whether what is on channels that nobody holds any more is for another program.
    :ivar report: told what was taken: how many values of which channels, and the channels that are
        over and seen to be.
    """

    def __init__(
        self, reactor: IReactorTime, lingers: bool = False, limits: wire.Limits | None = None
    ) -> None:
        super().__init__(reactor, limits=limits)
        self.lingers = lingers
        self._counting = self.mux = CountingMux(True, limits)
        self.report: Callable[[dict[int, int], list[int]], object] = lambda taken, done: None
        #: the channels that were there before this program was, until somebody takes them
        self.restored: list[ChannelCore] = []
        self._reported: dict[int, int] = {}
        self._look: Any = None
        self._delay = LOOK_AGAIN
        self._receiving = False

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another program has stopped; before the connection is made.

        :param state: what the factory says of its channels.
        """
        mux = self._counting
        mux.resume(state["next"], state["last"])
        for id, purpose, raw, ended, credit, window, taken in state["channels"]:
            stream = mux.restore(id, purpose, raw, ended, credit, window)
            mux.counts[id] = self._reported[id] = taken
            core = ChannelCore(self, stream)
            if not stream.local and purpose in self.purposes:
                self.purposes[purpose](core)
                continue
            if not stream.local:
                self._unclaimed[id] = core  # it may be in a value that comes again
            self.restored.append(core)

    def leave(self) -> None:
        """Close the connection once all is written, without a goodbye: the far side goes on."""
        if self._receiving:
            self.reactor.callLater(0, self.leave)  # what came is still being dealt with
            return
        self._tell_taken()
        if self._reason is None:
            self._reason = ConnectionLost("the gateway was left to the factory")
        if self._disconnecting is None and self.transport is not None:
            self._lose_connection()

    def _uncork(self) -> None:
        super()._uncork()
        self._tell_taken()

    def flush(self) -> None:
        super().flush()
        if not self._flushing and self._counting.touched:
            self._tell_taken()

    def dataReceived(self, data: bytes) -> None:
        # What has come counts from now on, but nobody has it before it was dealt with.
        self._receiving = True
        try:
            super().dataReceived(data)
        finally:
            self._receiving = False
        self._tell_taken()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        super().connectionLost(reason)

    def _tell_taken(self) -> None:
        mux = self._counting
        if not mux.touched or self._receiving or self.transport is None:
            return
        taken: dict[int, int] = {}
        done: list[int] = []
        waiting = False
        for id, stream in list(mux.touched.items()):
            core: ChannelCore | None = stream.app
            if core is None:
                continue  # the connection is broken: nobody was told that it was opened
            number = mux.counts[id] - len(core.queue)
            if number != self._reported.get(id, 0):
                taken[id] = self._reported[id] = number
            if core.over is None:
                if not core.queue:
                    del mux.touched[id]
            elif id in mux.streams:
                continue  # this end may still send
            elif self._is_held(core) and (core.queue or not (core.seen or core.told)):
                waiting = True
            elif core.queue and self.lingers:
                continue
            else:
                del mux.touched[id], mux.counts[id]
                self._reported.pop(id, None)
                done.append(id)
        if taken or done:
            self._delay = LOOK_AGAIN
            self.report(taken, done)
        if waiting and self._look is None:
            # That somebody has seen the end of a channel, or has let go of it, makes no noise.
            self._look = self.reactor.callLater(self._delay, self._look_again)
            self._delay = min(2 * self._delay, MAX_DELAY)

    def _look_again(self) -> None:
        self._look = None
        self._tell_taken()

    def _is_held(self, core: ChannelCore) -> bool:
        """Whether somebody can still look at a channel."""
        if core.stream.id in self._unclaimed or core in self.restored:
            return True
        return core.handle is not None and core.handle() is not None
