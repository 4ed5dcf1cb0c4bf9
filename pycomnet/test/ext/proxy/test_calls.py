"""Calls through a proxy: what is sent for them, and what is refused here."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from twisted.internet import defer

from pycomnet.errors import (
    CallInterrupted,
    CallSkipped,
    DeadlineExceeded,
    InvalidArguments,
    RemoteError,
    ServiceUnreachable,
    UnknownMethod,
)
from pycomnet.ext.proxy import batches, descriptions, locate, proxy
from pycomnet.ext.proxy.methods import MOST_ONEWAY
from pycomnet.ext.proxy.signatures import InterfaceSignature
from pycomnet.services.binary import Binary
from pycomnet.services.client.context import Context
from pycomnet.services.client.reference import ServiceReference
from pycomnet.services.client.remotestream import RemoteStream
from pycomnet.services.interface import interface, method
from pycomnet.test.ext.proxy.kit import ProxyCase, Tools
from pycomnet.test.garbage import collects
from pycomnet.wire.values import ValueNotSendable


class ArgumentTests(ProxyCase):
    """Arguments are those of a Python function."""

    def test_keyword_and_positional_arguments_arrive_as_a_map(self) -> None:
        """Keywords, positions in the order of the declaration, and both; at first use and later."""
        for _ in range(2):
            self.assertEqual(self.result(self.proxy.add(a=1, b=2)), 3)
            self.assertEqual(self.result(self.proxy.add(1, 2)), 3)
            self.assertEqual(self.result(self.proxy.add(1, b=2)), 3)
            self.assertEqual(self.result(self.proxy.add(7)), 7)
        added = [args for name, args in self.tools.calls if name == "add"]
        self.assertEqual(added[:4], [{"a": 1, "b": 2}] * 3 + [{"a": 7}])

    def test_arguments_that_do_not_fit_are_a_type_error_and_are_not_sent(self) -> None:
        """Missing, unknown, too many and twice: as Python says it, and the server gets nothing."""
        add = self.known().add
        writes, _ = self.writes()
        for call, said in (
            (lambda: add(), r"add\(\) missing 1 required argument: 'a'"),
            (lambda: add(b=1), r"add\(\) missing 1 required argument: 'a'"),
            (lambda: add(1, c=2), r"add\(\) got an unexpected keyword argument 'c'"),
            (lambda: add(1, 2, 3), r"add\(\) takes 2 positional arguments but 3 were given"),
            (lambda: add(1, a=2), r"add\(\) got multiple values for argument 'a'"),
            (lambda: self.proxy.anything(1), r"anything\(\) takes keyword arguments only"),
            (lambda: self.proxy["import"](1), r"import\(\) takes 0 positional arguments but 1 was"),
        ):
            problem = self.failure(call(), TypeError)
            self.assertRegex(str(problem), said)
        self.assertEqual(writes, [])

    def test_first_use_is_checked_too(self) -> None:
        """A call that does not fit asks what there is, and is then not sent."""
        problem = self.failure(self.proxy.add(1, 2, 3), TypeError)
        self.assertIn("takes 2 positional arguments", str(problem))
        self.assertEqual([name for name, _ in self.tools.calls], ["introspect"])

    def test_no_argument_name_is_swallowed(self) -> None:
        """Arguments called ``timeout``, ``self`` and ``name`` are the method's."""
        args = {"text": "x", "timeout": 0.5, "self": "me", "name": "n"}
        for _ in range(2):
            self.assertEqual(self.result(self.proxy.say(**args)), args)

    def test_names_that_are_none_in_python_are_keywords_in_a_dict(self) -> None:
        """An argument called ``class``, and one with a hyphen."""
        args = {"class": "x", "max-size": 1}
        self.assertEqual(self.result(self.proxy["import"](**args)), args)

    def test_undeclared_method_takes_any_keywords_or_a_value_as_a_whole(self) -> None:
        """``with_(args=...)`` passes what is no map of arguments."""
        tools = self.known()
        self.assertEqual(self.result(tools.anything()), {})
        self.assertEqual(self.result(tools.anything(x=1)), {"x": 1})
        self.assertEqual(self.result(tools.with_(args=[1, 2]).anything()), [1, 2])
        problem = self.failure(tools.with_(args=1).anything(x=1), TypeError)
        self.assertIn("has its arguments from with_(args=...)", str(problem))

    def test_types_are_checked_by_the_service(self) -> None:
        """The service knows its types best; its error is that of ``invoke``."""
        self.failure(self.known().add(a="x"), InvalidArguments)


