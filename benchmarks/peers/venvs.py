"""What the peers of the environments' comparison share: 20 wheels, and how often."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import Amounts

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

#: How many wheels there are, and how many modules each has.
WHEELS = 20
MODULES = 60
#: A module of some kilobytes, as in a usual package.
MODULE = "".join(
    f'def function_{n}(value, other=None):\n    """Does nothing of use."""\n'
    f"    found = [value * {n} for value in range(10) if value != other]\n"
    f'    return {{"found": found, "number": {n}}}\n\n\n'
    for n in range(20)
)


def small(amounts: Amounts) -> bool:
    """Whether it is only to be seen that it works."""
    return amounts.roundtrips <= 1000


def times(amounts: Amounts) -> int:
    """How many times something is done; the median counts."""
    return 1 if small(amounts) else 5


def names(amounts: Amounts) -> list[str]:
    """The names of the wheels."""
    return [f"bench{n}" for n in range(2 if small(amounts) else WHEELS)]


@contextmanager
def place() -> Iterator[Path]:
    """A directory, and caches of its own in it; pip and uv ask no index."""
    with tempfile.TemporaryDirectory(prefix="pycomnet-bench-") as name:
        for variable in [each for each in os.environ if each.startswith(("PIP_", "UV_"))]:
            del os.environ[variable]
        os.environ["PIP_CONFIG_FILE"] = os.devnull
        os.environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        yield Path(name)


def make_wheels(path: Path, amounts: Amounts) -> Path:
    """Make the wheels; the directory that has them."""
    from pycomnet.test.xdeploy.packages import wheel

    for name in names(amounts):
        files = {f"{name}/__init__.py": ""}
        files.update({f"{name}/part{n}.py": MODULE for n in range(MODULES)})
        wheel(path / "wheels", name, files=files)
    return path / "wheels"


def venv(path: Path) -> float:
    """Make an empty environment with ``python -m venv``; the milliseconds that it took."""
    return run([sys.executable, "-m", "venv", "--without-pip", str(path)])


def run(argv: list[str]) -> float:
    """Run a command; the milliseconds that it took."""
    begin = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begin) * 1e3
