"""Small file systems, for tests of what happens when a disk is full."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pycomnet.test.needs import missing, require


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a file system in memory; skip the test where this user can't.

    :param path: the directory that it is mounted on.
    :param size: as ``mount`` takes it: ``2m``.
    """
    require("mount", "umount")
    options = f"size={size},mode=700"
    mounted = ["mount", "-t", "tmpfs", "-o", options, "pycomnet-test", str(path)]
    ran = subprocess.run(mounted, capture_output=True, text=True)
    if ran.returncode:
        missing(f"can't mount here: {ran.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
