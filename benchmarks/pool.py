"""Small calls over two workers: GatewayExecutor beside ProcessPoolExecutor and execnet.

Run it with ``python benchmarks/pool.py [CALLS]``. The three take turns, three times; the best of
each is shown, in calls a second. execnet has no pool: two gateways each get the next item when they
have answered for the one before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter

import execnet

from pycomnet.blocking import GatewayExecutor, Group

ROUNDS = 3


def square(x):
    return x * x


def loop(channel):
    for x in channel:
        channel.send(x * x)


def over_execnet(group: execnet.Group, numbers: range) -> list[int]:
    """Each channel has one item at a time, and the next from whoever is free."""
    channels = group.remote_exec(loop)
    queue = channels.make_receive_queue()
    results: dict[int, int] = {}
    todo = iter(enumerate(numbers))
    has = {}
    for channel in channels:
        at, number = next(todo)
        has[channel] = at
        channel.send(number)
    while len(results) < len(numbers):
        channel, value = queue.get()
        results[has[channel]] = value
        following = next(todo, None)
        if following is not None:
            has[channel] = following[0]
            channel.send(following[1])
    for channel in channels:
        channel.close()
    return [results[at] for at in range(len(numbers))]


def main() -> None:
    """Measure and print."""
    numbers = range(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
    expected = [square(x) for x in numbers]
    group = execnet.Group(["popen", "popen"])
    with Group() as ours, ProcessPoolExecutor(2) as processes:
        ours.makegateways(["popen", "popen"])
        with GatewayExecutor(ours) as executor:
            ways: dict[str, Callable[[], list[int]]] = {
                "GatewayExecutor": lambda: list(executor.map(square, numbers)),
                "ProcessPoolExecutor": lambda: list(processes.map(square, numbers)),
                "ProcessPoolExecutor, chunksize=100": lambda: list(
                    processes.map(square, numbers, chunksize=100)
                ),
                "execnet": lambda: over_execnet(group, numbers),
            }
            best = dict.fromkeys(ways, 0.0)
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    begun = perf_counter()
                    assert way() == expected
                    best[name] = max(best[name], len(numbers) / (perf_counter() - begun))
    group.terminate(1)
    for name, rate in best.items():
        print(f"{rate:10,.0f}/s  {name}")


if __name__ == "__main__":
    main()
