"""The client, with servers in memory: connecting, messages, bounds, and lost connections."""

from __future__ import annotations

from typing import Any

from pycomnet.errors import CredentialsNotSent, InvalidArguments, PeerSilent
from pycomnet.nats import (
    NatsAuthFailed,
    NatsBufferFull,
    NatsClosed,
    NatsMessage,
    NatsPermissionDenied,
    NatsProtocolError,
    NatsTimeout,
    NatsUnreachable,
    NoResponders,
    connect,
)
from pycomnet.test.nats.server import NatsCase, NatsTestServer, ServerSide


class ConnectTests(NatsCase):
    """The first connection."""

    def test_a_client_says_who_it_is(self) -> None:
        """And what it can."""
        self.client(user="me", password="it")
        said = self.nats.sides[0].said
        self.assertEqual((said["user"], said["pass"]), ("me", "it"))
        self.assertTrue(said["headers"] and said["no_responders"])

    def test_wrong_credentials_are_a_clear_error(self) -> None:
        """It has the server, and what that says."""
        self.nats.user = {"auth_token": "right"}
        connecting = connect(self.nats.address, self.network, token="wrong")
        problem = self.failure(connecting, NatsAuthFailed)
        self.assertIn("Authorization Violation", str(problem))
        self.assertIn(self.nats.address, str(problem))

    def test_the_next_server_is_tried(self) -> None:
        """If the first is not there."""
        other = NatsTestServer(self.network)
        self.nats.port.stopListening()
        client = self.client(self.nats, other)
        self.assertEqual(str(client.connection and client.connection.server), other.address)

    def test_no_server_is_there(self) -> None:
        """The error has each, and why."""
        self.nats.port.stopListening()
        client = self.new_client()
        problem = self.failure(client.start(), NatsUnreachable)
        self.assertIn("nothing listens there", str(problem))
        self.assertRaises(NatsClosed, client.publish, "a")

    def test_something_else_listens(self) -> None:
        """That is said, at once."""
        self.patch(ServerSide, "connectionMade", lambda side: side.write(b"220 mail\r\n"))
        self.patch(ServerSide, "connectionLost", lambda side, reason=None: None)
        problem = self.failure(self.new_client().start(), NatsUnreachable)
        self.assertIn("220 mail", str(problem))

    def test_a_server_that_says_nothing(self) -> None:
        """It is not waited for without end."""
        self.patch(ServerSide, "connectionMade", lambda side: None)
        self.patch(ServerSide, "connectionLost", lambda side, reason=None: None)
        starting = self.new_client(connect_timeout=5.0).start()
        self.network.deliver()
        self.assertNoResult(starting)
        self.network.wait(6, 1)
        self.failureResultOf(starting, NatsUnreachable)

    def test_a_server_without_tls_gets_nothing(self) -> None:
        """Where the address asks for TLS: an attacker could have taken that away."""
        address = self.nats.address.replace("nats:", "tls:")
        self.failure(connect(address, self.network, token="x"), NatsAuthFailed)
        self.assertEqual(self.nats.lines, [])

    def test_what_comes_before_tls_does_not_count(self) -> None:
        """Something behind INFO, in the same piece, was put there by somebody."""
        self.nats.info["tls_required"] = True

        def made(side: Any) -> None:
            side.write(b'INFO {"tls_required": true}\r\nMSG a 1 0\r\n\r\n')

        self.patch(ServerSide, "connectionMade", made)
        self.patch(ServerSide, "connectionLost", lambda side, reason=None: None)
        problem = self.failure(self.new_client().start(), NatsUnreachable)
        self.assertIn("between INFO and TLS", str(problem))


