"""The drop-in for execnet: programs that were written for execnet, and pytest-xdist, run on it."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from pycomnet.test.needs import missing
from pycomnet.test.processes import versioned_python

ROOT = Path(__file__).parents[3]
#: Seconds for each program: many times what the slowest takes on a busy machine.
TIMEOUT = 180
#: The programs of execnet_scripts.py: what each prints, and what it writes to standard error.
PROGRAMS = {
    "values": ("values are carried\n", ""),
    "far": ("far code finds execnet\n", ""),
    "nested": ("the same everywhere\n", ""),
    "dropped": ("it ran\n", ""),
    "busy": ("not for ever\n", ""),
    "callbacks": ("callbacks have been called\n", ""),
    "many": ("nobody waited\n", ""),
    "directory": ("directories are made\n", ""),
    "output": ("printed here\n", "raw \udcff bytes\n"),
    "grace": ("it had its time\n", ""),
    "raising": ("the endmarker came\n", ""),
    "loops": ("they end\n", ""),
    "patience": ("they had their time\n", ""),
    "forked": ("the parent's goes on\n", ""),
    "ending": ("it ends\n", ""),
    "deployment": ("deployed\n", ""),
}

#: Those of execnet_roundtrips.py: what each prints.
ROUND_TRIPS = {
    "threads": "each got its own\n",
    "signals": "nothing was mixed up\n",
    "handlers": "no handler waited for ever\n",
    "timeouts": "it came later\n",
    "forks": "both go on\n",
    "killed": "it is known\n",
    "ends": "it goes on\n",
}


def environment() -> dict[str, str]:
    """The programs' environment: this tree is found, and no options of this pytest's."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return {**found, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_for_execnet_runs(name: str, tmp_path: Path) -> None:
    """With its import changed, and nothing else."""
    done = run_program(tmp_path, name)
    assert (done.stdout, done.stderr) == PROGRAMS[name]
    assert done.returncode == 0


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_round_trips_are_quick_and_safe(name: str, tmp_path: Path) -> None:
    """Threads, signals, forks and ends amid them: nothing is lost, and nothing hangs."""
    done = run_program(tmp_path, name, module="execnet_roundtrips")
    assert done.stdout == ROUND_TRIPS[name], done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("version", ["2.7", "3.6"])
