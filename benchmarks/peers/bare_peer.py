"""The floor: a blocking socket pair between two processes, and nothing on it."""

from __future__ import annotations

import os
import socket
import statistics
import time

import measure

#: As long as the frame of a small value.
MESSAGE = b"0123456789"


def roundtrip(amounts: measure.Amounts) -> dict[str, float]:
    near, far = socket.socketpair()
    if os.fork() == 0:
        near.close()
        while data := far.recv(4096):
            far.sendall(data)
        os._exit(0)
    far.close()
    near.settimeout(None)
    for count in measure.both(amounts.roundtrips):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            near.sendall(MESSAGE)
            near.recv(4096)
            times.append(time.perf_counter() - start)
    near.close()
    os.wait()
    return {"roundtrip": statistics.median(times) * 1e6}


def run(job: str, amounts: measure.Amounts) -> dict[str, float]:
    return {"roundtrip": roundtrip}[job](amounts)


if __name__ == "__main__":
    measure.answer(run)
