"""Services that go and come back: what is called again, what is not, and where."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import (
    CallInterrupted,
    PycomnetError,
    ServiceNotFound,
    ServiceUnreachable,
)
from pycomnet.services.client.context import Context
from pycomnet.services.client.instances import NamedRoute, addresses_of
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.server import ServiceServer
from pycomnet.services.server.streaming import StreamFeed
from pycomnet.test.kit import first_cancels_rest
from pycomnet.test.services.network import Network, ServiceCase


class Silent(StreamFeed):
    """Gives no values, and has no end."""

    def begin(self, call: Any) -> None: ...

    def ended(self) -> None: ...


@interface("org.example.worker")
class Worker(Service):
    """Remembers what was called."""

    def __init__(self, name: str = "one") -> None:
        self.name = name
        self.calls: list[Any] = []
        self.waiting: list[defer.Deferred[Any]] = []

    def wait(self, request: Any) -> defer.Deferred[Any]:
        self.calls.append(request.args)
        deferred: defer.Deferred[Any] = defer.Deferred()
        self.waiting.append(deferred)
        return deferred

    @method()
    def once(self, request: Any) -> defer.Deferred[Any]:
        return self.wait(request)

    @method(idempotent=True)
    def again(self, request: Any) -> defer.Deferred[Any]:
        return self.wait(request)

    @method()
    def who(self, request: Any) -> str:
        return self.name

    @method(stream=True)
    def fed(self, request: Any) -> StreamFeed:
        self.calls.append(request.args)
        return Silent()

    @method(stream=True)
    async def names(self, request: Any) -> Any:
        self.calls.append(request.args)
        yield self.name
        yield await self.wait(request)


@interface("org.pycom.nameserver")
class Names(Service):
    """The part of a nameserver that callers need."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.asked = 0
        self.page = 1000

    def put(self, *addresses: str) -> None:
        self.records = [
            {"service": f"s{n:05}", "interfaces": ["org.example.worker"], "address": address}
            for n, address in enumerate(addresses)
        ]

    @method(idempotent=True)
    def list_services(self, request: Any) -> Any:
        self.asked += 1
        after = request.args.get("after", "")
        found = [one for one in self.records if request.args["interface"] in one["interfaces"]]
        return [one for one in found if one["service"] > after][: self.page]

    @method(idempotent=True)
    def locate(self, request: Any) -> Any:
        for one in self.records:
            if request.args.get("service", one["service"]) == one["service"]:
                return one
        raise ServiceNotFound(f"there is no {request.args}")


def serve(network: Network, service: Service, port: int = 0) -> tuple[ServiceServer, str]:
    """A server with a service."""
    server = ServiceServer(network)
    server.add(service)
    address: list[str] = []
    server.listen(f"tcp:{port}:interface=127.0.0.1").addCallback(address.append)
    return server, address[0]


