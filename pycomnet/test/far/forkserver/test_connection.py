"""What a fork server forwards: bytes through it, back pressure, and how its ends end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.forkserver import connection as peer_module
from pycomnet.far.forkserver.connection import ForkServerConnection
from pycomnet.far.forkserver.forwarding import Waiting, splice
from pycomnet.far.forkserver.loop import Loop
from pycomnet.far.forkserver.processes import Pipes, kill_group
from pycomnet.far.forkserver.splice import move
from pycomnet.far.preamble import Preamble
from pycomnet.wire.frames import (
    ERROR,
    HOP_WINDOW,
    MARKER,
    NORMAL,
    RAW_FRAGMENT,
)
from pycomnet.wire.mux import (
    EV_CLOSED,
    EV_DATA,
    EV_END,
    EV_OPENED,
    EV_RUN,
    Limits,
    Mux,
)


class Other:
    """The other end of a peer's connection: pipes, and a multiplexer without I/O.

    :param initiator: whether it is the one that opens channels.
    """

    def __init__(self, loop: Any, initiator: bool, limits: Any = None) -> None:
        read_fd, self.write_fd = os.pipe()
        self.read_fd, write_fd = os.pipe()
        for fd in (read_fd, self.write_fd, self.read_fd, write_fd):
            os.set_blocking(fd, False)
        self.mux = Mux(initiator, limits)
        self.pending = b""
        self.opened: list[Any] = []
        self.streams: list[Any] = []
        self.lost: list[str] = []
        self.events: list[Any] = []
        self.peer = ForkServerConnection(
            loop, read_fd, write_fd, not initiator, {}, self._opened, self.lost.append
        )

    def _opened(self, peer: Any, stream: Any) -> None:
        Waiting(peer, stream)
        self.opened.append(stream)

    def turn(self) -> None:
        """Write what there is, and read what came."""
        self.pending += b"" if self.pending else self.mux.data_to_send()
        with contextlib.suppress(BlockingIOError):
            if self.pending:
                self.pending = self.pending[os.write(self.write_fd, self.pending) :]
        try:
            data = os.read(self.read_fd, 1 << 20)
        except BlockingIOError:
            return
        for event in self.mux.receive_data(data):
            self.events.append(event)
            if event[0] == EV_OPENED:
                self.streams.append(event[1])

    def data(self) -> bytes:
        """What has come on channels."""
        found = b""
        for event in self.events:
            if event[0] == EV_DATA:
                found += bytes(event[2])
            elif event[0] == EV_RUN:
                found += b"".join(event[2])
        return found

    def consume(self) -> None:
        """Take what has come: give its credit back."""
        for event in self.events:
            if event[0] in (EV_DATA, EV_RUN):
                self.mux.consumed(event[1], event[3])
        self.events = [event for event in self.events if event[0] not in (EV_DATA, EV_RUN)]

    def close(self) -> None:
        """Close its pipes."""
        for fd in (self.read_fd, self.write_fd):
            os.close(fd)


class RelayCase(SynchronousTestCase):
    """A loop, and the other ends of its connections."""

    def setUp(self) -> None:
        self.loop: Any = Loop()
        self.others: list[Other] = []
        self.addCleanup(self.close)

    def close(self) -> None:
        for peer in list(self.loop.peers):
            peer.over("the test is over")

    def other(self, initiator: bool, limits: Any = None) -> Other:
        made = Other(self.loop, initiator, limits)
        self.addCleanup(made.close)
        made.peer.flush()
        self.others.append(made)
        self.run_it()
        return made

    def run_it(self, turns: int = 6) -> None:
        """Let everything that can happen happen."""
        for _ in range(turns):
            for other in self.others:
                other.turn()
            self.loop.turn(0)


class Splicing(RelayCase):
    """One channel of two connections."""

    def spliced(self, limits: Any = None) -> tuple[Other, Any, Other, Any]:
        near, far = self.other(True, limits), self.other(False)
        stream = near.mux.open("channel", None, True)
        near.mux.send(stream, b"early")
        self.run_it()
        onto = far.peer.mux.open("channel", None, True)
        splice(near.peer, near.opened[0], far.peer, onto)
        self.run_it()
        return near, stream, far, far.streams[0]

    def test_spliced_channels_carry_both_ways_in_order(self) -> None:
        """What comes on one goes on the other, what came before that too, in order."""
        near, stream, far, its = self.spliced()
        near.mux.send(stream, b"late")
        far.mux.send(its, b"back")
        self.run_it()
        self.assertEqual(far.data(), b"earlylate")
        self.assertEqual(near.data(), b"back")

    def test_spliced_runs_of_short_pieces_arrive(self) -> None:
        """Runs of short pieces come through as they are."""
        near, stream, far, _ = self.spliced()
        for number in range(500):
            near.mux.send(stream, b"%d," % number)
        self.run_it()
        self.assertEqual(far.data(), b"early" + b"".join(b"%d," % n for n in range(500)))

    def test_spliced_sender_waits_and_nothing_is_lost(self) -> None:
        """While the one end takes nothing, the other's credit runs out, and nothing is lost."""
        near, _stream, far, its = self.spliced(Limits(window=65536))
        sent = 0
        for _ in range(200):
            if not its.queue:
                far.mux.send(its, bytes(32768))
                sent += 32768
            self.run_it(1)
        got = len(near.data())
        self.assertLessEqual(got, 65536)
        # The windows of the two connections, and what is on its way.
        self.assertLess(sent, HOP_WINDOW + 4 * 65536)
        while got < sent:
            near.consume()
            self.run_it(1)
            got += len(near.data())
        self.assertEqual(got, sent)

    def long(self, limits: Any, stalls: bool) -> int:
        """Send much, from the far end; how often the system was asked to move some of it."""
        moves = []

        def moved(source: int, target: int, size: int) -> bytes:
            moves.append(size)
            rest: bytes = move(source, target, size)
            return rest

        self.patch(peer_module, "move", moved)
        near, stream, far, its = self.spliced(limits)
        sent = os.urandom(3_000_000)
        far.mux.send(its, sent[:-5])
        far.mux.send(its, sent[-5:])
        got = b""
        for turn in range(2000):
            if stalls and turn % 20:
                self.loop.turn(0)
                far.turn()
                continue
            self.run_it(1)
            got += near.data()
            near.consume()
            if turn % 7 == 0:
                near.mux.send(stream, b"%d" % turn)  # others come in between
        self.assertEqual(len(got), len(sent))
        self.assertTrue(got == sent)
        return len(moves)

    def test_long_frames_are_moved_by_the_system(self) -> None:
        moves = self.long(Limits(HOP_WINDOW, RAW_FRAGMENT), False)
        if hasattr(os, "splice"):
            self.assertGreater(moves, 5)

    def test_frames_too_long_for_the_receiver_are_cut(self) -> None:
        """Frames that are too long for the receiver are cut, and not moved."""
        self.assertEqual(self.long(None, False), 0)

    def test_long_frames_arrive_through_a_full_pipe(self) -> None:
        """It comes whole also when the receiver's pipe is full in the midst of a frame."""
        self.long(None, True)
        self.long(Limits(HOP_WINDOW, RAW_FRAGMENT), True)

    def test_end_of_one_half_is_passed_on_after_its_data(self) -> None:
        """The end of one half is that of the other's, after what was sent."""
        near, stream, far, its = self.spliced()
        near.mux.send(stream, b"last")
        near.mux.end(stream)
        self.run_it()
        self.assertEqual(far.data(), b"earlylast")
        self.assertEqual([event[0] for event in far.events][-1], EV_END)
        far.mux.send(its, b"still")
        self.run_it()
        self.assertEqual(near.data(), b"still")

    def test_close_is_passed_on_with_its_error(self) -> None:
        """So is a close, with its error."""
        for kind, payload in ((NORMAL, b""), (ERROR, b"\x81\xa4code\xa1x")):
            near, _stream, far, its = self.spliced()
            far.mux.close(its, kind, payload)
            self.run_it()
            self.assertEqual(near.events[-1][0], EV_CLOSED)
            self.assertEqual(near.events[-1][2:], (kind, payload))

    def test_lost_connection_is_told_on_spliced_channels(self) -> None:
        """A connection that ends is told on the other's channels, with why."""
        near, stream, far, _its = self.spliced()
        os.close(far.write_fd)
        far.write_fd = os.open(os.devnull, os.O_WRONLY)
        self.run_it(1)
        self.assertEqual(far.lost, ["it closed the connection"])
        far.peer.tell("the hop broke")
        self.run_it()
        self.assertEqual(near.events[-1][0], EV_CLOSED)
        self.assertIn(b"the hop broke", near.events[-1][3])
        near.mux.close(stream)
        self.run_it()
        self.assertEqual(near.lost, [])

    def test_protocol_violation_ends_its_own_connection_alone(self) -> None:
        """One that breaks the protocol loses its connection, and no other does."""
        near, _stream, far, _its = self.spliced()
        os.write(far.write_fd, b"\xff" * 64)
        self.run_it()
        self.assertIn("it broke the protocol", far.lost[0])
        self.assertEqual(near.lost, [])


