"""Where a round trip's microseconds go: each part alone, without the others.

``python benchmarks/roundtrip.py`` prints a table of minima; ``--profile`` adds what the near side's
part consists of, by cProfile (which makes small functions look larger than they are).
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import select
import struct
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
TURNS = 2000
ROUNDS = 40


def least(run: Callable[[], object]) -> float:
    """The microseconds of one turn in the quickest of many rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best / TURNS * 1e6


def near_turn() -> Callable[[], None]:
    """From the far side's bytes to the coroutine that awaits them, and back to bytes."""
    from twisted.internet import defer
    from twisted.internet.abstract import FileDescriptor
    from twisted.internet.task import Clock

    from pycomnet.channels.channel import Channel
    from pycomnet.channels.connection import Connection
    from pycomnet.wire.mux import Mux

    class Nowhere(FileDescriptor):
        connected = 1
        last = b""

        def writeSomeData(self, data: bytes) -> int:
            self.last = data
            return len(data)

        def registerProducer(self, producer: object, streaming: bool) -> None: ...

    class Gateway:
        id = "none"

        def abandoned(self, core: object) -> None: ...

    clock: Any = Clock()
    connection = Connection(clock)
    transport: Any = Nowhere(clock)
    connection.makeConnection(transport)
    peer = Mux(False)
    peer.receive_data(transport.last)
    connection.dataReceived(peer.data_to_send())
    clock.advance(0)
    channel = Channel(connection.open("exec", b"\xc0"), Gateway())

    async def client() -> None:
        value = 0
        while True:
            channel.send(value)
            value = await channel.receive()

    defer.Deferred.fromCoroutine(client())
    clock.advance(0)
    payload = connection.encode(5)
    frame = struct.pack(">IBI", len(payload), 1, channel.id) + payload

    def run() -> None:
        for _ in range(TURNS):
            connection.dataReceived(frame)
        channel.core.stream.credit = 1 << 20

    return run


def far_turns() -> tuple[Callable[[], None], Callable[[], None]]:
    """The far side's ``receive`` of what has come, and its ``send`` to where nobody reads."""
    package: Any = types.ModuleType("_pycomnet")
    package.__path__ = [str(ROOT / "pycomnet")]
    sys.modules["_pycomnet"] = package
    from _pycomnet.far.channel import FarChannel  # type: ignore[import-not-found]
    from _pycomnet.far.connection import FarConnection, FileIO  # type: ignore[import-not-found]
    from _pycomnet.wire.mux import Mux  # type: ignore[import-not-found]

    null = os.open(os.devnull, os.O_RDWR)
    link = FarConnection(FileIO(null, null), FarChannel, lambda channel: None, lambda: None, {})
    link.flush()
    link.mux.receive_data(Mux(True).data_to_send())
    channel = link.open("none")
    link.flush()
    for _ in range(8000):  # until the fast codec is loaded
        channel.send(1)
    payload = link.encode(5)

    def receive() -> None:
        channel.items.extend([(payload, len(payload) + 64)] * TURNS)
        for _ in range(TURNS):
            channel.receive()

    def send() -> None:
        channel.stream.credit = 1 << 30
        for number in range(TURNS):
            channel.send(number)

    return receive, send


def system_calls() -> list[tuple[str, Callable[[], None]]]:
    """A pipe's write and read, and a look whether there is something to read."""
    read, write = os.pipe()
    poll = select.poll()
    poll.register(read, select.POLLIN)

    def pipe() -> None:
        for _ in range(TURNS):
            os.write(write, b"x" * 10)
            os.read(read, 65536)

    def look() -> None:
        for _ in range(TURNS):
            poll.poll(0)

    return [("a pipe's write and read", pipe), ("a look (poll)", look)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="profile the near side's part")
    options = parser.parse_args()
    near = near_turn()
    receive, send = far_turns()
    rows = [
        ("near side: bytes to coroutine to bytes", near),
        ("far side: receive", receive),
        ("far side: send, with its write to /dev/null", send),
        *system_calls(),
    ]
    for name, run in rows:
        print(f"{name:45} {least(run):6.2f} us")
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(lambda: [near() for _ in range(10)])
        pstats.Stats(profile).sort_stats("tottime").print_stats(20)


if __name__ == "__main__":
    main()
