"""Publishing to a stream of JetStream: acknowledgements, in order, and again."""

from __future__ import annotations

from typing import Any

from pycomnet.nats import (
    JetStreamError,
    NatsClosed,
    NatsMessage,
    NatsPermissionDenied,
    NatsProtocolError,
    NatsTimeout,
)
from pycomnet.nats.jetstream import Delivery, read_delivery
from pycomnet.nats.streampublisher import StreamPublisher
from pycomnet.test.nats.server import NatsCase


class StoringTests(NatsCase):
    """With a server that stores what the test says."""

    def setUp(self) -> None:
        super().setUp()
        self.nats.drops = True  # the test answers
        self.stream = StreamPublisher(self.client())
        self.addCleanup(self.stream.close)

    def publish(self, *payloads: bytes) -> list[Any]:
        """Publish; what fires for each."""
        found = [self.stream.publish(b"s", payload, b"NATS/1.0\r\n\r\n") for payload in payloads]
        self.network.deliver()
        return found

    def answer(self, place: int, said: bytes, headers: bytes = b"") -> None:
        """Answer a message."""
        self.nats.send(self.nats.published[place][1], said, headers)
        self.network.deliver()

    def sent(self) -> list[bytes]:
        """The payloads that came."""
        return [one[3] for one in self.nats.published]

    def test_it_fires_once_it_is_stored(self) -> None:
        """With the number in the stream; then nothing waits."""
        one, two = self.publish(b"1", b"2")
        self.answer(1, b'{"stream": "S", "seq": 2}')
        self.assertNoResult(one)
        self.assertEqual(self.successResultOf(two), 2)
        self.answer(0, b'{"stream": "S", "seq": 1, "duplicate": true}')
        self.assertEqual(self.successResultOf(one), 1)
        self.assertEqual((self.stream.size, self.stream.pending), (0, 0))

    def test_a_refusal_is_an_error(self) -> None:
        """And so is an answer that is none."""
        one, two, three = self.publish(b"1", b"2", b"3")
        self.answer(0, b'{"error": {"code": 503, "err_code": 10077, "description": "full"}}')
        self.assertEqual(self.failureResultOf(one, JetStreamError).value.number, 10077)
        self.answer(1, b"[]")
        self.failureResultOf(two, NatsProtocolError)
        self.answer(2, b'{"seq": "1"}')
        self.failureResultOf(three, NatsProtocolError)

    def test_a_subject_that_is_not_allowed_is_an_error_at_once(self) -> None:
        """And not once nothing has been acknowledged for a minute; those of others wait on."""
        one, two = self.publish(b"1", b"2")
        other = self.stream.publish(b"t", b"3", b"NATS/1.0\r\n\r\n")
        self.network.deliver()
        self.nats.sides[0].write(b"-ERR 'Permissions Violation for Publish to \"s\"'\r\n")
        self.network.deliver()
        for refused in (one, two):
            self.failureResultOf(refused, NatsPermissionDenied)
        self.assertNoResult(other)
        self.assertEqual(self.stream.pending, 1)
        self.nats.sides[0].write(b"-ERR 'Permissions Violation for Subscription to \"t\"'\r\n")
        self.network.deliver()
        self.answer(2, b'{"seq": 1}')
        self.assertEqual(self.successResultOf(other), 1)

    def test_what_was_not_acknowledged_is_sent_again_in_order(self) -> None:
        """When the connection was lost: before what is published later."""
        waiting = self.publish(b"1", b"2", b"3")
        self.answer(1, b'{"seq": 2}')
        self.network.cut()
        waiting += self.publish(b"4")
        self.network.wait(1)
        self.assertEqual(self.sent(), [b"1", b"2", b"3", b"1", b"3", b"4"])
        for place in (3, 4, 5):
            self.answer(place, b'{"seq": %d}' % place)
        self.assertEqual([self.successResultOf(one) for one in waiting], [3, 2, 4, 5])

    def test_a_server_without_jetstream_at_the_moment(self) -> None:
        """It is sent again after a while, and fails in the end."""
        (one,) = self.publish(b"1")
        self.answer(0, b"", b"NATS/1.0 503\r\n\r\n")
        self.network.wait(12, 1)
        self.assertEqual(self.sent(), [b"1", b"1", b"1"])
        self.assertNoResult(one)
        self.network.wait(60, 1)
        self.failureResultOf(one, NatsTimeout)
        self.assertEqual(self.stream.size, 0)

    def test_closing_ends_what_waits(self) -> None:
        """With an error, as it may be stored or not."""
        (one,) = self.publish(b"1")
        self.stream.close()
        self.failureResultOf(one, NatsClosed)

    def test_foreign_answers_are_nothing(self) -> None:
        """Of what was answered, or never sent."""
        (one,) = self.publish(b"1")
        self.answer(0, b'{"seq": 1}')
        self.answer(0, b'{"seq": 1}')
        self.assertEqual(self.successResultOf(one), 1)


class DeliveryTests(NatsCase):
    """What a consumer says of a message."""

    def test_both_forms_are_read(self) -> None:
        """That of today's servers, and the one with a domain."""
        for reply in (b"$JS.ACK.S.C.1.7.5.99.3", b"$JS.ACK.d.acc.S.C.1.7.5.99.3.rnd"):
            message = NatsMessage(b"s", reply, b"", b"")
            self.assertEqual(read_delivery(message), Delivery(b"C", 1, 7, 5, 3))

    def test_what_is_none(self) -> None:
        """Is refused."""
        for reply in (b"", b"a.b", b"$JS.ACK.S.C.1.x.5.99.3", b"$JS.ACK.S.C.1.-7.5.99.3"):
            message = NatsMessage(b"s", reply, b"", b"")
            self.assertRaises(NatsProtocolError, read_delivery, message)
