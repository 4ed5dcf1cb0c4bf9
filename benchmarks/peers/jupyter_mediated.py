"""Jupyter: a statement and its answer through the WebSocket of a Jupyter Kernel Gateway.

The gateway leaves Nagle's algorithm on, so that the second of the small messages that an answer has
waits until the client's system has acknowledged the first, which by itself takes that 40 ms. The
client here has it do so at once: what is measured is Jupyter, and not that.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator

import measure
import websocket
from measure import Amounts


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


class Kernel:
    """A kernel, over its WebSocket."""

    def __init__(self, port: int) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/kernels", b"{}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            kernel = json.load(answer)["id"]
        address = f"ws://127.0.0.1:{port}/api/kernels/{kernel}/channels"
        self._socket = websocket.create_connection(address, timeout=60)
        self._session = uuid.uuid4().hex

    def execute(self, code: str) -> str:
        """Execute an expression; its value as text, once that and the reply are there."""
        id = uuid.uuid4().hex
        header = {
            "msg_id": id,
            "username": "",
            "session": self._session,
            "msg_type": "execute_request",
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self._socket.send(json.dumps({**message, "channel": "shell", "buffers": []}))
        result, seen = "", set()
        while not {"execute_reply", "execute_result"} <= seen:
            self._acknowledge()
            got = json.loads(self._socket.recv())
            if got["parent_header"].get("msg_id") != id:
                continue
            kind = got["header"]["msg_type"]
            seen.add(kind)
            if kind == "execute_result":
                result = got["content"]["data"]["text/plain"]
        return result

    def _acknowledge(self) -> None:
        """Have what comes next acknowledged at once; the system forgets that it was told to."""
        with contextlib.suppress(AttributeError, OSError):
            self._socket.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


@contextlib.contextmanager
def kernel() -> Iterator[Kernel]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "kernel_gateway", f"--KernelGatewayApp.port={port}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.1)
        yield Kernel(port)
    finally:
        process.terminate()
        process.wait(60)


def run(job: str, amounts: Amounts) -> dict[str, float]:
    with kernel() as one:
        for count in measure.both(amounts.roundtrips // 20):
            times = []
            for number in range(count):
                start = time.perf_counter()
                answer = one.execute(f"{number}+1")
                times.append(time.perf_counter() - start)
                assert answer == str(number + 1)
    return {f"{job}_trip": statistics.median(times) * 1e6}


if __name__ == "__main__":
    measure.answer(run)
