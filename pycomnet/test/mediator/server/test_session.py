"""Sessions and their mediator, with subprocesses that only exist here and a clock of the test's."""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet import defer, error
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.mediator.server import session as sessions
from pycomnet.mediator.server.model import HttpError, User, UserLimits
from pycomnet.mediator.server.subprocesses import Mediator
from pycomnet.test.kit import first_cancels_rest

ALICE = User("alice", UserLimits(processes=2, queue=100, linger=60, idle_timeout=0))
BOB = User("bob", UserLimits(processes=1, queue=100, idle_timeout=40))


class Pipes:
    """A subprocess's standard streams."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.written = b""
        self.reading = True
        self.input_ended = False
        self.aborted = False

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.producer = producer

    def write(self, data: bytes) -> None:
        self.written += data

    def loseWriteConnection(self) -> None:
        self.input_ended = True

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True

    def abortConnection(self) -> None:
        self.aborted = True
        self.protocol.connectionLost(Failure(error.ConnectionAborted()))


class FakeChild:
    """A subprocess that does what the test says."""

    def __init__(self, protocol: Any, stderr: Any) -> None:
        self.pid = 4711
        self.status: int | None = None
        self.signals: list[int] = []
        self.stderr = stderr
        self.pipes = Pipes(protocol)
        self._ended: defer.Deferred[int] = defer.Deferred()
        protocol.makeConnection(self.pipes)

    def when_ended(self) -> defer.Deferred[int]:
        return self._ended

    def kill(self, number: int) -> None:
        self.signals.append(number)

    def stderr_tail(self) -> str:
        return "last words"

    def say(self, data: bytes) -> None:
        self.pipes.protocol.dataReceived(data)

    def exit(self, status: int = 0, output_ends: bool = True) -> None:
        self.status = status
        if output_ends:
            self.pipes.protocol.connectionLost(Failure(error.ConnectionDone()))
        self._ended.callback(status)


class FakeReader:
    """Counts how often it was told that there is more."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.woken = 0
        self.replaced = False

    def wake(self) -> None:
        self.woken += 1

    def replace(self) -> None:
        self.replaced = True