def test_the_far_side_may_be_an_older_python(version: str, tmp_path: Path) -> None:
    """It has no module attributes that are computed, and gets the same names."""
    python = versioned_python(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    done = run_program(tmp_path, "older", python)
    assert (done.stdout, done.stderr) == ("it has them\n", "")


def run_program(
    directory: Path, *arguments: str, module: str = "execnet_scripts"
) -> subprocess.CompletedProcess[str]:
    """Run one of a module's programs."""
    return subprocess.run(
        [sys.executable, "-m", f"pycomnet.test.system.{module}", *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=TIMEOUT,
        check=False,
        cwd=directory,
        env=environment(),
    )


#: A suite that pytest-xdist runs: a conftest that makes gateways, tests that pass, fail and crash.
SUITE = {
    "conftest.py": """
import pytest
import execnet

@pytest.fixture(scope="session")
def gateway():
    group = execnet.Group()
    yield group.makegateway("popen")
    group.terminate(timeout=5)

def pytest_configure_node(node):
    node.workerinput["note"] = node.gateway.id
""",
    "test_suite.py": """
import os
import sys
import pytest

def test_the_worker_is_the_drop_ins(pytestconfig):
    import execnet
    assert hasattr(execnet, "NEAR")
    assert pytestconfig.workerinput["note"] == os.environ["PYTEST_XDIST_WORKER"]

def test_a_conftest_makes_gateways(gateway):
    channel = gateway.remote_exec("channel.send(channel.receive() + 1)")
    channel.send(41)
    assert channel.receive(60) == 42

def test_fails():
    assert 0

def test_crashes():
    os._exit(1)

@pytest.mark.parametrize("n", range(20))
def test_number(n):
    print("printed")
""",
}


#: pytest with the plugin.
PYTEST = (
    *(sys.executable, "-m", "pytest", "-p", "pycomnet.xdist", "-p", "no:twisted"),
    *("-p", "no:cacheprovider"),
)


def run_pytest(
    directory: Path, *arguments: str, variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugin.

    :param variables: further ones of its environment.
    """
    return subprocess.run(
        [*PYTEST, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=directory,
        env={**environment(), **(variables or {})},
    )


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A directory with :data:`SUITE`."""
    if importlib.util.find_spec("xdist") is None:
        missing("pytest-xdist is not installed")
    for name, text in SUITE.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("how", ["load", "loadscope", "loadfile", "worksteal", "each"])
def test_xdist_runs_a_suite(suite: Path, how: str) -> None:
    """However it distributes; a worker that crashes is replaced, and nothing hangs."""
    done = run_pytest(suite, "-n", "2", "--dist", how, "-k", "not crashes")
    count = 2 if how == "each" else 1
    assert f"{count} failed, {22 * count} passed" in done.stdout, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.returncode == 1


def test_xdist_takes_its_further_options(suite: Path) -> None:
    """Groups, chunks, and the plugin whose asserts pytest changes while workers import it."""
    (suite / "conftest.py").write_text('pytest_plugins = ["pytester"]\n')
    (suite / "test_suite.py").write_text(
        """
import pytest

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("n", range(4))
def test_number(pytester, n):
    pass
"""
    )
    done = run_pytest(suite, "-n", "2", "--dist=loadgroup")
    assert "4 passed in" in done.stdout, done.stdout + done.stderr
    assert (done.stderr, done.returncode) == ("", 0)
    done = run_pytest(suite, "-n", "2", "--maxschedchunk=1")
    assert "4 passed in" in done.stdout, done.stdout + done.stderr
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize(
    "options",
    [
        "-n 0 --dist=no",
        "-n auto --maxprocesses=2 --testrunuid=mine",
        "-n logical --maxprocesses=1 --dist=loadscope --no-loadscope-reorder",
        "-d --tx=2*popen --rsyncignore=*.txt",
        "--dist=load --px=id=proxy//popen --tx=2*popen",
    ],
)
def test_xdist_takes_each_of_its_options(suite: Path, options: str) -> None:
    """Those that no other test has."""
    (suite / "conftest.py").unlink()
    (suite / "test_suite.py").write_text(
        """
import pytest

@pytest.mark.parametrize("n", range(4))
def test_number(testrun_uid, n):
    pass
"""
    )
    done = run_pytest(suite, *options.split())
    assert "4 passed in" in done.stdout, done.stdout + done.stderr
    assert (done.stderr, done.returncode) == ("", 0)


def test_workers_become_ready_in_the_order_of_making(suite: Path) -> None:
    """Also if the first is the last to start: pytest-xdist's schedulers go by that order."""
    (suite / "conftest.py").write_text(
        """
import os, pathlib, time
import pytest

READY = []
TOLD = pathlib.Path(__file__).with_name("told")

@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart():
    end = time.monotonic() + 60
    while os.environ.get("PYTEST_XDIST_WORKER") == "gw0" and not TOLD.exists():
        assert time.monotonic() < end, "the second worker waits for the first"
        time.sleep(0.01)

@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw1":
        TOLD.touch()  # that it is ready, and what it has collected

def pytest_testnodeready(node):
    READY.append(node.gateway.id)

def pytest_unconfigure():
    if READY:
        print("ready:", *READY)
"""
    )
    (suite / "test_suite.py").write_text("def test_it(): pass\n")
    done = run_pytest(suite, "-n", "2", "--dist=loadscope")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "ready: gw0 gw1\n" in done.stdout


def test_each_worker_that_crashes_is_replaced_where_all_run_all_tests(suite: Path) -> None:
    """They crash at the same time; who replaces one goes on with its tests."""
    (suite / "test_suite.py").write_text(
        """
import os
def test_before(): pass
def test_crash(): os._exit(3)
def test_after(): pass
def test_last(): pass
"""
    )
    done = run_pytest(suite, "-n", "3", "--dist=each")
    assert "3 failed, 9 passed" in done.stdout, done.stdout + done.stderr


def test_only_workers_are_forked_from_where_pytest_is_imported(suite: Path) -> None:
    """Gateways that a conftest makes in the same process are not."""
    (suite / "conftest.py").write_text(
        """
import execnet

def has_pytest(gateway):
    channel = gateway.remote_exec("import sys; channel.send('pytest' in sys.modules)")
    found = channel.receive(60)
    channel.waitclose(60)
    return found

def pytest_configure_node(node):
    group = execnet.Group(["popen//fork=yes"])
    node.workerinput["found"] = [has_pytest(node.gateway), has_pytest(group[0])]
    group.terminate(5)
"""
    )
    (suite / "test_suite.py").write_text(
        "def test_it(pytestconfig): assert pytestconfig.workerinput['found'] == [True, False]\n"
    )
    done = run_pytest(suite, "--dist=load", "--tx=popen//fork=yes")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_worker_may_crash_while_it_collects(suite: Path) -> None:
    """pytest says so, and ends."""
    (suite / "conftest.py").unlink()
    (suite / "test_suite.py").write_text(
        """
import os

if os.environ["PYTEST_XDIST_WORKER"] == "gw0":
    os._exit(3)

def test_it():
    pass
"""
    )
    done = run_pytest(suite, "-n", "2", "--max-worker-restart=0")
    # The status is xdist's affair: it depends on whether the other worker has collected by then.
    assert "gw0" in done.stdout, done.stdout + done.stderr


def test_failing_tests_are_run_again_when_files_change(suite: Path) -> None:
    """``-f``: the tests run at a gateway each time."""
    (suite / "conftest.py").unlink()
    (suite / "test_suite.py").write_text("def test_it(): assert 0\n")
    process = subprocess.Popen(
        [*PYTEST, "-f"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=suite,
        env={**environment(), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    ending = threading.Timer(TIMEOUT, process.kill)
    ending.start()
    try:
        assert process.stdout is not None
        seen = read_until(process.stdout, "waiting for changes")
        assert "1 failed" in seen, seen
        (suite / "test_suite.py").write_text("def test_it(): assert 1  # mended\n")
        seen = read_until(process.stdout, "1 passed")
        assert "1 passed" in seen, seen
        os.killpg(process.pid, signal.SIGINT)
        process.stdout.read()
        assert process.wait() >= 0, "it had to be killed"
    finally:
        ending.cancel()
        process.kill()
        process.communicate()


def read_until(stream: IO[str], text: str) -> str:
    """Read lines up to one with this text, or to the end."""
    seen = ""
    for line in stream:
        seen += line
        if text in line:
            break
    return seen


def test_a_worker_that_crashes_is_replaced(suite: Path) -> None:
    """The test that it ran has failed; the others run."""
    done = run_pytest(suite, "-n", "2")
    assert "2 failed, 22 passed" in done.stdout, done.stdout + done.stderr
    assert "crashed while running 'test_suite.py::test_crashes'" in done.stdout


def test_an_interrupt_ends_the_tests_that_run(suite: Path) -> None:
    """Ctrl-C reaches pytest; its workers are ended, with nothing in the terminal but pytest's."""
    (suite / "test_suite.py").write_text(
        """
import os, pathlib, time

def test_sleeps():
    pathlib.Path(f"begun-{os.getpid()}").touch()
    time.sleep(600)
"""
    )
    process = subprocess.Popen(
        [*PYTEST, "-n", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=suite,
        env=environment(),
        start_new_session=True,
    )
    deadline = time.monotonic() + TIMEOUT
    while not (begun := list(suite.glob("begun-*"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=TIMEOUT)
    assert "KeyboardInterrupt" in output
    assert "LocalError" not in errors
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun[0].name.partition("-")[2]), 0)


#: Makes pycomnet what can't be imported, as on a machine that does not have it.
HIDING = """
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "pycomnet":
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(each) for each in sys.meta_path]
"""


def test_workers_need_no_pycomnet(suite: Path) -> None:
    """pytest-xdist gives them pytest's arguments, and among them the plugin's name."""
    hiding = suite / "hiding"
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text(HIDING)
    (suite / "conftest.py").unlink()
    (suite / "test_suite.py").write_text(
        """
import pytest

def test_it_is_not_there():
    with pytest.raises(ImportError):
        import pycomnet.errors
"""
    )
    done = run_pytest(suite, "--dist=load", f"--tx=popen//fork=no//env:PYTHONPATH={hiding}")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_xdist_sends_directories_and_files(suite: Path) -> None:
    """``--rsyncdir``: the workers run in directories of their own."""
    package = suite / "helper"
    package.mkdir()
    (package / "__init__.py").write_text("value = 3\n")
    (suite / "settings.py").write_text("name = 4\n")
    (suite / "settings.py").chmod(0o640)
    (package / "test_it.py").write_text(
        """
import os
import helper
import settings

def test_it_is_there():
    assert (helper.value, settings.name) == (3, 4)
    assert os.stat("settings.py").st_mode & 0o777 == 0o640
    assert os.path.basename(os.getcwd()) in "ab"
    assert __file__ == os.path.join(os.getcwd(), "helper", "test_it.py")
"""
    )
    (suite / "conftest.py").unlink()
    places = [f"--tx=popen//chdir={suite}/there/{name}" for name in "ab"]
    sent = [f"--rsyncdir={suite / name}" for name in ("settings.py", "helper")]
    done = run_pytest(suite, "--dist=each", *places, *sent, str(package))
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def run_code(suite: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the suite's directory."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=suite,
        env=environment(),
    )


def test_what_comes_too_late_says_so(suite: Path) -> None:
    """execnet itself was imported first: then nothing of it can be replaced any more."""
    if importlib.util.find_spec("execnet") is None:
        missing("execnet is not installed")
    done = run_code(suite, "import execnet; import pycomnet.xdist")
    assert "execnet itself has been imported already" in done.stderr


#: What a conftest has in this program and not in its workers: the fork servers that there are.
FORK_SERVERS = """
import os
from pycomnet.test.processes import children, command_line

def fork_servers():
    return sorted(pid for pid in children(os.getpid()) if b"fork_server" in command_line(pid))

if "PYTEST_XDIST_WORKER" not in os.environ:
    EARLY = fork_servers()
    os.environ["SET_BY_CONFTEST"] = "set"
"""


def test_workers_are_forked_from_what_started_before_conftest_files(suite: Path) -> None:
    """There is one fork server, from the first worker on. Its workers have the environment of now.

    ``PYCOMNET_XDIST_PRELOAD=no`` starts none so early.
    """
    (suite / "conftest.py").write_text(
        FORK_SERVERS
        + """
def pytest_configure_node(node):
    node.workerinput["found"] = [len(EARLY), EARLY == fork_servers()]
"""
    )
    (suite / "test_suite.py").write_text(
        """
import os, sys

def test_it(pytestconfig):
    assert os.environ["SET_BY_CONFTEST"] == "set"
    off = os.environ.get("PYCOMNET_XDIST_PRELOAD") == "no"
    assert pytestconfig.workerinput["found"] == ([0, True] if off else [1, True])
"""
    )
    done = run_pytest(suite, "-n", "2", "--dist=each")
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert (done.stderr, done.returncode) == ("", 0)
    done = run_pytest(suite, "-n", "1", variables={"PYCOMNET_XDIST_PRELOAD": "no"})
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_nothing_is_left_where_pytest_ends_before_it_has_workers(suite: Path) -> None:
    """The fork server has started then, and ends with pytest."""
    (suite / "conftest.py").write_text(
        FORK_SERVERS
        + """
import pytest

def pytest_configure(config):
    raise pytest.UsageError(f"this ends it, and {EARLY}")
"""
    )
    done = run_pytest(suite, "-n", "2")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout + done.stderr
    _, _, found = done.stderr.partition("this ends it, and [")
    with pytest.raises(ProcessLookupError):
        os.kill(int(found.partition("]")[0]), 0)


def test_early_process_may_be_killed(suite: Path) -> None:
    """By a conftest file that kills all children, say: workers get another one."""
    (suite / "conftest.py").write_text(
        FORK_SERVERS
        + """
import signal

if "PYTEST_XDIST_WORKER" not in os.environ:
    assert len(EARLY) == 1
    os.kill(EARLY[0], signal.SIGKILL)
"""
    )
    (suite / "test_suite.py").write_text("def test_it(): pass\n")
    done = run_pytest(suite, "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr


def test_time_zone_and_limits_of_a_conftest_are_the_workers(suite: Path) -> None:
    """It sets them in pytest itself; a worker of execnet's is started with them."""
    (suite / "conftest.py").write_text(
        """
import os, resource

if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["TZ"] = "XYZ-9"
    resource.setrlimit(resource.RLIMIT_NOFILE, (987, 987))
"""
    )
    (suite / "test_suite.py").write_text(
        """
import resource, time

def test_it():
    assert time.localtime(0).tm_hour == 9
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (987, 987)
"""
    )
    done = run_pytest(suite, "-n", "2", "--dist=each")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_plugin_may_be_given_to_main(suite: Path) -> None:
    """A program that calls pytest itself names no ``-p``."""
    (suite / "test_suite.py").write_text("def test_it(): pass\n")
    code = (
        "import sys, pytest, pycomnet.xdist\n"
        "sys.exit(pytest.main(['-q', '-n', '2'], plugins=[pycomnet.xdist]))"
    )
    done = run_code(suite, code)
    assert done.returncode == 0, done.stdout + done.stderr
