"""Floods of logins, tries that are given up, and half requests: others don't notice."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import Unauthenticated
from pycomnet.ext import access
from pycomnet.ext.access.audit import FREE_LINES
from pycomnet.ext.access.checkslots import CheckSlots
from pycomnet.services.client.context import Context
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.limits import ServerLimits
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.ext.access.kit import SHOP, AccessCase, Table, make_shop
from pycomnet.test.ext.access.test_ends import LoginCase
from pycomnet.wire.frames import FIRST, FIRST_MORE, HEADER, MORE, OPEN
from pycomnet.wire.mux import Mux


class SlotTests(SynchronousTestCase):
    """Turns between origins."""

    def test_origins_take_turns(self) -> None:
        """However many of one wait, another's waits for one of them."""
        slots = CheckSlots(1, 1000, 500)
        order: list[str] = []
        slots.acquire("a")

        def wait(name: str) -> None:
            slots.acquire(name).addCallback(lambda _: order.append(name))

        for name in [*"a" * 100, "b", "c", "b"]:
            wait(name)
        for _ in range(8):
            slots.release()
        self.assertEqual("".join(order), "abcabaaa")

    def test_newest_of_the_longest_queue_is_refused(self) -> None:
        """When too many wait: not whoever comes."""
        slots = CheckSlots(1, 10, 8)
        slots.acquire("a")
        crowd = [slots.acquire("a") for _ in range(9)]
        self.failureResultOf(crowd.pop(), Unauthenticated)  # eight of an origin at most
        others = [slots.acquire(name) for name in "bcde"]
        refused = [one for one in crowd if one.called]
        self.assertEqual(refused, crowd[-2:])
        for one in refused:
            self.assertEqual(self.failureResultOf(one, Unauthenticated).value.reason, "busy")
        self.assertEqual((slots.waiting, [one.called for one in others]), (10, [False] * 4))
        others[0].cancel()
        self.failureResultOf(others[0], defer.CancelledError)
        self.assertEqual(slots.waiting, 9)

    def test_many_that_give_back_at_once_nest_nothing(self) -> None:
        """Python's stack has an end."""
        slots = CheckSlots(1, 10_000, 10_000)
        slots.acquire("a")
        for number in range(5000):
            slots.acquire(number % 7).addCallback(lambda _: slots.release())
        slots.release()
        self.assertEqual((slots.free, slots.waiting), (1, 0))


class FloodCase(LoginCase):
    """Logins of many places."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(access.messages, "is_private", lambda transport: True)
        self.contexts: list[Context] = []

    def tries(self, place: str, *message: str) -> Any:
        """Send a login from a place, on a connection of its own."""
        context = Context(self.network)
        self.contexts.append(context)
        connection = self.connection(context)
        self.network.wires[-1][1].transport.peerAddr = IPv4Address("TCP", place, 1)
        return self.login(connection, *message)


class FloodTests(FloodCase):
    """Guessers who wait."""

    def make_control(self, **options: Any) -> access.AccessControl:
        limits = access.AccessLimits(checks=1, waiting=40, waiting_here=10)
        return super().make_control(limits=limits, **options)

    def test_guessers_who_wait_keep_nobody_out(self) -> None:
        """Those that are delayed take no place of those who wait for a check."""
        for place, user in itertools.product(range(4), range(60)):
            self.tries(f"192.0.2.{place}", "password", f"user {user}", "x")
            self.network.advance(0.01)
        self.network.wait(1)
        found = self.tries("198.51.100.1", "password", "alice", "a password")
        self.network.deliver()
        self.assertEqual(self.successResultOf(found)["user"], "alice")

    def test_login_waits_for_one_check_of_each_place(self) -> None:
        """Not for all that wait of a place; a full queue is its own place's."""
        self.network.runs_threads = False
        for user in range(30):
            self.tries("192.0.2.1", "password", f"user {user}", "x")
        found = self.tries("198.51.100.1", "password", "alice", "a password")
        self.network.deliver()
        for _ in range(3):
            self.network.run_threads()
            self.network.deliver()
        self.assertEqual(self.successResultOf(found)["user"], "alice")
        self.assertEqual(self.table.checked, ["user 0", "user 1", "alice"])


class GivenUpTests(FloodCase):
    """Tries that nobody waits for."""

    def test_try_that_is_given_up_counts(self) -> None:
        """It has cost a check, so it is no free guess."""
        self.network.runs_threads = False
        for number in range(8):
            context = Context(self.network)
            connection = self.connection(context)
            payload = access.messages._codec.encode(["password", "alice", f"guess {number}"])
            core = connection.open("login", payload, end=True)
            core.receive().addErrback(lambda _: None)
            self.network.deliver()
            core.close()
            self.network.deliver()
            self.network.run_threads()
            self.network.wait(0.01)
        throttle = self.control.checks.throttles["password"]
        self.assertGreater(throttle.wait("127.0.0.1", "alice"), 0)
        self.assertLess(len(self.table.checked), 3)

    def test_other_checker_that_breaks_makes_guessing_no_faster(self) -> None:
        """Whoever works has refused the password."""

        class Broken(access.Checker):
            credentialInterfaces = self.table.credentialInterfaces

            def check(self, credentials: Any) -> Any:
                raise OSError("the directory is down")

        @access.auth(Broken())
        @interface("org.example.broken")
        class Other(Service):
            @method()
            def call(self, request: Any) -> None:
                pass

        self.successResultOf(self.server.add(Other()))
        for number in range(50):
            found = self.tries("192.0.2.1", "password", "alice", f"guess {number}")
            self.network.wait(0.01)
        self.assertLess(len(self.table.checked), 4)
        found = self.tries("192.0.2.2", "password", "bob", "b password")
        self.network.wait(1)
        self.assertEqual(self.successResultOf(found)["user"], "bob")
        self.flushLoggedErrors(OSError)


