"""The popen transport: a far side in a process of this machine."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pycomnet.errors import GatewayNotStarted
from pycomnet.gateways.process import LocalProcess
from pycomnet.gateways.spec import Spec

#: What a far side on this machine is started with. It imports the far side's modules from this
#: package's own files (and so from their cached bytecode), under a name that stands in nobody's
#: way. Only the common subset of all Pythons, and nothing that is slow to import.
BOOT = """\
import os, sys
if sys.version_info < (3,): sys.dont_write_bytecode = True
m = type(os)("_pycomnet")
m.__path__ = [{path!a}]
sys.modules["_pycomnet"] = m
from _pycomnet.worker.main import main
main({config!a})
"""
PACKAGE = str(Path(__file__).resolve().parent.parent)


def boot_code(spec: Spec, id: str) -> str:
    """The program that a far side is started with."""
    config = {
        "id": id,
        "execmodel": spec.execmodel,
        "chdir": spec.chdir,
        "nice": spec.nice,
        "near": os.getpid(),
    }
    return BOOT.format(path=PACKAGE, config=config)


def start(spec: Spec, id: str, output: Callable[[str], Any], reactor: Any) -> LocalProcess:
    """Start the process of a popen gateway.

    :raises GatewayNotStarted: there is no such interpreter, or it can't be run.
    """
    python = shlex.split(spec.python) if spec.python else [sys.executable]
    env = {**os.environ, **spec.env} if spec.env else None
    try:
        return LocalProcess([*python, "-c", boot_code(spec, id)], env, output, reactor)
    except (OSError, ValueError) as problem:
        raise GatewayNotStarted(f"{spec}: can't start {python[0]!r}: {problem}") from problem
