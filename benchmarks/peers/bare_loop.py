"""The bound for calls through a proxy and in a batch: a loop at each end of a blocking socket.

The values are in pycomnet's codec, and the arguments are named. Nothing is looked up, checked,
limited or awaited, no call has an object of its own, and one error would end it all.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import calls
from measure import Amounts

from pycomnet.wire.codec import make_codec

JOBS = ("proxy", "proxy_blocking", "batch")
#: What makes the program this server.
LOOP = "loop"
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


def serve() -> None:
    """Answer one client."""
    codec = make_codec()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        calls.announce(str(listening.getsockname()[1]))
        connection, _ = listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as stream:
            while payload := _receive(stream):
                _send(connection, codec.encode([add(args) for args in codec.decode(payload)]))


def run(job: str, script: str, amounts: Amounts) -> calls.Figures:
    """Measure a job.

    :param script: the program that is the server, too.
    """
    codec = make_codec()
    with calls.server(script, LOOP) as port:
        connection = socket.create_connection(("127.0.0.1", int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as stream:

            def ask(several: list[dict[str, int]]) -> list[Any]:
                _send(connection, codec.encode(several))
                results: list[Any] = codec.decode(_receive(stream))
                return results

            def batch() -> list[Any]:
                return ask([{"a": number, "b": 1} for number in range(calls.BATCH)])

            if job != "batch":
                calls.check(ask([{"a": 1, "b": 2}]), [3])
                one = calls.blocking(lambda: ask([{"a": 1, "b": 2}]), amounts.calls)
                return {"proxy_one": one * 1e6, "proxy_blocking": one * 1e6}
            calls.check_batch(batch())
            return {"batch": calls.blocking(batch, calls.batches(amounts)) * 1e3}
