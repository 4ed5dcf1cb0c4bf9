"""Watches: each change once, revisions whole, and on at another member."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pycomnet.etcd import (
    EtcdClosed,
    EtcdPermissionDenied,
    EtcdRequestRefused,
    EtcdWatch,
    KeyEvent,
    frames,
    prefix,
)
from pycomnet.etcd.protobuf import message_field, number_field
from pycomnet.etcd.streams import STREAM_WINDOW
from pycomnet.test.etcd.kit import (
    Call,
    EtcdTestCase,
    bytes_of,
    events,
    header,
    key_value,
    numbers_of,
    put_event,
)

CREATED = header(4) + number_field(3, 1)


class Seen:
    """A handler that keeps what it is told.

    :ivar told: the names of its methods, with what they were called with.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.waiting: Deferred[None] | None = None
        self.raises: Exception | None = None

    @property
    def names(self) -> list[str]:
        """What was called."""
        return [name for name, _ in self.told]

    @property
    def revisions(self) -> list[list[int]]:
        """Of the events of each call."""
        return [
            [event.kv.mod_revision for event in what]
            for name, what in self.told
            if name == "events"
        ]

    def created(self, revision: int) -> None:
        self.told.append(("created", revision))

    def events(self, events: list[KeyEvent], revision: int) -> Deferred[None] | None:
        self.told.append(("events", events))
        if self.raises is not None:
            raise self.raises
        return self.waiting

    def progress(self, revision: int) -> None:
        self.told.append(("progress", revision))

    def disconnected(self, reason: Exception) -> None:
        self.told.append(("disconnected", reason))

    def compacted(self, revision: int) -> None:
        self.told.append(("compacted", revision))

    def cancelled(self, reason: Exception) -> None:
        self.told.append(("cancelled", reason))


