"""A user's program against :mod:`pycomnet.blocking`: never run, checked by mypy in strict mode.

What it says of the types has to be so, or the step of the types fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pycomnet import blocking
from pycomnet.blocking import Channel, Context, Gateway, Group, MultiChannel, ServiceServer
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
