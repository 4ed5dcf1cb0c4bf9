"""Other code may run, and raise errors, in each line of a round trip past the reactor."""

from __future__ import annotations

import linecache
import sys
from typing import Any

from pycomnet.execnet import channel as channel_module
from pycomnet.execnet import reactorbypass as bypass_module
from pycomnet.execnet.channel import Channel
from pycomnet.execnet.reactorbypass import CHECK_INTERVAL
from pycomnet.gateways.transports import calllock, pipes
from pycomnet.test.execnet.reactorbypasscase import SOON, BypassCase

#: The modules in which a thread may be interrupted.
INTERRUPTED = {bypass_module.__file__, channel_module.__file__, pipes.__file__}


def is_block(frame: Any) -> bool:
    """Whether it enters or leaves a block: there Python does not look for signals."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return line.startswith("with ") or line == "try:"


class InterruptedTests(BypassCase):
    """A thread that writes and reads itself is interrupted."""

    # -- Ctrl-C ----------------------------------------------------------------------------------

    def test_an_interrupt_anywhere_loses_nothing(self) -> None:
        """A thread that is interrupted in any line of a round trip can go on."""
        for line in range(1, 400):
            self.lend()
            trip = InterruptedTrip(self.channel, line)
            [outcome] = self.threads.run(trip.run)
            if outcome is None:
                self.assertGreater(line, 30)
                return
            self.assertIsInstance(outcome, KeyboardInterrupt)
            self.assertEqual(self.bypass.waiting, {}, trip.where)
            self.assertEqual(self.threads.run(trip.rest), [None], trip.where)
            self.assertIn(trip.got, ([1, "last"], ["last"]), trip.where)
            if trip.got == ["last"] and trip.sent:
                # As a queue's get, which may be interrupted when it has taken the value.
                self.assertIn("in drop_lent or after it", trip.where)
            self.reactor.advance(CHECK_INTERVAL)
            self.reactor.advance(CHECK_INTERVAL)
        self.fail("a round trip has no end")

    def test_code_that_waits_for_the_reactor_may_run_anywhere(self) -> None:
        """A signal handler, or a ``__del__``: the reactor does not wait for its thread."""
        self.patch(calllock, "LONGEST", 0.05)
        self.patch(bypass_module, "ANSWER_WAIT", 0.1)
        self.patch(bypass_module, "MOST_ANSWERS", bypass_module.FEWEST_ANSWERS)
        other = self.open()
        for another in (True, False):
            for line in range(1, 400):
                self.lend()
                channel = other if another else self.channel
                trip = TripWithin(self.channel, line, channel)
                self.assertEqual(self.threads.run(trip.run), [None], trip.where)
                if not trip.where:
                    self.assertEqual(trip.got, [1])
                    self.assertGreater(line, 30)
                    break
                self.assertEqual(trip.got.count("within"), 1, trip.where)
                self.assertEqual(trip.got.count(1), 1, trip.where)
                if another:
                    self.assertEqual(trip.got, ["within", 1], trip.where)
                self.assertEqual(self.ask("later"), "later", trip.where)
                self.reactor.advance(CHECK_INTERVAL)
                self.reactor.advance(CHECK_INTERVAL)
            else:
                self.fail("a round trip has no end")
        self.assertEqual(self.far.failed, None)


class InterruptedTrip:
    """A round trip, in which a thread gets a KeyboardInterrupt.

    :param line: in which line of this package's code, as they are executed.
    :ivar where: the line.
    :ivar sent: whether ``send`` returned.
    :ivar got: what came.
    """

    def __init__(self, channel: Channel, line: int) -> None:
        self._channel = channel
        self._left = line
        self._dropped = False
        self.where = ""
        self.sent = False
        self.got: list[object] = []

    def run(self) -> None:
        """Do it."""
        sys.settrace(self._trace)
        try:
            self._channel.send(1)
            self.sent = True
            self.got.append(self._channel.receive(SOON))
        finally:
            sys.settrace(None)

    def _trace(self, frame: Any, event: str, argument: object) -> Any:
        code = frame.f_code
        if code.co_filename not in INTERRUPTED:
            return None
        if event == "call" and code.co_name == "drop_lent":
            self._dropped = True
        if event == "line" and not is_block(frame):
            self._left -= 1
            if not self._left:
                sys.settrace(None)
                self.where = f"{code.co_filename}:{frame.f_lineno}"
                if self._dropped:
                    self.where += " in drop_lent or after it"
                self.interrupt()
                return None
        return self._trace

    def interrupt(self) -> None:
        """What happens in that line."""
        raise KeyboardInterrupt

    def rest(self) -> None:
        """Another one; all that comes up to its answer is received."""
        self._channel.send("last")
        while self.got[-1:] != ["last"]:
            self.got.append(self._channel.receive(SOON))


class TripWithin(InterruptedTrip):
    """A round trip, within which there is another one.

    :param another: the channel of that.
    """

    def __init__(self, channel: Channel, line: int, another: Channel) -> None:
        super().__init__(channel, line)
        self._another = another

    def interrupt(self) -> None:
        """Make the other one."""
        self._another.send("within")
        self.got.append(self._another.receive(SOON))
