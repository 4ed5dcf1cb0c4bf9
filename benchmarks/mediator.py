"""Gateways through the http mediator beside popen's, and Jupyter's kernels through their gateway.

All in one run on loopback, the ways taking turns; run it as ``python benchmarks/mediator.py``. The
nearest that Jupyter has to a round trip is a statement that is executed and its answer, through the
WebSocket of a Jupyter Kernel Gateway, which is left out where it isn't installed (``pip install
jupyter-kernel-gateway ipykernel websocket-client``).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet import defer, task

ROOT = Path(__file__).resolve().parent.parent
if importlib.util.find_spec("pycomnet") is None:
    sys.path.insert(0, str(ROOT))

import pycomnet  # noqa: E402
from pycomnet.test.processes import resident  # noqa: E402
from pycomnet.test.system.cutting import carry_through_cuts  # noqa: E402
from pycomnet.test.system.daemons import daemons  # noqa: E402
from pycomnet.test.system.mediators import Mediator, free_port  # noqa: E402

WAYS = ("popen", "websocket", "post")
MB = 1 << 20


def echo(channel: Any) -> None:
    for value in channel:
        channel.send(value)


def produce(channel: Any, blocks: int) -> None:
    for _ in range(blocks):
        channel.send(bytes(1 << 20))


def consume(channel: Any, blocks: int) -> None:
    for _ in range(blocks):
        channel.receive()
    channel.send(None)


async def round_trip(gateway: Any, number: int) -> float:
    """Microseconds of a round trip of a small value."""
    channel = gateway.remote_exec(echo)
    for value in range(20):
        channel.send(value)
        await channel.receive()
    begun = time.perf_counter()
    for value in range(number):
        channel.send(value)
        await channel.receive()
    seconds = time.perf_counter() - begun
    channel.close()
    return seconds / number * 1e6


async def to_near(gateway: Any, blocks: int) -> float:
    """MB a second from the far side, in values of 1 MB."""
    begun = time.perf_counter()
    channel = gateway.remote_exec(produce, blocks=blocks)
    for _ in range(blocks):
        await channel.receive()
    return blocks * MB / 1e6 / (time.perf_counter() - begun)


async def to_far(gateway: Any, blocks: int) -> float:
    """MB a second to the far side."""
    data = bytes(MB)
    begun = time.perf_counter()
    channel = gateway.remote_exec(consume, blocks=blocks)
    for _ in range(blocks):
        await channel.send(data)
    await channel.receive()
    return blocks * MB / 1e6 / (time.perf_counter() - begun)


class Jupyter:
    """A kernel of a Jupyter Kernel Gateway, over its WebSocket.

    :param port: the gateway's.
    """

    def __init__(self, port: int) -> None:
        import websocket

        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/kernels", b"{}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            kernel = json.load(answer)["id"]
        address = f"ws://127.0.0.1:{port}/api/kernels/{kernel}/channels"
        self._socket = websocket.create_connection(address, timeout=60)
        self._session = uuid.uuid4().hex
        self.execute("0")

    def execute(self, code: str) -> str:
        """Execute an expression; its value as text."""
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
        while not {"execute_reply", "idle"} <= seen:
            got = json.loads(self._socket.recv())
            if got["parent_header"].get("msg_id") != id:
                continue
            kind = got["header"]["msg_type"]
            if kind == "execute_result":
                result = got["content"]["data"]["text/plain"]
            idle = kind == "status" and got["content"]["execution_state"] == "idle"
            seen.add("idle" if idle else kind)
        return result

    def round_trip(self, number: int) -> float:
        """Microseconds of a statement and its answer."""
        begun = time.perf_counter()
        for value in range(number):
            assert self.execute(f"{value}+1") == str(value + 1)
        return (time.perf_counter() - begun) / number * 1e6


@contextlib.contextmanager
def jupyter() -> Iterator[Jupyter | None]:
    """A kernel, if Jupyter is installed."""
    if any(importlib.util.find_spec(name) is None for name in ("kernel_gateway", "websocket")):
        yield None
        return
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
        yield Jupyter(port)
    finally:
        process.terminate()
        process.wait(60)


async def compare(group: Any, mediator: Mediator, arguments: Any) -> dict[str, dict[str, float]]:
    """The rows that ways are compared by: medians of all rounds."""
    specs = {
        "popen": "popen",
        "websocket": mediator.spec(websocket="yes"),
        "post": mediator.spec(websocket="no"),
    }
    gateways = {way: await group.makegateway(spec) for way, spec in specs.items()}
    numbers = {"round trip, us": (round_trip, arguments.trips)}
    numbers["1 MB to near, MB/s"] = (to_near, arguments.blocks)
    numbers["1 MB to far, MB/s"] = (to_far, arguments.blocks)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in numbers}
    with jupyter() as kernel:
        for _ in range(arguments.rounds):
            for name, (measure, number) in numbers.items():
                for way in WAYS:
                    figure = await measure(gateways[way], number)
                    found[name].setdefault(way, []).append(figure)
            if kernel is not None:
                figure = kernel.round_trip(max(arguments.trips // 20, 3))
                found["round trip, us"].setdefault("jupyter", []).append(figure)
    await group.terminate()
    return {
        name: {way: statistics.median(figures) for way, figures in ways.items()}
        for name, ways in found.items()
    }


async def many(group: Any, mediator: Mediator, number: int) -> float:
    """Many gateways at once, each echoing; the server's memory for each, in MB."""
    before = resident(mediator.pid)
    gateways = []
    while len(gateways) < number:
        some = min(20, number - len(gateways))
        making = [group.makegateway(mediator.spec(), timeout=300) for _ in range(some)]
        gateways += await defer.gatherResults(making)
    channels = [gateway.remote_exec(echo) for gateway in gateways]
    for value in range(10):
        for channel in channels:
            channel.send(value)
        got = await defer.gatherResults([channel.receive() for channel in channels])
        assert got == [value] * number
    grown = resident(mediator.pid) - before
    await group.terminate()
    return grown / number / 1e6


