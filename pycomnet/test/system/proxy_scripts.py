"""Scripts on proxies without Deferreds; run as those of blocking_scripts."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pycomnet
from pycomnet import blocking
from pycomnet.blocking.ext.proxy import InterfaceDiffers, Proxy, locate, proxy
from pycomnet.services.client.context import NAMESERVER
from pycomnet.test.system.blocking_scripts import raises

#: Seconds for what happens at once, unless something is wrong.
BOUND = 60


@pycomnet.interface("org.example.tools")
class Tools(pycomnet.Service):
    """Tools of all kinds."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.noted = threading.Event()

    @pycomnet.method(args={"a": int, "b": "int?"}, results=int)
    def add(self, request: Any) -> Any:
        """The sum."""
        return request.args["a"] + request.args.get("b", 0)

    @pycomnet.method(thread=True)
    def slow(self, request: Any) -> Any:
        """Waits until it is free."""
        assert self.free.wait(BOUND)
        return "done"

    @pycomnet.method(args={"text": "str?", "timeout": "float?"})
    def note(self, request: Any) -> Any:
        """Takes a note."""
        self.noted.set()
        return request.args

    @pycomnet.method(stream=True, args={"count": int})
    def ticks(self, request: Any) -> Any:
        """Numbers."""
        return iter(range(request.args["count"]))

    @pycomnet.method("import")
    def import_(self, request: Any) -> Any:
        """What came, and a name that is a keyword."""
        return request.args

    @pycomnet.method(thread=True)
    def call_back(self, request: Any) -> Any:
        """Calls a proxy that it gets, and waits for the result."""
        return proxy(request.args["to"]).add(a=40, b=2)

    @pycomnet.method()
    def fail(self, request: Any) -> Any:
        """Raises."""
        raise ValueError("it can't be")


@pycomnet.interface(NAMESERVER)
class Names(pycomnet.Service):
    """Knows where the tools are."""

    address = ""

    def _record(self) -> dict[str, Any]:
        found = ["org.example.tools"]
        return {"service": "tools", "interfaces": found, "address": self.address, "metadata": {}}

    @pycomnet.method(idempotent=True)
    def list_services(self, request: Any) -> Any:
        """The tools."""
        return [] if "after" in request.args else [self._record()]

    @pycomnet.method(args={"interface": "str?", "service": "str?", "tags": "list?"})
    def locate(self, request: Any) -> Any:
        """The tools."""
        return self._record()


@contextmanager
def tools() -> Iterator[tuple[Any, Any]]:
    """A service, with a nameserver that knows it; the service and a proxy of it."""
    with blocking.ServiceServer() as server:
        service, names = Tools(), Names()
        server.add(service)
        server.add(names)
        names.address = server.listen("tcp:0:interface=127.0.0.1")
        blocking.configure(nameserver=names.address)
        yield service, proxy(blocking.locate("org.example.tools"))


def calls() -> None:
    """Results come, streams are iterators, and what does not fit is a TypeError."""
    with tools() as (_, tool):
        for _ in range(2):
            assert tool.add(1, b=2) == 3
            assert list(tool.ticks(count=3)) == [0, 1, 2]
            raises(TypeError, tool.add)
            raises(TypeError, tool.add, 1, 2, 3)
        assert tool["import"](x=1) == {"x": 1}
        assert tool.note(timeout=1.5) == {"timeout": 1.5}
        assert tool.with_(timeout=BOUND).add(a=1) == 1
        assert tool.with_(args=[1])["import"]() == [1]
        raises(pycomnet.RemoteError, tool.fail)
        raises(AttributeError, getattr, tool, "ad")
        raises(AttributeError, getattr, tool, "_repr_html_")
        with tool.batch() as batch:
            added = [batch.add(a=n, b=1) for n in range(1000)]
            raises(RuntimeError, added[0].result)
        assert [call.result() for call in added] == list(range(1, 1001))
        with_error = tool.batch()
        failing = with_error.fail()
        raises(pycomnet.RemoteError, with_error.__exit__, None)
        raises(pycomnet.RemoteError, failing.result)
        in_turn = tool.batch(stop_at_error=True)
        failing, skipped = in_turn.fail(), in_turn.add(a=1)
        raises(pycomnet.RemoteError, in_turn.__exit__, None)
        raises(pycomnet.CallSkipped, skipped.result)
        assert locate("org.example.tools", timeout=BOUND).add(a=1) == 1


