"""pycomnet: the Deferred API on the epoll reactor."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import far
import measure
from measure import MB, Amounts
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

import pycomnet

Figures = dict[str, float]


class Count:
    """Counts what a callback gets, and fires when there are so many."""

    def __init__(self) -> None:
        self._left = 0
        self._done: Deferred[None] = Deferred()

    def expect(self, count: int) -> Deferred[None]:
        self._left = count
        self._done = Deferred()
        return self._done

    def __call__(self, value: object) -> None:
        self._left -= 1
        if not self._left:
            self._done.callback(None)


async def roundtrip(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    channel = gateway.remote_exec(far.echo)
    for count in measure.both(amounts.roundtrips):
        times = []
        for number in range(count):
            start = time.perf_counter()
            await channel.send(number)
            await channel.receive()
            times.append(time.perf_counter() - start)
    return {"roundtrip": statistics.median(times) * 1e6}


async def roundtrips_first(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    channel = gateway.remote_exec(far.echo)
    start = time.perf_counter()
    for number in range(amounts.first):
        await channel.send(number)
        await channel.receive()
    return {"roundtrips_first": (time.perf_counter() - start) / amounts.first * 1e6}


async def _stream_in(channel: pycomnet.Channel, counts: list[int]) -> float:
    got = Count()
    channel.setcallback(got)
    for count in counts:
        done = got.expect(count)
        start = time.perf_counter()
        await channel.send("go")
        await done
        took = time.perf_counter() - start
    await channel.waitclose()
    return took


async def dicts_in(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    counts = measure.both(amounts.dicts)
    took = await _stream_in(gateway.remote_exec(far.send_dicts, counts=counts), counts)
    return {"dicts_in": amounts.dicts / took}


async def bytes_in(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    counts = measure.both(amounts.megabytes)
    took = await _stream_in(gateway.remote_exec(far.send_bytes, counts=counts, size=MB), counts)
    return {"bytes_in": amounts.megabytes / took}


async def dicts_out(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    counts = measure.both(amounts.dicts)
    channel = gateway.remote_exec(far.take, counts=counts)
    for count in counts:
        start = time.perf_counter()
        for number in range(count):
            await channel.send(measure.small_dict(number))
        await channel.receive()
        took = time.perf_counter() - start
    return {"dicts_out": amounts.dicts / took}


async def burst(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    """Each burst begins in its own turn: what is sent while data is read is collected anyway."""
    counts = [measure.BURST] * sum(measure.both(amounts.bursts))
    channel = gateway.remote_exec(far.take, counts=counts)
    times = []
    for count in counts:
        await deferLater(reactor, 0)
        start = time.perf_counter()
        for number in range(count):
            await channel.send(measure.small_dict(number))
        await channel.receive()
        times.append(time.perf_counter() - start)
    return {"burst": statistics.median(times[-amounts.bursts :]) * 1e6}


async def bytes_out(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    counts = measure.both(amounts.megabytes)
    channel = gateway.remote_exec(far.take, counts=counts)
    data = b"x" * MB
    for count in counts:
        start = time.perf_counter()
        for _ in range(count):
            await channel.send(data)
        await channel.receive()
        took = time.perf_counter() - start
    return {"bytes_out": amounts.megabytes / took}


async def list_echo(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    channel = gateway.remote_exec(far.echo)
    value = measure.dict_list()
    for count in measure.both(amounts.lists):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            await channel.send(value)
            await channel.receive()
            times.append(time.perf_counter() - start)
    return {"list": statistics.median(times) * 1e3}


async def memory(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    await gateway.remote_exec(far.first).waitclose()
    pids = measure.far_processes()
    return {
        "memory_pss": measure.memory(pids, "Pss"),
        "memory_rss": measure.memory(pids, "Rss"),
    }


async def held_in(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    channel = gateway.remote_exec(far.send_counted, count=amounts.held, size=MB)
    teller = gateway.remote_exec(far.tell_count)
    await teller.send(None)
    await teller.receive()
    grown = measure.watch_growth([os.getpid()])
    await channel.send("go")
    progress = measure.Progress(amounts.held)
    while True:
        await teller.send(None)
        sent = await teller.receive()
        if progress.over(sent):
            break
        await deferLater(reactor, measure.LOOK)
    return {"held_in": grown(), "held_in_sent": sent}


async def held_out(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    channel = gateway.remote_exec(far.take_nothing)
    await channel.receive()
    grown = measure.watch_growth(measure.far_processes())
    sent = 0

    async def send() -> None:
        nonlocal sent
        data = b"x" * MB
        for _ in range(amounts.held):
            await channel.send(data)
            sent += 1

    sending = Deferred.fromCoroutine(send())
    progress = measure.Progress(amounts.held)
    while not progress.over(sent):
        await deferLater(reactor, measure.LOOK)
    sending.addErrback(lambda _: None)
    sending.cancel()
    return {"held_out": grown(), "held_out_sent": sent}


async def _pingpong(channel: pycomnet.Channel, done: Deferred[Any]) -> list[float]:
    times = []
    while not done.called:
        start = time.perf_counter()
        await channel.send(1)
        await channel.receive()
        times.append(time.perf_counter() - start)
    return times


async def big_in(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    size = amounts.big * MB
    channel = gateway.remote_exec(far.send_big, size=size)
    await channel.receive()
    pings = gateway.remote_exec(far.echo)
    start = time.perf_counter()
    await channel.send("go")
    times = await _pingpong(pings, channel.receive())
    return measure.pingpong_figures("in", times, size, time.perf_counter() - start)


async def big_out(gateway: pycomnet.Gateway, amounts: Amounts, reactor: Any) -> Figures:
    size = amounts.big * MB
    channel = gateway.remote_exec(far.take_big)
    pings = gateway.remote_exec(far.echo)
    data = b"x" * size
    start = time.perf_counter()
    sent = channel.send(data)
    times = await _pingpong(pings, channel.receive())
    took = time.perf_counter() - start
    await sent
    return measure.pingpong_figures("out", times, size, took)


async def first_gateway(reactor: Any) -> Figures:
    await deferLater(reactor, 0)  # the reactor runs from here on
    async with pycomnet.Group(reactor) as group:
        began = time.perf_counter()
        gateway = await group.makegateway("popen")
        await gateway.remote_exec(far.first).receive()
        took = time.perf_counter() - began
    return {"start": took * 1e3}


WITH_GATEWAY: dict[str, Callable[[pycomnet.Gateway, Amounts, Any], Awaitable[Figures]]] = {
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


def run(job: str, amounts: Amounts) -> Figures:
    if job == "codec":
        from pycomnet.wire.values import PureCodec

        codec = PureCodec()
        return measure.codec_figures(codec.encode, codec.decode, amounts)
    figures: Figures = {}

    async def main(reactor: Any) -> None:
        if job == "start":
            figures.update(await first_gateway(reactor))
            return
        async with pycomnet.Group(reactor) as group:
            gateway = await group.makegateway("popen")
            figures.update(await WITH_GATEWAY[job](gateway, amounts, reactor))

    measure.run_reactor(main)
    return figures


if __name__ == "__main__":
    measure.answer(run)
