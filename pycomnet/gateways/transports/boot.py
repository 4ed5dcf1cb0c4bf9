"""How an interpreter is started as a far side: its command line, environment and first bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pycomnet.far import package
from pycomnet.far.path import FIRST_LINE
from pycomnet.gateways.environment import divide, environment_message
from pycomnet.gateways.spec import Spec

#: What a far side on this machine is started with. It imports the far side's modules from this
#: package's own files (and so from their cached bytecode), under a name that stands in nobody's
#: way. Only the common subset of all Pythons, and nothing that is slow to import.
BOOT = """\
{first}
import os, sys
if sys.version_info < (3,): sys.dont_write_bytecode = True
m = type(os)("_pycomnet")
m.__path__ = [{path!a}]
sys.modules["_pycomnet"] = m
from _pycomnet.far.main import main
main({config!a})
"""
#: Modules that Python 3.13 imports before what ``-c`` gives it, to show that in tracebacks: from
#: the working directory first, unless this variable is set.
IMPORTED_FIRST = (
    *("linecache", "tokenize", "token", "re", "enum", "types", "functools", "keyword"),
    *("collections", "operator", "reprlib", "copyreg", "io", "codecs", "abc", "os"),
)
SAFE_PATH = "PYTHONSAFEPATH"
PACKAGE = str(Path(__file__).resolve().parents[2])


def boot_code(config: dict[str, Any]) -> str:
    """The program that an interpreter of this machine is started with."""
    return BOOT.format(first=FIRST_LINE, path=PACKAGE, config=config)


def needs_safe_path(env: Mapping[str, str]) -> bool:
    """Whether the working directory has what an interpreter imports before our first line.

    Only then is it told to keep that from its path, as code there can see that it was.
    """
    return SAFE_PATH not in env and any(
        os.path.exists(f"{name}.py") or os.path.isdir(name) for name in IMPORTED_FIRST
    )


def prepare(env: Mapping[str, str], config: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """What an interpreter is started with for an environment.

    :param config: what it is told; changed.
    :returns: the environment it is started in, and what it is sent first.
    """
    fits, rest = divide(env)
    if needs_safe_path(env):
        fits[SAFE_PATH] = "1"
        config["safe_path"] = True
    if not rest:
        return fits, b""
    config["more"] = True
    return fits, environment_message(rest)


def worker_config(spec: Spec, id: str) -> dict[str, Any]:
    """What a worker is told (far/main.py)."""
    return {"id": id, "execmodel": spec.execmodel, "chdir": spec.chdir, "nice": spec.nice}


def interpreter(spec: Spec) -> list[str]:
    """The interpreter of this machine that a spec names, and its arguments."""
    return list(spec.python) if spec.python else own_interpreter()


def own_interpreter() -> list[str]:
    """The interpreter that runs this program, with the options that it was started with.

    So ``-I`` or ``-X utf8`` hold for far sides, too, as they do for what multiprocessing starts.
    """
    # As multiprocessing has it; there is no public way to ask.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
    return [sys.executable, *flags]


def boot_argv(python: Sequence[str]) -> tuple[str, ...]:
    """The command that an interpreter is started with where nothing of ours is."""
    return (*python, "-c", package.code())


__all__ = [
    "boot_argv",
    "boot_code",
    "interpreter",
    "needs_safe_path",
    "own_interpreter",
    "prepare",
    "worker_config",
]
