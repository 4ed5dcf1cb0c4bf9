"""The client's methods, and where their requests go when members fail."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError

from pycomnet.errors import EndpointError
from pycomnet.etcd import (
    EtcdAuthFailed,
    EtcdClient,
    EtcdClosed,
    EtcdLeaseNotFound,
    EtcdNoSpace,
    EtcdOverloaded,
    EtcdRequestRefused,
    EtcdTimeout,
    EtcdUnavailable,
    EtcdUncertain,
    KeyRange,
    KeyValue,
    PutRequest,
    RangeRequest,
    absent,
    frames,
    prefix,
)
from pycomnet.etcd.protobuf import message_field, number_field
from pycomnet.test.etcd.kit import (
    ANSWER,
    Call,
    EtcdTestCase,
    bytes_of,
    header,
    key_value,
    numbers_of,
)


class MethodTests(EtcdTestCase):
    """One member, which does what it is asked."""

    def test_a_key_is_read(self) -> None:
        """The answer's record, or None."""
        client = self.connected()
        reading = client.get(b"a")
        call = self.call("Range")
        self.assertEqual(bytes_of(call.message), {1: b"a"})
        self.assertEqual(call.headers["hasleader"], "true")
        call.answer(header(7) + message_field(2, key_value(b"a", b"1", 6)) + number_field(4, 1))
        self.run_all()
        self.assertEqual(self.successResultOf(reading), KeyValue(b"a", b"1", 6, 6, 1))
        missing = client.get(b"b", serializable=True)
        call = self.call("Range")
        self.assertEqual(numbers_of(call.message), {7: 1})
        self.assertNotIn("hasleader", call.headers)
        call.answer(header(7))
        self.run_all()
        self.assertIsNone(self.successResultOf(missing))

    def test_a_transaction_has_its_parts(self) -> None:
        """Compares, what is done if they hold, and what else."""
        client = self.connected()
        asking = client.txn(
            [absent(b"a")], [PutRequest(b"a", b"1", 9)], [RangeRequest(KeyRange(b"a"))]
        )
        call = self.call("Txn")
        parts = bytes_of(call.message)
        # A zero that is compared with is there, though it is the default.
        self.assertEqual(numbers_of(parts[1]), {4: 0})
        self.assertEqual(bytes_of(parts[1]), {3: b"a"})
        self.assertEqual(bytes_of(bytes_of(parts[2])[2]), {1: b"a", 2: b"1"})
        self.assertEqual(numbers_of(bytes_of(parts[2])[2]), {3: 9})
        self.assertEqual(bytes_of(bytes_of(parts[3])[1]), {1: b"a"})
        put = message_field(3, message_field(2, header(8)))
        call.answer(header(8) + number_field(2, 1) + put)
        self.run_all()
        answer = self.successResultOf(asking)
        self.assertTrue(answer.succeeded)
        self.assertEqual([one.header.revision for one in (answer, *answer.responses)], [8, 8])

    def test_a_prefix_is_a_range(self) -> None:
        """From the prefix to the next one that isn't it."""
        self.assertEqual(prefix(b"ab"), KeyRange(b"ab", b"ac"))
        self.assertEqual(prefix(b"a\xff"), KeyRange(b"a\xff", b"b"))
        self.assertEqual(prefix(b"\xff\xff"), KeyRange(b"\xff\xff", b"\0"))
        self.assertEqual(prefix(b""), KeyRange(b"\0", b"\0"))

    def test_etcds_errors_have_names(self) -> None:
        """By what the answer says; and nothing is asked twice."""
        client = self.connected()
        for status, text, kind in (
            (5, "etcdserver: requested lease not found", EtcdLeaseNotFound),
            (8, "etcdserver: mvcc: database space exceeded", EtcdNoSpace),
            (8, "etcdserver: too many requests", EtcdOverloaded),
            (8, "grpc: received message larger than max (9 vs. 8)", EtcdRequestRefused),
            (3, "etcdserver: request is too large", EtcdRequestRefused),
            (3, "etcdserver: duplicate key given in txn request", EtcdRequestRefused),
            (14, "etcdserver: request timed out", EtcdUncertain),
            (4, "context deadline exceeded", EtcdUncertain),
        ):
            writing = client.put(b"a", b"b")
            self.call("Put").end(status, text)
            self.run_all()
            problem = self.fails(writing, kind)
            self.assertIn(text, str(problem))
            self.assertEqual(problem.status, status)

    def test_a_request_goes_at_once_or_is_cancelled(self) -> None:
        """Cancelling resets the stream; the connection stays."""
        client = self.connected()
        reading = client.get(b"a")
        call = self.call("Range")
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.run_all()
        self.assertTrue(call.is_reset)
        other = client.get(b"b")
        self.call("Range").answer(header(1))
        self.run_all()
        self.assertIsNone(self.successResultOf(other))

    def test_a_read_that_is_late_is_a_timeout_and_a_write_uncertain(self) -> None:
        """The stream is reset."""
        client = self.connected()
        reading = client.get(b"a", timeout=1)
        writing = client.put(b"a", b"b", timeout=1)
        calls = self.call("Range"), self.call("Put")
        self.run_all(0.9)
        self.assertNoResult(reading)
        self.run_all(0.2)
        self.fails(reading, EtcdTimeout)
        self.fails(writing, EtcdUncertain)
        self.assertEqual([call.is_reset for call in calls], [True, True])

    def test_what_is_wrong_with_the_arguments_is_said_at_once(self) -> None:
        """No endpoints, a password without a user, an endpoint of another client."""
        with self.assertRaises(EndpointError):
            EtcdClient([], self.reactor)
        with self.assertRaises(ValueError):
            self.client(user="root")
        with self.assertRaises(EndpointError):
            self.client().status("tcp:elsewhere:1")

    def test_passwords_go_over_tls(self) -> None:
        """A password is sent in clear on this machine only, or if that is asked for."""
        login: Any = {"user": "root", "password": "secret"}
        for endpoints in (["tcp:10.0.0.5:2379"], ["tls:a:2379", "tcp:b:2379"]):
            with self.assertRaisesRegex(EndpointError, "plain_login=True"):
                EtcdClient(endpoints, self.reactor, **login)
            EtcdClient(endpoints, self.reactor, plain_login=True, **login).close()
            EtcdClient(endpoints, self.reactor).close()
        local = ["tcp:localhost:2379", "tls:a:2379", "unix:/run/etcd"]
        EtcdClient(local, self.reactor, **login).close()

    def test_data_before_the_headers_are_refused(self) -> None:
        """They are no answer of gRPC; a write may have been executed."""
        client = self.connected()
        writing = client.put(b"a", b"b")
        call = self.call("Put")
        data = frames.frame(frames.DATA, 0, call.stream, b"x")
        self.peer().protocol.dataReceived(data)
        self.run_all()
        self.fails(writing, EtcdUncertain)
        self.assertTrue(call.is_reset)

    def test_a_closed_client_refuses(self) -> None:
        """What is in progress fails: a write may have been executed."""
        client = self.connected()
        reading, writing = client.get(b"a"), client.put(b"a", b"b")
        self.run_all()
        self.successResultOf(client.close())
        self.fails(reading, EtcdClosed)
        self.fails(writing, EtcdUncertain)
        self.fails(client.put(b"a", b"b"), EtcdClosed)
        self.fails(client.keepalive(1), EtcdClosed)
        self.run_all()
        self.assertTrue(self.peer().is_lost)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class FailingTests(EtcdTestCase):
    """Three members, of which some fail."""

    members = 3

    def lose_leader(self, following: int) -> None:
        """The first member is lost, and another one is the leader then."""
        self.leader, self.term = following, 2
        self.closed.add(1)
        self.peer(1).lose()

    def test_requests_wait_for_another_leader(self) -> None:
        """A follower would send to the lost one what it gets, until it notices."""
        client = self.connected()
        self.closed.add(1)
        self.peer(1).lose()
        writing, old = client.put(b"a", b"b"), client.get(b"a", serializable=True)
        self.run_for(1)
        ports = [port for port in (2, 3) if self.has_call("Range", port)]
        self.assertEqual(len(ports), 1, "a read that needs no leader goes at once")
        self.call("Range", ports[0]).answer(header(1))
        self.assertFalse(self.has_call("Put", 2) or self.has_call("Put", 3))
        self.leader, self.term = 3, 2
        self.run_for(0.5)
        self.call("Put", 3).answer(header(1))
        self.run_all()
        self.successResultOf(writing)
        self.assertIsNone(self.successResultOf(old))

    def test_requests_do_not_wait_for_ever(self) -> None:
        """The leader may live, and only its connections to here may be cut."""
        client = self.connected()
        self.closed.add(1)
        self.peer(1).lose()
        writing = client.put(b"a", b"b")
        self.run_for(3)
        port = 2 if self.has_call("Put", 2) else 3
        self.call("Put", port).answer(header(1))
        self.run_all()
        self.successResultOf(writing)

    def test_a_leader_that_is_connected_again_gets_requests_at_once(self) -> None:
        """It is the leader still."""
        client = self.connected()
        self.peer(1).lose()
        writing = client.put(b"a", b"b")
        self.run_for(0.5)
        self.call("Put", 1).answer(header(1))
        self.run_all()
        self.successResultOf(writing)

    def test_a_long_answer_comes_in_many_frames(self) -> None:
        """It is one message."""
        client = self.connected()
        reading = client.get(b"a")
        message = header(7) + message_field(2, key_value(b"a", b"x" * 100_000, 6))
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        call = self.call("Range")
        call.peer.server.send_headers(call.stream, ANSWER)
        for at in range(0, len(framed), 16384):
            call.peer.server.send_data(call.stream, framed[at : at + 16384])
        call.has_answered = True
        call.end()
        self.run_all()
        found: Any = self.successResultOf(reading)
        self.assertEqual(len(found.value), 100_000)

    def test_requests_go_to_the_leader(self) -> None:
        """Wherever it stands in the list, and to the new one when it changes."""
        self.leader = 2
        client = self.connected()
        first = client.get(b"a")
        self.call("Range", 2).answer(header(1))
        self.run_all()
        self.successResultOf(first)
        self.leader, self.term = 3, 2
        self.run_for(6)
        second = client.get(b"a")
        self.call("Range", 3).answer(header(1))
        self.run_all()
        self.successResultOf(second)

    def test_a_read_goes_on_at_another_member(self) -> None:
        """When its own is lost."""
        client = self.connected()
        reading = client.get(b"a")
        self.call("Range", 1)
        self.lose_leader(2)
        self.run_for(0.5)
        self.assertNoResult(reading)
        self.call("Range", 2).answer(header(1))
        self.run_all()
        self.assertIsNone(self.successResultOf(reading))

    def test_a_write_whose_answer_is_lost_is_uncertain(self) -> None:
        """And is not sent again: it may have been executed."""
        client = self.connected()
        writing = client.put(b"a", b"b")
        self.call("Put", 1)
        self.closed.add(1)
        self.peer(1).lose()
        self.run_all()
        self.fails(writing, EtcdUncertain)
        self.run_for(6)
        self.assertFalse(self.has_call("Put", 2) or self.has_call("Put", 3))

    def test_a_write_that_was_surely_not_executed_goes_on(self) -> None:
        """A member without a leader, and one that refuses the stream, have done nothing."""
        client = self.connected()
        writing = client.put(b"a", b"b")
        self.call("Put", 1).end(14, "etcdserver: no leader")
        self.run_all()
        port = 2 if self.has_call("Put", 2) else 3
        call = self.call("Put", port)
        call.peer.server.reset_stream(call.stream, 7)  # REFUSED_STREAM
        self.run_all()
        self.call("Put", 5 - port).answer(header(2))
        self.run_all()
        self.assertEqual(self.successResultOf(writing).header.revision, 2)

    def test_a_stream_that_is_reset_otherwise_leaves_a_write_uncertain(self) -> None:
        """INTERNAL_ERROR says nothing of what was done."""
        client = self.connected()
        writing = client.put(b"a", b"b")
        call = self.call("Put", 1)
        call.peer.server.reset_stream(call.stream, 2)
        self.run_all()
        self.fails(writing, EtcdUncertain)

    def test_no_leader_anywhere_is_unavailable_in_the_end(self) -> None:
        """It is asked for again and again, with pauses."""
        client = self.connected()
        writing = client.put(b"a", b"b", timeout=2)
        asked = []

        def refuse(call: Call) -> None:
            asked.append(call)
            call.end(14, "etcdserver: no leader")

        self.answers["Put"] = refuse
        self.run_for(2.5, 0.05)
        problem = self.fails(writing, EtcdUnavailable)
        self.assertIn("no leader", str(problem))
        self.assertTrue(6 <= len(asked) <= 40, asked)

    def test_what_is_asked_while_nobody_is_there_waits(self) -> None:
        """Until somebody is, or the time is over; then the error says why."""
        self.closed = {1, 2, 3}
        client = self.client(timeout=4)
        connecting = client.connect()
        late, early = client.put(b"a", b"b", timeout=1), client.get(b"a", timeout=60)
        self.run_for(2)
        problem = self.fails(late, EtcdUnavailable)
        self.assertIn("tcp:127.0.0.1:2", str(problem))
        self.assertIn("refused", str(problem))
        self.run_for(3)
        self.fails(connecting, EtcdUnavailable)
        self.closed = {1, 3}
        self.run_for(3)
        self.call("Range", 2).answer(header(1))
        self.run_all()
        self.assertIsNone(self.successResultOf(early))

    def test_a_member_that_goes_away_gets_no_more(self) -> None:
        """GOAWAY: what it will still answer it answers, the rest goes elsewhere."""
        client = self.connected()
        answered, refused = client.put(b"a", b"1"), client.put(b"a", b"2")
        self.run_all()
        first, second = (one for one in self.peer(1).calls if one.method == "Put")
        old = self.peer(1)
        self.leader, self.term = 2, 2
        old.protocol.dataReceived(frames.goaway(first.stream, 0))
        self.run_for(0.5)
        elsewhere = self.call("Put", 2)
        self.assertEqual(bytes_of(elsewhere.message), bytes_of(second.message))
        for call in (first, elsewhere):
            call.answer(header(1))
        self.run_all()
        self.successResultOf(answered)
        self.successResultOf(refused)
        self.assertFalse(old.is_lost)
        self.run_for(1)
        self.assertTrue(old.is_lost)
        self.assertGreater(len(self.by_port[1]), 1, "it has connected again")

    def test_a_member_that_let_a_request_time_out_is_asked_last(self) -> None:
        """The next ones go to others, though it says that it is the leader."""
        client = self.connected()
        reading = client.get(b"a", timeout=1)
        self.call("Range", 1)
        self.run_all(1.1)
        self.fails(reading, EtcdTimeout)
        self.answers["Range"] = lambda call: ports.append(call.peer.port) or call.answer(header(1))
        ports: list[int] = []
        for _ in range(2):
            again = client.get(b"b")
            self.run_all()
            self.successResultOf(again)
            self.run_for(5)
        self.assertNotEqual(ports[0], 1)
        self.assertEqual(ports[1], 1)

    def test_a_frozen_member_is_found_by_a_ping(self) -> None:
        """Within 5 seconds; a write is uncertain then, and a read goes on."""
        client = self.connected()
        writing, reading = client.put(b"a", b"b", timeout=60), client.get(b"a", timeout=60)
        self.run_all()
        self.peer(1).is_frozen = True
        self.closed.add(1)
        self.leader, self.term = 2, 2
        self.run_for(5)
        self.assertIn("silent", str(self.fails(writing, EtcdUncertain)))
        self.call("Range", 2).answer(header(1))
        self.run_all()
        self.assertIsNone(self.successResultOf(reading))


