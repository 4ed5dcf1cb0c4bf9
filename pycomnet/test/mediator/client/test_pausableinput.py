"""Output of a far side on a server whose reader is paused: held, bounded, and delivered once."""

from __future__ import annotations

from twisted.internet import defer, error
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from pycomnet.mediator.client.errortext import RemoteErrorText
from pycomnet.mediator.client.pausableinput import PausableInput
from pycomnet.mediator.client.websocket import CONFIRM_EVERY
from pycomnet.mediator.queues import OffsetError
from pycomnet.test.mediator.kit import LinkCase


class PausableInputTests(SynchronousTestCase):
    """A stream whose reader pauses."""

    def setUp(self) -> None:
        self.delivered: list[bytes] = []
        self.input = PausableInput(self.delivered.append)
        self.input.received(0, b"ab")
        self.input.pause()

    def test_held_bytes_are_not_confirmed_and_come_once(self) -> None:
        """What arrives twice, as a new connection begins where was confirmed, is delivered once."""
        self.input.received(2, b"cd")
        self.input.received(2, b"cdef")
        self.assertEqual((self.delivered, self.input.incoming.received), ([b"ab"], 2))
        waiting = self.input.when_resumed()
        self.assertNoResult(waiting)
        self.assertTrue(self.input.resume())
        self.successResultOf(waiting)
        self.assertEqual((self.delivered, self.input.incoming.received), ([b"ab", b"cdef"], 6))
        self.assertFalse(self.input.resume())

    def test_missing_bytes_are_an_error_while_paused(self) -> None:
        """As at any other time."""
        self.input.received(2, b"cd")
        self.assertRaises(OffsetError, self.input.received, 5, b"f")

    def test_reader_that_pauses_again_gets_no_more(self) -> None:
        """A reader may pause within what it gets; who waits for it goes on waiting."""
        stops = PausableInput(lambda data: stops.pause())
        stops.pause()
        stops.received(0, b"ab")
        waiting = stops.when_resumed()
        stops.resume()
        self.assertNoResult(waiting)
        stops.received(2, b"cd")
        self.assertEqual(stops.incoming.received, 2)

    def test_standard_error_waits_for_what_shows_it(self) -> None:
        """The next piece is shown, and confirmed, once the Deferred of the last one has fired."""
        shown: list[str] = []
        waits: list[defer.Deferred[None]] = []
        confirmed: list[int] = []

        def show(text: str) -> defer.Deferred[None]:
            shown.append(text)
            waits.append(defer.Deferred())
            return waits[-1]

        text = RemoteErrorText(show, lambda: confirmed.append(text.input.incoming.received))
        for offset, piece in ((0, b"one"), (3, b"two"), (6, b"three")):
            text.input.received(offset, piece)
        self.assertEqual(shown, ["one"])
        waits[0].callback(None)
        self.assertEqual((shown, confirmed), (["one", "twothree"], []))
        waits[1].callback(None)
        self.assertEqual(confirmed, [11])
        text.finish()
        self.assertEqual(text.tail(), "onetwothree")


class PausedTransports(LinkCase):
    """A transport over a WebSocket whose protocol's consumer takes nothing."""

    def setUp(self) -> None:
        self.make_link()
        self.say({"received": 0})
        self.came: list[bytes] = []
        self.protocol.dataReceived = self.came.append  # type: ignore[assignment, method-assign]
        self.heard()

    def test_transport_is_a_producer(self) -> None:
        """As what the factory stops while a program takes nothing has to be."""
        verifyObject(IPushProducer, self.stream)

    def test_paused_transport_confirms_nothing(self) -> None:
        """So that the server stops reading from the far side; once resumed it confirms all."""
        self.stream.pauseProducing()
        size = min(CONFIRM_EVERY, self.stream.queue)
        for number in range(4):
            self.link.received(1, number * size, bytes(size))
        self.assertEqual((self.came, self.heard()[0]), ([], []))
        self.stream.resumeProducing()
        self.assertEqual(len(b"".join(self.came)), 4 * size)
        self.assertEqual(self.heard()[0], [{"received": 4 * size, "stderr_received": 0}])

    def test_end_delivers_what_was_held(self) -> None:
        """A far side's last words are delivered, and confirmed, before its end."""
        self.stream.pauseProducing()
        self.link.received(1, 0, b"last words")
        self.say({"ended": {"exit_status": 3}})
        self.assertEqual(self.came, [b"last words"])
        self.assertEqual(self.heard()[0], [{"received": 10, "stderr_received": 0}])
        self.assertEqual(self.protocol.lost, [])

    def test_transport_given_up_delivers_what_was_held(self) -> None:
        """Also when the server was out of reach for too long."""
        self.stream.pauseProducing()
        self.link.received(1, 0, b"last words")
        self.stream.over(None, "out of reach")
        self.assertEqual((self.came, self.protocol.lost), ([b"last words"], [error.ConnectionLost]))
