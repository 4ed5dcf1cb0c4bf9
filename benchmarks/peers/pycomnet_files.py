"""pycomnet: trees of files to popen gateways, through ssh, and to Jython."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import files
import measure
import places
from measure import Amounts

from pycomnet.blocking import Group, RSync


@contextmanager
def made(job: str) -> Iterator[list[Any]]:
    """The gateways of a job."""
    python = f"python={sys.executable}"
    if job == "ssh":
        with places.host() as sshd, Group() as group:
            yield [group.makegateway(sshd.spec())]
    elif job == "hops":
        with places.network(2 * files.HOP), Group() as group:
            group.makegateway(f"ssh=h1//id=h1//{python}")
            yield [group.makegateway(f"ssh=h2//via=h1//{python}")]
    else:
        with Group() as group:
            if job == "jython":
                yield [
                    group.makegateway(spec, timeout=200)
                    for spec in ("popen//python=jython", "popen")
                ]
            else:
                yield [group.makegateway("popen") for _ in range(8 if job == "targets" else 1)]


def run(job: str, amounts: Amounts) -> dict[str, float]:
    with made(job) as gateways:

        def send(source: Path, targets: list[Path], gateways: list[Any] = gateways) -> int:
            sync = RSync(source, delete=True)
            for gateway, target in zip(gateways, targets, strict=False):
                sync.add_target(gateway, target)
            result = sync.send()
            result.raise_for_failures()
            return sum(each.bytes_sent + each.bytes_received for each in result.targets)

        def beside(source: Path, targets: list[Path]) -> int:
            return send(source, targets, gateways[1:])

        near = measure.watch_growth([os.getpid()])
        far = measure.watch_growth([gateways[0].info["pid"]])
        return files.run_job(job, amounts, send, lambda: (near(), far()), beside)


if __name__ == "__main__":
    measure.answer(run)
