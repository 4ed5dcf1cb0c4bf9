"""pip: wheels into an empty environment."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import measure
import venvs
from measure import Amounts


def install(path: Path, wheels: Path, amounts: Amounts, *options: str) -> float:
    venvs.venv(path)
    argv = [sys.executable, "-m", "pip", "--python", str(path / "bin" / "python")]
    argv += ["install", "-q", "--no-index", "--find-links", str(wheels), *options]
    return venvs.run([*argv, *venvs.names(amounts)])


def run(job: str, amounts: Amounts) -> dict[str, float]:
    assert job == "cached"
    found = []
    with venvs.place() as place:
        wheels = venvs.make_wheels(place, amounts)
        for number in range(venvs.times(amounts)):
            found.append(install(place / str(number), wheels, amounts))
        plain = install(place / "plain", wheels, amounts, "--no-compile")
    took = statistics.median(found)
    return {"cached": took, "new_host": took, "new_host_plain": plain}


if __name__ == "__main__":
    measure.answer(run)