class TokenTests(EtcdTestCase):
    """A cluster with authentication."""

    def setUp(self) -> None:
        super().setUp()
        self.etcd = self.client(user="root", password="secret")
        self.connecting = self.etcd.connect()

    def log_in(self, token: bytes) -> None:
        """Answer the client's request for a token."""
        call = self.call("Authenticate")
        self.assertEqual(bytes_of(call.message), {1: b"root", 2: b"secret"})
        self.assertNotIn("token", call.headers)
        call.answer(header(1) + message_field(2, token))
        self.run_all()

    def test_each_request_has_the_token(self) -> None:
        """The client is connected when it has one."""
        reading = self.etcd.get(b"a")
        self.run_all()
        self.assertNoResult(self.connecting)
        self.log_in(b"tok.1")
        self.successResultOf(self.connecting)
        call = self.call("Range")
        self.assertEqual(call.headers["token"], "tok.1")
        call.answer(header(1))
        self.run_all()
        self.successResultOf(reading)

    def test_a_token_that_has_expired_is_replaced(self) -> None:
        """Once for all requests, and they are sent again."""
        self.log_in(b"tok.1")
        reading, writing = self.etcd.get(b"a"), self.etcd.put(b"a", b"b")
        refused = self.call("Range"), self.call("Put")
        for call in refused:
            call.end(16, "etcdserver: invalid auth token")
        self.log_in(b"tok.2")
        self.assertFalse(self.has_call("Authenticate"))
        again = self.call("Range"), self.call("Put")
        self.assertEqual([call.headers["token"] for call in again], ["tok.2", "tok.2"])
        for call in again:
            call.answer(header(1))
        self.run_all()
        self.successResultOf(reading)
        self.successResultOf(writing)

    def test_a_write_whose_token_was_refused_was_not_executed(self) -> None:
        """It is not uncertain when no new token comes in time; nor is its member slow."""
        self.log_in(b"tok.1")
        writing = self.etcd.put(b"a", b"b", timeout=2)
        self.call("Put").end(16, "etcdserver: invalid auth token")
        self.run_for(2.5)
        self.fails(writing, EtcdUnavailable)

    def test_tokens_are_not_asked_for_all_the_time(self) -> None:
        """When there was no answer it waits, whoever comes meanwhile; and a close ends that."""
        for number in range(3):
            self.etcd.get(b"a").addErrback(lambda failure: None)
            self.run_all()
            if number == 0:
                self.call("Authenticate").end(2, "unknown")
                self.run_all()
        self.assertFalse(self.has_call("Authenticate"))
        self.run_for(1)
        self.call("Authenticate").end(2, "unknown")
        self.run_all()
        self.etcd.close()
        self.connecting.addErrback(lambda failure: None)
        self.run_all()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_token_that_is_refused_again_and_again_is_an_error(self) -> None:
        """After two new ones."""
        self.log_in(b"tok.1")
        reading = self.etcd.get(b"a")
        for number in range(3):
            self.call("Range").end(16, "etcdserver: invalid auth token")
            self.run_all()
            if number < 2:
                self.log_in(b"tok.%d" % number)
        self.failureResultOf(reading, EtcdAuthFailed)

    def test_a_wrong_password_is_said(self) -> None:
        """To all that wait; and the error does not have the password."""
        reading = self.etcd.get(b"a")
        text = "etcdserver: authentication failed, invalid user ID or password"
        self.call("Authenticate").end(3, text)
        self.run_all()
        self.fails(self.connecting, EtcdAuthFailed)
        self.assertNotIn("secret", str(self.fails(reading, EtcdAuthFailed)))

    def test_a_cluster_without_authentication_needs_no_token(self) -> None:
        """It says so."""
        self.call("Authenticate").end(9, "etcdserver: authentication is not enabled")
        self.run_all()
        self.successResultOf(self.connecting)
        reading = self.etcd.get(b"a")
        call = self.call("Range")
        self.assertNotIn("token", call.headers)
        call.answer(header(1))
        self.run_all()
        self.successResultOf(reading)
