"""Starts an interpreter as a far side: its command line, environment and first bytes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from pycomnet.far import package
from pycomnet.far.path import FIRST_LINE
from pycomnet.gateways.environment import divide, environment_message
from pycomnet.gateways.spec import Spec

#: The program of an interpreter that can read this package's files. It imports the far side's
#: modules from those (and so from their cached bytecode), under a name that does not hide other
#: modules. It uses only the common subset of all Pythons, and nothing that is slow to import.
BOOT = """\
{first}
import os, sys
if sys.version_info < (3,): sys.dont_write_bytecode = True
m = type(os)("_pycomnet")
m.__path__ = [{path!a}]
sys.modules["_pycomnet"] = m
try:
    from _pycomnet.far.main import main
except ImportError:
    if os.access(os.path.join(m.__path__[0], "far", "main.py"), os.R_OK): raise
    sys.exit("pycomnet: this interpreter can't read the files in %s: let its user read them; "
        "or name the program that starts it in python=, before the interpreter" % m.__path__[0])
main({config!a})
"""
#: The names of interpreters. Another program may run one as another user, in a container or on
#: another machine, where this package's files are not, or can't be read.
INTERPRETER = re.compile(r"(python|pypy|jython|graalpy)", re.IGNORECASE)
#: Modules that Python 3.13 imports before the program of ``-c``, to show that in tracebacks: from
#: the working directory first, unless PYTHONSAFEPATH is set.
IMPORTED_FIRST = (
    *("linecache", "tokenize", "token", "re", "enum", "types", "functools", "keyword"),
    *("collections", "operator", "reprlib", "copyreg", "io", "codecs", "abc", "os"),
)
SAFE_PATH = "PYTHONSAFEPATH"
PACKAGE = str(Path(__file__).resolve().parents[1])


def needs_safe_path(env: Mapping[str, str]) -> bool:
    """Whether the working directory has modules that an interpreter imports before our first line.

    Only then is the directory removed from the interpreter's path by an option, as the user's code
    there can notice the option.
    """
    return SAFE_PATH not in env and any(
        os.path.exists(f"{name}.py") or os.path.isdir(name) for name in IMPORTED_FIRST
    )


@attrs.frozen
class Boot:
    """How an interpreter becomes a far side.

    :ivar argv: its command line.
    :ivar env: the environment in which it is started.
    :ivar message: the bytes that it is sent first.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    message: bytes = b""


def boot(
    python: Sequence[str], env: Mapping[str, str], config: dict[str, Any], sends: bool = True
) -> Boot:
    """Prepare the start of a far side on this machine.

    An interpreter imports the far side from this package's files. If another program starts the
    interpreter (``sudo -u other python3``), the far side's code is sent to it, as it may not be
    able to read the files.

    :param python: the interpreter and its arguments, or a program that starts it.
    :param env: its whole environment.
    :param config: its configuration (far/main.py).
    :param sends: whether a program may be sent the far side. Else it has to be able to read it.
    """
    fits, rest = divide(env)
    config = dict(config)
    if needs_safe_path(env):
        fits[SAFE_PATH] = "1"
        config["safe_path"] = True
    if rest:
        config["more"] = True
    more = environment_message(rest) if rest else b""
    if not sends or python[0] == sys.executable or INTERPRETER.match(os.path.basename(python[0])):
        code = BOOT.format(first=FIRST_LINE, path=PACKAGE, config=config)
        return Boot((*python, "-c", code), fits, more)
    return Boot(boot_argv(python), fits, package.bootstrap_message(config) + more)


def start_process(
    argv: Sequence[str], env: Mapping[str, str] | None, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, whose standard descriptors are pipes.

    :param env: its whole environment, or None for this process's.
    :param pass_fds: further descriptors that it inherits.
    :raises OSError: it could not be started.
    """
    return subprocess.Popen(
        argv,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=True,
        pass_fds=pass_fds,
    )


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
