"""What is pure of publish and subscribe through NATS: names, messages, gaps and bounds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import InvalidArguments, RemoteError
from pycomnet.ext.pubsub import Gap
from pycomnet.ext.pubsub.events import encode_event
from pycomnet.ext.pubsub.nats.encoding import (
    END,
    EventHead,
    UnreadableMessage,
    notice,
    read_event,
    read_notice,
)
from pycomnet.ext.pubsub.nats.eventqueue import EventQueue
from pycomnet.ext.pubsub.nats.gapdetection import REPEATED, PublisherTrack
from pycomnet.ext.pubsub.nats.jetstreamreader import where_to_begin
from pycomnet.ext.pubsub.nats.natsnames import NatsNames
from pycomnet.ext.pubsub.subjects import covers
from pycomnet.ext.pubsub.subscriberqueue import Policy


class NameTests(SynchronousTestCase):
    """Names in NATS."""

    def test_events_of_one_interface_are_not_anothers(self) -> None:
        """Even if its name begins with the other's."""
        one, two = NatsNames("a.b"), NatsNames("a.b.c")
        for subject, key in (("", None), ("x", None), ("x", "k"), ("", "!")):
            name = two.subject(subject, key).decode()
            self.assertTrue(covers(two.everything, name))
            self.assertFalse(covers(one.everything, name))
        self.assertNotEqual(one.stream, NatsNames("a_b").stream)

    def test_a_key_may_be_anything(self) -> None:
        """And no key is not a key."""
        names = NatsNames("a")
        keys = [None, "!", "", "a.b", "a b", "*", ">", "ü", "\r\nPUB x 0"]
        made = {names.subject("s", key) for key in keys}
        self.assertEqual(len(made), len(keys))
        for one in made:
            self.assertEqual(one.count(b"."), 3)
            self.assertNotIn(b" ", one)

    def test_patterns_that_others_cover_are_not_subscribed_to(self) -> None:
        """NATS would deliver twice."""
        names = NatsNames("a")
        self.assertEqual(names.patterns([">"]), ["a.!.>"])
        self.assertEqual(names.patterns(["eu.*", "eu.x", "us.x"]), ["a.!.*.eu.*", "a.!.*.us.x"])
        self.assertEqual(names.patterns(["eu.*", "*.x"]), ["a.!.*.eu.*", "a.!.*.*.x"])

    def test_an_interface_that_can_not_be_in_a_subject(self) -> None:
        """It is refused."""
        for name in ("a.*", "a.!.b", "a b", ">"):
            self.assertRaises(InvalidArguments, NatsNames, name)


class CodingTests(SynchronousTestCase):
    """Messages."""

    def test_an_event_is_what_was_encoded(self) -> None:
        """With what is before it."""
        event = encode_event(7, "eu", "k", 1.0, {"a": (1, b"x")}, 1000)
        payload = EventHead("abc").message(5, event.payload)
        self.assertEqual(read_event(payload), ("abc", 5, [7, "eu", "k", 1.0, {"a": (1, b"x")}]))

    def test_a_notice_has_its_error(self) -> None:
        """As a call's error."""
        said = notice(END, "abc", 7, "", ValueError("no"))
        what, epoch, number, text, problem = read_notice(said)
        self.assertEqual((what, epoch, number, text), (END, "abc", 7, ""))
        self.assertIsInstance(problem, RemoteError)
        self.assertIn("no", str(problem))

    @given(st.binary(max_size=100))
    def test_anything_may_come(self, payload: bytes) -> None:
        """It raises nothing else."""
        for read in (read_event, read_notice):
            try:
                read(payload)  # type: ignore[operator]
            except UnreadableMessage:
                continue

    def test_what_is_nearly_an_event(self) -> None:
        """Is none."""
        from pycomnet.wire.codec import make_codec

        encode = make_codec().encode
        for value in (
            ["e", 1, [1, "", None, 0.0]],
            ["e", 1, [1, "", 5, 0.0, 1]],
            ["e", "x", [1, "", None, 0.0, 1]],
            ["e" * 100, 1, [1, "", None, 0.0, 1]],
            [1, 1, [1, "", None, 0.0, 1]],
            ["e", 1, [True, "", None, 0.0, 1]],
            ["e", 1, [1, "", None, 0.0, 1, [["a", 1]]]],
            ["e", 1, [1, "", None, 0.0, 1, 5]],
            ["e", 1, [1, "", None, "0", 1]],
            ["e", 1, 7],
            "abc",
            {},
            {0: 1, 1: 2, 2: 3},
        ):
            with self.subTest(value=value):
                self.assertRaises(UnreadableMessage, read_event, encode(value))
                self.assertRaises(UnreadableMessage, read_notice, encode(value))


