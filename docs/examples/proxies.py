"""A service and its proxies, in one process."""

import inspect
import pickle
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import react

import pycomnet
from pycomnet.ext.proxy import InterfaceDiffers, proxy


@pycomnet.interface("org.example.tools")
class Tools(pycomnet.Service):
    """Some tools."""

    @pycomnet.method(args={"a": int, "b": "int?"}, results=int)
    def add(self, request: Any) -> int:
        """The sum of a and b."""
        return int(request.args["a"] + request.args.get("b", 0))

    @pycomnet.method(stream=True, args={"count": int})
    def ticks(self, request: Any) -> Any:
        """Numbers."""
        return iter(range(request.args["count"]))

    @pycomnet.method("import", args={"class": "str?"})
    def import_(self, request: Any) -> Any:
        """A name that is one of Python's keywords."""
        return request.args

    @pycomnet.method(args={"listener": "a proxy with a method add"})
    async def call_back(self, request: Any) -> Any:
        """Calls who is given."""
        listener = proxy(request.args["listener"], context=request.context())
        return await listener.add(a=40, b=2)


class Adding(Protocol):
    """What this client needs of the service."""

    def add(self, a: int, b: int = ...) -> Deferred[int]: ...


class Subtracting(Protocol):
    """What another client would need, which this service does not offer."""

    def subtract(self, a: int, b: int) -> Deferred[int]: ...


async def main(reactor: Any) -> None:
    server = pycomnet.ServiceServer(reactor)
    await server.add(Tools())
    address = await server.listen("tcp:0:interface=127.0.0.1")
    async with pycomnet.Context(reactor) as context:
        await use(proxy(await context.connect(address)))
    await server.close()


async def use(tools: Any) -> None:
    # Keywords, or positions in the order of the declaration.
    assert await tools.add(a=1, b=2) == await tools.add(1, 2) == 3

    # What does not fit the declaration is not sent.
    try:
        await tools.add(1, c=2)
    except TypeError as error:
        print(error)

    # Streams.
    assert [number async for number in tools.ticks(count=3)] == [0, 1, 2]

    # A name that can't be an attribute, and an argument that can't be a keyword argument.
    assert await tools["import"](**{"class": "x"}) == {"class": "x"}

    # Options never share a call with arguments.
    assert await tools.with_(timeout=5).add(a=1) == 1

    # Calls that go in one request.
    async with tools.batch() as calls:
        sums = [calls.add(a=number, b=1) for number in range(1000)]
    assert [call.result() for call in sums] == list(range(1, 1001))

    # What is known of a method.
    assert str(inspect.signature(tools.add)) == "(a: int, b: int = ...) -> int"
    assert tools.add.__doc__ == "The sum of a and b."

    # A proxy as an argument, and stored.
    assert await tools.call_back(listener=tools) == 42
    assert pickle.loads(pickle.dumps(tools)) == tools

    # With types.
    adding = proxy(tools, interface=Adding)
    assert await adding.add(1, 2) == 3
    try:
        await proxy(tools, interface=Subtracting).subtract(1, 2)
    except InterfaceDiffers as error:
        print(error)


react(main)
