"""Two workflow services that share a PostgreSQL database, beside one: steps a second.

Runs are chains of three calls that each wait. Each service is given as many runs at a time. All are
processes: the services, the one that they call, and PostgreSQL.

    python benchmarks/workflow_shared.py --runs 1000
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ending import react
from twisted.internet import defer
from twisted.internet.threads import deferToThread

from pycomnet.ext.workflow import workflow
from pycomnet.services.client.context import Context
from pycomnet.test.postgresql import postgresql
from pycomnet.test.system.daemons import daemons

NAME = "/shared/workflow"
SERVICE = """
import pycomnet
from twisted.internet import reactor, task

@pycomnet.interface("shared.slow")
class Slow(pycomnet.Service):
    @pycomnet.method(idempotent=True)
    async def wait(self, request):
        await task.deferLater(reactor, {seconds})
        return request.args
"""
STEP = {"interface": "shared.slow", "method": "wait", "timeout": 60}


async def measure(context: Context, services: int, args: argparse.Namespace) -> float:
    """Steps a second."""
    made = []
    for number in range(services):
        w = workflow(f"{NAME}/{number}", context=context)
        await w.invoke("chain", 1)
        gate = defer.DeferredSemaphore(args.at_a_time)
        made += [(gate, w) for _ in range(args.runs)]
    begun = time.perf_counter()
    await defer.gatherResults([gate.run(w.invoke, "chain", 1) for gate, w in made])
    return len(made) * 3 / (time.perf_counter() - begun)


async def main(reactor: Any) -> None:
    """Read the command line, and measure one and two in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=400, help="of each service, in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-a-time", type=int, default=64, help="runs of each service")
    parser.add_argument("--wait", type=float, default=0.2, help="seconds that a call takes")
    args = parser.parse_args()
    with ExitStack() as cleanup:
        directory = cleanup.enter_context(tempfile.TemporaryDirectory())
        server = cleanup.enter_context(postgresql(fsync="on"))
        started = cleanup.enter_context(daemons(Path(directory)))
        names = started.nameserver()
        (started.directory / "slow.py").write_text(SERVICE.format(seconds=args.wait))
        config = started.directory / "chain.json"
        config.write_text(json.dumps({"tasks": {"chain": [STEP] * 3}}))
        await deferToThread(started.service(names, module="slow").wait_for, "registered ")
        store = server.address()
        for number in range(2):
            daemon = started.start(
                *("pycomnet-workflow", "--config", str(config), "--nameserver", names),
                *("--name", f"{NAME}/{number}", "--store", store),
            )
            await deferToThread(daemon.wait_for, "registered ")
        async with Context(reactor, nameserver=names, timeout=None) as context:
            rounds = []
            for _ in range(args.rounds):
                one = await measure(context, 1, args)
                rounds.append((one, await measure(context, 2, args)))
    one, two = (statistics.median(figures) for figures in zip(*rounds, strict=True))
    ratio = statistics.median(two / one for one, two in rounds)
    print(f"calls of {args.wait:g} s, {args.at_a_time} runs at a time for each service:", end=" ")
    print(f"one {one:.0f} steps a second, two {two:.0f}: {ratio:.2f} times")


if __name__ == "__main__":
    react(main)
