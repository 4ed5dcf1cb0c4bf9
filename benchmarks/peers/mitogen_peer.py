"""Mitogen, with its senders and receivers, which are what it has of channels.

They have no back pressure, so there is nothing to measure where a receiver does not receive.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import measure
import mitogen.core
import mitogen.master
import mitogen_far
from measure import MB, Amounts


class Link:
    """A receiver here and a sender to a function that runs there."""

    def __init__(self, router: Any, context: Any, function: Any, **kwargs: Any) -> None:
        self._receiver = mitogen.core.Receiver(router)
        self._running = context.call_async(function, self._receiver.to_sender(), **kwargs)
        self._sender = self.receive()
        self.send = self._sender.send

    def receive(self) -> Any:
        return self._receiver.get(timeout=60).unpickle()


def roundtrip(router: Any, context: Any, amounts: Amounts) -> dict[str, float]:
    link = Link(router, context, mitogen_far.echo)
    for count in measure.both(amounts.roundtrips):
        times = []
        for number in range(count):
            start = time.perf_counter()
            link.send(number)
            link.receive()
            times.append(time.perf_counter() - start)
    return {"roundtrip": statistics.median(times) * 1e6}


def roundtrips_first(router: Any, context: Any, amounts: Amounts) -> dict[str, float]:
    link = Link(router, context, mitogen_far.echo)
    start = time.perf_counter()
    for number in range(amounts.first):
        link.send(number)
        link.receive()
    return {"roundtrips_first": (time.perf_counter() - start) / amounts.first * 1e6}


def _stream_in(link: Link, counts: list[int]) -> float:
    for count in counts:
        start = time.perf_counter()
        link.send("go")
        for _ in range(count):
            link.receive()
        took = time.perf_counter() - start
    return took


def _stream_out(link: Link, make: Callable[[int], Any], counts: list[int]) -> float:
    for count in counts:
        start = time.perf_counter()
        for number in range(count):
            link.send(make(number))
        link.receive()
        took = time.perf_counter() - start
    return took


def dicts_in(router: Any, context: Any, amounts: Amounts) -> dict[str, float]:
    counts = measure.both(amounts.dicts)
    took = _stream_in(Link(router, context, mitogen_far.send_dicts, counts=counts), counts)
    return {"dicts_in": amounts.dicts / took}


def bytes_in(router: Any, context: Any, amounts: Amounts) -> dict[str, float]:
    counts = measure.both(amounts.megabytes)
    link = Link(router, context, mitogen_far.send_bytes, counts=counts, size=MB)
    return {"bytes_in": amounts.megabytes / _stream_in(link, counts)}


def dicts_out(router: Any, context: Any, amounts: Amounts) -> dict[str, float]:
    counts = measure.both(amounts.dicts)
    link = Link(router, context, mitogen_far.take, counts=counts)
    return {"dicts_out": amounts.dicts / _stream_out(link, measure.small_dict, counts)}


def burst(router: Any, context: Any, amounts: Amounts) -> dict[str, float]:
    counts = [measure.BURST] * sum(measure.both(amounts.bursts))
    link = Link(router, context, mitogen_far.take, counts=counts)
    times = []
    for count in counts:
        start = time.perf_counter()
        for number in range(count):
            link.send(measure.small_dict(number))
        link.receive()
        times.append(time.perf_counter() - start)
    return {"burst": statistics.median(times[-amounts.bursts :]) * 1e6}


def bytes_out(router: Any, context: Any, amounts: Amounts) -> dict[str, float]:
    counts = measure.both(amounts.megabytes)
    link = Link(router, context, mitogen_far.take, counts=counts)
    data = mitogen.core.Blob(b"x" * MB)
    return {"bytes_out": amounts.megabytes / _stream_out(link, lambda _: data, counts)}


def list_echo(router: Any, context: Any, amounts: Amounts) -> dict[str, float]:
    link = Link(router, context, mitogen_far.echo)
    value = measure.dict_list()
    for count in measure.both(amounts.lists):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            link.send(value)
            link.receive()
            times.append(time.perf_counter() - start)
    return {"list": statistics.median(times) * 1e3}


def memory(router: Any, context: Any, amounts: Amounts) -> dict[str, float]:
    context.call(mitogen_far.first)
    pids = measure.far_processes()
    return {
        "memory_pss": measure.memory(pids, "Pss"),
        "memory_rss": measure.memory(pids, "Rss"),
    }


@contextmanager
def a_router() -> Iterator[Any]:
    broker = mitogen.master.Broker()
    try:
        yield mitogen.master.Router(broker)
    finally:
        broker.shutdown()
        broker.join()


def run(job: str, amounts: Amounts) -> dict[str, float]:
    jobs = {
        "roundtrip": roundtrip,
        "roundtrips_first": roundtrips_first,
        "dicts_in": dicts_in,
        "dicts_out": dicts_out,
        "burst": burst,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "list": list_echo,
        "memory": memory,
    }
    with a_router() as router:
        began = time.perf_counter()
        context = router.local(python_path=sys.executable)
        if job == "start":
            context.call(mitogen_far.first)
            return {"start": (time.perf_counter() - began) * 1e3}
        return jobs[job](router, context, amounts)


if __name__ == "__main__":
    measure.answer(run)
