"""``python -m venv``: empty environments."""

from __future__ import annotations

import statistics
import subprocess

import measure
import venvs
from measure import Amounts


def run(job: str, amounts: Amounts) -> dict[str, float]:
    assert job == "empty"
    found = []
    inside = []
    with venvs.place() as place:
        for number in range(venvs.times(amounts)):
            path = place / str(number)
            took = venvs.venv(path)
            found.append(took)
            # What an interpreter in it takes to answer.
            inside.append(took + venvs.run([str(path / "bin" / "python"), "-c", "print(1)"]))
    return {"empty": statistics.median(found), "empty_inside": statistics.median(inside)}


if __name__ == "__main__":
    try:
        measure.answer(run)
    except subprocess.CalledProcessError as problem:
        raise SystemExit(str(problem)) from None
