"""Instances that accept connections and say nothing, or stop answering: others get their calls."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from pycomnet.errors import CallInterrupted, DeadlineExceeded, PeerSilent, ServiceUnreachable
from pycomnet.services.client.context import SILENCE, Context
from pycomnet.services.client.liveness import SUSPECT
from pycomnet.services.client.pool import SILENT_ASIDE
from pycomnet.test.services.client.test_restarts import Names, Worker, serve
from pycomnet.test.services.network import Network, ServiceCase


class SilentTests(ServiceCase):
    """Three instances, a nameserver that knows them, and a context."""

    def setUp(self) -> None:
        self.network = Network()
        self.frozen: set[str] = set()
        self.names = Names()
        _, self.nameserver = serve(self.network, self.names)
        self.workers = [Worker(str(number)) for number in range(3)]
        self.addresses = [serve(self.network, worker)[1] for worker in self.workers]
        self.names.put(*self.addresses)
        self.context = self.make_context(1)

    def make_context(self, seed: int, **options: Any) -> Context:
        return Context(self.network, nameserver=self.nameserver, random=Random(seed), **options)

    def locate(self, context: Context | None = None) -> Any:
        return self.result((context or self.context).locate("org.example.worker"))

    def accept_only(self, number: int) -> str:
        """Have something listen at an instance's address that never says anything."""
        address = self.addresses[number]
        port = int(address.rpartition(":")[2])
        self.network.ports.pop(port, None)
        self.network.listenTCP(port, Factory.forProtocol(Protocol))
        return address

    def freeze(self, number: int) -> None:
        """Have an instance take all and answer nothing, on connections that there are."""
        port = int(self.addresses[number].rpartition(":")[2])
        for client, server in self.network.wires:
            if client.transport.getPeer().port == port:
                server.protocol.dataReceived = lambda data: None
        self.accept_only(number)

    def thaw(self, number: int) -> None:
        """Have it read again."""
        port = int(self.addresses[number].rpartition(":")[2])
        for client, server in self.network.wires:
            if client.transport.getPeer().port == port:
                server.protocol.__dict__.pop("dataReceived", None)

    def ask(self, remote: Any, times: int, **options: Any) -> list[str]:
        found = []
        for _ in range(times):
            call = remote.invoke("who", **options)
            self.network.deliver()
            if not call.called:
                self.network.wait(options.get("timeout") or 5)
            found.append(self.successResultOf(call))
        return found

    # -- which is first --------------------------------------------------------------------------

    def test_first_instance_is_random_or_by_seed(self) -> None:
        """The first calls of many clients go to different instances; a seed says to which."""
        firsts = [self.ask(self.locate(self.make_context(n)), 1)[0] for n in range(10)]
        self.assertEqual(set(firsts), {"0", "1", "2"})
        again = [self.ask(self.locate(self.make_context(n)), 1)[0] for n in range(10)]
        self.assertEqual(firsts, again)

    # -- no hello --------------------------------------------------------------------------------

    def test_addresss_timeout_is_that_for_the_hello(self) -> None:
        """A server that says nothing is given up after 30 seconds, or those of its address."""
        address = self.accept_only(0)
        for options, seconds in (("", 30), (":timeout=60", 60), (":timeout=2", 2)):
            connecting = self.context.connect(f"{address}{options}", timeout=200)
            self.network.deliver()
            self.network.wait(seconds - 1)
            self.assertNoResult(connecting)
            self.network.wait(2)
            problem = self.failureResultOf(connecting, ServiceUnreachable).value
            self.assertIn("it sent no hello", str(problem))

    def test_server_that_says_nothing_is_passed_over(self) -> None:
        """One that accepts and says nothing: all calls are made elsewhere in time, at most once."""
        self.accept_only(1)
        remote = self.locate()
        found = self.ask(remote, 6, timeout=2)
        self.assertEqual(set(found), {"0", "2"})
        peer = self.context.peer(self.addresses[1])
        self.assertGreater(peer.aside_until, self.network.seconds() + SILENT_ASIDE / 2)
        before = self.network.seconds()
        self.assertEqual(set(self.ask(remote, 6, timeout=2)), {"0", "2"})
        self.assertEqual(self.network.seconds(), before)  # nobody waited for it any more

    def test_all_say_nothing(self) -> None:
        """When none answers, the deadline holds."""
        for number in range(3):
            self.accept_only(number)
        call = self.locate().invoke("who", timeout=2)
        self.network.wait(2.25)
        self.failureResultOf(call, ServiceUnreachable, DeadlineExceeded)

    def test_slow_server_is_used_once_it_is_ready(self) -> None:
        """One that is only slow is used once it is ready, also if it was set aside."""
        for number in (0, 1):
            self.accept_only(number)
        port = int(self.addresses[2].rpartition(":")[2])
        connect = self.network._connect

        def slow(to: int, factory: Any) -> None:
            connect(to, factory)
            client = self.network.wires[-1][0].protocol
            if to == port:
                held: list[bytes] = []
                real, client.dataReceived = client.dataReceived, held.append

                def release() -> None:
                    client.dataReceived = real
                    real(b"".join(held))

                self.network.callLater(3, release)

        self.patch(self.network, "_connect", slow)
        self.assertEqual(self.ask(self.locate(), 1, timeout=20), ["2"])
        self.assertEqual(self.context.peer(self.addresses[2]).aside_until, 0)

    # -- silent later ----------------------------------------------------------------------------

    def test_frozen_server_gets_no_calls_until_it_answers(self) -> None:
        """One that stops answering gets no more calls after two seconds, until it answers."""
        remote = self.locate()
        self.assertEqual(set(self.ask(remote, 3)), {"0", "1", "2"})
        self.freeze(1)
        calls = [remote.invoke("who", timeout=10) for _ in range(3)]
        self.network.wait(SUSPECT + 1)
        self.assertEqual(sorted(call.called for call in calls), [False, True, True])
        self.assertEqual(set(self.ask(remote, 6)), {"0", "2"})
        self.thaw(1)
        self.network.wait(SILENT_ASIDE)
        for call in calls:
            call.addErrback(lambda _: None)

    def test_server_that_is_heard_of_gets_calls_at_once(self) -> None:
        """When something is heard of it, it gets calls again at once."""
        remote = self.locate()
        self.ask(remote, 3)
        peer = self.context.peer(self.addresses[1])
        wires = [
            wire
            for wire in self.network.wires
            if wire[0].transport.getPeer().port == int(self.addresses[1].rpartition(":")[2])
        ]
        held: list[bytes] = []
        (server,) = (server for _, server in wires)
        real = server.protocol.dataReceived
        server.protocol.dataReceived = held.append
        calls = [remote.invoke("who", timeout=20) for _ in range(3)]
        self.network.wait(SUSPECT + 1)
        self.assertGreater(peer.aside_until, 0)
        server.protocol.dataReceived = real
        real(b"".join(held))
        self.network.wait(0.5)
        self.assertEqual(peer.aside_until, 0)
        self.assertEqual(sorted(map(self.successResultOf, calls)), ["0", "1", "2"])

    def test_non_idempotent_call_is_interrupted_not_repeated(self) -> None:
        """What may have been run is not run again: it is interrupted when the peer is given up."""
        self.names.put(self.addresses[0], self.addresses[1])
        remote = self.locate()
        self.ask(remote, 2)
        for number in (0, 1):
            self.freeze(number)
        call = remote.invoke("once", 1, timeout=60)
        self.network.wait(SILENCE + 2)
        problem = self.failureResultOf(call, CallInterrupted).value
        self.assertIsInstance(problem.__cause__, PeerSilent)
        self.assertEqual([worker.calls for worker in self.workers], [[], [], []])

    def test_idempotent_call_is_made_elsewhere(self) -> None:
        """What may be run twice is made elsewhere, within its deadline, however short that is."""
        for timeout in (1.0, 2.0, 10.0):
            self.setUp()
            remote = self.locate()
            self.ask(remote, 3)
            self.freeze(1)
            calls = [remote.invoke("again", n, timeout=timeout) for n in range(3)]
            self.network.wait(min(timeout, SUSPECT + 1) - 0.25)
            self.assertEqual(self.workers[1].calls, [])
            done = [one for n in (0, 2) for one in self.workers[n].calls]
            self.assertEqual(sorted(done), [0, 1, 2])
            for number in (0, 2):
                for waiting in self.workers[number].waiting:
                    waiting.callback("done")
            self.network.deliver()
            self.assertEqual([self.successResultOf(call) for call in calls], ["done"] * 3)

    def test_slow_method_is_left_alone(self) -> None:
        """A method that takes its time at a server that answers pings is left alone."""
        remote = self.locate()
        calls = [remote.invoke("again", n, timeout=100) for n in range(3)]
        self.network.wait(60)
        self.assertEqual([worker.calls for worker in self.workers if len(worker.calls) != 1], [])
        for worker in self.workers:
            worker.waiting[0].callback(worker.name)
        self.network.deliver()
        self.assertEqual(sorted(map(self.successResultOf, calls)), ["0", "1", "2"])

    def test_busy_client_does_not_take_servers_for_silent(self) -> None:
        """A client that did not turn its own reactor does not take the servers for silent."""
        remote = self.locate()
        self.ask(remote, 3)
        calls = [remote.invoke("again", n, timeout=1000) for n in range(3)]
        self.network.wait(1)
        for _ in range(5):
            self.network.advance(40)  # in one turn: nothing is read meanwhile
            self.network.deliver()
        self.assertEqual([worker.calls for worker in self.workers if len(worker.calls) != 1], [])
        for call in calls:
            call.addErrback(lambda _: None)
            call.cancel()

    def test_nothing_is_asked_without_silence(self) -> None:
        """Without silence= nothing is asked, and nothing is left behind."""
        context = self.make_context(1, silence=None)
        call = self.locate(context).invoke("once", 1, timeout=None)
        self.network.wait(10)
        self.assertNoResult(call)
        call.addErrback(lambda _: None)
        self.result(context.close())
