"""execnet: trees of files to popen gateways."""

from __future__ import annotations

from pathlib import Path

import execnet
import files
import measure
from measure import Amounts


def run(job: str, amounts: Amounts) -> dict[str, float]:
    group = execnet.Group()
    gateways = [group.makegateway("popen") for _ in range(8 if job == "targets" else 1)]

    def send(source: Path, targets: list[Path]) -> int:
        sync = execnet.RSync(str(source), verbose=False)
        for gateway, target in zip(gateways, targets, strict=False):
            sync.add_target(gateway, str(target), delete=True)
        sync.send()
        return 0

    try:
        found = files.run_job(job, amounts, send)
        return {name: figure for name, figure in found.items() if not name.endswith("_wire")}
    finally:
        group.terminate(timeout=1)


if __name__ == "__main__":
    measure.answer(run)