class Silence(RelayCase):
    """Whoever says nothing is asked, and then given up."""

    def test_silent_peer_is_asked_three_times_then_given_up(self) -> None:
        """Three times, at even intervals; an answer is enough."""
        now = [0.0]
        self.loop.now = lambda: now[0]
        near = self.other(True)
        near.peer.silence = 3.0
        self.assertEqual(near.peer.check_silence(), 1.0)
        now[0] = 1.5
        self.assertEqual(near.peer.check_silence(), 0.5)
        self.run_it()
        self.assertEqual(near.peer.heard, 1.5)  # the answer to the ping
        now[0] = 4.0
        near.peer.check_silence()
        now[0] = 4.6
        self.assertEqual((near.peer.check_silence(), near.lost), (0, []))
        near.peer.check_silence()
        self.assertEqual(near.lost, ["it was silent for 3 seconds"])
        self.assertIsNone(near.peer.check_silence())

    def test_what_came_while_this_process_was_not_run_counts(self) -> None:
        """It looks at the time before it reads: what has come is read before the other end is
        given up."""
        now = [0.0]
        self.loop.now = lambda: now[0]
        near = self.other(True)
        near.peer.silence = 3.0
        now[0] = 1.5
        near.peer.check_silence()  # the answer to this ping
        now[0] = 60.0
        self.assertEqual(near.peer.check_silence(), 0)
        self.run_it()
        self.assertEqual(near.peer.heard, 60.0)
        self.assertEqual((near.peer.check_silence(), near.lost), (1.0, []))
        now[0] = 63.5
        self.assertEqual((near.peer.check_silence(), near.lost), (0, []))
        near.peer.check_silence()
        self.assertEqual(near.lost, ["it was silent for 3 seconds"])


