"""pycomnet's popen gateways, as what those through HTTP are compared with."""

from __future__ import annotations

from typing import Any

import measure
import mediated
from measure import Amounts


def run(job: str, amounts: Amounts) -> dict[str, float]:
    async def work(group: Any, reactor: Any) -> dict[str, float]:
        return await mediated.figures_of(job, await group.makegateway("popen"), amounts)

    return mediated.run(work)


if __name__ == "__main__":
    measure.answer(run)
