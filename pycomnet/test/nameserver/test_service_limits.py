"""What the nameserver refuses."""

from __future__ import annotations

import gc
import inspect
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st
from twisted.internet import defer
from twisted.internet.address import IPv4Address

from pycomnet.errors import (
    InvalidArguments,
    InvalidRegistration,
    NameserverError,
    NameserverFull,
    ServiceNotFound,
    TooManyRegistrations,
)
from pycomnet.nameserver.records import Put
from pycomnet.nameserver.requests import NameserverLimits
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.garbage import collects
from pycomnet.test.nameserver.kit import SECRET, record
from pycomnet.test.nameserver.servicecase import CALC, OWN_SECRET, NameserverCase, Stream
from pycomnet.test.properties import examples, given, settings

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.text("*?[]!-a.", max_size=10)
    | st.binary(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        | st.tuples(inner)
    ),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [
        *("service", "interfaces", "interface", "address", "ttl", "metadata", "tags", "secret"),
        *("lease", "limit", "after", "revision", "x"),
    ]
)


class RubbishTests(NameserverCase):
    """What nobody sends who means well."""

    @settings(max_examples=examples(150), deadline=None)
    @given(
        method=st.sampled_from(
            ["register", "renew", "unregister", "locate", "list_services", "stat", "watch"]
        ),
        args=st.dictionaries(NAMES, ANYTHING, max_size=6) | ANYTHING,
        sound=st.booleans(),
    )
    def test_rubbish_is_answered_or_refused_by_own_errors(
        self, method: str, args: Any, sound: bool
    ) -> None:
        """Whatever the arguments, they are answered or refused by an error of their own; nothing
        unforeseen is raised, and nothing half done."""
        if sound and isinstance(args, dict):
            args = {**self.registration(), **args}
        declared = self.names.interfaces[NAMESERVER].methods[method]
        (connection,) = self.server.connections
        request: Any = SimpleNamespace(args=args, connection=connection)
        try:
            declared.check(args)
            result = getattr(self.names, declared.attribute)(request)
        except (InvalidArguments, NameserverError, ServiceNotFound):
            return
        if method == "watch":
            result = result.__anext__()
        if inspect.isawaitable(result):
            waiting: Any = defer.ensureDeferred(result)  # type: ignore[arg-type]
            waiting.addErrback(lambda failure: failure.trap(InvalidArguments, NameserverError))
            self.network.advance(0)
            self.successResultOf(waiting)
        for held in self.names.directory.times_left():
            self.assertLessEqual(held[1], self.limits.max_ttl)