class Signals(SynchronousTestCase):
    """What a signal reaches."""

    def test_signal_reaches_a_process_with_or_without_a_group(self) -> None:
        """A process with a group of its own, and one that was forked a moment ago and has none."""
        for own in (True, False):
            with self.subTest(own):
                process = subprocess.Popen(["sleep", "1000"], start_new_session=own)
                self.addCleanup(process.kill)
                kill_group(process.pid, signal.SIGTERM)
                self.assertEqual(process.wait(60), -signal.SIGTERM)
        kill_group(process.pid, signal.SIGTERM)  # there is nobody any more


class Processes(RelayCase):
    """A process's pipes on a channel."""

    def carried(self, **options: Any) -> tuple[Other, Any, int, int, Any]:
        """Its own ends of the pipes: what it reads from, and writes to."""
        near = self.other(True)
        stream = near.mux.open("channel", None, True)
        self.run_it()
        its_input, write_fd = os.pipe()
        read_fd, its_output = os.pipe()
        pipes = Pipes(self.loop, near.peer, near.opened[0], write_fd, read_fd, **options)
        near.opened[0].app.give(pipes)
        os.set_blocking(its_input, False)
        self.addCleanup(os.close, its_input)
        return near, stream, its_input, its_output, pipes

    def test_processes_pipes_are_carried_both_ways(self) -> None:
        """What it writes comes, what is sent it reads; its end closes the channel."""
        near, stream, its_input, its_output, _ = self.carried()
        near.mux.send(stream, b"to it")
        os.write(its_output, b"from it")
        self.run_it()
        self.assertEqual(os.read(its_input, 100), b"to it")
        self.assertEqual(near.data(), b"from it")
        os.close(its_output)
        self.run_it()
        self.assertEqual(near.events[-1][0], EV_CLOSED)

    def test_sender_waits_for_a_process_that_reads_nothing(self) -> None:
        """While it reads nothing the sender's credit runs out; then all of it comes."""
        near, stream, its_input, its_output, _ = self.carried()
        self.addCleanup(os.close, its_output)
        total = 9_000_000
        near.mux.send(stream, bytes(total))
        self.run_it(40)
        self.assertTrue(stream.queue)
        got = 0
        while got < total:
            with contextlib.suppress(BlockingIOError):
                got += len(os.read(its_input, 1 << 20))
            self.run_it(1)
        self.assertFalse(stream.queue)

    def test_close_writes_what_was_sent_then_closes_pipes(self) -> None:
        """When the channel is closed what was sent is still written, and then both pipes close."""
        near, stream, its_input, its_output, _ = self.carried()
        near.mux.send(stream, b"last words")
        near.mux.close(stream)
        self.run_it()
        self.assertEqual(os.read(its_input, 100), b"last words")
        self.assertEqual(os.read(its_input, 100), b"")
        with self.assertRaises(BrokenPipeError):
            os.write(its_output, b"x")
        os.close(its_output)

    def test_bytes_before_the_marker_are_kept_aside(self) -> None:
        """What comes before the marker is kept aside, and what follows it is carried."""
        began: list[bytes] = []
        near, _, its_input, its_output, pipes = self.carried(first=b"letter", preamble=Preamble())
        pipes.begun = began.append
        self.addCleanup(os.close, its_output)
        self.assertEqual(os.read(its_input, 100), b"letter")
        for piece in (b"noise " + MARKER[:2], MARKER[2:] + b"da", b"ta"):
            os.write(its_output, piece)
            self.run_it(2)
        self.assertEqual((near.data(), began), (b"data", [b"noise"]))


class BeginWith(SynchronousTestCase):
    """What goes before the connection."""

    def test_all_of_a_long_beginning_precedes_the_hello(self) -> None:
        """All of it is written before the hello, also when a pipe does not hold it at once."""
        loop = Loop()
        ours, there = os.pipe(), os.pipe()
        os.set_blocking(ours[1], False)
        os.set_blocking(there[0], False)
        peer = ForkServerConnection(
            loop, there[0], ours[1], True, {}, lambda peer, stream: None, lambda reason: None
        )
        self.addCleanup(os.close, ours[0])
        self.addCleanup(os.close, there[1])
        self.addCleanup(peer.over, "the test is over")
        before = os.urandom(300_000)
        peer.begin_with(before)
        got = b""
        while b"PYCOMNET" not in got[len(before) :]:
            loop.turn(0)
            got += os.read(ours[0], 70_000)
        self.assertEqual(got[: len(before)], before)