class NameTests(FloodCase):
    """Names of users, as they may come."""

    def test_name_that_nobody_can_have_is_refused(self) -> None:
        """As an unknown one; no checker gets it."""
        for name in ("", "alice\0x", "alice\n", "a" * 256, "\x1b[2J", "alice\u2028"):
            found = self.tries("192.0.2.1", "password", name, "a password")
            self.network.wait(300, 10)
            self.assertEqual(self.successResultOf(found).error["fields"], {"reason": "refused"})
        self.assertEqual(self.table.checked, [])

    def test_names_that_may_be_one_users_count_together(self) -> None:
        """A directory may take them for one."""
        for name in ("alice", "ALICE", "alice ", "\uff41lice", "Alice"):
            self.tries("192.0.2.1", "password", name, "x")
            self.network.wait(0.01)
        self.assertEqual(self.table.checked, ["alice"])

    def test_refused_logins_do_not_fill_the_log(self) -> None:
        """Of whatever kind; what is not written is counted."""
        connection = self.connection(Context(self.network))
        for message in (["certificate"], ["password", "x" * 16_000, "x"], ["token", "x" * 40]):
            with capturedLogs() as events:
                for _ in range(300):
                    self.login(connection, *message)
                    self.network.deliver()
            lines = [event for event in events if "audit" in event]
            self.assertLessEqual(len(lines), FREE_LINES + 1)
            for event in lines:
                self.assertLess(len(event["line"]), 1000)
        self.assertEqual(Counter(self.table.checked), {})


class HalfTests(AccessCase):
    """Long requests that never come to their end."""

    LIMITS = ServerLimits(held=4 << 20, request=1 << 20)

    def make_server(self) -> ServiceServer:
        self.network.runs_threads = True
        self.table = Table(alice=("a password", ""))
        self.control = self.make_control()
        server = ServiceServer(
            self.network, threads=self.network, access=self.control, limits=self.LIMITS
        )
        self.successResultOf(server.add(make_shop(self.table)()))
        return server

    def send_half(self, interface: str, method: str, size: int) -> Any:
        """A client that sends so many bytes of a request and no more; its side of the wire."""
        accepted: Any = self.server.connected()
        side = self.network.join(accepted)
        accepted.dataReceived(Mux(True).data_to_send())
        head = bytes((FIRST | FIRST_MORE, 6)) + b"invoke"
        text = make_request(interface, method, size)[: size // 60_000 * 60_000]
        first, rest = text[:60_000], text[60_000:]
        frame = HEADER.pack(len(head + first), OPEN, 1) + head + first
        for at in range(0, len(rest), 60_000):
            piece = rest[at : at + 60_000]
            frame += HEADER.pack(len(piece), MORE, 1) + piece
        accepted.dataReceived(frame)
        return side

    def test_half_requests_of_strangers_are_not_held(self) -> None:
        """Who may not call is refused by the beginning of a request."""
        alice = self.shop_for("alice")
        self.assertEqual(self.result(alice.invoke("buy")), "alice")
        for number in range(20):
            side = self.send_half(SHOP, ("buy", "nothing")[number % 2], 900_000)
            self.assertIn(
                (b"unauthenticated", b"code\xa6method")[number % 2], side.transport.value()
            )
        self.assertLess(self.server.held.size, 100_000)
        self.assertEqual(self.result(alice.invoke("buy", b"y" * 70_000)), "alice")

    def test_who_holds_most_loses_first(self) -> None:
        """Of those who may call: a public method takes long requests from anybody."""
        alice = self.shop_for("alice")
        self.assertEqual(self.result(alice.invoke("buy")), "alice")
        sides = [self.send_half(SHOP, "hours", 900_000) for _ in range(10)]
        self.assertLessEqual(self.server.held.size, 4 << 20)
        self.assertEqual(self.result(alice.invoke("buy", b"y" * 900_000)), "alice")
        lost = [side for side in sides if not side.protocol.long]
        self.assertGreater(len(lost), 4)


def make_request(interface: str, method: str, size: int) -> bytes:
    """The beginning of a request with a long argument."""
    found: bytes = access.messages._codec.encode([interface, method, "x", None])
    return found[:-3] + b"\xc6" + (1 << 20).to_bytes(4, "big") + bytes(size)
