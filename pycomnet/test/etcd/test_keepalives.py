"""Renewals of leases: one stream to the leader, each with an answer of its own."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from pycomnet.etcd import EtcdClosed, EtcdLeaseNotFound, EtcdTimeout
from pycomnet.etcd.keepalives import GATHER
from pycomnet.etcd.protobuf import number_field
from pycomnet.test.etcd.kit import Call, EtcdTestCase, header, numbers_of


def renewed(call: Call, lease: int, ttl: int = 10) -> None:
    """Answer a renewal."""
    call.send(header(1) + number_field(2, lease) + number_field(3, ttl))


class KeepaliveTests(EtcdTestCase):
    """Two members."""

    members = 2

    def setUp(self) -> None:
        super().setUp()
        self.etcd = self.connected()

    def leases(self, call: Call) -> list[int]:
        """What a stream was asked to renew."""
        return [numbers_of(message).get(1, 0) for message in call.messages()]

    def test_all_renewals_go_on_one_stream(self) -> None:
        """Those of one turn in one frame; each is answered by its lease."""
        renewals = [self.etcd.keepalive(lease) for lease in (7, 8, 9)]
        call = self.call("LeaseKeepAlive")
        self.assertEqual(self.leases(call), [7, 8, 9])
        for lease, ttl in ((9, 11), (7, 12), (8, 0)):
            renewed(call, lease, ttl)
        self.run_all()
        self.assertEqual(self.successResultOf(renewals[0]), 12)
        self.assertEqual(self.successResultOf(renewals[2]), 11)
        self.fails(renewals[1], EtcdLeaseNotFound)
        self.reactor.advance(GATHER)
        again = [self.etcd.keepalive(lease) for lease in (7, 9)]
        before = len(self.peer().transport.value())
        self.reactor.advance(0)
        # Two messages of 7 bytes in one frame.
        self.assertEqual(len(self.peer().transport.value()) - before, 9 + 14)
        self.run_all()
        self.assertEqual(self.leases(call)[3:], [7, 9])
        self.assertFalse(self.has_call("LeaseKeepAlive"))
        for lease in (7, 9):
            renewed(call, lease)
        self.run_all()
        self.assertEqual([self.successResultOf(one) for one in again], [10, 10])

    def test_renewals_that_come_one_after_the_other_are_gathered(self) -> None:
        """One by itself is sent at once; then what comes within a few milliseconds in one frame."""
        renewals = [self.etcd.keepalive(6)]
        call = self.call("LeaseKeepAlive")
        self.reactor.advance(1)
        written = self.peer().transport.value
        before = len(written())
        renewals.append(self.etcd.keepalive(7))
        self.reactor.advance(0)
        self.assertEqual(len(written()) - before, 9 + 7)
        for lease in (8, 9):
            self.reactor.advance(GATHER / 4)
            renewals.append(self.etcd.keepalive(lease))
            self.reactor.advance(0)
        self.assertEqual(len(written()) - before, 9 + 7)
        self.reactor.advance(GATHER / 2)
        self.assertEqual(len(written()) - before, 9 + 7 + 9 + 14)
        self.run_all()
        self.assertEqual(self.leases(call), [6, 7, 8, 9])
        for lease in (6, 7, 8, 9):
            renewed(call, lease)
        self.run_all()
        self.assertEqual([self.successResultOf(one) for one in renewals], [10] * 4)

    def test_a_clock_that_is_set_back_holds_no_renewal(self) -> None:
        """A reactor may use the wall clock: what is gathered is sent within milliseconds."""
        renewals = [self.etcd.keepalive(6)]
        call = self.call("LeaseKeepAlive")
        renewals.append(self.etcd.keepalive(7))
        self.run_all(GATHER)
        self.reactor.rightNow -= 3600
        renewals.append(self.etcd.keepalive(8))
        self.reactor.advance(GATHER)
        self.run_all()
        self.assertEqual(self.leases(call), [6, 7, 8])
        for lease in (6, 7, 8):
            renewed(call, lease)
        self.run_all()
        self.assertEqual([self.successResultOf(one) for one in renewals], [10, 10, 10])

    def test_a_stream_that_is_lost_is_begun_again(self) -> None:
        """At another member, with all that had no answer."""
        renewals = [self.etcd.keepalive(lease) for lease in (7, 8)]
        call = self.call("LeaseKeepAlive")
        renewed(call, 7)
        self.run_all()
        self.closed.add(1)
        self.peer(1).lose()
        self.run_for(1)
        again = self.call("LeaseKeepAlive", 2)
        self.assertEqual(self.leases(again), [8])
        renewed(again, 8)
        self.run_all()
        self.assertEqual([self.successResultOf(one) for one in renewals], [10, 10])

    def test_the_stream_follows_the_leader(self) -> None:
        """A follower would pass each renewal on by a request."""
        renewal = self.etcd.keepalive(7, timeout=60)
        self.call("LeaseKeepAlive", 1)
        self.leader, self.term = 2, 2
        self.run_for(6)
        call = self.call("LeaseKeepAlive", 2)
        self.assertEqual(self.leases(call), [7])
        renewed(call, 7)
        self.run_all()
        self.successResultOf(renewal)

    def test_the_stream_comes_back_to_a_leader_that_was_lost(self) -> None:
        """Only its connection was lost, and it is the leader still."""
        first = self.etcd.keepalive(7, timeout=60)
        self.call("LeaseKeepAlive", 1)
        self.closed.add(1)
        self.peer(1).lose()
        self.run_for(1)
        elsewhere = self.call("LeaseKeepAlive", 2)
        self.closed.clear()
        self.run_for(3)
        self.assertTrue(elsewhere.is_reset)
        renewed(self.call("LeaseKeepAlive", 1), 7)
        self.run_all()
        self.assertEqual(self.successResultOf(first), 10)

    def test_a_renewal_that_is_late_fails(self) -> None:
        """Its answer can't be taken for that of the next one: there is another stream."""
        late, other = self.etcd.keepalive(7, timeout=1), self.etcd.keepalive(8, timeout=60)
        call = self.call("LeaseKeepAlive")
        self.run_for(1.5)
        self.fails(late, EtcdTimeout)
        self.assertTrue(call.is_reset)
        following = self.etcd.keepalive(7)
        again = self.call("LeaseKeepAlive")
        self.assertEqual(sorted(self.leases(again)), [7, 8])
        renewed(again, 7, 6)
        renewed(again, 8, 5)
        self.run_all()
        self.assertEqual(self.successResultOf(following), 6)
        self.assertEqual(self.successResultOf(other), 5)

    def test_a_late_renewal_does_not_stop_the_others(self) -> None:
        """While others are answered the stream stays; the late answer is taken for its own."""
        late = self.etcd.keepalive(7, timeout=1)
        call = self.call("LeaseKeepAlive")
        for _ in range(6):
            other = self.etcd.keepalive(8)
            self.run_all(0.25)
            renewed(call, 8)
            self.run_all()
            self.successResultOf(other)
        self.fails(late, EtcdTimeout)
        self.assertFalse(call.is_reset)
        following = self.etcd.keepalive(7, timeout=1)
        self.run_all()
        renewed(call, 7, 5)
        self.run_all()
        self.assertNoResult(following)
        renewed(call, 7, 6)
        self.run_all()
        self.assertEqual(self.successResultOf(following), 6)

    def test_an_answer_that_never_comes_delays_the_next_one_once(self) -> None:
        """If one lease is late twice, there is another stream."""

        def ask(lease: int) -> None:
            self.etcd.keepalive(lease, timeout=1).addErrback(lambda failure: None)

        def go_on(turns: int) -> None:
            for _ in range(turns):
                ask(8)
                self.run_all(0.25)
                if call.is_reset:
                    return
                renewed(call, 8)

        ask(7)
        call = self.call("LeaseKeepAlive")
        go_on(8)
        self.assertFalse(call.is_reset)
        ask(7)
        go_on(8)
        self.assertTrue(call.is_reset)

    def test_closing_leaves_no_timer(self) -> None:
        """Also when no renewal waits any more."""
        renewal = self.etcd.keepalive(7, timeout=60)
        self.call("LeaseKeepAlive")
        self.closed.update((1, 2))
        for port in (1, 2):
            self.peer(port).lose()
        renewal.cancel()
        self.failureResultOf(renewal, CancelledError)
        self.closed.clear()
        self.run_for(3)
        self.etcd.close()
        self.run_all()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_renewal_may_be_cancelled(self) -> None:
        """The next answer for its lease is its own, and not that of the next one."""
        cancelled = self.etcd.keepalive(7)
        call = self.call("LeaseKeepAlive")
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        following = self.etcd.keepalive(7)
        self.run_all()
        renewed(call, 7, 5)
        self.run_all()
        self.assertNoResult(following)
        renewed(call, 7, 6)
        self.run_all()
        self.assertEqual(self.successResultOf(following), 6)

    def test_closing_ends_all(self) -> None:
        """They may have been renewed."""
        renewal = self.etcd.keepalive(7)
        self.run_all()
        self.etcd.close()
        self.fails(renewal, EtcdClosed)
