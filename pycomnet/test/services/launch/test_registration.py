"""A registration over its life, on a clock that the test turns."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import (
    InvalidRegistration,
    NameserverUnreachable,
    ServiceNameTaken,
    TooManyRegistrations,
)
from pycomnet.services.launch.registration import Lease, Registration, ServiceOffer
from pycomnet.test.services.names import Names
from pycomnet.wire.values import ValueNotSendable

OFFER = ServiceOffer("calc-1", ("org.example.calc",), "tcp:127.0.0.1:4000", ("eu",), {"version": 3})


class RegistrationTests(SynchronousTestCase):
    """One service and one nameserver."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.names = Names(self.clock)

    def registration(self, offer: ServiceOffer = OFFER, **options: Any) -> Registration:
        """One that tries again every second, with a lease of 15."""
        options = {"policy": lambda attempt: 1.0, "patience": 10.0, **options}
        return Registration(offer, self.names, self.clock, **options)

    def registered(self, **options: Any) -> Registration:
        """One that has been started."""
        made = self.registration(**options)
        self.successResultOf(made.start())
        return made

    def pass_time(self, seconds: float) -> None:
        """Turn the clock, a quarter of a second at a time."""
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)

    def methods(self, since: float = 0.0) -> list[str]:
        """What the nameserver has been asked."""
        return [method for when, method, _ in self.names.asked if when >= since]

    # -- the good case ---------------------------------------------------------------------------

    def test_registers_all_that_is_offered(self) -> None:
        """Everything that is offered is there, and the lease is what the nameserver gave."""
        registration = self.registration()
        lease = self.successResultOf(registration.start())
        record = self.names.find("calc-1")
        assert record is not None
        self.assertEqual(
            record.as_map(0.0),
            {
                "service": "calc-1",
                "interfaces": ["org.example.calc"],
                "address": "tcp:127.0.0.1:4000",
                "metadata": {"version": 3},
                "tags": ["eu"],
                "fence": lease.fence,
                "ttl": 15.0,
            },
        )
        self.assertIs(registration.lease, lease)
        self.assertNotIn(lease.secret, repr(lease))

    def test_renews_three_times_in_a_lease(self) -> None:
        """It is renewed three times in a lease, for as long as it takes, and on one lease."""
        registration = self.registered()
        lease = registration.lease
        self.pass_time(100)
        self.assertEqual(self.methods(), ["register"] + ["renew"] * 20)
        self.assertIs(registration.lease, lease)
        self.assertIsNotNone(self.names.find("calc-1"))

    def test_nameserver_decides_how_long_a_lease_is(self) -> None:
        """The nameserver's word on how long a lease lasts counts."""
        registration = self.registered(ttl=3.0)
        self.pass_time(10)
        self.assertEqual(len(self.methods()), 1 + 10)
        self.assertIsNotNone(registration.lease)

    def test_stop_unregisters_at_once(self) -> None:
        """It is taken out at once, and nothing is asked any more."""
        registration = self.registered()
        self.assertTrue(self.successResultOf(registration.stop()))
        self.assertIsNone(self.names.find("calc-1"))
        self.assertIsNone(registration.lease)
        self.pass_time(30)
        self.assertEqual(self.methods(), ["register", "unregister"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNoResult(registration.failed)

    # -- a nameserver that is lost and comes back ------------------------------------------------

    def test_lease_goes_on_after_a_short_outage(self) -> None:
        """It is asked again and again, and the lease goes on when it answers."""
        registration = self.registered()
        lease = registration.lease
        self.names.gone = True
        self.pass_time(9)
        self.names.gone = False
        self.pass_time(2)
        self.assertIs(registration.lease, lease)
        self.assertEqual(self.methods(5.0), ["renew"] * 6)
        self.pass_time(30)
        self.assertIsNotNone(self.names.find("calc-1"))
        self.assertNotIn("register", self.methods(0.5))

    def test_lease_is_new_after_a_long_outage(self) -> None:
        """The lease is over: a new one, with a higher fence, once there is an answer."""
        registration = self.registered()
        lease = registration.lease
        assert lease is not None
        self.names.gone = True
        self.pass_time(300)
        self.assertIsNone(self.names.find("calc-1"))
        self.names.gone = False
        self.pass_time(5)
        self.assertIsNotNone(self.names.find("calc-1"))
        assert registration.lease is not None
        self.assertGreater(registration.lease.fence, lease.fence)

    def test_restarted_nameserver_is_told_again(self) -> None:
        """One that knows nothing any more is told again at the next renewal."""
        registration = self.registered()
        self.pass_time(12)
        self.names.restart()
        self.assertIsNone(self.names.find("calc-1"))
        self.pass_time(5)
        self.assertIsNotNone(self.names.find("calc-1"))
        self.pass_time(60)
        self.assertIsNotNone(self.names.find("calc-1"))
        self.assertIsNotNone(registration.lease)
        self.assertEqual(self.methods().count("register"), 2)

    def test_silent_nameserver_is_given_up_and_tried_again(self) -> None:
        """A nameserver that does not answer is given up on each time, and then tried again."""
        registration = self.registered()
        self.names.silent = True
        self.pass_time(60)
        self.names.silent = False
        self.pass_time(10)
        self.assertIsNotNone(self.names.find("calc-1"))
        self.assertIsNotNone(registration.lease)

    # -- starting --------------------------------------------------------------------------------

    def test_nameserver_comes_later(self) -> None:
        """It is waited for."""
        self.names.gone = True
        starting = self.registration().start()
        self.pass_time(5)
        self.assertNoResult(starting)
        self.names.gone = False
        self.pass_time(1)
        self.assertIsInstance(self.successResultOf(starting), Lease)

    def test_missing_nameserver_is_an_error_after_its_time(self) -> None:
        """After the time that it has, it is an error that says what was wrong."""
        self.names.gone = True
        starting = self.registration().start()
        self.pass_time(9.5)
        self.assertNoResult(starting)
        self.pass_time(1)
        problem = self.failureResultOf(starting, NameserverUnreachable).value
        self.assertEqual(
            str(problem), "no answer from the nameserver in 10 seconds: nothing listens there"
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_wait_for_nameserver(self) -> None:
        """Or for ever, if that is wanted."""
        self.names.gone = True
        starting = self.registration(wait=True).start()
        self.pass_time(1000)
        self.assertNoResult(starting)
        self.names.gone = False
        self.pass_time(1)
        self.successResultOf(starting)

    def test_stop_while_waiting(self) -> None:
        """It gives up at once, and leaves nothing."""
        self.names.gone = True
        registration = self.registration(wait=True)
        starting = registration.start()
        self.pass_time(3)
        self.assertFalse(self.successResultOf(registration.stop()))
        self.assertTrue(starting.called)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lost_answer_is_asked_for_again(self) -> None:
        """It was registered, but nobody told it: it asks again, and it is still its own."""
        self.names.answers_lost = True
        starting = self.registration().start()
        self.assertIsNotNone(self.names.find("calc-1"))
        self.names.answers_lost = False
        self.pass_time(1)
        self.successResultOf(starting)

    def test_lasting_refusal_fails_at_once(self) -> None:
        """What no second try makes better fails at once."""
        starting = self.registration(ServiceOffer("a b", ("x",), "tcp:h:1")).start()
        self.failureResultOf(starting, InvalidRegistration)
        self.assertEqual(self.methods(), ["register"])

    # -- a name that is taken --------------------------------------------------------------------

    def test_taken_name_says_by_whom_and_for_how_long(self) -> None:
        """It is an error that says who has it and for how long; that one's is left alone."""
        self.names.take("calc-1", "tcp:other:1")
        problem = self.failureResultOf(self.registration().start(), ServiceNameTaken).value
        self.assertEqual((problem.address, problem.ttl), ("tcp:other:1", 10.0))
        self.assertIn("tcp:other:1", str(problem))
        record = self.names.find("calc-1")
        assert record is not None
        self.assertEqual(record.address, "tcp:other:1")

    def test_wait_for_name(self) -> None:
        """With ``wait`` it takes over when the other's lease has ended, and not before."""
        self.names.take("calc-1", "tcp:other:1", 10.0)
        starting = self.registration(wait=True).start()
        self.pass_time(9.75)
        self.assertNoResult(starting)
        self.pass_time(1)
        self.successResultOf(starting)
        record = self.names.find("calc-1")
        assert record is not None
        self.assertEqual(record.address, OFFER.address)

    def test_dead_lease_of_own_address_is_waited_out(self) -> None:
        """What was at this very address before is gone: its lease is waited out."""
        self.names.take("calc-1", OFFER.address, 12.0)
        starting = self.registration().start()
        self.pass_time(11)
        self.assertNoResult(starting)
        self.pass_time(2)
        self.successResultOf(starting)

    def test_own_address_is_shared(self) -> None:
        """Somebody is at this very address and renews: after one lease the name is taken."""
        self.names.take("calc-1", OFFER.address, 12.0)
        starting = self.registration().start()
        self.pass_time(11)
        self.names.take("calc-1", OFFER.address, 12.0)
        self.pass_time(2)
        self.failureResultOf(starting, ServiceNameTaken)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_full_nameserver_is_waited_for(self) -> None:
        """It answers, but there is no room: that is waited for, and then is the error."""
        self.names.refuses = TooManyRegistrations("3, and no more")
        starting = self.registration().start()
        self.pass_time(9.5)
        self.assertNoResult(starting)
        self.pass_time(1)
        self.failureResultOf(starting, TooManyRegistrations)
        self.names.refuses = None
        self.successResultOf(self.registration().start())

    def test_what_cannot_be_sent_is_told_at_once(self) -> None:
        """What can't be sent is told at once, and nothing is asked, not even at the end."""
        self.names.refuses = ValueNotSendable("a date can't be sent")
        registration = self.registration()
        self.failureResultOf(registration.start(), ValueNotSendable)
        self.assertFalse(self.successResultOf(registration.stop()))
        self.assertEqual(self.methods(), ["register"])

    def test_name_taken_during_an_outage_is_told_once(self) -> None:
        """Another got the name while the nameserver was away: that is told, once."""
        registration = self.registered()
        self.names.gone = True
        self.pass_time(30)
        self.names.gone = False
        self.names.take("calc-1", "tcp:other:1", 60.0)
        self.pass_time(10)
        problem = self.successResultOf(registration.failed)
        self.assertIsInstance(problem, ServiceNameTaken)
        self.assertIsNone(registration.lease)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.successResultOf(registration.stop()))
        record = self.names.find("calc-1")
        assert record is not None
        self.assertEqual(record.address, "tcp:other:1")

    # -- stopping --------------------------------------------------------------------------------

    def test_stop_without_nameserver(self) -> None:
        """It does not keep anybody waiting for long, and does not fail."""
        registration = self.registered()
        for attribute in ("gone", "silent"):
            setattr(self.names, attribute, True)
        self.assertFalse(self.successResultOf(registration.stop()))
        self.names.gone = self.names.silent = False
        registration = self.registration(ServiceOffer("calc-2", ("x",), "tcp:h:2"))
        self.successResultOf(registration.start())
        self.names.silent = True
        stopping = registration.stop()
        self.pass_time(1.5)
        self.assertNoResult(stopping)
        self.pass_time(1)
        self.assertFalse(self.successResultOf(stopping))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_when_an_answer_was_lost(self) -> None:
        """What the nameserver may have registered unheard is taken out, too."""
        self.names.answers_lost = True
        registration = self.registration()
        registration.start()
        self.assertIsNotNone(self.names.find("calc-1"))
        self.names.answers_lost = False
        self.assertTrue(self.successResultOf(registration.stop()))
        self.assertIsNone(self.names.find("calc-1"))
        self.assertEqual(self.methods(), ["register", "register", "unregister"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_while_another_has_the_name(self) -> None:
        """Of what was never ours nothing is asked."""
        self.names.take("calc-1", "tcp:other:1")
        registration = self.registration(wait=True)
        registration.start()
        self.assertFalse(self.successResultOf(registration.stop()))
        self.assertEqual(self.methods(), ["register"])
        self.assertIsNotNone(self.names.find("calc-1"))
