"""The bound for calls through a proxy and in a batch: a loop at each end of a blocking socket.

The values are in pycomnet's codec, and the arguments are named. Nothing is looked up, checked,
limited or awaited, no call has an object of its own, and one error would end it all.

``batch_objects`` adds what the API of pycomnet's batches gives to their users, in its shortest
form: an object for each call at the client, with its result, and at the server a request for each
call, checked arguments and a method that is called with the request.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

import calls
from measure import Amounts

from pycomnet.wire.codec import make_codec

JOBS = ("proxy", "proxy_blocking", "batch")
#: What makes the program this server, and the one with objects.
LOOP, OBJECTS = "loop", "objects"
_SIZE = struct.Struct(">I")


def _send(connection: socket.socket, payload: bytes) -> None:
    connection.sendall(_SIZE.pack(len(payload)) + payload)


def _receive(stream: Any) -> bytes:
    """The next message; empty at the end."""
    head = stream.read(_SIZE.size)
    payload: bytes = stream.read(*_SIZE.unpack(head)) if head else b""
    return payload


def add(args: dict[str, int]) -> int:
    """What is called."""
    return args["a"] + args["b"]


class Call:
    """A call in a batch, at the client."""

    __slots__ = ("_result", "args")

    def __init__(self, args: dict[str, int]) -> None:
        self.args = args

    def callback(self, result: int) -> None:
        """The result has come."""
        self._result = result

    def result(self) -> int:
        """The call's result."""
        return self._result


class Batch:
    """Calls that are collected."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def add(self, a: int, b: int) -> Call:
        """Add a call."""
        call = Call({"a": a, "b": b})
        self.calls.append(call)
        return call


class Request:
    """A call, at the server."""

    __slots__ = ("args", "connection", "deadline", "interface", "method")

    def __init__(
        self, connection: Any, interface: str, method: str, args: dict[str, int], deadline: float
    ) -> None:
        self.connection = connection
        self.interface = interface
        self.method = method
        self.args = args
        self.deadline = deadline


class Service:
    """What has the method."""

    def add(self, request: Request) -> int:
        """The sum."""
        return request.args["a"] + request.args["b"]


def add_each(connection: Any, several: list[dict[str, int]]) -> list[int]:
    """Check the arguments of each call, and call the method."""
    method = Service().add
    results = []
    for args in several:
        if len(args) != 2 or type(args["a"]) is not int or type(args["b"]) is not int:
            raise TypeError("two ints")
        results.append(method(Request(connection, "echo", "add", args, 30.0)))
    return results


def serve() -> None:
    """Answer one client."""
    codec = make_codec()
    with_objects = sys.argv[2:] == [OBJECTS]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        calls.announce(str(listening.getsockname()[1]))
        connection, _ = listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as stream:
            while payload := _receive(stream):
                several = codec.decode(payload)
                if with_objects:
                    results = add_each(connection, several)
                else:
                    results = [add(args) for args in several]
                _send(connection, codec.encode(results))


def run(job: str, script: str, amounts: Amounts) -> calls.Figures:
    """Measure a job.

    :param script: the program that is the server, too.
    """
    found = _measure(job, script, LOOP, amounts)
    if job == "batch":
        found["batch_objects"] = _measure(job, script, OBJECTS, amounts)["batch"]
    return found


def _measure(job: str, script: str, loop: str, amounts: Amounts) -> calls.Figures:
    codec = make_codec()
    with calls.server(script, loop) as port:
        connection = socket.create_connection(("127.0.0.1", int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as stream:

            def ask(several: list[dict[str, int]]) -> list[Any]:
                _send(connection, codec.encode(several))
                results: list[Any] = codec.decode(_receive(stream))
                return results

            def batch() -> list[Any]:
                if loop == LOOP:
                    return ask([{"a": number, "b": 1} for number in range(calls.BATCH)])
                collected = Batch()
                for number in range(calls.BATCH):
                    collected.add(number, 1)
                several = [call.args for call in collected.calls]
                for call, result in zip(collected.calls, ask(several), strict=True):
                    call.callback(result)
                return [call.result() for call in collected.calls]

            if job != "batch":
                calls.check(ask([{"a": 1, "b": 2}]), [3])
                one = calls.blocking(lambda: ask([{"a": 1, "b": 2}]), amounts.calls)
                return {"proxy_one": one * 1e6, "proxy_blocking": one * 1e6}
            calls.check_batch(batch())
            return {"batch": calls.blocking(batch, calls.batches(amounts)) * 1e3}
