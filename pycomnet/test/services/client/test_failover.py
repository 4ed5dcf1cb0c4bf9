"""A nameserver with several addresses: one is asked until it fails."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pycomnet.errors import (
    EndpointError,
    NameserverError,
    ServiceUnreachable,
    StoreCutOff,
    from_map,
)
from pycomnet.nameserver.server import make_server
from pycomnet.nameserver.service import NameService
from pycomnet.nameserver.stores.memory import MemoryStore
from pycomnet.net.addresslist import are_local_clients, clean_addresses, split_addresses
from pycomnet.services.client.context import NAMESERVER, Context
from pycomnet.services.client.reference import ServiceReference
from pycomnet.test.services.network import Network


class SeveralTests(SynchronousTestCase):
    """Two nameservers."""

    def setUp(self) -> None:
        self.network = Network()
        self.network.advance(1000.0)
        self.names: list[NameService] = []
        self.servers: list[Any] = []
        self.ports: list[str] = []
        for number in (2012, 2013):
            names = NameService(
                MemoryStore(lambda: 100), self.network, seconds=self.network.seconds
            )
            server = make_server(self.network)
            self.successResultOf(server.add(names))
            self.ports.append(
                self.successResultOf(server.listen(f"tcp:{number}:interface=127.0.0.1"))
            )
            self.names.append(names)
            self.servers.append(server)
        self.addCleanup(self.network.deliver)
        self.addCleanup(self.network.cut)

    def context(self, seed: int = 1) -> Context:
        return Context(self.network, nameserver=",".join(self.ports), random=Random(seed))

    def result(self, deferred: Any) -> Any:
        self.network.deliver()
        return self.successResultOf(deferred)

    def asked(self) -> list[int]:
        """How often each was asked for services."""
        return [names._counts["listed"] for names in self.names]

    def test_one_is_asked_as_long_as_it_answers(self) -> None:
        """All that a context asks goes to one of them."""
        context = self.context()
        for _ in range(5):
            nameserver = self.result(context.nameserver())
            self.result(nameserver.invoke("list_services"))
        self.assertEqual(sorted(self.asked()), [0, 5])

    def test_clients_are_spread_over_them(self) -> None:
        """Which one a client asks is random."""
        for seed in range(20):
            nameserver = self.result(self.context(seed).nameserver())
            self.result(nameserver.invoke("list_services"))
        self.assertGreater(min(self.asked()), 3)

    def end(self, number: int) -> None:
        """One of them ends, as if it was killed."""
        for port in list(self.servers[number]._ports):
            port.stopListening()
        self.network.cut()

    def test_other_is_asked_when_one_is_gone(self) -> None:
        """When the one that was asked is gone, the other gets the calls at once."""
        context = self.context()
        nameserver = self.result(context.nameserver())
        self.result(nameserver.invoke("list_services"))
        used = self.asked().index(1)
        self.end(used)
        self.result(nameserver.invoke("list_services"))
        self.assertEqual(self.asked()[1 - used], 1)
        self.result(nameserver.invoke("list_services"))
        self.assertEqual(self.asked()[1 - used], 2)

    def test_none_is_there(self) -> None:
        """If none is there, the error says so, with all addresses."""
        context = self.context()
        for number in (0, 1):
            self.end(number)
        failed = self.result(context.nameserver()).invoke("list_services", timeout=2.0)
        self.network.wait(3.0)
        self.failureResultOf(failed, ServiceUnreachable)

    def test_one_that_is_cut_off_passes_changes_on(self) -> None:
        """One that is cut off from its store did nothing: the other one is asked."""
        context = self.context()
        nameserver = self.result(context.nameserver())
        self.result(nameserver.invoke("list_services"))
        used = self.asked().index(1)

        def cut_off(*args: Any) -> Any:
            raise StoreCutOff("cut off")

        self.names[used]._store.commit = cut_off  # type: ignore[assignment]
        wanted = {"service": "a", "interfaces": ["x"], "address": "tcp:h:1"}
        self.result(nameserver.invoke("register", wanted))
        self.assertEqual(len(self.names[1 - used].directory), 1)

    def test_error_of_a_nested_call_is_not_passed_on(self) -> None:
        """Another nameserver, which this one has called, was cut off: this one has run."""
        nameserver = self.result(self.context().nameserver())
        self.result(nameserver.invoke("list_services"))
        used = self.asked().index(1)
        runs: list[Any] = []

        def cut_off(*args: Any) -> Any:
            runs.append(args)
            raise from_map({"code": "store-cut-off", "message": "cut off"})

        self.names[used]._store.commit = cut_off  # type: ignore[assignment]
        wanted = {"service": "a", "interfaces": ["x"], "address": "tcp:h:1"}
        refused = nameserver.invoke("register", wanted)
        self.network.wait(3.0)
        self.assertTrue(self.failureResultOf(refused, StoreCutOff).value.nested)
        self.assertEqual((len(runs), len(self.names[1 - used].directory)), (1, 0))

    def test_refusal_of_all_is_told(self) -> None:
        """If none can do it, the caller gets the error, and no call goes round for ever."""
        nameserver = self.result(self.context().nameserver())

        def cut_off(*args: Any) -> Any:
            raise StoreCutOff("cut off")

        for names in self.names:
            names._store.commit = cut_off  # type: ignore[assignment]
        wanted = {"service": "a", "interfaces": ["x"], "address": "tcp:h:1"}
        refused = nameserver.invoke("register", wanted)
        self.network.wait(3.0)
        self.failureResultOf(refused, NameserverError)

    def test_any_other_service_does_not_pass_calls_on(self) -> None:
        """At one address nothing is repeated, whatever a service raises."""
        context = Context(self.network, nameserver=self.ports[0])
        nameserver = self.result(context.connect(self.ports[0], NAMESERVER))

        def cut_off(*args: Any) -> Any:
            raise StoreCutOff("cut off")

        self.names[0]._store.commit = cut_off  # type: ignore[assignment]
        wanted = {"service": "a", "interfaces": ["x"], "address": "tcp:h:1"}
        refused = nameserver.invoke("register", wanted)
        self.network.deliver()
        self.failureResultOf(refused, StoreCutOff)


class TextTests(SynchronousTestCase):
    """Several addresses as a text."""

    def test_commas_stand_between_addresses(self) -> None:
        """A comma before an address separates; one in a path does not."""
        for text, found in (
            ("tcp:a:1", ["tcp:a:1"]),
            ("tcp:a:1,tcp:b:2", ["tcp:a:1", "tcp:b:2"]),
            ("a:1, b:2", ["a:1", "b:2"]),
            ("unix:/run/a,b", ["unix:/run/a,b"]),
            ("[::1]:1,[::2]:2", ["[::1]:1", "[::2]:2"]),
        ):
            self.assertEqual(split_addresses(text), found)

    def test_canonical_form_has_each_once(self) -> None:
        """Two ways to write an address are one."""
        self.assertEqual(clean_addresses("a:1,tcp:a:1,tcp:b:2"), "tcp:a:1,tcp:b:2")

    def test_mistakes_are_told(self) -> None:
        """What is no address, or too many, is refused."""
        for wrong in ("", ",".join(f"tcp:a:{port}" for port in range(1, 40))):
            self.assertRaises(EndpointError, clean_addresses, wrong)

    def test_local_means_all_of_them(self) -> None:
        """They are on this machine if all are."""
        self.assertTrue(are_local_clients("tcp:127.0.0.1:1,unix:/x"))
        self.assertFalse(are_local_clients("tcp:127.0.0.1:1,tcp:a:1"))

    def test_reference_has_all_of_a_nameservers_addresses(self) -> None:
        """A reference names all of them, without files of this machine."""
        reference = ServiceReference("x", nameserver="tls:a:1:trustRoots=/ca.pem,tcp:b:2")
        sent = reference.as_list()
        self.assertEqual(sent[2], "tls:a:1,tcp:b:2")
        self.assertEqual(ServiceReference.from_list(sent).nameserver, "tls:a:1,tcp:b:2")