class WatchTests(EtcdTestCase):
    """One watch, of a cluster of two."""

    members = 2

    def setUp(self) -> None:
        super().setUp()
        self.etcd = self.connected()
        self.seen = Seen()

    def watch(self, **options: Any) -> tuple[EtcdWatch, Call]:
        """Begin a watch, which the leader creates."""
        watch = self.etcd.watch(prefix(b"a"), self.seen, **options)
        call = self.call("Watch")
        call.send(CREATED)
        self.run_all()
        return watch, call

    def lose(self, port: int = 1) -> None:
        """The member is lost, and stays so."""
        self.closed.add(port)
        self.peer(port).lose()
        self.run_for(1)

    def test_a_member_that_begins_no_watch_is_left(self) -> None:
        """It may answer everything else."""
        self.etcd.watch(prefix(b"a"), self.seen)
        hanging = self.call("Watch")
        self.run_for(5.5)
        self.assertTrue(hanging.is_reset)
        self.call("Watch", 2).send(CREATED)
        self.run_for(6)
        self.assertFalse(self.has_call("Watch", 1))

    def test_a_watch_that_brings_nothing_is_moved(self) -> None:
        """To the other member; and back, if that brings nothing either."""
        watch, call = self.watch(start_revision=4)
        watch.move()
        self.run_for(0.25)
        self.assertTrue(call.is_reset)
        other = self.call("Watch", 2)
        self.assertEqual(numbers_of(bytes_of(other.message)[1])[3], 4)
        other.send(CREATED)
        self.run_all()
        watch.move()
        self.run_for(0.25)
        self.call("Watch", 1)

    def test_a_watch_says_what_it_wants(self) -> None:
        """Its range, from when on, and what events shall have."""
        watch, call = self.watch(start_revision=3, previous=True, progress=True)
        create = bytes_of(call.message)[1]
        self.assertEqual(bytes_of(create), {1: b"a", 2: b"b"})
        self.assertEqual(numbers_of(create), {3: 3, 4: 1, 6: 1, 8: 1})
        self.assertEqual(call.headers["hasleader"], "true")
        self.assertEqual(self.seen.told, [("created", 4)])
        watch.request_progress()
        self.run_all()
        self.assertEqual(call.messages()[1:], [message_field(3, b"")])
        call.send(header(9))
        self.run_all()
        self.assertEqual(self.seen.told[1:], [("progress", 9)])
        self.assertEqual(watch.next_revision, 3, "what etcd says of progress may be wrong")

    def test_changes_come_in_order(self) -> None:
        """Puts and deletes, with what was there before."""
        watch, call = self.watch()
        self.assertEqual(watch.next_revision, 5)
        delete = number_field(1, 1) + message_field(2, key_value(b"ab", b"", 6))
        delete += message_field(3, key_value(b"ab", b"old", 5))
        call.send(events(put_event(b"a", b"1", 5), delete, revision=6))
        self.run_all()
        (_, found) = self.seen.told[-1]
        self.assertEqual([event.deleted for event in found], [False, True])
        self.assertEqual(found[0].kv.value, b"1")
        self.assertIsNone(found[0].previous)
        self.assertEqual(found[1].previous.value, b"old")
        self.assertEqual(watch.next_revision, 7)

    def test_fragments_are_put_together(self) -> None:
        """A revision is never given in two parts; whole ones don't wait."""
        watch, call = self.watch()
        first = [put_event(b"a%d" % number, b"", 4 + number // 3) for number in range(3, 8)]
        call.send(events(*first, fragment=True))
        self.run_all()
        self.assertEqual(self.seen.revisions, [[5, 5, 5]])
        call.send(events(put_event(b"a8", b"", 6), fragment=True))
        self.run_all()
        self.assertEqual(self.seen.revisions, [[5, 5, 5]])
        call.send(events(put_event(b"a9", b"", 7)))
        self.run_all()
        self.assertEqual(self.seen.revisions, [[5, 5, 5], [6, 6, 6, 7]])
        self.assertEqual(watch.next_revision, 8)

    def test_a_watch_goes_on_at_another_member(self) -> None:
        """From the first revision that was not given whole; nothing comes twice."""
        _, call = self.watch()
        call.send(events(put_event(b"a", b"1", 5)))
        call.send(events(put_event(b"a", b"2", 6), put_event(b"b", b"2", 7), fragment=True))
        self.run_all()
        self.assertEqual(self.seen.revisions, [[5], [6]])
        self.lose()
        self.assertEqual(self.seen.names[-1], "disconnected")
        again = self.call("Watch", 2)
        self.assertEqual(numbers_of(bytes_of(again.message)[1])[3], 7)
        again.send(CREATED)
        # A member may send what was seen already (etcd issues 15271, 20221).
        again.send(events(put_event(b"a", b"2", 6), put_event(b"b", b"2", 7)))
        self.run_all()
        self.assertEqual(self.seen.names[-2:], ["created", "events"])
        self.assertEqual(self.seen.revisions[-1], [7])

    def test_a_watch_before_any_event_goes_on_from_where_it_was_created(self) -> None:
        """What changes while it has no member is not missed."""
        self.watch()
        self.lose()
        again = self.call("Watch", 2)
        self.assertEqual(numbers_of(bytes_of(again.message)[1])[3], 5)

    def test_a_member_that_lost_the_leader_is_left(self) -> None:
        """It ends the stream, and says so."""
        _, call = self.watch()
        call.end(14, "etcdserver: no leader")
        self.run_for(0.5)
        self.assertEqual(self.seen.names, ["created", "disconnected"])
        self.assertTrue(self.has_call("Watch", 1) or self.has_call("Watch", 2))

    def test_a_frozen_member_is_left(self) -> None:
        """A watch has nothing to wait for; so silence is asked by PING."""
        self.watch()
        self.peer(1).is_frozen = True
        self.closed.add(1)
        self.run_for(5)
        self.assertEqual(self.seen.names, ["created", "disconnected"])
        self.call("Watch", 2)

    def test_a_silent_member_that_answers_is_kept(self) -> None:
        """For minutes, and with few PINGs: etcd closes connections with many."""
        self.watch()
        pings = 0
        for _ in range(120):
            pings += self.peer(1).transport.value().count(b"pycomnet")
            self.run_for(1)
        self.assertEqual(self.seen.names, ["created"])
        self.assertFalse(self.peer(1).is_lost)

    def test_compaction_ends_it(self) -> None:
        """With the oldest revision that is there."""
        _, call = self.watch(start_revision=2)
        call.send(header(9) + number_field(4, 1) + number_field(5, 8))
        self.run_all()
        self.assertEqual(self.seen.told[-1], ("compacted", 8))
        self.assertTrue(call.is_reset)
        self.lose()
        self.assertFalse(self.has_call("Watch", 2))

    def test_what_etcd_refuses_ends_it(self) -> None:
        """The reason is etcd's."""
        for reason, kind in (
            ("etcdserver: permission denied", EtcdPermissionDenied),
            ("etcdserver: something", EtcdRequestRefused),
        ):
            self.etcd.watch(b"x", self.seen)
            self.call("Watch").send(number_field(4, 1) + message_field(6, reason.encode()))
            self.run_all()
            name, error = self.seen.told[-1]
            self.assertEqual(name, "cancelled")
            self.assertIs(type(error), kind)
            self.assertIn(reason, str(error))

    def test_a_slow_handler_slows_the_member_down(self) -> None:
        """What waits for it is at most the stream's window, and then comes whole."""
        _, call = self.watch()
        waiting: Deferred[None] = Deferred()
        self.seen.waiting = waiting
        server = call.peer.server
        sent = 0
        while True:
            self.run_all()
            room = server.local_flow_control_window(call.stream)
            size = min(room - 200, 10_000)
            if size < 1000:
                break
            call.send(events(put_event(b"a", b"x" * (size - 100), 5 + sent)))
            sent += 1
        self.assertEqual(len(self.seen.revisions), 1)
        self.assertGreater(sent, STREAM_WINDOW // 11_000)
        self.seen.waiting = None
        waiting.callback(None)
        self.run_all()
        self.assertEqual(self.seen.revisions, [[5 + number] for number in range(sent)])
        self.assertGreater(server.local_flow_control_window(call.stream), STREAM_WINDOW // 2)

    def test_a_message_longer_than_the_window_comes(self) -> None:
        """Its parts are let in before it is whole."""
        _, call = self.watch()
        size = 3 * STREAM_WINDOW
        message = events(put_event(b"a", b"x" * size, 5))
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        at = 0
        while at < len(framed):
            self.run_all()
            room = min(call.peer.server.local_flow_control_window(call.stream), 16384)
            self.assertGreater(room, 0)
            call.peer.server.send_data(call.stream, framed[at : at + room])
            at += room
        self.run_all()
        self.assertEqual(self.seen.revisions, [[5]])

    def test_a_handler_that_raises_has_ended_its_watch(self) -> None:
        """It is logged, and told; the others go on."""
        other = Seen()
        self.etcd.watch(b"z", other)
        self.call("Watch").send(CREATED)
        _, call = self.watch()
        self.seen.raises = ZeroDivisionError()
        call.send(events(put_event(b"a", b"1", 5)))
        self.run_all()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.seen.names, ["created", "events", "cancelled"])
        self.assertTrue(call.is_reset)
        self.assertEqual(other.names, ["created"])

    def test_a_handler_whose_deferred_fails_has_ended_its_watch(self) -> None:
        """As if it had raised."""
        _, call = self.watch()
        self.seen.waiting = Deferred()
        call.send(events(put_event(b"a", b"1", 5)))
        self.run_all()
        self.seen.waiting.errback(Failure(ZeroDivisionError()))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.seen.names[-1], "cancelled")

    def test_a_stopped_watch_says_nothing(self) -> None:
        """Even if it is stopped by its own handler."""
        watch, call = self.watch()
        self.seen.disconnected = lambda reason: watch.stop()  # type: ignore[method-assign]
        self.lose()
        self.assertFalse(self.has_call("Watch", 2))
        self.assertEqual(self.seen.names, ["created"])
        self.assertFalse(call.is_reset)

    def test_a_stopped_watch_leaves_no_stream(self) -> None:
        """Its stream is reset at the member, also before the member has created the watch."""
        watch, call = self.watch()
        watch.stop()
        self.run_all()
        self.assertTrue(call.is_reset)
        early = self.etcd.watch(b"b", self.seen)
        self.run_all()
        call = self.call("Watch")
        early.stop()
        self.run_all()
        self.assertTrue(call.is_reset)
        self.run_for(10)
        self.assertEqual(self.seen.names, ["created"])
        self.assertFalse(self.has_call("Watch"))

    def test_closing_the_client_ends_it(self) -> None:
        """Also while it has no member."""
        self.watch()
        self.lose(1)
        self.lose(2)
        self.etcd.close()
        self.assertEqual(self.seen.names, ["created", "disconnected", "cancelled"])
        self.assertIsInstance(self.seen.told[-1][1], EtcdClosed)
        late = Seen()
        self.etcd.watch(b"a", late)
        self.assertEqual(late.names, ["cancelled"])

    def test_a_member_that_goes_away_is_left_at_once(self) -> None:
        """A watch would keep its connection for ever."""
        _, call = self.watch()
        call.peer.protocol.dataReceived(frames.goaway(call.stream, 0))
        self.run_for(1)
        self.assertEqual(self.seen.names, ["created", "disconnected"])
        self.assertTrue(self.has_call("Watch", 1) or self.has_call("Watch", 2))


class TokenTests(EtcdTestCase):
    """A watch in a cluster with authentication."""

    def test_a_watch_that_is_denied_gets_a_new_token_once(self) -> None:
        """etcd 3.4 says the same if the token has expired as if there is no permission."""
        client = self.client(user="root", password="secret")
        connecting = client.connect()
        self.call("Authenticate").answer(header(1) + message_field(2, b"tok.1"))
        self.run_all()
        self.successResultOf(connecting)
        seen = Seen()
        client.watch(b"a", seen)
        denied = number_field(4, 1) + message_field(6, b"etcdserver: permission denied")
        self.call("Watch").send(denied)
        self.run_for(1)
        self.call("Authenticate").answer(header(1) + message_field(2, b"tok.2"))
        call = self.call("Watch")
        self.assertEqual(call.headers["token"], "tok.2")
        self.assertEqual(seen.names, [])
        call.send(denied)
        self.run_for(1)
        self.assertEqual(seen.names, ["cancelled"])
        self.assertIsInstance(seen.told[0][1], EtcdPermissionDenied)
