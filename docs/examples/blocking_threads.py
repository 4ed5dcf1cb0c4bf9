"""The blocking API from several threads, with timeouts and callbacks."""

import queue
from concurrent.futures import ThreadPoolExecutor

from pycomnet.blocking import Group
from pycomnet.errors import TimeoutExpired


def square(number):
    return number * number


def silent(channel):
    channel.receive()


with Group() as group:
    gateway = group.makegateway("popen", timeout=30)

    # Any thread may use any of it.
    with ThreadPoolExecutor(4) as pool:
        squares = list(pool.map(lambda number: gateway.call(square, number), range(10)))
    assert squares == [number * number for number in range(10)]

    # Whatever waits takes a timeout.
    channel = gateway.remote_exec(silent)
    try:
        channel.receive(timeout=0.1)
    except TimeoutExpired:
        pass
    else:
        raise AssertionError("it said something")

    # Callbacks run in a thread of their own, and may block.
    values = queue.Queue()
    channel = gateway.remote_exec("for number in range(3): channel.send(number)")
    channel.setcallback(values.put, endmarker="end")
    assert [values.get(timeout=10) for _ in range(4)] == [0, 1, 2, "end"]
