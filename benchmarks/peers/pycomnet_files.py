"""pycomnet: trees of files to popen gateways."""

from __future__ import annotations

import os
from pathlib import Path

import files
import measure
from measure import Amounts

from pycomnet.blocking import Group, RSync


def run(job: str, amounts: Amounts) -> dict[str, float]:
    with Group() as group:
        gateways = [group.makegateway("popen") for _ in range(8 if job == "targets" else 1)]

        def send(source: Path, targets: list[Path]) -> int:
            sync = RSync(source, delete=True)
            for gateway, target in zip(gateways, targets, strict=False):
                sync.add_target(gateway, target)
            result = sync.send()
            result.raise_for_failures()
            return sum(each.bytes_sent + each.bytes_received for each in result.targets)

        near = measure.watch_growth([os.getpid()])
        far = measure.watch_growth([gateways[0].info["pid"]])
        return files.run_job(job, amounts, send, lambda: (near(), far()))


if __name__ == "__main__":
    measure.answer(run)