class LimitTests(NameserverCase):
    """What is refused, and that it disturbs nobody."""

    limits = NameserverLimits(services=5, watches=3, connection_watches=2)

    def test_bad_registration_says_what_was_expected(self) -> None:
        """What can't be a registration, with what was expected."""
        for args, expected in (
            ({"service": ""}, "service"),
            ({"service": "a" * 256}, "1 to 255"),
            ({"service": "a b"}, "without spaces"),
            ({"service": "a*"}, "without"),
            ({"service": "a\nb"}, "printable"),
            ({"interfaces": []}, "1 to 64"),
            ({"interfaces": ["x"] * 65}, "1 to 64"),
            ({"interfaces": ["x", 5]}, "interfaces"),
            ({"interfaces": ["org.*"]}, "interfaces"),
            ({"address": "x" * 2000}, "1 to 1024"),
            ({"address": "nowhere"}, "endpoint string"),
            ({"tags": ["t"] * 33}, "0 to 32"),
            ({"tags": [""]}, "tags"),
            ({"ttl": 0.5}, "from 1 to 86400"),
            ({"ttl": 1e9}, "from 1 to 86400"),
            ({"ttl": float("nan")}, "from 1 to 86400"),
            ({"metadata": {"x": "y" * 5000}}, "at most 4096 bytes"),
            ({"metadata": {1: 2}}, "strings as keys"),
            ({"secret": "short"}, "16 to 128"),
        ):
            problem = self.refused(InvalidRegistration, "register", **self.registration(**args))
            self.assertIn(expected, str(problem), args)
        self.assertEqual(self.invoke("stat")["services"], 0)

    def test_wrong_missing_and_unknown_types_are_refused(self) -> None:
        """What is of the wrong type, missing or unknown."""
        for method, args in (
            ("register", {}),
            ("register", self.registration(interfaces=CALC)),
            ("register", self.registration(ttl="1")),
            ("register", self.registration(metadata=[])),
            ("register", self.registration(colour="red")),
            ("renew", {"lease": "1", "secret": "s"}),
            ("renew", {"lease": 1}),
            ("locate", {"interface": 5}),
            ("list_services", {"limit": "5"}),
            ("list_services", {"limit": True}),
        ):
            self.refused(InvalidArguments, method, **args)
        for method, args in (
            ("list_services", {"limit": 0}),
            ("list_services", {"limit": 1001}),
            ("list_services", {"service": "x" * 300}),
            ("locate", {"interface": CALC, "tags": ["t"] * 50}),
        ):
            self.refused(InvalidRegistration, method, **args)

    def test_full_nameserver_still_renews_and_replaces(self) -> None:
        """When it is full it says so; what is there can be renewed and replaced."""
        held = [self.registered(name, secret=OWN_SECRET) for name in "abcde"]
        self.refused(NameserverFull, "register", **self.registration("f"))
        self.registered("a", secret=OWN_SECRET)
        self.invoke("unregister", lease=held[1]["lease"], secret=OWN_SECRET)
        self.registered("f")

    def test_bytes_of_all_registrations_are_limited(self) -> None:
        """So many bytes of all registrations together, whether by new ones or by longer ones."""
        self.patch(self.names, "limits", NameserverLimits(bytes=5000))
        filler = {"filler": "x" * 1400}
        for name in "abc":
            self.registered(name, metadata=filler, secret=OWN_SECRET)
        problem = self.refused(
            NameserverFull, "register", **self.registration("d", metadata=filler)
        )
        self.assertIn("bytes", str(problem))
        held = self.registered("d", secret=OWN_SECRET)
        longer = self.registration("d", metadata=filler, secret=OWN_SECRET)
        self.refused(NameserverFull, "register", **longer)
        self.registered("c", secret=OWN_SECRET)
        self.assertEqual(self.invoke("register", **longer)["lease"], held["lease"])

    def test_watches_are_limited_for_each_client_and_in_all(self) -> None:
        """So many for one client, and so many for all."""
        streams = [Stream(self) for _ in range(3)]
        for one in streams:
            one.take()
        self.assertEqual([type(one.problem) for one in streams][:2], [type(None)] * 2)
        self.assertIsInstance(streams[2].problem, NameserverFull)
        other = self.connect()
        more = [Stream(self, other) for _ in range(2)]
        for one in more:
            one.take()
        self.assertIsNone(more[0].problem)
        self.assertIsInstance(more[1].problem, NameserverFull)
        streams[0].stream.close()
        again = Stream(self)
        again.take()
        self.assertIsNone(again.problem)


