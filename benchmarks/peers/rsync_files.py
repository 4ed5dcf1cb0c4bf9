"""rsync: trees of files to directories of this machine, its processes connected by sockets; and
through ssh."""

from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

import files
import measure
import places
from measure import Amounts

#: Through two hosts of a network that is simulated, as by ProxyJump.
TWO_HOPS = """#!/bin/sh
shift
exec ssh h1 "ssh h2 '$*'"
"""


def send(source: Path, targets: list[Path], shell: str = "") -> int:
    """One after the other, with parts of old files as over a network.

    :param shell: the remote shell; by default there is none.
    """
    size = 0
    argv = ["rsync", "-a", "--delete", "--no-whole-file", "--stats"]
    if shell:
        argv += ["-e", shell]
    for target in targets:
        where = f"box:{target}" if shell else str(target)
        ran = subprocess.run(
            [*argv, f"{source}/", f"{where}/"], check=True, capture_output=True, text=True
        )
        for number in re.findall(r"Total bytes (?:sent|received): ([\d,]+)", ran.stdout):
            size += int(number.replace(",", ""))
    return size


def run(job: str, amounts: Amounts) -> dict[str, float]:
    with ExitStack() as stack:
        shell = ""
        if job == "ssh":
            shell = f"ssh -F {stack.enter_context(places.host()).config}"
        elif job == "hops":
            stack.enter_context(places.network(2 * files.HOP))
            base, _ = stack.enter_context(files.places())
            script = base.with_name("two-hops")
            script.write_text(TWO_HOPS)
            script.chmod(0o755)
            shell = str(script)
        return files.run_job(job, amounts, lambda source, targets: send(source, targets, shell))


if __name__ == "__main__":
    measure.answer(run)
