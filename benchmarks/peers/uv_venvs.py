"""uv: wheels into an empty environment, from its cache and with an empty one."""

from __future__ import annotations

import os
import statistics

import measure
import uv
import venvs
from measure import Amounts


def run(job: str, amounts: Amounts) -> dict[str, float]:
    assert job == "cached"
    found = []
    with venvs.place() as place:
        wheels = venvs.make_wheels(place, amounts)
        os.environ["UV_CACHE_DIR"] = str(place / "uv")
        for number in range(venvs.times(amounts) + 1):
            path = place / str(number)
            venvs.venv(path)
            argv = [uv.find_uv_bin(), "pip", "install", "-q", "--offline", "--no-index"]
            argv += ["--find-links", str(wheels), "--python", str(path / "bin" / "python")]
            found.append(venvs.run([*argv, *venvs.names(amounts)]))
    return {"cached": statistics.median(found[1:]), "new_host": found[0]}


if __name__ == "__main__":
    measure.answer(run)