@collects
class FirstUseTests(ProxyCase):
    """What a proxy's first use costs."""

    def test_first_use_is_one_round_trip_more(self) -> None:
        """The first call asks what there is, once; the second asks nothing."""
        client, server = self.writes()
        self.assertEqual(self.result(self.proxy.add(a=1)), 1)
        self.assertEqual((len(client), len(server)), (2, 2))
        self.assertEqual(self.result(self.proxy.say(text="x")), {"text": "x"})
        self.assertEqual((len(client), len(server)), (3, 3))

    def test_first_calls_at_the_same_time_share_one_request(self) -> None:
        """Ten calls before anything is known: one ``introspect``."""
        calls = [self.proxy.add(a=number) for number in range(10)]
        self.network.deliver()
        self.assertEqual([self.successResultOf(call) for call in calls], list(range(10)))
        self.assertEqual([name for name, _ in self.tools.calls].count("introspect"), 1)

    def test_making_a_proxy_calls_nothing(self) -> None:
        """It is made of a service, of a Deferred of one, and of a proxy, and of nothing else."""
        writes, _ = self.writes()
        waiting: defer.Deferred[Any] = defer.Deferred()
        made = [proxy(self.remote), proxy(waiting), proxy(self.proxy)]
        self.network.deliver()
        self.assertEqual(writes, [])
        waiting.callback(self.remote)
        for one in made:
            self.assertEqual(self.result(one.add(a=1)), 1)
        self.assertRaises(TypeError, proxy, "tcp:127.0.0.1:1")

    def test_service_that_is_not_found_fails_each_call(self) -> None:
        """The Deferred's failure is that of the calls."""
        failed = proxy(defer.fail(ServiceUnreachable("gone")))
        for _ in range(2):
            self.failure(failed.add(a=1), ServiceUnreachable)

    def test_second_proxy_of_a_service_asks_nothing(self) -> None:
        """What one proxy has learnt, others of the same context know; not those of another one."""
        self.known()
        client, _ = self.writes()
        second = proxy(self.context.at(self.address, "org.example.tools"))
        self.assertEqual(self.result(second.add(a=1)), 1)
        self.assertEqual(len(client), 1)
        self.assertEqual(self.tools.calls, [("add", {"a": 1})])
        other = proxy(self.proxy, context=Context(self.network))
        self.assertEqual(self.result(other.add(a=1)), 1)
        self.assertIn(("introspect", None), self.tools.calls)

    def test_descriptions_that_are_kept_are_bounded(self) -> None:
        """The oldest goes first, and all go with the context's connections."""
        self.patch(descriptions, "MOST_KEPT", 3)
        described = descriptions.KnownInterface(InterfaceSignature.from_map("i", None), 0.0)
        context = Context(self.network)
        references = [ServiceReference("i", address=f"tcp:h:{n}") for n in range(5)]
        for each in references:
            descriptions.keep_interface(context, each, described)
        kept = [descriptions.known_interface(context, each) for each in references]
        self.assertEqual([each is described for each in kept], [False, False, True, True, True])
        pool = weakref.ref(context.pool)
        del context
        gc.collect()
        self.assertIsNone(pool())

    def test_cancelled_first_call_leaves_the_others(self) -> None:
        """Each waits for itself; the request is cancelled when nobody waits for it."""
        first, second = self.proxy.add(a=1), self.proxy.add(a=2)
        first.cancel()
        self.failure(first, defer.CancelledError)
        self.assertEqual(self.result(second), 2)
        other = proxy(self.proxy, context=Context(self.network))
        only = other.add(a=1)
        only.cancel()
        self.failure(only, defer.CancelledError)
        self.assertEqual(self.result(other.add(a=3)), 3)

    def test_method_that_the_service_has_got_since_is_found(self) -> None:
        """What does not fit an old description is compared with a new one before it is refused."""
        self.known()
        held = self.proxy.add
        bound = self.server.methods["org.example.tools"]
        declared = Tools.interfaces["org.example.tools"]
        self.addCleanup(setattr, Tools, "interfaces", Tools.interfaces)

        @interface("org.example.tools")
        class Newer(Tools):
            """With another argument, and another method."""

            @method(args={"a": int, "c": int})
            def add(self, request: Any) -> Any:
                """Another sum."""
                return request.args["a"] + request.args["c"]

            @method(args={})
            def fresh(self, request: Any) -> str:
                """A new one."""
                return "fresh"

        newer = Newer()
        self.assertIsNot(newer.interfaces["org.example.tools"], declared)
        bound.clear()
        self.server.services.remove(self.tools)
        del self.server.methods["org.example.tools"]
        self.successResultOf(self.server.add(newer))
        self.network.advance(2)
        self.assertEqual(self.result(held(a=1, c=4)), 5)
        self.assertEqual(self.result(self.proxy.add(a=1, c=2)), 3)
        self.assertEqual(self.result(self.proxy.fresh()), "fresh")

    def test_unknown_method_is_the_services_own_error(self) -> None:
        """Before anything is known, the service says what it has."""
        problem = self.failure(self.proxy.ad(a=1), UnknownMethod)
        self.assertIn("org.example.tools has no method 'ad'", str(problem))