class RestartTests(ServiceCase):
    """One service at one address."""

    def setUp(self) -> None:
        self.network = Network()
        self.worker = Worker()
        self.server, self.address = serve(self.network, self.worker)
        self.context = Context(self.network)
        self.remote = self.connect()

    def crash(self) -> None:
        """The server is gone, and nothing listens there."""
        self.network.ports.clear()
        self.network.cut()
        self.network.deliver()

    def restart(self) -> Worker:
        """Another server at the same address."""
        worker = Worker("two")
        serve(self.network, worker, int(self.address.rpartition(":")[2]))
        return worker

    def test_interrupted_call_fails_and_is_not_repeated(self) -> None:
        """What was under way fails, and is not called again by itself."""
        call = self.remote.invoke("once", 1)
        self.network.deliver()
        self.crash()
        worker = self.restart()
        problem = self.failure(call, CallInterrupted)
        self.assertIn(self.address, str(problem))
        self.network.wait(5)
        self.assertEqual(worker.calls, [])

    def test_idempotent_call_is_repeated(self) -> None:
        """What may be called twice is called again, as soon as the service is back."""
        call = self.remote.invoke("again", 1)
        self.network.deliver()
        self.crash()
        self.network.wait(3)
        self.assertNoResult(call)
        worker = self.restart()
        self.network.wait(2)
        self.assertEqual(worker.calls, [1])
        worker.waiting[0].callback("done")
        self.assertEqual(self.result(call), "done")

    def test_repeated_call_can_be_cancelled_while_it_waits(self) -> None:
        """It can be cancelled while it waits for that."""
        call = self.remote.invoke("again", 1)
        self.network.deliver()
        self.crash()
        call.cancel()
        self.failure(call, defer.CancelledError)
        worker = self.restart()
        self.network.wait(2)
        self.assertEqual(worker.calls, [])

    def test_next_call_finds_the_service_again(self) -> None:
        """The next call finds the service again, also one made while it is away."""
        self.crash()
        call = self.remote.invoke("who")
        self.network.wait(4)
        self.assertNoResult(call)
        self.restart()
        self.network.wait(2)
        self.assertEqual(self.result(call), "two")

    def test_service_that_stays_away_is_an_error_at_the_deadline(self) -> None:
        """When it does not come back before the deadline the error says so; nothing was run."""
        self.crash()
        call = self.remote.invoke("who", timeout=3)
        self.network.wait(3.5)
        problem = self.failure(call, ServiceUnreachable)
        self.assertIn("refused", str(problem))

    def test_missing_service_is_an_error_at_once(self) -> None:
        """What was never there is an error at once."""
        self.crash()
        other = Context(self.network)
        problem = self.failure(other.connect(self.address), ServiceUnreachable)
        self.assertIn("refused", str(problem))

    def test_leaving_server_finishes_its_calls(self) -> None:
        """A server that ends lets its calls finish; calls that come meanwhile go elsewhere."""
        first = self.remote.invoke("once", 1)
        self.network.deliver()
        closing = self.server.close(timeout=10)
        self.network.deliver()
        late = self.remote.invoke("who")
        self.network.deliver()
        worker = self.restart()
        self.network.wait(1)
        self.assertEqual(self.result(late), worker.name)
        self.assertNoResult(closing)
        self.worker.waiting[0].callback("done")
        self.assertEqual(self.result(first), "done")
        self.result(closing)
        self.assertEqual(self.server.connections, set())

    def test_call_that_crossed_a_goodbye_is_made_again(self) -> None:
        """A call that the server never saw is made again, idempotent or not."""
        self.result(self.server.close())
        self.network.ports.clear()
        worker = self.restart()
        remote = self.connect()
        _, server = self.network.wires[-1]
        call = remote.invoke("once", 7)
        server.protocol.goodbye()
        self.network.wait(1)
        self.assertEqual(worker.calls, [7])
        worker.waiting[0].callback("done")
        self.assertEqual(self.result(call), "done")

    def test_what_a_leaving_server_refuses_is_called_again(self) -> None:
        """At the server that comes after it: a call, one with blocks, and a stream."""
        self.remote.invoke("once", 1)
        self.network.deliver()
        closing = self.server.close()
        worker = self.restart()
        remote = self.connect()
        plain = remote.invoke("who")
        with_blocks = remote.invoke("who", with_binary=True)
        stream = remote.stream("names", 7).receive()
        self.network.wait(1)
        self.worker.waiting[0].callback("done")
        self.result(closing)
        self.network.wait(1)
        self.assertEqual(self.result(plain), "two")
        self.assertEqual(self.result(with_blocks), ("two", []))
        self.assertEqual(self.result(stream), "two")
        self.assertEqual((self.worker.calls, worker.calls), ([1], [7, 7]))  # names() notes it twice

    def test_stream_whose_method_ran_is_interrupted_by_a_leaving_server(self) -> None:
        """It is not opened again elsewhere, also if it has given no value."""
        worker = Worker("two")
        _, address = serve(self.network, worker)
        names = Names()
        names.put(self.address, address)
        _, nameserver = serve(self.network, names)
        context = Context(self.network, nameserver=nameserver)
        remote = self.result(context.locate("org.example.worker"))
        streams = [remote.stream("fed", n) for n in range(2)]
        values = [stream.receive() for stream in streams]
        self.network.deliver()
        (number,) = self.worker.calls
        self.assertEqual(worker.calls, [1 - number])
        closing = self.server.close()
        self.network.wait(1)
        self.result(closing)
        self.failure(values[number], CallInterrupted)
        self.assertNoResult(values[1 - number])
        self.assertEqual(worker.calls, [1 - number])

    def test_stream_that_crossed_a_goodbye_is_opened_again(self) -> None:
        """One that the server never saw. One that has begun is interrupted."""
        self.result(self.server.close())
        self.network.ports.clear()
        worker = self.restart()
        remote = self.connect()
        _, server = self.network.wires[-1]
        stream = remote.stream("names", 7)
        server.protocol.goodbye()
        first = stream.receive()
        self.network.wait(1)
        self.assertEqual(self.result(first), worker.name)
        self.assertEqual(worker.calls[0], 7)
        _, server = self.network.wires[-1]
        server.transport.loseConnection()
        self.network.deliver()
        self.failure(stream.receive(), CallInterrupted)

    def test_too_long_for_its_server(self) -> None:
        """A server that ends waits for its calls only so long; they are interrupted."""
        call = self.remote.invoke("once", 1)
        self.network.deliver()
        closing = self.server.close(timeout=2)
        self.network.wait(2.5)
        self.result(closing)
        self.assertTrue(self.worker.waiting[0].called)
        self.failure(call, CallInterrupted)

    def test_proxies_of_an_address_share_a_connection(self) -> None:
        """All proxies for an address share one connection, and one attempt to make it."""
        context = Context(self.network)
        before = len(self.network.wires)
        connecting = [context.connect(self.address) for _ in range(5)]
        self.network.deliver()
        calls = [self.successResultOf(one).invoke("who") for one in connecting]
        self.network.deliver()
        self.assertEqual([self.successResultOf(call) for call in calls], ["one"] * 5)
        self.assertEqual(len(self.network.wires), before + 1)

    def test_closed_context_interrupts_calls(self) -> None:
        """Closing a context interrupts what is under way, and leaves nothing."""
        call = self.remote.invoke("again", 1)
        self.network.deliver()
        self.result(self.context.close())
        self.failure(call, CallInterrupted)
        self.failure(self.remote.invoke("who"), PycomnetError)
        self.failure(self.remote.stream("who").receive(), PycomnetError)
        self.assertEqual(self.network.wires, [])
        self.result(self.server.close())
        self.assertEqual(self.network.getDelayedCalls(), [])


