"""A connection that another program can continue: it counts the values that its user has taken.

It reports them to the factory, which keeps all other values for the next program
(docs/protocol.rst, "The factory"). A value is taken when the user has it, not when it has arrived.
It is reported after the turn of the reactor in which the user got it: a program that is killed
within that turn may not have done anything with the value, which the next program then gets again.
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
from pycomnet.net.backoff import Backoff
from pycomnet.wire import mux as wire
from pycomnet.wire.frames import RESULT

#: Seconds until the next check whether the user has seen the ends of channels: the longest first
#: delay, and the longest.
LOOK_AGAIN = 0.5
MAX_DELAY = 30.0


class CountingMux(wire.Mux):
    """Counts the values that arrive on each channel.

    :ivar counts: how many have arrived, for the channels in :attr:`touched`.
    :ivar touched: channels of which there may be something to report.
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
    """The program's end of a connection to a far side that the factory keeps.

    :param limits: the far side's limits. Channels and window have to be the factory's.
    :param lingers: whether values on channels without a reference are kept for another program.
    :ivar report: called with what was taken: a map of channels and numbers of values, and a list of
        channels that are over and whose end was seen.
    """

    def __init__(
        self, reactor: IReactorTime, lingers: bool = False, limits: wire.Limits | None = None
    ) -> None:
        super().__init__(reactor, limits=limits)
        self.lingers = lingers
        self._counting = self.mux = CountingMux(True, limits)
        self.report: Callable[[dict[int, int], list[int]], object] = lambda taken, done: None
        #: channels of the last program, until this one's user takes them
        self.restored: list[ChannelCore] = []
        #: whether the far side was left to another program
        self.is_left = False
        self._reported: dict[int, int] = {}
        self._look: Any = None
        self._backoff = Backoff(reactor, LOOK_AGAIN, MAX_DELAY)
        self._receiving = False

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where another program has stopped. Called before the connection is made.

        :param state: the factory's ``state``, as in docs/protocol.rst.
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
                self._unaccepted[id] = core  # a value that is sent again may have it
            self.restored.append(core)

    def leave(self) -> None:
        """Close the connection once everything is written. Without a goodbye the far side stays."""
        if self._receiving:
            self.reactor.callLater(0, self.leave)  # values are still being delivered
            return
        self.is_left = True
        self._tell_taken()
        if self._reason is None:
            self._reason = ConnectionLost("the gateway was left to the factory")
        if self._disconnecting is None and self.transport is not None:
            self._lose_connection()

    def _uncork(self) -> None:
        # Not when it is flushed: what gives credit there is a value that the user is about to get.
        super()._uncork()
        self._tell_taken()

    def dataReceived(self, data: bytes) -> None:
        # Values count as arrived from now on, but are taken only when they have been delivered.
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
                continue  # the connection is broken: the user does not know of this channel
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
            self._backoff.reset()
            self.report(taken, done)
        if waiting and self._look is None:
            # There is no event when the user sees the end of a channel, or drops it.
            self._look = self.reactor.callLater(self._backoff.next_delay(), self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._tell_taken()

    def _is_held(self, core: ChannelCore) -> bool:
        """Whether the user can still look at a channel."""
        if core.stream.id in self._unaccepted or core in self.restored:
            return True
        return core.handle is not None and core.handle() is not None