class MediatorCase(SynchronousTestCase):
    """A mediator whose subprocesses are the test's."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.children: list[FakeChild] = []
        self.processor: float | None = 0.0
        self.mediator = Mediator(
            self.launch, self.clock, processes=3, busy=lambda pid: self.processor
        )

    def launch(self, spec: Any, name: str, protocol: Any, stderr: Any) -> FakeChild:
        child = FakeChild(protocol, stderr)
        self.children.append(child)
        return child

    def start(self, user: User = ALICE, **options: Any) -> tuple[Any, FakeChild]:
        return self.mediator.start(user, options), self.children[-1]

    def refused(self, status: int, function: Any, *args: Any) -> HttpError:
        problem: HttpError = self.assertRaises(HttpError, function, *args)
        self.assertEqual(problem.status, status, str(problem))
        return problem


class Streams(MediatorCase):
    """What goes to and fro."""

    def test_what_is_sent_again_is_written_once(self) -> None:
        """What is sent again after a lost answer is given to the subprocess once; no gaps."""
        session, child = self.start()
        session.write(0, b"0123")
        session.write(0, b"0123")
        session.write(2, b"2345")
        self.assertEqual(child.pipes.written, b"012345")
        self.assertEqual(self.refused(409, session.write, 7, b"7").extra, {"received": 6})

    def test_full_stdout_is_not_read_until_confirmed(self) -> None:
        """At the bound it is no longer read from, until enough was confirmed."""
        session, child = self.start()
        child.say(b"x" * 99)
        self.assertTrue(child.pipes.reading)
        child.say(b"x")
        self.assertFalse(child.pipes.reading)
        session.confirm("stdout", 1)
        self.assertTrue(child.pipes.reading)
        self.refused(409, session.confirm, "stdout", 101)
        self.refused(409, session.read, "stdout", 0, 1)

    def test_full_stderr_is_not_read_until_confirmed(self) -> None:
        """The same for standard error, whose reading waits for a Deferred."""
        session, child = self.start()
        self.assertIsNone(child.stderr("y" * 99))
        taken = child.stderr("y")
        self.assertNoResult(taken)
        session.confirm("stderr", 50)
        self.successResultOf(taken)

    def test_writers_pause_while_subprocess_does_not_read(self) -> None:
        """While the subprocess does not read, no client is read from."""
        session, _child = self.start()
        told: list[str] = []

        class Writer:
            def pause(self) -> None:
                told.append("pause")

            def resume(self) -> None:
                told.append("resume")

        session.add_writer(Writer())
        session.pauseProducing()
        session.add_writer(Writer())
        session.resumeProducing()
        self.assertEqual(told, ["pause", "pause", "resume", "resume"])

    def test_one_client_reads_and_takes_over_from_itself(self) -> None:
        """One client at a time; the same one takes over from itself."""
        session, child = self.start()
        first, second, other = FakeReader("a"), FakeReader("a"), FakeReader("b")
        session.add_reader("stdout", first)
        self.refused(409, session.add_reader, "stdout", other)
        session.add_reader("stderr", other)
        session.add_reader("stdout", second)
        self.assertTrue(first.replaced)
        child.say(b"x")
        self.assertEqual((first.woken, second.woken, other.woken), (0, 1, 0))
        nameless = FakeReader("")
        session.remove_reader("stdout", second)
        session.add_reader("stdout", nameless)
        self.refused(409, session.add_reader, "stdout", FakeReader(""))

    def test_ends_with_process_and_output_and_keeps_what_is_unread(self) -> None:
        """It has ended when its process and its output have; what it said is there until read."""
        session, child = self.start()
        child.say(b"bye")
        child.exit(3, output_ends=False)
        self.assertIsNone(session.end)
        child.say(b"!")
        child.pipes.protocol.connectionLost(Failure(error.ConnectionDone()))
        self.assertEqual((session.end.status, session.end.stderr), (3, "last words"))
        self.assertEqual(bytes(session.read("stdout", 0, 10)), b"bye!")
        self.assertFalse(session.delivered())
        session.confirm("stdout", 4)
        self.assertTrue(session.delivered())
        session.forget()
        self.refused(410, self.mediator.find, ALICE, session.pid)
        self.refused(404, self.mediator.find, BOB, session.pid)

    def test_output_is_held_open(self) -> None:
        """What it left behind may hold its output open: not for ever, but while it is read."""
        session, child = self.start()
        child.exit(0, output_ends=False)
        for _ in range(5):
            self.clock.advance(sessions.DRAIN_TIMEOUT - 0.5)
            child.say(b"x")
        self.assertIsNone(session.end)
        child.say(b"x" * 100)  # full: it waits for its reader, however long that takes
        self.clock.advance(10 * sessions.DRAIN_TIMEOUT)
        self.assertFalse(child.pipes.aborted)
        session.confirm("stdout", 105)
        self.clock.advance(sessions.DRAIN_TIMEOUT)
        self.assertTrue(child.pipes.aborted)
        self.assertEqual(session.end.status, 0)


class Endings(MediatorCase):
    """Subprocesses that nobody needs any more."""

    def test_unattended_is_closed_then_terminated_then_killed(self) -> None:
        """Nobody there for so long: its input is closed, then it is terminated, then killed."""
        session, child = self.start()
        session.attach()
        self.clock.advance(600)
        session.detach()
        self.clock.advance(59)
        session.attach()
        session.detach()
        self.clock.advance(59)
        self.assertFalse(child.pipes.input_ended)
        self.clock.advance(1)
        self.assertTrue(child.pipes.input_ended)
        self.assertEqual(child.signals, [])
        self.clock.advance(sessions.GRACE)
        self.assertEqual(child.signals, [signal.SIGTERM])
        self.clock.advance(sessions.KILL_TIMEOUT)
        self.assertEqual(child.signals, [signal.SIGTERM, signal.SIGKILL])
        child.exit(-9)
        self.assertEqual(session.end.reason, "nobody was connected to it")
        self.assertEqual(session.end.gone_error().extra["signal_name"], "SIGKILL")

    def test_what_was_ended_makes_room_though_nobody_comes_back(self) -> None:
        """Ended as nobody was there, it is kept for as long again, and then it is forgotten."""
        session, child = self.start()
        self.clock.advance(60)
        child.exit()
        self.clock.advance(59)
        self.assertIs(self.mediator.find(ALICE, session.pid), session)
        self.clock.advance(1)
        self.assertEqual(self.mediator.sessions, {})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_client_may_ask_for_less_linger_not_for_more(self) -> None:
        """A client may ask for less than the limit, not for more."""
        self.assertEqual(self.start(linger=5)[0].linger, 5)
        self.assertEqual(self.start(linger=500)[0].linger, 60)

    def test_idle_one_is_ended_and_only_then(self) -> None:
        """Neither traffic nor processor time for so long: it is ended, and only then."""
        session, child = self.start(BOB)
        session.attach()
        for step in range(12):
            if step % 3 == 0:
                session.write(session.stdin.received, b"x")
            elif step % 3 == 1:
                self.processor = (self.processor or 0) + 1
            self.clock.advance(15)
        self.assertFalse(child.pipes.input_ended)
        self.clock.pump([10] * 6)
        self.assertTrue(child.pipes.input_ended)
        child.exit()
        self.assertEqual(session.end.reason, "it was idle")
        session.detach()
        self.clock.advance(60)
        self.assertEqual(self.mediator.sessions, {})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_idle_without_proc(self) -> None:
        """Where the system does not say what a process uses, what it sends and gets counts."""
        self.processor = None
        session, child = self.start(BOB)
        session.attach()
        for step in range(8):
            if step % 2:
                child.say(b"x")
                session.confirm("stdout", session.streams["stdout"].end)
            self.clock.advance(15)
        self.assertFalse(child.pipes.input_ended)
        self.clock.pump([10] * 7)
        self.assertTrue(child.pipes.input_ended)
        self.assertEqual(session.reason, "it was idle")

    def test_signal_goes_at_once_and_sigkill_follows(self) -> None:
        """A client's signal goes at once, and SIGKILL follows."""
        session, child = self.start()
        session.terminate("its client ended it", signal.SIGTERM)
        self.assertEqual(child.signals, [signal.SIGTERM])
        self.clock.advance(sessions.KILL_TIMEOUT)
        self.assertEqual(child.signals, [signal.SIGTERM, signal.SIGKILL])

    def test_drain_waits_for_clients_then_ends_what_is_left(self) -> None:
        """Clients are told and have their time; what is left is ended, and waited for."""
        session, child = self.start()
        other, stubborn = self.start()
        told: list[dict[str, Any]] = []
        session.listeners.add(told.append)
        drained = self.mediator.drain(10)
        self.assertEqual(told, [{"draining": 10}])
        self.refused(503, self.mediator.start, BOB, {})
        self.clock.advance(9)
        child.exit()
        self.assertFalse(stubborn.pipes.input_ended)
        self.clock.advance(1)
        self.assertTrue(stubborn.pipes.input_ended)
        self.clock.advance(5)
        self.assertIn(signal.SIGTERM, stubborn.signals)
        self.clock.advance(5)
        self.assertIn(signal.SIGKILL, stubborn.signals)
        self.assertNoResult(drained)
        stubborn.exit(-9)
        self.successResultOf(drained)
        self.assertEqual(other.end.reason, "the server was stopped")

    def test_first_cancels_rest(self) -> None:
        """Many wait until none runs: the first that is told cancels the others."""
        _, child = self.start()
        first_cancels_rest(self, self.mediator.when_empty, lambda: child.exit())


