"""rsync: trees of files to directories of this machine, its processes connected by sockets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import files
import measure
from measure import Amounts


def send(source: Path, targets: list[Path]) -> int:
    """One after the other, with parts of old files as over a network."""
    size = 0
    for target in targets:
        ran = subprocess.run(
            ["rsync", "-a", "--delete", "--no-whole-file", "--stats", f"{source}/", f"{target}/"],
            check=True,
            capture_output=True,
            text=True,
        )
        for number in re.findall(r"Total bytes (?:sent|received): ([\d,]+)", ran.stdout):
            size += int(number.replace(",", ""))
    return size


def run(job: str, amounts: Amounts) -> dict[str, float]:
    return files.run_job(job, amounts, send)


if __name__ == "__main__":
    measure.answer(run)