async def main(reactor: Any, *argv: str) -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="benchmarks/mediator.py")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    parser.add_argument("--trips", type=int, default=2000, help="round trips of a round")
    parser.add_argument("--blocks", type=int, default=100, help="values of 1 MB of a round")
    parser.add_argument("--gateways", type=int, default=200, help="at once; 0 for none")
    parser.add_argument("--cuts", type=int, default=1000, help="connections cut; 0 for none")
    parser.add_argument("--megabytes", type=int, default=200, help="each way through the cuts")
    parser.add_argument("--smoke", action="store_true", help="very little of each")
    parser.add_argument("--json", type=Path, help="write all figures there")
    arguments = parser.parse_args(argv)
    if arguments.smoke:
        arguments.rounds, arguments.trips, arguments.blocks = 1, 50, 3
        arguments.gateways, arguments.cuts, arguments.megabytes = 4, 5, 2
    results: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as directory, daemons(Path(directory)) as started:
        mediator = Mediator(started, "--processes", "300", "--total", "300")
        async with pycomnet.Group(reactor) as group:
            rows = results["rows"] = await compare(group, mediator, arguments)
            for name, ways in rows.items():
                print(f"{name:22}", *(f"{way} {figure:,.1f}" for way, figure in ways.items()))
                for way in WAYS[1:]:
                    ratio = ways[way] / ways["popen"]
                    said = f"{ratio:.2f} times popen's"
                    if "jupyter" in ways:
                        said += f", Jupyter takes {ways['jupyter'] / ways[way]:.1f} times as long"
                    print(f"    {way}: {said}")
            if arguments.gateways:
                results["memory"] = await many(group, mediator, arguments.gateways)
                print(
                    f"{arguments.gateways} gateways at once: the server has "
                    f"{results['memory']:.3f} MB for each"
                )
        for websocket in ("yes", "no") if arguments.cuts else ():
            options = f"token_file={mediator.token_file}//websocket={websocket}"
            size = 1 << 16
            carried = await carry_through_cuts(
                reactor,
                mediator.port,
                mediator.pid,
                options,
                arguments.megabytes * 1_000_000 // size,
                size,
                arguments.cuts,
            )
            results[f"cuts, websocket={websocket}"] = repr(carried)
            print(
                f"{carried.cuts} cuts, websocket={websocket}: {carried.blocks * size / 1e6:.0f} MB "
                f"each way, every byte right, in {carried.seconds:.0f} s; the server grew by "
                f"{carried.grown / 1e6:.1f} MB and {carried.descriptors} descriptors"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