class Users(MediatorCase):
    """Who may have what."""

    def test_processes_are_limited_for_each_user_and_in_all(self) -> None:
        """Of each user, and in all; one that has ended and was read makes room."""
        session, child = self.start()
        self.start()
        self.assertIn("alice has 2", str(self.refused(429, self.start)))
        self.start(BOB)
        self.assertIn("bob has 1", str(self.refused(429, self.start, BOB)))
        self.assertIn("the server", str(self.refused(429, self.start, User("carol", UserLimits()))))
        child.exit()
        session.forget()
        self.start()

    def test_subprocess_of_another_user_is_not_found(self) -> None:
        """Another's is not there."""
        session, _ = self.start()
        self.refused(404, self.mediator.find, BOB, session.pid)
        self.assertEqual(self.mediator.of(BOB), [])
        self.assertEqual(self.mediator.of(ALICE), [session])

    def test_repeated_request_finds_what_it_started(self) -> None:
        """A request that is repeated finds what it started; another user's key is another."""
        one = self.mediator.start(ALICE, {}, "key")
        self.assertIs(self.mediator.start(ALICE, {}, "key"), one)
        self.assertIsNot(self.mediator.start(BOB, {}, "key"), one)
        self.assertEqual(len(self.children), 2)

    def test_pids_are_random(self) -> None:
        """Nobody guesses one: they are random, and not the system's."""
        one, two = self.start()[0], self.start()[0]
        self.assertNotEqual(one.pid, two.pid)
        self.assertGreaterEqual(len(one.pid), 32)
        self.assertNotIn("4711", one.pid)

    def test_options_that_are_not_allowed_are_refused(self) -> None:
        """What a client may not ask for is refused, and so is an interpreter of its own."""
        user = User(
            "carol", UserLimits(allow=frozenset({"python", "id"}), pythons=("python3", "pypy3"))
        )
        self.refused(403, self.mediator.start, user, {"chdir": "/"})
        self.refused(403, self.mediator.start, user, {"python": "sh"})
        self.refused(400, self.mediator.start, user, [])
        self.assertEqual(self.mediator.start(user, {}).spec.python, ("python3",))

    def test_metrics_count_and_name_nobody(self) -> None:
        """What is counted, for Prometheus; nothing in it says who."""
        session, child = self.start()
        child.say(b"xyz")
        text = self.mediator.metrics.text().decode()
        self.assertIn("pycomnet_mediator_processes 1.0", text)
        self.assertIn("pycomnet_mediator_queued_bytes 3.0", text)
        child.exit()
        session.forget()
        text = self.mediator.metrics.text().decode()
        self.assertIn('processes_ended_total{reason="exited"} 1.0', text)
        self.assertIn('pycomnet_mediator_bytes_total{direction="out"} 3.0', text)
        self.assertNotIn("alice", text)
