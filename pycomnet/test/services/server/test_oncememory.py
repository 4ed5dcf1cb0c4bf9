"""Methods that answer a repetition from what was kept of the first call."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from pycomnet.errors import (
    KeyConflict,
    OnceMemoryLost,
    Overloaded,
    RemoteError,
    ResultNotSendable,
    from_map,
)
from pycomnet.services.binary import Binary
from pycomnet.services.interface import Service, interface, method
from pycomnet.services.server.limits import ServerLimits
from pycomnet.services.server.server import ServiceServer
from pycomnet.test.services.network import ServiceCase


@interface("org.example.till")
class Till(Service):
    """Takes money."""

    def __init__(self) -> None:
        self.paid: list[Any] = []
        self.slow: list[defer.Deferred[Any]] = []
        self.seen: list[Any] = []

    @method(once=True, args={"sum": "int"})
    def pay(self, request: Any) -> Any:
        """Pay a sum."""
        if request.args["sum"] < 0:
            raise ValueError("less than nothing")
        self.paid.append(request.args["sum"])
        return {"paid": len(self.paid)}

    @method(once=True)
    def pay_slowly(self, request: Any) -> Any:
        self.paid.append(request.args)
        self.slow.append(defer.Deferred())
        return self.slow[-1]

    @method(once=True, thread=True)
    def pay_in_thread(self, request: Any) -> Any:
        self.paid.append(request.args)
        return len(self.paid)

    @method()
    def look(self, request: Any) -> Any:
        self.seen.append((request.key, request.on_behalf_of, request.memory))

    @method(stream=True)
    def look_on(self, request: Any) -> Any:
        self.look(request)
        yield request.args


class OnceTests(ServiceCase):
    """One server and a client."""

    services = (Till,)
    limits = ServerLimits(once_answers=6, once_time=100.0)

    def setUp(self) -> None:
        super().setUp()
        self.call_worker()

    def make_server(self) -> ServiceServer:
        return ServiceServer(self.network, threads=self.network, limits=self.limits)

    def pay(
        self, key: str | None, args: Any, method: str = "pay", memory: str | None = None
    ) -> Any:
        return self.remote.saying(key, memory=memory).invoke(method, args)

    def test_repetition_is_answered_from_what_was_kept(self) -> None:
        """The same key has the same answer, and one effect; other keys and none have their own."""
        first = self.result(self.pay("k", {"sum": 5}))
        self.assertEqual(self.result(self.pay("k", {"sum": 5})), first)
        self.assertEqual(self.worker.paid, [5])
        self.result(self.pay("l", {"sum": 5}))
        self.result(self.pay(None, {"sum": 5}))
        self.assertEqual(len(self.worker.paid), 3)

    def test_key_of_other_arguments_is_refused(self) -> None:
        """A key that was used with other arguments does not run."""
        self.result(self.pay("k", {"sum": 5}))
        self.failure(self.pay("k", {"sum": 6}), KeyConflict)
        self.assertEqual(self.worker.paid, [5])

    def test_error_is_not_kept(self) -> None:
        """A method that raised has had no effect: it runs again."""
        self.failure(self.pay("k", {"sum": -1}), RemoteError)
        self.failure(self.pay("k", {"sum": -1}), RemoteError)
        self.result(self.pay("k", {"sum": 1}))
        self.assertEqual(self.worker.paid, [1])

    def test_error_of_another_service_is_the_methods_own(self) -> None:
        """It is not taken for one of this call, which nobody has cut off: nothing repeats it."""
        codes = ("interrupted", "unreachable", "once-memory", "leaving", "unauthenticated")
        for number, code in enumerate(codes):
            one = self.pay("k", number, "pay_slowly")
            self.network.deliver()
            self.worker.slow.pop().errback(from_map({"code": code, "message": "the bank's"}))
            problem = self.failure(one)
            self.assertEqual((problem.code, str(problem)), (code, "the bank's"))
            self.assertTrue(problem.nested)
        self.assertEqual(self.worker.paid, list(range(len(codes))))

    def test_repetition_waits_for_the_call_under_way(self) -> None:
        """While the first runs, a repetition waits; both have its answer."""
        one = self.pay("k", 5, "pay_slowly")
        two = self.pay("k", 5, "pay_slowly")
        self.network.deliver()
        self.assertEqual(self.worker.paid, [5])
        self.worker.slow[0].callback("done")
        self.assertEqual([self.result(one), self.result(two)], ["done", "done"])

    def test_result_that_cannot_be_kept_is_not_computed_again(self) -> None:
        """What can't be encoded is an error to those who wait, and to who comes later the error
        that it has run."""
        waiting = [self.pay("k", 5, "pay_slowly") for _ in range(2)]
        self.network.deliver()
        self.worker.slow[0].callback(object())
        for one in waiting:
            self.failure(one, ResultNotSendable)
        for _ in range(2):
            problem = self.failure(self.pay("k", 5, "pay_slowly"), OnceMemoryLost)
            self.assertIn("has run, and its result could not be kept", str(problem))
        self.assertEqual(self.worker.paid, [5])

    def test_method_runs_to_its_end_without_its_caller(self) -> None:
        """When the caller is cut off, the method is not cancelled, and a repetition has its
        answer."""
        one = self.pay("k", 5, "pay_slowly")
        self.network.deliver()
        self.network.cut()
        self.failure(one)
        self.worker.slow[0].callback("done")
        self.assertEqual(self.result(self.pay("k", 5, "pay_slowly")), "done")
        self.assertEqual(self.worker.paid, [5])

    def test_what_runs_is_not_forgotten(self) -> None:
        """However old it is, and though nobody waits for it."""
        one = self.pay("k", 5, "pay_slowly")
        self.network.deliver()
        self.network.cut()
        self.failure(one)
        self.network.wait(350, 10)
        two = self.pay("k", 5, "pay_slowly")
        self.network.deliver()
        self.assertEqual(self.worker.paid, [5])
        self.worker.slow[0].callback("done")
        self.assertEqual(self.result(two), "done")

    def test_order_of_arguments_does_not_matter(self) -> None:
        """Maps are the same in any order; lists are not."""
        one = self.pay("k", {"b": [1, 2], "a": {"d": 1, "c": 2}}, "pay_in_thread")
        self.result(one)
        self.result(self.pay("k", {"a": {"c": 2, "d": 1}, "b": [1, 2]}, "pay_in_thread"))
        self.failure(
            self.pay("k", {"a": {"c": 2, "d": 1}, "b": [2, 1]}, "pay_in_thread"), KeyConflict
        )
        self.assertEqual(len(self.worker.paid), 1)

    def test_in_a_thread(self) -> None:
        """A method that blocks runs in a thread, once."""
        self.assertEqual(self.result(self.pay("k", 5, "pay_in_thread")), 1)
        self.assertEqual(self.result(self.pay("k", 5, "pay_in_thread")), 1)
        self.assertEqual(self.worker.paid, [5])

    def test_call_for_another_memory_is_not_run(self) -> None:
        """A call that names another process's memory is refused, with the name of this one."""
        problem = self.failure(self.pay("k", {"sum": 5}, memory="other.0"), OnceMemoryLost)
        self.assertEqual(self.worker.paid, [])
        self.result(self.pay("k", {"sum": 5}, memory=problem.memory))
        self.assertEqual(self.worker.paid, [5])

    def test_answers_are_kept_for_a_time_and_then_refused(self) -> None:
        """A repetition that comes too late is refused, as its answer is forgotten."""
        peer, _ = self.result(defer.Deferred.fromCoroutine(self.reach()))
        memory = peer.memory
        self.result(self.pay("k", {"sum": 5}, memory=memory))
        self.network.wait(150, 10)
        self.result(self.pay("k", {"sum": 5}, memory=memory))
        self.network.wait(100, 10)
        self.failure(self.pay("k", {"sum": 5}, memory=memory), OnceMemoryLost)
        self.assertEqual(self.worker.paid, [5])

    async def reach(self) -> Any:
        return await self.remote.reach(None)

    def test_number_of_answers_is_bounded(self) -> None:
        """No answer is forgotten early: what does not fit is refused, until time has passed. One
        user has not all of it."""
        for key in "abc":
            self.result(self.pay(key, {"sum": 1}))
        self.failure(self.pay("d", {"sum": 1}), Overloaded)
        self.network.wait(250, 10)
        self.result(self.pay("d", {"sum": 1}))

    def test_method_sees_what_is_said_of_a_call(self) -> None:
        """Key, user and memory arrive, of calls, of calls with blocks and of streams; without them
        they are None."""
        said = self.remote.saying("k", "bob", "m")
        for remote in (said, self.remote):
            self.result(remote.invoke("look"))
            self.result(remote.invoke("look", attachments=[Binary(b"x")]))
            self.assertEqual(self.result(remote.stream("look_on", 7).receive()), 7)
        self.assertEqual(self.worker.seen, [("k", "bob", "m")] * 3 + [(None, None, None)] * 3)

    def test_what_is_not_valid_does_not_count(self) -> None:
        """Other types and long texts are as if nothing was said."""
        for about in ({"key": 5}, {"key": "x" * 2000}, {"key": ""}, [1], "text", None):
            call = self.remote.saying()
            call.about = about
            self.result(call.invoke("look"))
        self.assertEqual(set(self.worker.seen), {(None, None, None)})

    def test_stream_is_no_method_with_once(self) -> None:
        """``once`` and ``stream`` exclude one another."""
        with self.assertRaisesRegex(TypeError, "once and stream"):
            method(once=True, stream=True)
