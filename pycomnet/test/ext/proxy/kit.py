"""A service for the tests of proxies, and what it has been asked."""

from __future__ import annotations

import io
from typing import Any

from twisted.internet import defer

from pycomnet.ext.proxy import Proxy, proxy
from pycomnet.services.binary import Binary
from pycomnet.services.interface import Service, interface, method
from pycomnet.test.services.network import ServiceCase


@interface("org.example.tools")
class Tools(Service):
    """Tools of all kinds."""

    def __init__(self) -> None:
        #: the methods that were called, with their arguments
        self.calls: list[tuple[str, Any]] = []
        self.waiting: list[defer.Deferred[Any]] = []
        self.cancelled = 0

    def _called(self, request: Any) -> Any:
        self.calls.append((request.method, request.args))
        return request.args

    @method("introspect", idempotent=True)
    def introspect(self, request: Any) -> dict[str, Any]:
        """What there is."""
        self._called(request)
        return super().introspect(request)

    @method(args={"a": int, "b": "int?"}, results=int)
    def add(self, request: Any) -> Any:
        """The sum of a and b.

        Without b it is a.
        """
        args = self._called(request)
        return args["a"] + args.get("b", 0)

    @method(args={"text": str, "timeout": "float?", "self": "str?", "name": "str?"})
    def say(self, request: Any) -> Any:
        """What came."""
        return self._called(request)

    @method()
    def anything(self, request: Any) -> Any:
        """What came, whatever it is."""
        return self._called(request)

    @method("import", args={"class": "str?", "max-size": "int?"})
    def import_(self, request: Any) -> Any:
        """A name that is a keyword."""
        return self._called(request)

    @method("DoSomeThingPH-v2-0")
    def dashed(self, request: Any) -> Any:
        """A name with hyphens."""
        return self._called(request)

    @method("a.b")
    def dotted(self, request: Any) -> Any:
        """A name with a dot."""
        return self._called(request)

    @method("_hidden")
    def hidden(self, request: Any) -> Any:
        """A name with an underscore."""
        return self._called(request)

    @method("with_")
    def own(self, request: Any) -> Any:
        """A name of a proxy's own."""
        return self._called(request)

    @method()
    def slow(self, request: Any) -> Any:
        """Waits for the test."""
        self._called(request)

        def cancel(_: object) -> None:
            self.cancelled += 1

        self.waiting.append(defer.Deferred(cancel))
        return self.waiting[-1]

    @method(stream=True, args={"count": int})
    async def ticks(self, request: Any) -> Any:
        """Numbers."""
        for number in range(self._called(request)["count"]):
            yield number

    @method(args={}, attachments=1)
    def upper(self, request: Any) -> Any:
        """The block in capital letters."""
        self._called(request)
        out = io.BytesIO(b"".join(file.read() for file in request.files).upper())
        return {"blocks": len(request.files)}, Binary(out)

    @method()
    def fail(self, request: Any) -> Any:
        """Raises."""
        raise ValueError("it can't be")

    @method()
    def listener(self, request: Any) -> Any:
        """Calls a proxy that it gets."""
        given = proxy(request.args["to"], context=request.context())
        return given.say(text="hello")


class ProxyCase(ServiceCase):
    """A test with a proxy of :class:`Tools`."""

    services = (Tools,)

    def setUp(self) -> None:
        super().setUp()
        self.remote = self.connect("org.example.tools")
        self.tools: Any = self.server.services[0]
        self.proxy: Proxy = proxy(self.remote)

    def known(self) -> Proxy:
        """The proxy, once it was used."""
        self.assertEqual(self.result(self.proxy.add(a=1)), 1)
        self.tools.calls.clear()
        return self.proxy

    def writes(self) -> tuple[list[bytes], list[bytes]]:
        """What client and server write from now on."""
        client, server = self.network.wires[0]
        client.transport.writes.clear()
        server.transport.writes.clear()
        return client.transport.writes, server.transport.writes

    def collected(self, stream: Any) -> list[Any]:
        """All values of a stream."""

        async def collect() -> list[Any]:
            return [value async for value in stream]

        found: list[Any] = self.result(defer.Deferred.fromCoroutine(collect()))
        return found