class OptionTests(ProxyCase):
    """Options never share a call with arguments."""

    def test_timeout_is_that_of_the_calls(self) -> None:
        """With ``with_(timeout=...)``, at first use and later."""
        for _ in range(2):
            call = self.proxy.with_(timeout=5).slow()
            self.network.deliver()
            self.network.wait(6)
            self.failure(call, DeadlineExceeded)

    def test_first_use_has_the_timeout_as_a_whole(self) -> None:
        """A service that does not answer at all ends the first call at its deadline."""
        call = self.proxy.with_(timeout=5).add(a=1)
        self.network.advance(5)
        self.failureResultOf(call, DeadlineExceeded)

    def test_timeout_that_is_none_sends_nothing(self) -> None:
        """Zero, less, and what is no number of seconds; at first use and later, as for invoke."""
        for tools in (self.proxy, self.known()):
            writes, _ = self.writes()
            for timeout, kind in (
                (0, DeadlineExceeded),
                (-1, DeadlineExceeded),
                (1e300, ValueError),
            ):
                self.failure(tools.with_(timeout=timeout).add(a=1), kind)
                self.failure(tools.with_(timeout=timeout)["add"](a=1), kind)
            self.assertEqual(writes, [])

    def test_blocks_go_beside_the_arguments(self) -> None:
        """``attachments`` are sent, and with ``binary`` there are (result, files)."""
        self.network.runs_threads = True
        for tools in (self.proxy, self.known()):
            optional = tools.with_(binary=True, attachments=[Binary(b"abc")], timeout=9)
            result, files = self.result(optional.upper())
            self.assertEqual((result, files[0].read()), ({"blocks": 1}, b"ABC"))
        problem = self.failure(
            tools.with_(attachments=[Binary(b"a"), Binary(b"b")]).upper(), TypeError
        )
        self.assertIn("upper() takes 1 attachments but 2 were given", str(problem))

    def test_options_add_up_and_leave_the_proxy_alone(self) -> None:
        """``with_`` keeps what it does not name, and makes another proxy."""
        self.network.runs_threads = True
        both = self.known().with_(binary=True).with_(timeout=5)
        self.assertEqual(self.result(both.say(text="x")), ({"text": "x"}, []))
        self.assertEqual(self.result(self.proxy.say(text="x")), {"text": "x"})
        self.assertRaises(TypeError, self.proxy.with_, text="x")

    def test_remote_error_and_lost_connection_are_those_of_invoke(self) -> None:
        """A proxy adds nothing to the errors of calls."""
        self.failure(self.known().fail(), RemoteError)
        call = self.proxy.slow()
        self.network.deliver()
        self.network.cut()
        self.failure(call, CallInterrupted)


@collects
class StreamTests(ProxyCase):
    """Streams are async iterators."""

    def test_stream_is_iterated_over(self) -> None:
        """At first use and later, and after it was awaited."""
        for _ in range(2):
            self.assertEqual(self.collected(self.proxy.ticks(count=3)), [0, 1, 2])
        stream = self.result(self.proxy.ticks(count=2))
        self.assertIsInstance(stream, RemoteStream)
        self.assertEqual(self.collected(stream), [0, 1])

    def test_value_that_is_no_stream_is_not_iterated_over(self) -> None:
        """At first use there is an iterator, which then says so."""
        call = self.proxy.add(a=1)

        async def iterate() -> None:
            async for _ in call:
                self.fail("there is nothing")

        problem = self.failure(defer.Deferred.fromCoroutine(iterate()), TypeError)
        self.assertIn("no stream: await it", str(problem))

    def test_error_of_a_stream_is_raised_by_its_iteration(self) -> None:
        """Arguments that do not fit; and nothing is left unhandled."""
        for _ in range(2):
            stream = self.proxy.ticks(number=3)

            async def iterate(stream: Any = stream) -> None:
                async for _ in stream:
                    self.fail("there is nothing")

            self.failure(defer.Deferred.fromCoroutine(iterate()), TypeError)
            del stream
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_stream_has_no_blocks(self) -> None:
        """Neither attachments nor ``binary``."""
        self.failure(self.proxy.with_(binary=True).ticks(count=1), TypeError)


