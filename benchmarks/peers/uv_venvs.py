"""uv: wheels into an empty environment, from its cache and with an empty one."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

import measure
import uv
import venvs
from measure import Amounts


def install(path: Path, wheels: Path, amounts: Amounts, *options: str) -> float:
    venvs.venv(path)
    argv = [uv.find_uv_bin(), "pip", "install", "-q", "--offline", "--no-index", *options]
    argv += ["--find-links", str(wheels), "--python", str(path / "bin" / "python")]
    return venvs.run([*argv, *venvs.names(amounts)])


def run(job: str, amounts: Amounts) -> dict[str, float]:
    assert job == "cached"
    found = []
    with venvs.place() as place:
        wheels = venvs.make_wheels(place, amounts)
        os.environ["UV_CACHE_DIR"] = str(place / "uv")
        for number in range(venvs.times(amounts) + 1):
            found.append(install(place / str(number), wheels, amounts))
        os.environ["UV_CACHE_DIR"] = str(place / "other")
        compiling = install(place / "compiled", wheels, amounts, "--compile-bytecode")
    return {
        "cached": statistics.median(found[1:]),
        "new_host": compiling,
        "new_host_plain": found[0],
    }


if __name__ == "__main__":
    measure.answer(run)