def seeds() -> None:
    """The nameserver's ``locate`` gives a proxy with its record."""
    with tools():
        ns = proxy(blocking.nameserver())
        ns = ns.locate(interface="org.pycom.nameserver")
        assert [info["service"] for info in ns.list_services()] == ["tools"]
        tool = ns.locate(interface="org.example.tools")
        assert isinstance(tool, Proxy)
        assert tool.record["service"] == "tools"
        assert tool.add(a=2, b=3) == 5


def said() -> None:
    """Signatures, help, completion, equality, copies and pickles are local."""
    with tools() as (_, tool):
        assert "Tools of all kinds" not in str(tool.__doc__)
        tool.add(1)
        assert str(inspect.signature(tool.add)) == "(a: int, b: int = ...) -> int"
        assert tool.add.__doc__ == "The sum."
        assert "Tools of all kinds" in tool.__doc__
        assert {"add", "ticks", "with_"} <= set(dir(tool))
        assert "import" in tool._ipython_key_completions_()
        assert "add(a: int, b: int = ...) -> int" in repr(tool.add)
        assert copy.copy(tool) == copy.deepcopy(tool) == tool
        again = pickle.loads(pickle.dumps(tool))
        assert again == tool
        assert hash(again) == hash(tool)
        assert again.add(a=1) == 1
        assert tool["import"](to=tool) == {"to": tool}
        assert isinstance(tool["import"](to=[tool])["to"][0], Proxy)
        assert tool.call_back(to=tool) == 42


def started() -> None:
    """Futures complete though nobody holds the proxy, and are cancelled."""
    with tools() as (service, tool):
        future = proxy(blocking.locate("org.example.tools")).slow.start()
        gc.collect()
        assert not future.done()
        told = threading.Event()
        threads: list[str] = []

        def done(future: Any) -> None:
            # It may block, and use proxies itself.
            threads.append(str(tool.add(a=1)))
            told.set()

        future.add_done_callback(done)
        service.free.set()
        assert future.result(BOUND) == "done"
        assert told.wait(BOUND)
        assert threads == ["1"]
        assert isinstance(tool.fail.start().exception(BOUND), pycomnet.RemoteError)
        assert isinstance(tool.add.start(1, 2, 3).exception(BOUND), TypeError)
        service.free.clear()
        cancelled = tool.slow.start()
        assert cancelled.cancel()
        assert cancelled.cancelled()
        service.free.set()
        assert tool.note.oneway(text="x") is None
        assert service.noted.wait(BOUND)
        raises(TypeError, tool.note.oneway, 1, 2, 3)


def threads() -> None:
    """Ten threads share a proxy, from its first use on, and each gets its own results."""
    with tools() as (_, tool):
        results: dict[int, list[int]] = {}

        def work(number: int) -> None:
            results[number] = [tool.add(a=number, b=each) for each in range(50)]

        workers = [threading.Thread(target=work, args=(number,)) for number in range(10)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(BOUND)
        for number in range(10):
            assert results[number] == [number + each for each in range(50)]


class Adding(Protocol):
    """What the client needs."""

    def add(self, a: int, b: int = ...) -> int: ...


class Subtracting(Protocol):
    """What the service does not have."""

    def subtract(self, a: int) -> int: ...


def typed() -> None:
    """A Protocol is compared with the service at the first call."""
    with tools() as (_, tool):
        assert proxy(tool, interface=Adding).add(1, 2) == 3
        problem = raises(InterfaceDiffers, proxy(tool, interface=Subtracting).subtract, 1)
        assert problem.differences == ["subtract: the service has no such method"]


if __name__ == "__main__":
    globals()[sys.argv[1]]()
