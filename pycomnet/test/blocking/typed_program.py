"""A user's program against :mod:`pycomnet.blocking`: never run, checked by mypy in strict mode.

What it says of the types has to be so, or the step of the types fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from queue import Queue
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from pycomnet import blocking
from pycomnet.blocking import Channel, Context, Gateway, Group, MultiChannel, ServiceServer
from pycomnet.gateways.concurrentstart import Progress
from pycomnet.gateways.localfactory import Resumable
from pycomnet.gateways.output import Output
from pycomnet.services.interface import Service

if TYPE_CHECKING:
    from typing_extensions import assert_type


def gateways() -> None:
    """Gateways and channels."""
    with Group(output=lambda output: print(output.text), trusted=False) as group:
        gateway = group.makegateway("popen//id=worker", timeout=10, python="python3")
        assert_type(gateway, Gateway)
        assert_type(gateway.id, str)
        assert_type(gateway.group, Group)
        assert_type(gateway.ping(timeout=2), float)
        assert_type(gateway.join(timeout=1), "int | None")
        assert_type(group["worker"], Gateway)
        assert_type(list(group), list[Gateway])
        assert_type(group.makegateways(["popen", "popen"], parallel=2), list[Gateway])
        channel = gateway.remote_exec("channel.send(1)", timeout=3)
        assert_type(channel, Channel)
        assert_type(channel.receive(timeout=1), Any)
        assert_type(iter(channel), Iterator[Any])
        channel.send({"a": [1, 2]}, timeout=1)
        channel.setcallback(print, endmarker=None)
        with channel.makefile("r") as file:
            assert_type(file, blocking.ChannelFile)
        many = group.remote_exec("channel.send(1)")
        assert_type(many, MultiChannel)
        assert_type(many.receive_each(timeout=1), list[Any])
        assert_type(blocking.ChannelGateway(channel), Gateway)


def services(service: Service) -> None:
    """Services, by a context and by the default one."""
    with ServiceServer(tracebacks=True) as server, Context(timeout=5) as context:
        server.add(service)
        address = server.listen("tcp:0", timeout=2)
        assert_type(address, str)
        remote = context.connect(address, timeout=1)
        assert_type(remote, blocking.RemoteService)
        assert_type(remote.invoke("add", {"a": 1}, timeout=1), Any)
        with remote.stream("count", 3) as stream:
            assert_type(stream, blocking.RemoteStream)
            assert_type(stream.receive(timeout=1), Any)
    assert_type(blocking.locate("org.example.calc", timeout=1), blocking.RemoteService)
    assert_type(blocking.nameserver(), blocking.RemoteService)


def shown(output: Output) -> None:
    """An output callback."""
    assert_type(output.text, str)


def failed(failure: Failure) -> None:
    """An errback."""


def progressed(progress: Progress) -> None:
    """A progress callback."""
    assert_type(progress.done, int)


def added(a: int, b: int) -> int:
    """A function to be called elsewhere."""
    return a + b


def callbacks(group: Group) -> None:
    """Each method that takes functions, and those whose result depends on the arguments."""
    gateways = group.makegateways(["popen"], progress=progressed, timeout=10)
    gateway = gateways[0]
    gateway.setoutput(shown, timeout=1)
    assert_type(gateway.call(added, 1, b=2, timeout=3), Any)
    assert_type(gateway.call("operator:add", 1, 2), Any)
    assert_type(gateway.request_for(added, awaits=True), dict[str, Any])
    channel = gateway.remote_exec(added, a=1)
    channel.setcallback(print, failed, None, timeout=1)
    channel.setcallback(lambda value: print(value), errback=lambda failure: print(failure.value))
    assert_type(channel.gateway, Gateway)
    assert_type(gateway.resumed, dict[int, Channel])
    assert_type(gateway.newchannel(raw=True), Channel)
    assert_type(group.resumable(timeout=1), list[Resumable])
    with channel.makefile("w", proxyclose=True, timeout=1) as file:
        file.write("text")
        file.writelines(["a", "b"])
        file.writelines([b"a", b"b"])
        assert_type(file.closed, bool)
        assert_type([line for line in file], list[Any])
    many = group.remote_exec(added, a=1, timeout=2)
    assert_type(many.make_receive_queue(endmarker=None), Queue[tuple[Channel, Any]])
    assert_type([channel.id for channel in many], list[int])
    assert_type(many[0], Channel)
    with blocking.GatewayExecutor(gateways) as executor:
        assert_type(executor.submit(added, 1, b=2), Future[Any])
        assert_type(list(executor.map(added, [1], [2])), list[Any])


def refused(group: Group, channel: Channel) -> None:
    """What is wrong is an error: mypy says so if one of these is none, by its unused ignores."""
    group.makegateway(1)  # type: ignore[arg-type]
    group.makegateways(["popen"], progress=lambda: None)  # type: ignore[misc,arg-type]
    channel.setcallback(1)  # type: ignore[arg-type]
    channel.receive(timeout="1")  # type: ignore[arg-type]
    Group(print)  # type: ignore[call-arg]
    group.reactor  # type: ignore[attr-defined]  # noqa: B018