class MessageTests(NatsCase):
    """Publishing and subscribing."""

    def test_messages_come_with_all_that_they_have(self) -> None:
        """Subject, headers and where to answer."""
        client = self.client()
        subscription = client.subscribe("a.*")
        client.publish("a.b", b"hello", "r", {"X": "1"})
        self.network.deliver()
        message = self.successResultOf(subscription.receive())
        self.assertEqual((message.subject, message.reply), ("a.b", "r"))
        self.assertEqual((message.headers, message.payload), ({"X": "1"}, b"hello"))

    def test_what_is_published_in_one_turn_is_written_together(self) -> None:
        """The first at once, and the rest in one write in the next turn."""
        client = self.client()
        connection = client.connection
        assert connection is not None
        writes: list[int] = []
        real = connection.write
        connection.write = lambda pieces: (writes.append(pieces.count(b"x")), real(pieces))[1]
        for _ in range(100):
            client.publish("a", b"x")
        self.assertEqual(writes, [1])
        self.network.deliver()
        self.assertEqual(writes, [1, 99])
        self.assertEqual(len(self.nats.published), 100)

    def test_payload_that_is_no_bytes(self) -> None:
        """Text is refused, and what waits with it is sent; a buffer may change after the call."""
        client = self.client()
        client.publish("a", b"first")
        for wrong in ("text", None, 5):
            payload: Any = wrong
            self.assertRaises(TypeError, client.publish, "a", payload)
        buffer: Any = bytearray(b"buffer")
        client.publish("a", buffer)
        wide: Any = memoryview(buffer[:4]).cast("I")
        client.publish("a", wide)
        buffer[:] = b"changed"
        client.publish("a", b"last")
        self.network.deliver()
        payloads = [message[-1] for message in self.nats.published]
        self.assertEqual(payloads, [b"first", b"buffer", b"buff", b"last"])

    def test_a_slow_subscription_drops_and_counts(self) -> None:
        """Another one of the same client has all."""
        client = self.client()
        slow = client.subscribe("a", messages=10)
        small = client.subscribe("a", bound=1000)
        seen: list[NatsMessage] = []
        client.subscribe("a", seen.extend)
        for _ in range(100):
            client.publish("a", b"x" * 100)
        self.network.deliver()
        self.assertEqual((slow.dropped, len(seen)), (90, 100))
        self.assertLessEqual(small.pending, 1000)
        for _ in range(10):
            self.successResultOf(slow.receive())
        self.assertEqual(slow.pending, 0)

    def test_a_callback_that_raises_hurts_itself_alone(self) -> None:
        """The others get their messages; the error is logged."""
        client = self.client()
        client.subscribe("a", lambda batch: 1 / 0)
        other = client.subscribe("a")
        client.publish("a")
        self.network.deliver()
        self.successResultOf(other.receive())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_message_that_the_server_would_not_take(self) -> None:
        """It is refused here: the server would close the connection."""
        self.nats.info["max_payload"] = 100
        client = self.client()
        self.assertRaises(InvalidArguments, client.publish, "a", bytes(101))

    def test_a_queue_group_shares(self) -> None:
        """Each message goes to one."""
        client = self.client()
        one = client.subscribe("a", group="g")
        two = client.subscribe("a", group="g")
        client.publish("a")
        self.network.deliver()
        self.assertEqual(sum(bool(each.pending) for each in (one, two)), 1)

    def test_requests(self) -> None:
        """An answer; nobody there; no answer."""
        client = self.client()
        client.subscribe("echo", lambda batch: [client.publish(m.reply, m.payload) for m in batch])
        self.assertEqual(self.result(client.request("echo", b"hi")).payload, b"hi")
        self.failure(client.request("nobody"), NoResponders)
        client.subscribe("deaf", lambda batch: None)
        waiting = client.request("deaf", timeout=3)
        self.network.wait(4, 1)
        self.failureResultOf(waiting, NatsTimeout)

    def test_a_drained_subscription_has_all_that_was_sent(self) -> None:
        """And ends then."""
        client = self.client()
        subscription = client.subscribe("a")
        client.publish("a", b"1")
        self.result(subscription.drain())
        client.publish("a", b"2")
        self.network.deliver()
        self.assertEqual(self.successResultOf(subscription.receive()).payload, b"1")
        self.failureResultOf(subscription.receive(), NatsClosed)

    def test_a_subject_that_is_not_allowed_ends_its_subscription(self) -> None:
        """The others go on."""
        client = self.client()
        one, two = client.subscribe("a.b"), client.subscribe("c")
        self.network.deliver()
        self.nats.sides[0].write(b"-ERR 'Permissions Violation for Subscription to \"a.b\"'\r\n")
        self.network.deliver()
        self.failureResultOf(one.receive(), NatsPermissionDenied)
        client.publish("c")
        self.network.deliver()
        self.successResultOf(two.receive())

    def test_who_asks_is_told_what_is_refused(self) -> None:
        """With the subject; a subject that may not be published to ends no subscription."""
        client = self.client()
        told: list[NatsPermissionDenied] = []
        client.refused.append(told.append)
        one = client.subscribe("a.b")
        self.network.deliver()
        for text in ('Publish to "a.b"', 'Subscription to "c.d" using queue "q"', "Publish"):
            self.nats.sides[0].write(b"-ERR 'Permissions Violation for %b'\r\n" % text.encode())
        self.network.deliver()
        self.assertEqual(
            [(problem.subject, problem.publishing) for problem in told],
            [("a.b", True), ("c.d", False), ("", True)],
        )
        client.publish("a.b", b"1")
        self.network.deliver()
        self.assertEqual(self.successResultOf(one.receive()).payload, b"1")


