"""pycomnet: gateways through an http mediator, each figure with a server of its own."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import far
import measure
import mediated
from measure import MB, Amounts
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from pycomnet.test.processes import resident
from pycomnet.test.system.cutting import carry_through_cuts
from pycomnet.test.system.daemons import daemons
from pycomnet.test.system.mediators import Mediator

Figures = dict[str, float]
#: Gateways that are asked for at a time.
AT_ONCE = 20


@contextlib.contextmanager
def server() -> Iterator[Mediator]:
    with tempfile.TemporaryDirectory() as directory, daemons(Path(directory)) as started:
        yield Mediator(started, "--processes", "300", "--total", "300")


async def way(job: str, mediator: Mediator, group: Any, amounts: Amounts) -> Figures:
    spec = mediator.spec(websocket="yes" if job == "websocket" else "no")
    return await mediated.figures_of(job, await group.makegateway(spec), amounts)


async def many(mediator: Mediator, group: Any, amounts: Amounts) -> Figures:
    count = 200 if amounts.roundtrips > 1000 else 4
    first = await group.makegateway(mediator.spec())  # what the server loads once is there
    await first.call("os:getpid")
    before = resident(mediator.pid)
    start = time.perf_counter()
    gateways = []
    while len(gateways) < count:
        some = min(AT_ONCE, count - len(gateways))
        making = [group.makegateway(mediator.spec(), timeout=240) for _ in range(some)]
        gateways += await gatherResults(making)
    channels = [gateway.remote_exec(far.echo) for gateway in gateways]
    times = []
    for value in range(10):
        begun = time.perf_counter()
        if not value:
            begun = start
        for channel in channels:
            channel.send(value)
        got = await gatherResults([channel.receive() for channel in channels])
        times.append(time.perf_counter() - begun)
        assert got == [value] * count
    grown = resident(mediator.pid) - before
    return {
        "many_memory": grown / count / MB,
        "many_start": times[0],
        "many_trip": sorted(times[1:])[4] * 1e3,
    }


async def unread(mediator: Mediator, amounts: Amounts) -> Figures:
    blocks = amounts.megabytes // 2
    code = f"import os\nfor n in range({blocks}): os.write(1, bytes([n % 256])*1000000)"
    python = f"{sys.executable} -c '{code}'"
    before = resident(mediator.pid)
    body = json.dumps({"python": python})
    answer = await deferToThread(mediator.curl, "/popen", "-d", body)
    path = f"/exec/{answer.json['pid']}"
    grown = queued = last = 0
    while queued < min(4 << 20, blocks * MB):
        status = await deferToThread(mediator.curl, f"{path}/status")
        queued = status.json["stdout"]["queued"]
        grown = max(grown, resident(mediator.pid) - before)
    for number in range(blocks):
        got = b""
        while len(got) < MB:
            at = f"{path}?offset={last}&max={MB - len(got)}"
            piece = (await deferToThread(mediator.curl, at)).body
            assert piece
            got += piece
            last += len(piece)
        assert got == bytes([number % 256]) * MB
        grown = max(grown, resident(mediator.pid) - before)
    return {"unread_grown": grown / MB}


async def cuts(job: str, mediator: Mediator, amounts: Amounts, reactor: Any) -> Figures:
    heavy = amounts.roundtrips > 1000
    size = 1 << 16
    websocket = "yes" if job == "cuts_websocket" else "no"
    carried = await carry_through_cuts(
        reactor,
        mediator.port,
        mediator.pid,
        f"token_file={mediator.token_file}//websocket={websocket}",
        (200 if heavy else 2) * MB // size,
        size,
        1000 if heavy else 5,
    )
    return {f"{job}_grown": carried.grown / MB, f"{job}_time": carried.seconds}


def run(job: str, amounts: Amounts) -> Figures:
    with server() as mediator:

        async def work(group: Any, reactor: Any) -> Figures:
            if job == "many":
                return await many(mediator, group, amounts)
            if job == "unread":
                return await unread(mediator, amounts)
            if job.startswith("cuts"):
                return await cuts(job, mediator, amounts, reactor)
            return await way(job, mediator, group, amounts)

        return mediated.run(work)


if __name__ == "__main__":
    measure.answer(run)
