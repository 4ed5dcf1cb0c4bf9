"""What users of neighbouring projects reported as broken, in unusual surroundings.

Each test runs a near side as a program of its own, in what the report says. The numbers are those
of the issues; ``cpython#75985`` and so on.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pycomnet.test.system.nearby import PATIENCE

#: Makes a gateway, uses it, and has two end: by a status and by a signal.
PROGRAM = """
import json, os, sys
from pycomnet.blocking import Group

def fun(channel):
    channel.send(channel.receive() + 1)

def add(a, b):
    return a + b

def die(status):
    import os, signal
    os._exit(status) if status else os.kill(os.getpid(), signal.SIGKILL)

def main():
    group = Group()
    gateway = group.makegateway("popen")
    channel = gateway.remote_exec(fun)
    channel.send(1)
    seen = [channel.receive(timeout=60), gateway.call(add, 1, 2)]
    for status in (7, 0):
        try:
            group.makegateway("popen").call(die, status, timeout=60)
        except Exception as problem:
            seen.append([getattr(problem, "exit_status", None), getattr(problem, "signal", None)])
    group.terminate(timeout=5)
    with open(sys.argv[1], "w") as file:
        json.dump(seen, file)

if __name__ == "__main__":
    main()
"""
#: What it sees.
SEEN = [2, 3, [7, None], [None, signal.SIGKILL]]


def run(
    directory: Path,
    *options: str,
    program: str = PROGRAM,
    env: dict[str, str] | None = None,
    before: Callable[[], object] | None = None,
    **streams: Any,
) -> Any:
    """Run a program, and return what it wrote as JSON to the file that it is told.

    :param options: the interpreter's, or a program instead that it is to run.
    :param before: called in the process before the program.
    """
    script, out = directory / "program.py", directory / "out.json"
    script.write_text(program)
    argv = [sys.executable, *options]
    if not options or options[-1].startswith("-"):
        argv.append(str(script))
    streams = streams or {"stderr": subprocess.PIPE}
    done = subprocess.run(
        [*argv, str(out)],
        env=env,
        preexec_fn=before,
        stdout=subprocess.DEVNULL,
        timeout=PATIENCE,
        text=True,
        check=False,
        **streams,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(out.read_text())


def test_gateways_work_with_sigchld_ignored(tmp_path: Path) -> None:
    """ray#6736: SIGCHLD is ignored, so no exit status can be had; it is all the same."""
    assert run(tmp_path, before=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)) == SEEN


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_gateways_work_with_closed_standard_streams(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    """gunicorn#123: a daemon has closed its standard streams, and starts processes."""

    def close() -> None:
        for fd in closed:
            os.close(fd)

    assert run(tmp_path, before=close) == SEEN


def test_gateways_work_without_sys_stdout(tmp_path: Path) -> None:
    """cpython#75985, ipykernel#1119: ``sys.stdout`` is None, or closed, and far code prints."""
    program = PROGRAM.replace(
        "    seen = [",
        "    said = 'import sys; print(1); sys.stderr.write(str(2) + chr(10))'\n"
        "    import io, logging\n"
        "    logged = []\n"
        "    handler = logging.Handler(); handler.emit = logged.append\n"
        "    logging.getLogger().addHandler(handler)\n"
        "    closed = io.StringIO(); closed.close()\n"
        "    for stream in (None, closed):\n"
        "        sys.stdout = sys.stderr = stream\n"
        "        gateway.remote_exec(said).waitclose(timeout=60)\n"
        "    assert not logged, logged\n"
        "    seen = [",
    )
    assert run(tmp_path, program=program) == SEEN


@pytest.mark.parametrize(
    "options",
    [("-W", "error"), ("-X", "dev", "-W", "error"), ("-OO",), ("-X", "importtime")],
    ids=" ".join,
)
def test_gateways_work_with_interpreter_options(tmp_path: Path, options: tuple[str, ...]) -> None:
    """execnet#74, xdist#247: a warning shows at the end, or is an error."""
    streams: dict[str, Any] = {"stderr": subprocess.DEVNULL} if "importtime" in options else {}
    assert run(tmp_path, *options, "-s", **streams) == SEEN


def test_gateways_work_in_a_bare_environment(tmp_path: Path) -> None:
    """ansible#39166: there is no HOME, no LANG, no PATH."""
    assert run(tmp_path, env={}) == SEEN
    assert run(tmp_path, env={"LC_ALL": "C", "PYTHONUTF8": "0", "HOME": "/nonexistent"}) == SEEN


@pytest.mark.parametrize("packed", [False, True])
def test_gateways_work_in_a_zip_or_directory(tmp_path: Path, packed: bool) -> None:
    """distributed#1718: the program is a zip file or a directory, and ``__main__`` is offered."""
    source = tmp_path / "app"
    source.mkdir()
    (source / "helpers.py").write_text("def plus(a, b):\n    return a + b\n")
    (source / "__main__.py").write_text(
        PROGRAM.replace("import json", "import helpers, json")
        .replace("Group()", 'Group(modules=["__main__", "helpers"])')
        .replace("    return a + b", "    return helpers.plus(a, b)")
    )
    target = source
    if packed:
        target = tmp_path / "app.pyz"
        zipapp.create_archive(source, target)
    assert run(tmp_path, str(target)) == SEEN


@pytest.mark.parametrize("umask", [0, 0o777])
def test_gateways_work_with_odd_umask_and_64_descriptors(tmp_path: Path, umask: int) -> None:
    """mitogen#644: little may be open, and the umask is odd."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        os.umask(umask)

    out = tmp_path / "out.json"
    out.touch()
    out.chmod(0o600)
    assert run(tmp_path, before=limit) == SEEN


def test_too_few_descriptors_are_named_in_the_error(tmp_path: Path) -> None:
    """ray-legacy#431: it says that too many files are open, and what could not be started."""
    program = """
import json, resource, sys
from pycomnet.blocking import Group
group, seen = Group(), []
gateways = [group.makegateway("popen")]
resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
try:
    while len(gateways) < 24:
        gateways.append(group.makegateway("popen"))
except Exception as problem:
    seen.append([type(problem).__name__, "Too many open files" in str(problem)])
seen.append(gateways[0].call("operator:add", 1, 2))
json.dump(seen, open(sys.argv[1], "w"))
group.terminate(timeout=5)
"""
    assert run(tmp_path, program=program) == [["GatewayNotStarted", True], 3]


def test_far_side_without_threads_reports_and_goes_on(tmp_path: Path) -> None:
    """mitogen#644, ray#34829: the far side can have no more threads: an error, and it goes on."""
    program = """
import json, sys
from pycomnet.blocking import Group

def none_left(channel):
    import threading
    start = threading.Thread.start
    def refuse(self):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = refuse
    channel.send(None)
    channel.receive()
    threading.Thread.start = start

group, seen = Group(), []
gateway = group.makegateway("popen")
channel = gateway.remote_exec(none_left)
channel.receive(timeout=60)
try:
    gateway.call("operator:add", 1, 2, timeout=60)
except Exception as problem:
    seen.append([type(problem).__name__, problem.message])
channel.send(None)
channel.waitclose(timeout=60)
seen.append(gateway.call("operator:add", 1, 2, timeout=60))
seen.append(gateway.remote_status()["threads"])
group.terminate(timeout=5)
json.dump(seen, open(sys.argv[1], "w"))
"""
    words = "the far side can't start a thread to run this: can't start new thread"
    assert run(tmp_path, program=program) == [["RemoteError", words], 3, 0]


def test_near_side_without_threads_raises_pythons_error(tmp_path: Path) -> None:
    """dask#1958: this side can have no more threads: the error is Python's; later it works."""
    program = """
import json, sys, threading
from pycomnet.blocking import Group
start, seen = threading.Thread.start, []
for refused in ("pycomnet-log", "pycomnet", ""):
    def refuse(self):
        if self.name == refused:
            raise RuntimeError("can't start new thread")
        start(self)
    threading.Thread.start = refuse
    try:
        group = Group()
        seen.append(group.makegateway("popen").call("operator:add", 1, 2, timeout=60))
    except RuntimeError as problem:
        seen.append(str(problem))
group.terminate(timeout=5)
json.dump(seen, open(sys.argv[1], "w"))
"""
    assert run(tmp_path, program=program) == ["can't start new thread"] * 2 + [3]


def test_pool_without_workers_fails_every_call(tmp_path: Path) -> None:
    """cpython#152967, loky#663: what is submitted after the last worker died never ends."""
    program = """
import json, sys
from pycomnet.blocking import Group, GatewayExecutor

def die():
    import os
    os._exit(7)

group, seen = Group(), []
group.makegateway("popen")
with GatewayExecutor(group, replace=0) as executor:
    for function in (die, "builtins:int", "builtins:int"):
        try:
            seen.append(executor.submit(function).result(timeout=60))
        except Exception as problem:
            seen.append(type(problem).__name__)
group.terminate(timeout=5)
json.dump(seen, open(sys.argv[1], "w"))
"""
    assert run(tmp_path, program=program, stderr=subprocess.DEVNULL) == ["NoGatewayLeft"] * 3


def test_changed_environment_counts_for_the_next_gateway(tmp_path: Path) -> None:
    """ray#2260: what the program changes after the first gateway counts for the next one."""
    program = """
import json, os, resource, sys, time
from pycomnet.blocking import Group
look = '''
import os, resource, time
there = os.umask(0)
channel.send([os.environ.get("ADDED"), time.tzname[0], resource.getrlimit(resource.RLIMIT_CORE)[0],
    there, os.getcwd()])
'''
group = Group()
group.makegateway("popen")
os.environ.update(ADDED="1", TZ="Asia/Tokyo")
time.tzset()
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.umask(0o27)
os.chdir("/")
channel = group.makegateway("popen").remote_exec(look)
seen = channel.receive(timeout=60)
group.terminate(timeout=5)
json.dump(seen, open(sys.argv[1], "w"))
"""
    assert run(tmp_path, program=program) == ["1", "JST", 0, 0o27, "/"]


def test_waits_survive_a_timers_signals(tmp_path: Path) -> None:
    """nanomsg#39: a timer's signals come all the time; one of them raises."""
    program = """
import json, signal, sys
from pycomnet.blocking import Group
class Alarm(Exception): pass
count = [0]
def tick(*_): count[0] += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
group = Group()
gateway = group.makegateway("popen")
seen = [sum(gateway.call("operator:add", i, 0, timeout=60) for i in range(100))]
def alarm(*_):
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Alarm
channel = gateway.remote_exec("channel.receive()")
try:
    signal.signal(signal.SIGALRM, alarm)
    channel.receive(timeout=60)
except Alarm:
    seen.append("alarm")
seen.append(gateway.call("operator:add", 1, 2, timeout=60))
seen.append(count[0] > 0)
group.terminate(timeout=5)
json.dump(seen, open(sys.argv[1], "w"))
"""
    assert run(tmp_path, program=program) == [4950, "alarm", 3, True]


def test_finalizer_may_use_a_gateway(tmp_path: Path) -> None:
    """rpyc#166, ray#59643: a finalizer that uses a gateway, wherever gc runs it."""
    program = """
import gc, json, sys
from pycomnet.blocking import Group
group, seen = Group(), []
gateway = group.makegateway("popen")
class Cycle:
    def __init__(self): self.me = self
    def __del__(self): seen.append(gateway.call("operator:add", 1, 2, timeout=30))
Cycle(); gc.collect()
def callback(value):
    Cycle(); gc.collect()
channel = gateway.remote_exec("for i in range(3): channel.send(i)")
channel.setcallback(callback)
channel.waitclose(timeout=60)
group.terminate(timeout=5)
json.dump(seen, open(sys.argv[1], "w"))
"""
    assert run(tmp_path, program=program) == [3] * 4
