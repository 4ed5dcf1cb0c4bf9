"""execnet: its blocking API, which is the only one it has."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import execnet
import far
import measure
from measure import MB, Amounts


class Count:
    """Counts what a callback gets, and says when there are so many."""

    def __init__(self) -> None:
        self._left = 0
        self._done = threading.Event()

    def expect(self, count: int) -> threading.Event:
        self._left = count
        self._done.clear()
        return self._done

    def __call__(self, value: object) -> None:
        self._left -= 1
        if not self._left:
            self._done.set()


def roundtrip(gateway: Any, amounts: Amounts) -> dict[str, float]:
    channel = gateway.remote_exec(far.echo)
    for count in measure.both(amounts.roundtrips):
        times = []
        used = time.process_time()
        for number in range(count):
            start = time.perf_counter()
            channel.send(number)
            channel.receive()
            times.append(time.perf_counter() - start)
        used = time.process_time() - used
    return {
        "roundtrip": statistics.median(times) * 1e6,
        "roundtrip_tenth": sorted(times)[len(times) // 10] * 1e6,
        "roundtrip_mean": statistics.fmean(times) * 1e6,
        "roundtrip_cpu": used / len(times) * 1e6,
    }


def roundtrips_first(gateway: Any, amounts: Amounts) -> dict[str, float]:
    channel = gateway.remote_exec(far.echo)
    start = time.perf_counter()
    for number in range(amounts.first):
        channel.send(number)
        channel.receive()
    return {"roundtrips_first": (time.perf_counter() - start) / amounts.first * 1e6}


def _stream_in(channel: Any, counts: list[int]) -> float:
    got = Count()
    channel.setcallback(got)
    for count in counts:
        done = got.expect(count)
        start = time.perf_counter()
        channel.send("go")
        done.wait()
        took = time.perf_counter() - start
    return took


def dicts_in(gateway: Any, amounts: Amounts) -> dict[str, float]:
    counts = measure.both(amounts.dicts)
    took = _stream_in(gateway.remote_exec(far.send_dicts, counts=counts), counts)
    return {"dicts_in": amounts.dicts / took}


def bytes_in(gateway: Any, amounts: Amounts) -> dict[str, float]:
    counts = measure.both(amounts.megabytes)
    took = _stream_in(gateway.remote_exec(far.send_bytes, counts=counts, size=MB), counts)
    return {"bytes_in": amounts.megabytes / took}


def dicts_out(gateway: Any, amounts: Amounts) -> dict[str, float]:
    counts = measure.both(amounts.dicts)
    channel = gateway.remote_exec(far.take, counts=counts)
    for count in counts:
        start = time.perf_counter()
        for number in range(count):
            channel.send(measure.small_dict(number))
        channel.receive()
        took = time.perf_counter() - start
    return {"dicts_out": amounts.dicts / took}


def burst(gateway: Any, amounts: Amounts) -> dict[str, float]:
    counts = [measure.BURST] * sum(measure.both(amounts.bursts))
    channel = gateway.remote_exec(far.take, counts=counts)
    times = []
    for count in counts:
        start = time.perf_counter()
        for number in range(count):
            channel.send(measure.small_dict(number))
        channel.receive()
        times.append(time.perf_counter() - start)
    return {"burst": statistics.median(times[-amounts.bursts :]) * 1e6}


def bytes_out(gateway: Any, amounts: Amounts) -> dict[str, float]:
    counts = measure.both(amounts.megabytes)
    channel = gateway.remote_exec(far.take, counts=counts)
    data = b"x" * MB
    for count in counts:
        start = time.perf_counter()
        for _ in range(count):
            channel.send(data)
        channel.receive()
        took = time.perf_counter() - start
    return {"bytes_out": amounts.megabytes / took}


def list_echo(gateway: Any, amounts: Amounts) -> dict[str, float]:
    channel = gateway.remote_exec(far.echo)
    value = measure.dict_list()
    for count in measure.both(amounts.lists):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            channel.send(value)
            channel.receive()
            times.append(time.perf_counter() - start)
    return {"list": statistics.median(times) * 1e3}


def memory(gateway: Any, amounts: Amounts) -> dict[str, float]:
    gateway.remote_exec(far.first).waitclose()
    pids = measure.far_processes()
    return {
        "memory_pss": measure.memory(pids, "Pss"),
        "memory_rss": measure.memory(pids, "Rss"),
    }


def held_in(gateway: Any, amounts: Amounts) -> dict[str, float]:
    channel = gateway.remote_exec(far.send_counted, count=amounts.held, size=MB)
    teller = gateway.remote_exec(far.tell_count)
    teller.send(None)
    teller.receive()
    grown = measure.watch_growth([os.getpid()])
    channel.send("go")
    progress = measure.Progress(amounts.held)
    while True:
        teller.send(None)
        sent = teller.receive()
        if progress.over(sent):
            break
        time.sleep(measure.LOOK)
    return {"held_in": grown(), "held_in_sent": sent}


def held_out(gateway: Any, amounts: Amounts) -> dict[str, float]:
    channel = gateway.remote_exec(far.take_nothing)
    channel.receive()
    grown = measure.watch_growth(measure.far_processes())
    sent = 0

    def send() -> None:
        nonlocal sent
        data = b"x" * MB
        for _ in range(amounts.held):
            channel.send(data)
            sent += 1

    threading.Thread(target=send, daemon=True).start()
    progress = measure.Progress(amounts.held)
    while not progress.over(sent):
        time.sleep(measure.LOOK)
    # What is still in the system's buffers is on its way into the far side.
    last = -1.0
    while grown() > last + 1:
        last = grown()
        time.sleep(measure.LOOK)
    return {"held_out": grown(), "held_out_sent": sent}


def _pingpong(channel: Any, done: threading.Event) -> list[float]:
    times = []
    while not done.is_set():
        start = time.perf_counter()
        channel.send(1)
        channel.receive()
        times.append(time.perf_counter() - start)
    return times


def big_in(gateway: Any, amounts: Amounts) -> dict[str, float]:
    size = amounts.big * MB
    channel = gateway.remote_exec(far.send_big, size=size)
    channel.receive()
    pings = gateway.remote_exec(far.echo)
    got = Count()
    done = got.expect(1)
    channel.setcallback(got)
    start = time.perf_counter()
    channel.send("go")
    times = _pingpong(pings, done)
    return measure.pingpong_figures("in", times, size, time.perf_counter() - start)


def big_out(gateway: Any, amounts: Amounts) -> dict[str, float]:
    size = amounts.big * MB
    channel = gateway.remote_exec(far.take_big)
    pings = gateway.remote_exec(far.echo)
    data = b"x" * size
    got = Count()
    done = got.expect(1)
    channel.setcallback(got)
    start = time.perf_counter()
    threading.Thread(target=channel.send, args=(data,), daemon=True).start()
    times = _pingpong(pings, done)
    return measure.pingpong_figures("out", times, size, time.perf_counter() - start)


def start(amounts: Amounts) -> dict[str, float]:
    group = execnet.Group()
    began = time.perf_counter()
    group.makegateway("popen").remote_exec(far.first).receive()
    took = time.perf_counter() - began
    group.terminate(timeout=2)
    return {"start": took * 1e3}


WITH_GATEWAY: dict[str, Callable[[Any, Amounts], dict[str, float]]] = {
    "roundtrip": roundtrip,
    "roundtrips_first": roundtrips_first,
    "dicts_in": dicts_in,
    "dicts_out": dicts_out,
    "burst": burst,
    "bytes_in": bytes_in,
    "bytes_out": bytes_out,
    "list": list_echo,
    "memory": memory,
    "held_in": held_in,
    "held_out": held_out,
    "big_in": big_in,
    "big_out": big_out,
}


def run(job: str, amounts: Amounts) -> dict[str, float]:
    if job == "codec":
        return measure.codec_figures(execnet.dumps, execnet.loads, amounts)
    if job == "start":
        return start(amounts)
    group = execnet.Group()
    try:
        return WITH_GATEWAY[job](group.makegateway("popen"), amounts)
    finally:
        group.terminate(timeout=2)


if __name__ == "__main__":
    measure.answer(run)