class LocateTests(ServiceCase):
    """Services that a nameserver knows."""

    def setUp(self) -> None:
        self.network = Network()
        self.names = Names()
        self.nameserver, address = serve(self.network, self.names)
        self.context = Context(self.network, nameserver=address)
        self.workers = [Worker(str(number)) for number in range(3)]
        self.servers = [serve(self.network, worker) for worker in self.workers]
        self.names.put(*(address for _, address in self.servers))

    def locate(self, service: str | None = None) -> Any:
        return self.result(self.context.locate("org.example.worker", service))

    def ask(self, remote: Any, times: int) -> list[str]:
        return [self.result(remote.invoke("who")) for _ in range(times)]

    def stop(self, number: int) -> None:
        """A server is gone."""
        server, address = self.servers[number]
        del self.network.ports[int(address.rpartition(":")[2])]
        for connection in list(server.connections):
            connection.abort(ServiceUnreachable("gone"))  # type: ignore[arg-type]
        self.network.deliver()

    def test_first_cancels_rest(self) -> None:
        """Many wait for one answer of the nameserver: the first that is told cancels the others."""
        found = first_cancels_rest(
            self, lambda: self.context.locate("org.example.worker"), self.network.deliver
        )
        self.assertIn(self.result(found.invoke("who")), ["0", "1", "2"])

    def test_missing_name_is_an_error_at_once(self) -> None:
        """Nothing by that name is an error at once."""
        self.names.put()
        problem = self.failure(self.context.locate("org.example.worker"), ServiceNotFound)
        self.assertIn("org.example.worker", str(problem))
        self.failure(self.context.locate("org.example.worker", "s00007"), ServiceNotFound)

    def test_calls_go_to_instances_in_turn(self) -> None:
        """Calls go to the instances in turn."""
        found = self.ask(self.locate(), 9)
        self.assertEqual(sorted(found), ["0"] * 3 + ["1"] * 3 + ["2"] * 3)
        self.assertEqual(self.names.asked, 2)  # what there is, and that there is no more

    def test_instances_beyond_the_first_page_have_their_turn(self) -> None:
        """Instances beyond the nameserver's first page have their turn, too."""
        self.names.page = 2
        found = self.ask(self.locate(), 6)
        self.assertEqual(sorted(found), ["0", "0", "1", "1", "2", "2"])
        self.assertEqual(self.names.asked, 3)

    def test_thousands_of_instances_cost_no_search(self) -> None:
        """Of some thousands of instances each is known, and which is next costs no search."""
        self.names.put(*(f"tcp:127.0.0.1:{port}" for port in range(2000, 5500)))
        remote = self.locate()
        route = remote._route
        self.network.wait(11)
        self.assertEqual(len({route.pick().address for _ in range(3500)}), 3500)
        self.patch(route, "_find_able", self.fail)
        self.assertEqual(len({route.pick().address for _ in range(3500)}), 3500)

    def test_nameserver_without_pages_is_not_asked_for_ever(self) -> None:
        """A nameserver that knows nothing of pages is asked once more, not for ever."""
        records = [*self.names.records]
        self.names.list_services = lambda request: records  # type: ignore[method-assign]
        self.nameserver._bind(self.names)
        self.assertEqual(sorted(self.ask(self.locate(), 3)), ["0", "1", "2"])

    def test_named_service_is_that_one(self) -> None:
        """A service by name is that one."""
        self.assertEqual(self.ask(self.locate("s00001"), 3), ["1"] * 3)

    def test_instance_with_fewest_calls_gets_the_next(self) -> None:
        """On demand, calls go to the instance with the fewest under way."""
        self.context.least_pending = True
        remote = self.locate()
        for number in range(2):
            remote.invoke("once", number)
            self.network.deliver()
        found = self.ask(remote, 4)
        self.assertEqual(len(set(found)), 1)
        self.assertEqual(self.workers[int(found[0])].calls, [])

    def test_instance_that_refuses_is_left_out_for_a_while(self) -> None:
        """One that refuses connections is left out for a while, and nobody notices."""
        remote = self.locate()
        self.ask(remote, 3)
        self.stop(1)
        self.assertEqual(set(self.ask(remote, 6)), {"0", "2"})
        peer = self.context.peer(self.servers[1][1])
        self.assertGreater(peer.aside_until, self.network.seconds())

    def test_instances_that_all_go_while_they_are_tried(self) -> None:
        """When all instances go while the first is tried, there is no other: nothing breaks."""
        route = NamedRoute(self.context, "org.example.worker", None)
        first = self.context.peer("tcp:127.0.0.1:1")
        in_order = route._in_order(first)
        self.assertIs(next(in_order), first)
        self.assertEqual(list(in_order), [])

    def test_one_address_of_an_instance_is_used_at_a_time(self) -> None:
        """Of an instance's addresses one is used at a time: on this machine, if the nameserver is,
        and another when that fails.
        """
        here, there = self.servers[0][1], self.servers[1][1]
        self.names.put(here)
        self.names.records[0]["metadata"] = {"addresses": [f"{there}:timeout=3", here, 7, ""]}
        self.assertEqual(addresses_of(self.names.records[0]), [here, f"{there}:timeout=3"])
        remote = self.locate()
        self.assertEqual(set(self.ask(remote, 4)), {"0"})
        self.stop(0)
        self.assertEqual(set(self.ask(remote, 4)), {"1"})
        far = "tcp:192.0.2.1:1"
        self.names.records[0]["metadata"] = {"addresses": [here, far]}
        self.context.nameserver_address = "tcp:192.0.2.9:2012"
        route = NamedRoute(self.context, "org.example.worker", None)
        self.assertEqual(route._choose([here, far], {}).address, far)

    def test_moved_service_is_found(self) -> None:
        """A service that restarts at another address is found there."""
        self.names.put(self.servers[0][1])
        remote = self.locate()
        self.assertEqual(self.ask(remote, 1), ["0"])
        self.stop(0)
        call = remote.invoke("who")
        self.network.wait(2)
        self.assertNoResult(call)
        self.names.put(self.servers[1][1])
        self.network.wait(2)
        self.assertEqual(self.result(call), "1")

    def test_new_instances_get_calls(self) -> None:
        """Instances that come later get their calls, too, after some seconds."""
        self.names.put(self.servers[0][1])
        remote = self.locate()
        self.assertEqual(set(self.ask(remote, 3)), {"0"})
        self.names.put(self.servers[0][1], self.servers[1][1])
        self.network.wait(11)
        self.ask(remote, 1)
        self.assertEqual(set(self.ask(remote, 4)), {"0", "1"})

    def test_known_instances_are_used_without_the_nameserver(self) -> None:
        """Without the nameserver what is known goes on, and when it is back all does."""
        remote = self.locate()
        self.ask(remote, 3)
        port = self.context.nameserver_address.rpartition(":")[2]  # type: ignore[union-attr]
        listening = self.network.ports.pop(int(port))
        for connection in list(self.nameserver.connections):
            connection.goodbye()
        self.network.wait(11)
        self.assertEqual(len(set(self.ask(remote, 3))), 3)
        self.stop(0)
        self.assertEqual(set(self.ask(remote, 4)), {"1", "2"})
        self.stop(1)
        self.stop(2)
        call = remote.invoke("who", timeout=60)
        self.network.wait(5)
        self.assertNoResult(call)
        worker = Worker("new")
        _, address = serve(self.network, worker)
        self.names.put(address)
        self.network.ports[int(port)] = listening
        self.network.wait(5)
        self.assertEqual(self.result(call), "new")

    def test_context_without_nameserver_says_so(self) -> None:
        """A context without a nameserver, and one that is closed, say so."""
        problem = self.failure(Context(self.network).locate("org.example.worker"), PycomnetError)
        self.assertIn("nameserver=", str(problem))
        remote = self.locate()
        self.result(self.context.close())
        problem = self.failure(self.context.locate("org.example.worker"), PycomnetError)
        self.assertIn("closed", str(problem))
        self.failure(remote.invoke("who"), PycomnetError)

    def test_hanging_nameserver_does_not_end_a_call(self) -> None:
        """A nameserver that takes questions and answers none does not end a call that has time."""
        remote = self.locate("s00000")
        self.stop(0)
        answers = self.nameserver.methods["org.pycom.nameserver"]["locate"]
        found = answers.function
        answers.function = lambda request: defer.Deferred()
        call = remote.invoke("who", timeout=60)
        self.network.wait(8)
        self.assertNoResult(call)
        answers.function = found
        self.names.put(self.servers[1][1])
        self.network.wait(8)
        self.assertEqual(self.result(call), "1")