@collects
class ClientLimitTests(NameserverCase):
    """How many registrations one client may have."""

    limits = NameserverLimits(client_services=3)

    def fill_up(self, client: Any, *names: str) -> list[Any]:
        """Register as many as one may, and one more, which is refused."""
        held = [self.invoke("register", client, **self.registration(name)) for name in names]
        problem = self.refused(
            TooManyRegistrations, "register", client, **self.registration("surplus")
        )
        self.assertIn("has 3 registrations; the limit is 3", str(problem))
        self.assertIn("--max-per-client", str(problem))
        return held

    def connect_from(self, host: str, user: str | None = None) -> Any:
        """A client elsewhere, perhaps with a certificate."""
        before = set(self.server.connections)
        client = self.connect()
        (connection,) = set(self.server.connections) - before
        transport: Any = connection.transport
        transport.peerAddr = IPv4Address("TCP", host, 1)
        connection._user, connection._user_known = user, True
        return client

    def test_limit_on_this_machine_is_the_connections(self) -> None:
        """On this machine it is the connection's; others are not in its way."""
        self.fill_up(self.client, "a", "b", "c")
        self.fill_up(self.connect(), "d", "e", "f")

    def test_limit_from_elsewhere_is_the_machines(self) -> None:
        """From elsewhere it is all that comes from there, on whatever connection."""
        self.fill_up(self.connect_from("10.0.0.1"), "a", "b", "c")
        self.fill_up(self.connect_from("10.0.0.1"))
        self.fill_up(self.connect_from("10.0.0.2"), "d", "e", "f")

    def test_limit_with_certificate_is_the_users(self) -> None:
        """With a certificate it is whom that names, wherever from."""
        self.fill_up(self.connect_from("10.0.0.1", "alice"), "a", "b", "c")
        self.fill_up(self.connect_from("10.0.0.2", "alice"))
        self.fill_up(self.connect_from("10.0.0.1", "bob"), "d", "e", "f")

    def test_what_ends_makes_room(self) -> None:
        """What ends, in whatever way, makes room; what is replaced or refused takes none."""
        held = self.fill_up(self.client, "a", "b", "c")
        owner = {"lease": held[0]["lease"], "secret": held[0]["secret"]}
        self.invoke("unregister", **owner)
        self.registered("a", secret=OWN_SECRET, ttl=5)
        for _ in range(5):
            self.registered("a", secret=OWN_SECRET, ttl=5)
        self.fill_up(self.client)
        self.network.wait(7)
        held = [self.registered("d")]
        self.fill_up(self.client)
        self.network.wait(60)
        self.assertEqual(self.invoke("stat")["services"], 0)
        self.fill_up(self.client, "a", "b", "c")

    def test_loaded_counts_for_nobody_until_renewed(self) -> None:
        """What was there before the nameserver was started counts for nobody until it is renewed,
        then for who renews it, once; and it makes room when it ends.
        """
        loaded = [record(name, CALC, ttl=30) for name in ("x", "y", "z")]
        for number, one in enumerate(loaded):
            one.lease = 1_000_000 + number  # none that is given here
            self.store.commit(Put(one))
        self.fill_up(self.client, "a", "b", "c")
        other = self.connect()
        owners = [{"lease": one.lease, "secret": SECRET} for one in loaded]
        self.invoke("register", other, **self.registration("d"))
        for owner in owners * 2:
            self.invoke("renew", other, **owner)
        problem = self.refused(TooManyRegistrations, "register", other, **self.registration("e"))
        self.assertIn("has 4 registrations", str(problem))
        for owner in owners[:2]:
            self.invoke("unregister", other, **owner)
        self.invoke("register", other, **self.registration("e"))
        self.fill_up(other)
        self.network.wait(60)
        self.fill_up(other, "f", "g", "h")

    def test_asking_in_one_go_does_not_exceed_the_limit(self) -> None:
        """What is asked for in one go does not get past it."""
        asked = [self.client.invoke("register", self.registration(f"s{n}")) for n in range(9)]
        self.network.deliver()
        for one in asked[:3]:
            self.successResultOf(one)
        for one in asked[3:]:
            self.failureResultOf(one, TooManyRegistrations)

    def test_over_a_lost_connection(self) -> None:
        """It counts on without the connection; nothing is kept of a client that has none left."""
        clients = self.names._clients
        self.fill_up(self.connect_from("10.0.0.1"), "a", "b", "c")
        self.network.cut()
        self.fill_up(self.connect_from("10.0.0.1"))
        self.network.cut()
        self.network.wait(60)
        gc.collect()
        self.assertEqual(len(clients), 0)
