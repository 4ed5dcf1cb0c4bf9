"""Each cell of the table of a relayed channel, with a relay: what it does, and what it refuses."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.lingering import channelstates as states
from pycomnet.far.lingering.channelstates import CHANNEL
from pycomnet.far.lingering.framing import frame
from pycomnet.far.lingering.relay import ChannelRecord, Relay
from pycomnet.test.transitions import Transitions
from pycomnet.wire.frames import CLOSE, DATA, END, MORE, OPEN
from pycomnet.wire.mux import Mux, ProtocolError

FRAMES = {
    states.END: ("from_program", frame(END, 1)),
    states.CLOSE: ("from_program", frame(CLOSE, 1, b"\0")),
    states.FAR_END: ("from_far", frame(END, 1)),
    states.FAR_CLOSE: ("from_far", frame(CLOSE, 1, b"\0")),
}


class TableTests(SynchronousTestCase):
    """A relay with one channel, which the program has opened."""

    def make(self) -> ChannelRecord:
        """Make the relay; return its channel's record."""
        self.relay = Relay()
        self.relay.from_far(Mux(False).data_to_send())
        self.attach()
        self.relay.from_program(frame(OPEN, 1, b"\0\4test"))
        return self.relay.records[1]

    def attach(self) -> None:
        """A program is attached."""
        self.relay.attach()
        self.relay.from_program(Mux(True).data_to_send())

    def happen(self, record: ChannelRecord, event: str) -> None:
        """Let something happen."""
        self.relay.to_far, self.relay.to_program = [], []
        self.last = record.kept[-1] if record.kept else None
        if event in FRAMES:
            name, data = FRAMES[event]
            getattr(self.relay, name)(data)
        elif event == states.SEE:
            self.relay.confirm({}, [1])
        else:
            record.unkept = 1  # as if the far side had sent a value that was too long to be kept
            self.relay.detach()
            self.attach()
            self.relay.to_program = []

    def effect(self, record: ChannelRecord, event: str) -> str | None:
        """What the relay has done."""
        far, near = self.relay.to_far, self.relay.to_program
        last = record.kept[-1] if record.kept else None
        kept = last.data if last is not None and last is not self.last else b""
        if event in FRAMES:
            data = FRAMES[event][1]
            done = (far == [data], near == [data], kept == data)
            found = {
                (True, False, False): states.PASS,
                (False, True, True): states.KEEP,
                (False, True, False): states.TELL,
            }
            self.assertEqual(len(far) + len(near), int(done in found))
            return found.get(done)
        self.assertEqual(near, [])
        if event == states.SEE:
            self.assertEqual(far, [])
            return None
        self.assertIn(b"too long to be kept", kept)
        self.assertIn(far, ([], [kept]))
        return states.CLOSE_BOTH if far else states.CLOSE_NEAR

    def test_each_transition_is_made_and_its_effect_seen(self) -> None:
        """The next state, what is sent and kept, and that nothing is kept of what is gone."""
        for events, state, after, effect in Transitions(CHANNEL, states.OPEN).each():
            record = self.make()
            for event in events[:-1]:
                self.happen(record, event)
            self.assertEqual(record.state, state)
            self.happen(record, events[-1])
            self.assertEqual(record.state, after, events)
            self.assertEqual(self.effect(record, events[-1]), effect, events)
            self.assertEqual(1 in self.relay.records, after != states.GONE)
            if after in (states.CLOSED, states.GONE):
                self.assertEqual(len(record.kept), 0)

    def test_frames_that_are_not_in_the_table_are_refused(self) -> None:
        """With what was done and how the channel is; it stays as it is."""
        refused = set()
        for events, *_, after, _ in Transitions(CHANNEL, states.OPEN).each():
            for event, (name, data) in FRAMES.items():
                if after == states.GONE or event in CHANNEL[after]:
                    continue
                record = self.make()
                for before in events:
                    self.happen(record, before)
                with self.assertRaises(ProtocolError) as caught:
                    getattr(self.relay, name)(data)
                self.assertIn(states.EVENTS[event], str(caught.exception))
                self.assertIn(states.STATES[after], str(caught.exception))
                self.assertEqual(record.state, after)
                refused.add((after, event))
        expected = {
            (state, event)
            for state, row in CHANNEL.items()
            for event in FRAMES
            if event not in row and state != states.GONE
        }
        self.assertEqual(refused, expected)

    def test_values_pass_only_in_the_states_in_which_their_end_sends(self) -> None:
        """The program's are dropped after its end; the far side's until it knows of a CLOSE, and
        are a fault after its own end."""
        for events, *_, after, _ in Transitions(CHANNEL, states.OPEN).each():
            if after == states.GONE:
                continue
            record = self.make()
            for event in events:
                self.happen(record, event)
            self.relay.to_far, self.relay.to_program = [], []
            value = frame(DATA, 1, b"value")
            self.relay.from_program(value)
            self.assertEqual(self.relay.to_far, [value] * (after in states.PROGRAM_SENDS))
            if after in states.FAR_SENDS or after in states.FAR_UNAWARE:
                self.relay.from_far(value)
                self.assertEqual(self.relay.to_program, [value] * (after in states.FAR_SENDS))
            else:
                self.assertRaises(ProtocolError, self.relay.from_far, frame(MORE, 1, b"value"))
