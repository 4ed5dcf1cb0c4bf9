"""The multiplexer alone: what its rows take in this tree, and in another one in the same run.

    python benchmarks/mux.py
    python benchmarks/mux.py --base ../before --rounds 30

Two multiplexers of one process talk to each other, without I/O. With ``--base`` each round measures
both trees, one after the other, in processes of their own; what is printed is the processor time of
each row, and the median of the rounds' ratios (over 1: this tree is quicker). A copy of a rule that
is inlined in ``pycomnet/wire/`` names the row here, or of the tables, that a call would slow down.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pycomnet.wire.mux import Mux, Stream

ROOT = Path(__file__).parent.parent
SMALL = b"x" * 20
clock = time.process_time


def pair() -> tuple[Mux, Mux]:
    """Both ends of a connection, after their hellos."""
    from pycomnet.wire.mux import Mux

    near, far = Mux(True), Mux(False)
    far.receive_data(near.data_to_send())
    near.receive_data(far.data_to_send())
    return near, far


def channel() -> tuple[Mux, Mux, Stream, Stream]:
    """The same, and both ends of a channel."""
    near, far = pair()
    stream = near.open("benchmark")
    far.receive_data(near.data_to_send())
    return near, far, stream, far.streams[stream.id]


def take(mux: Mux, stream: Stream, data: bytes) -> None:
    """Receive values, and take each at once."""
    for event in mux.receive_data(data):
        mux.consumed(stream, event[3])  # type: ignore[misc, arg-type]


def round_trips(count: int = 2000) -> int:
    """Small values there and back."""
    near, far, stream, other = channel()
    for _ in range(count):
        near.send_now(stream, SMALL)
        take(far, other, near.data_to_send())
        frame = far.immediate(other, SMALL)
        if frame is None:
            far.send(other, SMALL)
            frame = far.data_to_send()
        take(near, stream, frame)
        if far.has_data():
            near.receive_data(far.data_to_send())
        if near.has_data():
            far.receive_data(near.data_to_send())
    return count


def stream_of(sizes: tuple[int, ...], at_once: int, count: int) -> int:
    """Values of some sizes one way."""
    near, far, stream, other = channel()
    values = [b"x" * size for size in sizes]
    for number in range(count // at_once):
        value = values[number % len(values)]
        for _ in range(at_once):
            near.send_now(stream, value) or near.send(stream, value)
        take(far, other, near.data_to_send(1 << 20))
        if far.has_data():
            near.receive_data(far.data_to_send())
    return count


def long_values(count: int = 10) -> int:
    """Values of 1 MB one way, in fragments."""
    near, far, stream, other = channel()
    value = bytes(1 << 20)
    for _ in range(count):
        near.send(stream, value)
        while near.has_data():
            far.demand_read(other)
            take(far, other, near.data_to_send())
            near.receive_data(far.data_to_send())
    return count


def unary_calls(at_once: int, count: int = 4000) -> int:
    """Unary calls, each with its reply."""
    near, far = pair()
    far.expect_calls(("call",))
    near.call("call", SMALL)  # the first makes a stream
    near.data_to_send()
    far.table.last_peer_id = 1
    for _ in range(count // at_once):
        for number in range(at_once):
            near.call("call", SMALL, number)
        for event in far.receive_data(near.data_to_send()):
            far.reply(event[1], SMALL)  # type: ignore[arg-type]
        near.receive_data(far.data_to_send())
    return count


def channels(count: int = 500) -> int:
    """Channels that are opened with a value, answered and closed."""
    near, far = pair()
    for _ in range(count):
        near.open("benchmark", SMALL)
        opened = far.receive_data(near.data_to_send())[0]
        far.send(opened[1], SMALL)  # type: ignore[arg-type]
        far.close(opened[1])  # type: ignore[arg-type]
        near.receive_data(far.data_to_send())
        far.receive_data(near.data_to_send())
    return count


ROWS: dict[str, Callable[[], int]] = {
    "round trip": round_trips,
    "small values": lambda: stream_of((20,), 100, 20_000),
    "small values of three sizes": lambda: stream_of((20, 33, 7), 100, 20_000),
    "values of 5 kB": lambda: stream_of((5000,), 4, 4000),
    "values of 1 MB": long_values,
    "unary calls, one by one": lambda: unary_calls(1),
    "unary calls, 50 in flight": lambda: unary_calls(50),
    "channels": channels,
}


def measure() -> list[float]:
    """The microseconds that each row takes."""
    taken = []
    for row in ROWS.values():
        best = float("inf")
        for _ in range(3):
            begin = clock()
            count = row()
            best = min(best, (clock() - begin) / count)
        taken.append(1e6 * best)
    return taken


def serve() -> None:
    """Measure once for each line that comes."""
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


def start(tree: Path) -> subprocess.Popen[str]:
    """A process that measures a tree."""
    code = f"import sys; sys.path[:0] = [{str(tree)!r}, {str(ROOT / 'benchmarks')!r}]"
    code += "; import mux; mux.serve()"
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)


def ask(process: subprocess.Popen[str]) -> list[float]:
    """What a tree's rows take now."""
    stdin: IO[str] | None = process.stdin
    stdout: IO[str] | None = process.stdout
    assert stdin is not None
    assert stdout is not None
    print(file=stdin, flush=True)
    rows: list[float] = json.loads(stdout.readline())
    return rows


def main() -> None:
    """Measure one tree, or two in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--base", type=Path, help="a directory with the package to compare with")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    here = start(ROOT)
    base = start(arguments.base.resolve()) if arguments.base else None
    mine: list[list[float]] = []
    theirs: list[list[float]] = []
    for number in range(arguments.rounds):
        if base is not None and number % 2:
            theirs.append(ask(base))
        mine.append(ask(here))
        if base is not None and not number % 2:
            theirs.append(ask(base))
    for index, name in enumerate(ROWS):
        taken = [row[index] for row in mine]
        line = f"{name:30} {statistics.median(taken):9.2f} us"
        if base is not None:
            before = [row[index] for row in theirs]
            ratios = [old / new for old, new in zip(before, taken, strict=True)]
            line += f"   base {statistics.median(before):9.2f} us"
            line += f"   {statistics.median(ratios):5.3f} times as quick"
        print(line)


if __name__ == "__main__":
    main()
