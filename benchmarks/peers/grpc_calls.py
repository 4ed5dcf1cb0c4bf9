"""gRPC for Python with handwritten stubs: bytes on its wire, values in msgpack (ormsgpack)."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import calls
import grpc
import grpc.aio
import measure
import ormsgpack
from measure import Amounts

NAME = "bench.Echo"
OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
]
#: job -> how its values become bytes and come back; a null call has no bytes at all
CODECS: dict[str, tuple[Any, Any]] = {
    "null": (bytes, bytes),
    "dict": (ormsgpack.packb, ormsgpack.unpackb),
    "bytes": (bytes, bytes),
}
VALUES: dict[str, Any] = {"null": b"", "dict": calls.SMALL, "bytes": calls.BLOCK}


def serve() -> None:
    """The synchronous server, which is the quicker of gRPC's two here."""

    def echo(request: Any, context: Any) -> Any:
        return request

    server = grpc.server(ThreadPoolExecutor(8), options=OPTIONS)
    rpcs = {
        job: grpc.unary_unary_rpc_method_handler(
            echo, request_deserializer=loads, response_serializer=dumps
        )
        for job, (dumps, loads) in CODECS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, rpcs),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    calls.announce(str(port))
    server.wait_for_termination()


def stub(channel: Any, job: str) -> Any:
    dumps, loads = CODECS[job]
    return channel.unary_unary(
        f"/{NAME}/{job}", request_serializer=dumps, response_deserializer=loads
    )


def flight(call: Any, value: Any, count: int) -> float:
    """Calls a second with so many futures under way."""
    for total in measure.both(count):
        lock = threading.Lock()
        over = threading.Event()
        started = done = 0

        def answered(future: Any, total: int = total, over: Any = over, lock: Any = lock) -> None:
            nonlocal done
            future.result()
            with lock:
                done += 1
                if done == total:
                    over.set()
            begin()

        def begin(total: int = total, lock: Any = lock, answered: Any = answered) -> None:
            nonlocal started
            with lock:
                if started == total:
                    return
                started += 1
            call.future(value).add_done_callback(answered)

        start = time.perf_counter()
        for _ in range(calls.FLIGHT):
            begin()
        if not over.wait(60):
            raise RuntimeError("calls got lost")
        took = time.perf_counter() - start
    return total / took


async def flight_aio(port: str, job: str, count: int) -> float:
    """The same with its asyncio client."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        call = stub(channel, job)
        value = VALUES[job]

        async def gather(callers: list[Any]) -> None:
            await asyncio.gather(*callers)

        async def one() -> Any:
            return await call(value)

        return await calls.flight(one, count, gather)


def run(job: str, amounts: Amounts) -> calls.Figures:
    one, flying = calls.amount(job, amounts)
    value = VALUES[job]
    with calls.server(__file__) as port:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
            call = stub(channel, job)
            calls.check(call(value), value)
            alone = calls.blocking(lambda: call(value), one)
            futures = flight(call, value, flying)
        awaited = asyncio.run(flight_aio(port, job, flying))
    # It has two clients; the better one counts.
    return calls.figures(job, alone, max(futures, awaited))


if __name__ == "__main__":
    calls.program(serve, run)