def item(number: int, subject: str = "", key: str | None = None) -> list[Any]:
    """An event."""
    return [number, subject, key, 0.0, number]


def lost(count: int | None, first: int, last: int) -> Gap:
    """Events that NATS has not delivered."""
    return Gap(count, first, last, why="lost")


class TrackTests(SynchronousTestCase):
    """What is missing."""

    def test_numbers_have_no_holes(self) -> None:
        """For one who subscribes to everything; what comes twice is told apart."""
        track = PublisherTrack()
        self.assertIsNone(track.missing(item(5), None, True))
        self.assertIsNone(track.missing(item(6), None, True))
        self.assertEqual(track.missing(item(9), None, True), lost(2, 7, 8))
        self.assertIs(track.missing(item(8), None, True), REPEATED)

    def test_a_publisher_that_has_said_where_it_is(self) -> None:
        """From there on each event is expected."""
        track = PublisherTrack()
        track.begins(3)
        self.assertEqual(track.missing(item(5), None, True), lost(1, 4, 4))
        track.begins(0)
        self.assertIsNone(track.missing(item(6), None, True))

    def test_a_beginning_that_nobody_knows_is_a_gap_without_a_count(self) -> None:
        """It may have been lost from its first event on; what is lost later is counted."""
        track = PublisherTrack(0, False)
        track.begins(200)
        self.assertEqual(track.missing(item(201), None, True), lost(None, 1, 200))
        self.assertEqual(track.missing(item(204), None, True), lost(2, 202, 203))
        self.assertIsNone(PublisherTrack(0, False).missing(item(1), None, True))
        some = PublisherTrack(0, False)
        self.assertEqual(some.missing(item(9, "a"), 7, False), lost(None, 1, 7))

    def test_some_subjects_are_followed_by_the_one_before(self) -> None:
        """Others' numbers are no gap."""
        track = PublisherTrack(10)
        self.assertIsNone(track.missing(item(12, "a"), 4, False))
        self.assertIsNone(track.missing(item(20, "a"), 12, False))
        self.assertIsNone(track.missing(item(21, "b"), 0, False))
        self.assertEqual(track.missing(item(30, "a"), 25, False), lost(None, 21, 25))
        self.assertEqual(track.missing(item(31, "c"), 15, False), lost(None, 11, 15))
        self.assertIsNone(track.missing(item(32, "c"), None, False))

    def test_other_subjects_begin_anew(self) -> None:
        """What came before the change is not missing."""
        track = PublisherTrack(1)
        track.missing(item(2, "a"), 0, False)
        track.change()
        self.assertIsNone(track.missing(item(9, "b"), 1, False))
        self.assertEqual(track.missing(item(12, "b"), 11, False), lost(None, 10, 11))

    @given(st.lists(st.booleans(), max_size=60), st.booleans())
    def test_a_loss_is_always_told(self, arrive: list[bool], everything: bool) -> None:
        """Whatever is lost: a gap, or all."""
        track = PublisherTrack(0)
        last: dict[str, int] = {}
        lost: set[str] = set()
        for number, arrives in enumerate(arrive, 1):
            subject = "ab"[number % 2]
            previous = last.get(subject, 0)
            last[subject] = number
            if not arrives:
                lost.add(subject)
                continue
            told = track.missing(item(number, subject), previous, everything)
            expected = bool(lost) if everything else subject in lost
            assert (told is not None) is expected
            if everything:
                lost.clear()
            lost.discard(subject)


NOTICE = [None, "restarted", "x"]