@collects
class OnewayTests(ProxyCase):
    """Calls whose results nobody waits for."""

    def test_oneway_does_not_wait_for_the_method(self) -> None:
        """It fires when the call is on its way, though the method goes on."""
        self.known()
        self.assertIsNone(self.successResultOf(self.proxy.slow.oneway()))
        self.network.deliver()
        self.assertEqual(self.tools.calls, [("slow", {})])

    def test_oneway_checks_arguments_and_drops_errors(self) -> None:
        """What does not fit fails; what the method raises does not."""
        self.failure(self.proxy.add.oneway(1, 2, 3), TypeError)
        self.failure(self.proxy.ticks.oneway(count=1), TypeError)
        self.assertIsNone(self.result(self.proxy.fail.oneway()))
        self.network.deliver()
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_calls_under_way_are_bounded(self) -> None:
        """One above the limit waits until another has ended."""
        slow = self.known().slow
        for _ in range(MOST_ONEWAY):
            self.successResultOf(slow.oneway())
        waiting = slow.oneway()
        self.network.deliver()
        self.assertNoResult(waiting)
        self.tools.waiting[0].callback(None)
        self.assertIsNone(self.result(waiting))


class BatchTests(ProxyCase):
    """Calls that go in one write."""

    def batch(self, tools: Any, add: Any) -> Any:
        """A batch, and what it gave."""

        async def run() -> Any:
            async with tools.batch() as calls:
                added = add(calls)
            return added

        return defer.Deferred.fromCoroutine(run())

    def test_batch_is_one_write_each_way(self) -> None:
        """A thousand calls, and their results."""
        tools = self.known()
        client, _ = self.writes()
        made = self.batch(tools, lambda calls: [calls.add(a=n, b=1) for n in range(1000)])
        results = self.result(made)
        self.assertEqual([call.result() for call in results], list(range(1, 1001)))
        self.assertEqual(len(client), 1)

    def test_first_use_may_be_a_batch(self) -> None:
        """It asks what there is, and is then one write."""
        client, _ = self.writes()
        (call,) = self.result(self.batch(self.proxy, lambda calls: [calls["a.b"](x=1)]))
        self.assertEqual(call.result(), {"x": 1})
        self.assertEqual(len(client), 2)

    def test_result_before_the_end_is_an_error_and_no_hang(self) -> None:
        """Also if it is awaited in the block; then nothing is sent."""
        tools = self.known()

        async def run() -> None:
            async with tools.batch() as calls:
                await calls.add(a=1)

        problem = self.failure(defer.Deferred.fromCoroutine(run()), RuntimeError)
        self.assertIn("a batch is sent at the end of its with block", str(problem))
        self.assertEqual(self.tools.calls, [])

    def test_first_error_is_raised_and_all_are_kept(self) -> None:
        """All calls are done when the block raises."""
        tools, kept = self.known(), []
        made = self.batch(tools, lambda calls: kept.extend([calls.fail(), calls.add(a=1)]))
        self.failure(made, RemoteError)
        self.assertRaises(RemoteError, kept[0].result)
        self.assertEqual(kept[1].result(), 1)

    def test_what_does_not_fit_sends_nothing(self) -> None:
        """Known before, it is an error in the block; else at its end."""
        made = self.batch(self.proxy, lambda calls: [calls.add(a=1), calls.add(1, 2, 3)])
        self.failure(made, TypeError)
        made = self.batch(self.proxy, lambda calls: [calls.add(a=1), calls.ticks(count=1)])
        self.failure(made, TypeError)
        self.assertEqual([name for name, _ in self.tools.calls], ["introspect"])

    def test_batch_has_no_blocks_and_is_sent_once(self) -> None:
        """Blocks are refused; a call after the end is an error; names are those of proxies."""
        self.assertRaises(TypeError, self.proxy.with_(binary=True).batch)
        kept: list[Any] = []
        self.result(self.batch(self.known(), kept.append))
        self.assertRaises(RuntimeError, kept[0].add, a=1)
        self.assertRaises(AttributeError, lambda: kept[0]._sent_)
        self.assertEqual((len(kept[0]), list(kept[0])), (0, []))

    def test_argument_that_cannot_be_sent_fails_its_call_alone(self) -> None:
        """The others are sent; the error says what and where it is."""
        tools, kept = self.known(), []
        made = self.batch(
            tools, lambda calls: kept.extend([calls.anything(x=[object()]), calls.add(a=1)])
        )
        problem = self.failure(made, ValueNotSendable)
        self.assertIn('args["x"][0]', str(problem))
        self.assertEqual(kept[1].result(), 1)

    def test_batch_is_one_frame_each_way(self) -> None:
        """A request and a reply, and not a call for each."""
        tools = self.known()
        client, _ = self.network.wires[0]
        self.result(self.batch(tools, lambda calls: [calls.add(a=n) for n in range(100)]))
        opened = client.protocol.mux.calls._table.next_id
        self.result(self.batch(tools, lambda calls: [calls.add(a=n) for n in range(100)]))
        self.assertEqual(client.protocol.mux.calls._table.next_id, opened + 2)

    def test_positions_and_keywords_are_bound_as_in_a_call(self) -> None:
        """Whatever way they are given, once the method is known and before."""
        for tools in (self.known(), proxy(self.connect("org.example.tools"))):
            made = self.batch(
                tools,
                lambda calls: [
                    calls.add(1),
                    calls.add(1, 2),
                    calls.add(a=1),
                    calls.add(1, b=3),
                    calls.add(b=4, a=1),
                ],
            )
            self.assertEqual([call.result() for call in self.result(made)], [1, 3, 1, 4, 5])

    def test_stop_at_error_makes_one_call_after_the_other(self) -> None:
        """And none after one that fails, in the same part or the next."""
        self.patch(batches, "MOST_AT_ONCE", 4)
        tools, kept = self.known(), []

        async def run() -> None:
            async with tools.batch(stop_at_error=True) as calls:
                kept.extend([calls.slow(), calls.add(a=1), calls.fail(), calls.add(a=2)])
                kept.extend([calls.add(a=3)])

        made = defer.Deferred.fromCoroutine(run())
        self.network.deliver()
        self.assertEqual([name for name, _ in self.tools.calls], ["slow"])
        self.tools.waiting[0].callback("slow")
        self.failure(made, RemoteError)
        self.assertEqual([call.result() for call in kept[:2]], ["slow", 1])
        self.assertRaises(RemoteError, kept[2].result)
        for call in kept[3:]:
            self.assertRaises(CallSkipped, call.result)
        self.assertEqual([name for name, _ in self.tools.calls], ["slow", "add"])

    def test_long_batch_goes_in_parts(self) -> None:
        """So that it has no more calls under way than a server allows."""
        self.patch(batches, "MOST_AT_ONCE", 10)
        tools = self.known()
        client, _ = self.writes()
        made = self.batch(tools, lambda calls: [calls.add(a=n) for n in range(25)])
        self.assertEqual([call.result() for call in self.result(made)], list(range(25)))
        self.assertEqual(len(client), 3)

    def test_cancelled_batch_cancels_its_calls(self) -> None:
        """At the server as well."""
        made = self.batch(self.known(), lambda calls: [calls.slow(), calls.slow(), calls.add(a=1)])
        self.network.deliver()
        made.cancel()
        self.failure(made, defer.CancelledError)
        self.assertEqual(self.tools.cancelled, 2)

    def test_connection_that_breaks_fails_the_calls(self) -> None:
        """As each call by itself: they may have run."""
        made = self.batch(self.known(), lambda calls: [calls.slow(), calls.slow()])
        self.network.deliver()
        self.network.cut()
        self.failure(made, CallInterrupted)

    def test_timeout_is_that_of_all(self) -> None:
        """The batch's calls share the deadline of ``with_``."""
        made = self.batch(self.known().with_(timeout=5), lambda calls: [calls.slow()])
        self.network.deliver()
        self.network.wait(6)
        self.failure(made, DeadlineExceeded)
        self.assertEqual(self.tools.cancelled, 1)


@collects
class TemporaryTests(ProxyCase):
    """A proxy need not be kept."""

    def test_call_of_a_temporary_proxy_completes(self) -> None:
        """Nobody holds the proxy while its call is under way."""
        call = proxy(self.remote).slow()
        self.network.deliver()
        gc.collect()
        self.tools.waiting[0].callback("done")
        self.assertEqual(self.result(call), "done")

    def test_service_is_reached_again_after_its_connection_broke(self) -> None:
        """A proxy is as robust as its service."""
        self.known()
        self.network.cut()
        self.assertEqual(self.result(self.proxy.add(a=2)), 2)


class LocateFunctionTests(ProxyCase):
    """The function ``locate``."""

    def test_unknown_nameserver_is_the_contexts_error(self) -> None:
        """It fails as the context's ``locate`` does."""
        problem = self.failure(locate("org.example.tools", context=self.context))
        self.assertIn("has no nameserver", str(problem))
