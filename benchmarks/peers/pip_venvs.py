"""pip: wheels into an empty environment."""

from __future__ import annotations

import statistics
import sys

import measure
import venvs
from measure import Amounts


def run(job: str, amounts: Amounts) -> dict[str, float]:
    assert job == "cached"
    found = []
    with venvs.place() as place:
        wheels = venvs.make_wheels(place, amounts)
        for number in range(venvs.times(amounts)):
            path = place / str(number)
            venvs.venv(path)
            argv = [sys.executable, "-m", "pip", "--python", str(path / "bin" / "python")]
            argv += ["install", "-q", "--no-index", "--find-links", str(wheels)]
            found.append(venvs.run([*argv, *venvs.names(amounts)]))
    took = statistics.median(found)
    return {"cached": took, "new_host": took}


if __name__ == "__main__":
    measure.answer(run)