class WaitingTests(SynchronousTestCase):
    """Bounds and policies."""

    def put(self, waiting: EventQueue, *items: list[Any], source: Any = "s") -> list[bool]:
        return [waiting.put(source, one, 800, None) for one in items]

    def taken(self, waiting: EventQueue) -> list[Any]:
        found: list[Any] = []
        while (batch := waiting.take(1000)) is not None:
            found += [one if isinstance(one, Gap) else one[0] for one in batch[1]]
        return found

    def test_the_oldest_are_dropped(self) -> None:
        """And told where they are missing."""
        waiting = EventQueue(Policy.DROP_OLDEST, 3000)
        self.put(waiting, *map(item, range(1, 8)))
        self.assertEqual(self.taken(waiting), [Gap(4, 1, 4), 5, 6, 7])
        self.assertEqual((waiting.size, len(waiting)), (0, 0))

    def test_the_newest_are_dropped(self) -> None:
        """The gap is behind what was kept, or before what comes next."""
        waiting = EventQueue(Policy.DROP_NEWEST, 3000)
        self.put(waiting, *map(item, range(1, 6)))
        self.assertEqual(self.taken(waiting), [1, 2, 3, Gap(2, 4, 5)])
        self.put(waiting, *map(item, range(6, 11)))
        waiting.take(1)
        self.put(waiting, item(11))
        self.assertEqual(self.taken(waiting), [7, 8, Gap(2, 9, 10), 11])

    def test_the_latest_of_each_key(self) -> None:
        """A and B interleaved: the last of each (libzmq 1688)."""
        waiting = EventQueue(Policy.LATEST, 100_000)
        self.put(waiting, *(item(n, "s", "AB"[n % 2]) for n in range(1, 7)))
        self.assertEqual(self.taken(waiting), [Gap(2, 1, 3, "B"), 5, Gap(2, 2, 4, "A"), 6])

    def test_a_disconnect(self) -> None:
        """Is said to the caller."""
        waiting = EventQueue(Policy.DISCONNECT, 2000)
        self.assertEqual(self.put(waiting, *map(item, range(1, 4))), [True, True, False])

    def test_one_event_always_may_wait(self) -> None:
        """However long it is."""
        waiting = EventQueue(Policy.DROP_OLDEST, 1024)
        waiting.put("s", item(1), 10_000, None)
        self.assertEqual(self.taken(waiting), [1])

    def test_notices_are_not_dropped(self) -> None:
        """And several publishers' batches are apart."""
        waiting = EventQueue(Policy.DROP_OLDEST, 2000)
        self.put(waiting, item(1))
        waiting.tell("t", [None, "restarted", "x"])
        self.put(waiting, *map(item, range(2, 6)))
        batches = []
        while (batch := waiting.take(10_000)) is not None:
            batches.append(batch)
        self.assertIn(("t", [[None, "restarted", "x"]]), batches)

    @given(
        st.lists(st.tuples(st.sampled_from(["put", "take"]), st.integers(0, 3)), max_size=80),
        st.sampled_from([Policy.DROP_OLDEST, Policy.DROP_NEWEST]),
    )
    def test_what_is_dropped_is_told(self, steps: list[tuple[str, int]], policy: Policy) -> None:
        """Each event comes, or is in a gap at its place; and the bound holds."""
        waiting = EventQueue(policy, 3000)
        number = position = 0

        def take() -> None:
            nonlocal position
            batch = waiting.take(1000)
            for one in batch[1] if batch else ():
                if one == NOTICE:
                    continue
                if isinstance(one, Gap):
                    assert one.first == position + 1
                    assert one.last is not None and one.count == one.last - one.first + 1
                    position = one.last
                else:
                    assert one[0] == position + 1
                    position = one[0]

        for what, count in steps:
            for _ in range(count):
                if what == "put":
                    number += 1
                    waiting.put("s", item(number), 800, None)
                    assert waiting.size <= 3000
                    assert len(waiting) < 20
                elif what == "tell":
                    waiting.tell("s", NOTICE)
                else:
                    take()
        while len(waiting):
            take()
        take()
        assert position == number or policy is Policy.DROP_NEWEST
        assert waiting.size == 0


class BeginningTests(SynchronousTestCase):
    """Where a consumer begins."""

    def test_where(self) -> None:
        """Now, with the last ones, or at a time."""
        self.assertEqual(where_to_begin({}, 7, 0.0)["opt_start_seq"], 8)
        self.assertEqual(where_to_begin({"last": 3}, 7, 0.0)["opt_start_seq"], 5)
        self.assertEqual(where_to_begin({"last": 30}, 7, 0.0)["opt_start_seq"], 1)
        found = where_to_begin({"since": 60.0}, 7, 60.0)
        self.assertEqual(found["opt_start_time"], "1970-01-01T00:00:00Z")
