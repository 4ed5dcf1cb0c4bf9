"""Starts an interpreter as a far side: its command line, environment and first bytes."""

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

#: The program of a far side on this machine. It imports the far side's modules from this package's
#: own files (and so from their cached bytecode), under a name that does not hide other modules. It
#: uses only the common subset of all Pythons, and nothing that is slow to import.
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
#: Modules that Python 3.13 imports before the program of ``-c``, to show that in tracebacks: from
#: the working directory first, unless PYTHONSAFEPATH is set.
IMPORTED_FIRST = (
    *("linecache", "tokenize", "token", "re", "enum", "types", "functools", "keyword"),
    *("collections", "operator", "reprlib", "copyreg", "io", "codecs", "abc", "os"),
)
SAFE_PATH = "PYTHONSAFEPATH"
PACKAGE = str(Path(__file__).resolve().parents[2])


def boot_code(config: dict[str, Any]) -> str:
    """The program for an interpreter of this machine."""
    return BOOT.format(first=FIRST_LINE, path=PACKAGE, config=config)


def needs_safe_path(env: Mapping[str, str]) -> bool:
    """Whether the working directory has modules that an interpreter imports before our first line.

    Only then is the interpreter told to keep the directory from its path, as code there can notice
    that.
    """
    return SAFE_PATH not in env and any(
        os.path.exists(f"{name}.py") or os.path.isdir(name) for name in IMPORTED_FIRST
    )


def prepare(env: Mapping[str, str], config: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    """Prepare the start of an interpreter with an environment.

    :param config: its configuration; this changes it.
    :returns: the environment in which it is started, and what it is sent first.
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
    """The configuration of a worker (far/main.py)."""
    return {"id": id, "execmodel": spec.execmodel, "chdir": spec.chdir, "nice": spec.nice}


def interpreter(spec: Spec) -> list[str]:
    """The interpreter of this machine that a spec names, and its arguments."""
    return list(spec.python) if spec.python else own_interpreter()


def own_interpreter() -> list[str]:
    """The interpreter that runs this program, with the options with which it was started.

    So ``-I`` or ``-X utf8`` apply to far sides, too, as to the processes of multiprocessing.
    """
    # As in multiprocessing; there is no public function for it.
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
    return [sys.executable, *flags]


def boot_argv(python: Sequence[str]) -> tuple[str, ...]:
    """The command of an interpreter on a machine without our package."""
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