class LostTests(NatsCase):
    """Lost connections."""

    def test_a_cut_connection_is_made_again(self) -> None:
        """With the subscriptions, and what was published meanwhile."""
        client = self.client()
        subscription = client.subscribe("a")
        ended = client.subscribe("b")
        self.network.deliver()
        self.network.cut()
        ended.close()
        client.publish("a", b"meanwhile")
        self.network.wait(1)
        self.assertEqual(client.reconnects, 1)
        self.assertEqual(self.successResultOf(subscription.receive()).payload, b"meanwhile")
        self.assertEqual(len(self.nats.sides[0].wanted), 1)

    def test_what_waits_has_a_bound(self) -> None:
        """Without a connection, and with one that takes nothing."""
        client = self.client(buffer=10_000)
        self.nats.port.stopListening()
        self.network.cut()
        with self.assertRaises(NatsBufferFull):
            for _ in range(20):
                client.publish("a", bytes(1000))
        waiting = client.when_writable()
        self.assertNoResult(waiting)
        self.nats.port = self.network.listenTCP(
            self.nats.port.number, self.nats, interface="127.0.0.1"
        )
        self.network.wait(10)
        self.successResultOf(waiting)
        self.assertEqual(len(self.nats.published), 9)

    def test_a_dead_server_is_found_out(self) -> None:
        """By pings without an answer; then the next server is used."""
        other = NatsTestServer(self.network)
        client = self.client(self.nats, other, ping=1.0)
        connection = client.connection
        assert connection is not None
        lost = connection.lost.when_fired()
        self.nats.is_silent = True
        self.network.wait(4)
        self.assertIsInstance(self.successResultOf(lost), PeerSilent)
        self.assertEqual(str(client.connection and client.connection.server), other.address)

    def test_a_server_that_answers_lives(self) -> None:
        """However long."""
        client = self.client(ping=1.0)
        self.network.wait(20)
        self.assertEqual(client.reconnects, 0)

    def test_a_server_that_is_told_of_takes_over(self) -> None:
        """It was learned from the one that is gone."""
        other = NatsTestServer(self.network)
        self.nats.info["connect_urls"] = [f"127.0.0.1:{other.port.number}"]
        client = self.client()
        self.nats.port.stopListening()
        self.network.cut()
        self.network.wait(2)
        self.assertEqual(str(client.connection and client.connection.server), other.address)

    def test_a_server_that_may_not_have_the_password_is_left_out(self) -> None:
        """One that is told of, on another machine: the client goes on with the others."""
        self.nats.info["connect_urls"] = [f"192.0.2.1:{self.nats.port.number}"]
        client = self.client(user="a", password="b")
        self.network.cut()
        self.network.wait(2)
        self.assertEqual(client.reconnects, 1)
        self.assertEqual(str(client.connection and client.connection.server), self.nats.address)

    def test_credentials_that_are_not_good_any_more(self) -> None:
        """The client gives up, and says why."""
        client = self.client(token="t")
        ended = client.when_ended()
        subscription = client.subscribe("a")
        self.nats.user = {"auth_token": "other"}
        self.network.cut()
        self.network.wait(30, 1)
        self.failureResultOf(ended, NatsAuthFailed)
        self.failureResultOf(subscription.receive(), NatsAuthFailed)

    def test_a_server_that_breaks_the_protocol_is_left(self) -> None:
        """And tried again."""
        client = self.client()
        connection = client.connection
        assert connection is not None
        lost = connection.lost.when_fired()
        self.nats.sides[0].write(b"MSG a 1 x\r\n")
        self.network.wait(1)
        self.assertIsInstance(self.successResultOf(lost), NatsProtocolError)
        self.assertTrue(client.is_connected)

    def test_a_pong_too_many(self) -> None:
        """Is an error of the server's, and no IndexError."""
        client = self.client()
        self.nats.sides[0].write(b"PONG\r\n")
        self.network.wait(1)
        self.assertEqual(client.reconnects, 1)

    def test_pings_are_not_sent_again(self) -> None:
        """A flush fails with its connection; its ping is not on the next one."""
        client = self.client()
        connection = client.connection
        assert connection is not None
        connection.pauseProducing()
        flushing = client.flush()
        client.publish("a", b"kept")
        self.network.cut()
        self.failureResultOf(flushing, NatsClosed)
        self.network.wait(1)
        self.assertEqual([one[3] for one in self.nats.published], [b"kept"])
        self.assertEqual(client.reconnects, 1)

    def test_closing_sends_what_waits(self) -> None:
        """And ends requests, subscriptions and timers."""
        client = self.client()
        subscription = client.subscribe("a")
        waiting = client.request("deaf")
        client.subscribe("deaf")
        for _ in range(5):
            client.publish("x")
        self.result(client.close())
        self.assertEqual(len([one for one in self.nats.published if one[0] == "x"]), 5)
        self.failureResultOf(waiting, NoResponders, NatsClosed)
        self.failureResultOf(subscription.receive(), NatsClosed)
        self.network.deliver()
        self.assertEqual(self.network.getDelayedCalls(), [])


class PlainTests(NatsCase):
    """Passwords on connections that others can read."""

    def test_a_password_stays_here(self) -> None:
        """The client says what to do, and sends nothing."""
        address = f"u:p@192.0.2.1:{self.nats.port.number}"
        problem = self.failure(connect(address, self.network), CredentialsNotSent)
        self.assertIn("tls://", str(problem))
        self.assertEqual(self.nats.lines, [])
