"""The workflow service as a process: the first example, a kill in the midst of runs, its page."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import pytest_twisted

from pycomnet.ext.workflow import RunFailed, workflow
from pycomnet.services.client.context import Context
from pycomnet.test.system.daemons import (
    EXAMPLES,
    PATIENCE,
    Daemon,
    Daemons,
    command,
    daemons,
    environment,
)

NAME = "/demo/workflow/1"
SEED = EXAMPLES / "workflow_seed.json"
READY = "offers org.pycom.workflow"

SLOW = """
import os, pathlib, pycomnet
from twisted.internet import defer

@pycomnet.interface("demo.slow")
class Slow(pycomnet.Service):
    def __init__(self):
        self.open = defer.Deferred()
        self.waiting = []

    def note(self, name):
        with open(pathlib.Path(__file__).parent / "effects", "a") as file:
            file.write(name + "\\n")

    @pycomnet.method(once=True)
    def pay(self, request):
        self.note("pay")
        done = defer.Deferred()
        self.waiting.append(done)
        return done

    @pycomnet.method()
    def ship(self, request):
        self.note("ship")
        return {"shipped": request.args}

    @pycomnet.method()
    def release(self, request):
        for one in self.waiting:
            one.callback("paid")
        self.waiting.clear()
"""
ORDER = {
    "tasks": {
        "order": [
            {"interface": "demo.slow", "method": "pay", "timeout": 100},
            {"interface": "demo.slow", "method": "ship", "args": "${last}"},
        ]
    }
}


@pytest.fixture
def started(tmp_path_factory: Any) -> Iterator[Daemons]:
    """Daemons of a test, with a directory of their own."""
    with daemons(Path(tmp_path_factory.mktemp("w"))) as found:
        yield found


def begin(started: Daemons, nameserver: str, config: Path, *args: str) -> Daemon:
    """Start a workflow service and wait for it."""
    daemon = started.start(
        "pycomnet-workflow",
        *("--config", str(config), "--nameserver", nameserver, "--name", NAME),
        *("--ttl", "2", "--wait", *args),
    )
    daemon.wait_for(READY)
    return daemon


def context(nameserver: str) -> Context:
    """A context for the test's calls."""
    from twisted.internet import reactor

    return Context(reactor, nameserver=nameserver, timeout=PATIENCE)  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_first_example_runs_as_it_stands(started: Daemons) -> None:
    """The three interfaces are called one after the other, by the file of the first example; its
    page and its metrics say so."""
    nameserver = started.nameserver()
    started.service(nameserver, module="workflow_services").wait_for("demo.interface.3")
    page = f"unix:{started.directory / 'page'}"
    daemon = begin(started, nameserver, SEED, "--status", "tcp:0:interface=127.0.0.1")
    page = daemon.wait_for(r"the status page is at tcp:127.0.0.1:(\d+)")[1]
    async with context(nameserver) as calls:
        w = workflow(NAME, context=calls)
        assert await w.invoke("task1", 4) == {"result": 9}
        with pytest.raises(RunFailed):
            await w.invoke("task1", None)
    from twisted.internet.threads import deferToThread

    def get(path: str, host: str = "localhost") -> bytes:
        request = Request(f"http://127.0.0.1:{page}/{path}", headers={"Host": host})
        with urlopen(request, timeout=PATIENCE) as answer:
            found: bytes = answer.read()
            return found

    shown = json.loads(await deferToThread(get, "runs.json"))
    assert shown["counts"] == {"done": 1, "failed": 1}
    run = json.loads(await deferToThread(get, f"run.json?id={shown['runs'][1]['id']}"))
    assert [step["state"] for step in run["steps"]] == ["done"] * 3
    metrics = (await deferToThread(get, "metrics")).decode()
    assert 'pycomnet_workflow_runs{state="done"} 1.0' in metrics
    assert b"status.js" in await deferToThread(get, "")
    with pytest.raises(OSError, match="403"):
        await deferToThread(get, "runs.json", "evil.example.org")


@pytest_twisted.ensureDeferred
async def test_run_survives_a_kill(started: Daemons) -> None:
    """A workflow service is killed while its runs are in a step. The next one goes on there, and
    nothing is done twice."""
    nameserver = started.nameserver()
    (started.directory / "slow.py").write_text(SLOW)
    started.service(nameserver, module="slow").wait_for("demo.slow")
    config = started.directory / "order.json"
    config.write_text(json.dumps(ORDER))
    daemon = begin(started, nameserver, config)
    effects = started.directory / "effects"
    async with context(nameserver) as calls:
        w = workflow(NAME, context=calls)
        for name in ("one", "two"):
            assert (await w.start("order", {"n": 1}, name))["state"] == "running"
        await wait_for_lines(effects, 2)
        daemon.signal(signal.SIGKILL)
        await daemon.ended()
        begin(started, nameserver, config)
        assert (await w.start("order", {"n": 1}, "one"))["id"] == "one"
        slow = await calls.locate("demo.slow")
        await slow.invoke("release")
        for name in ("one", "two"):
            assert await w.result(name, PATIENCE) == {"shipped": "paid"}
    assert sorted(effects.read_text().split()) == ["pay", "pay", "ship", "ship"]


async def wait_for_lines(path: Path, count: int) -> None:
    """Wait until a file has so many lines."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    while not path.exists() or len(path.read_text().split()) < count:
        await deferLater(reactor, 0.02)  # type: ignore[arg-type]


def test_commands(started: Daemons) -> None:
    """Each command does what it says, and so does the API without Deferreds."""
    nameserver = started.nameserver()
    started.service(nameserver, module="workflow_services").wait_for("demo.interface.3")
    config = started.directory / "tasks.toml"
    config.write_text(
        '[[tasks.task1]]\ninterface = "demo.interface.1"\n'
        '[[tasks.task1]]\nsignal = "go"\n'
        "[[tasks.task1]]\nvalue = '${[last, steps.\"1\"]}'\n"
    )
    checked = command("workflow", "check", str(config))
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith("task1: ")
    begin(started, nameserver, config)

    def ask(*args: str, status: int = 0) -> str:
        ran = command("workflow", "--nameserver", nameserver, "--service", NAME, *args)
        assert ran.returncode == status, (args, ran.stdout, ran.stderr)
        return ran.stdout if not status else ran.stderr

    assert ask("start", "task1", "4", "--id", "r") == "r\n"
    assert ask("start", "task1", "4", "--id", "r") == "r\n"
    assert "running" in ask("list")
    ask("suspend", "r")
    ask("resume", "r")
    ask("signal", "r", "go", '"gone"')
    assert json.loads(ask("run", "task1", "4", "--id", "r")) == ["gone", 8]
    assert "done" in ask("show", "r")
    assert "style n1 fill" in ask("graph", "--run", "r")
    assert "digraph" in ask("graph", "task1", "--format", "dot")
    assert "task1" in ask("tasks")
    assert "there is no run" in ask("show", "none", status=1)
    ask("start", "task1", "4", "--id", "s")
    ask("cancel", "s")
    assert "cancelled" in ask("run", "task1", "4", "--id", "s", status=1)
    ask("retry", "s", "--latest")
    ask("signal", "s", "go")
    assert json.loads(ask("run", "task1", "4", "--id", "s", "--quiet")) == [None, 8]
    blocking = (
        "from pycomnet import blocking\n"
        "from pycomnet.blocking.ext.workflow import workflow\n"
        f"blocking.configure(nameserver={nameserver!r})\n"
        f"w = workflow({NAME!r})\n"
        "w.start('task1', 1, id='b'); w.signal('b', 'go', 5)\n"
        "assert w.result('b') == [5, 2], w.result('b')\n"
        "assert sorted(one['id'] for one in w.all(limit=1)) == ['b', 'r', 's']\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", blocking],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 0, ran.stderr


def test_wrong_configuration_is_told(started: Daemons) -> None:
    """A configuration that is not valid ends the daemon, with line and column."""
    config = started.directory / "wrong.json"
    config.write_text('{"tasks": {"t": [\n  {"interface": "x", "metod": "y"}]}}')
    daemon = started.start("pycomnet-workflow", "--config", str(config))
    daemon.wait_for(r"wrong\.json:2:23: tasks\.t\[0\]\.metod: no such key.*did you mean 'method'")
    assert daemon.wait() == 1


PRESS = """
import pycomnet
from pycomnet import Binary

@pycomnet.interface("demo.press")
class Press(pycomnet.Service):
    @pycomnet.method()
    def render(self, request):
        return "rendered", Binary(b"x" * 1_000_000, "text")

    @pycomnet.method(idempotent=True)
    def print(self, request):
        (file,) = request.files
        return [file.filename, len(file.read())]
"""


@pytest_twisted.ensureDeferred
async def test_files_survive_a_kill(started: Daemons) -> None:
    """The service is killed after a step has returned a block. The next step gets the block from
    the next service, and the client may have it."""
    nameserver = started.nameserver()
    (started.directory / "press.py").write_text(PRESS)
    started.service(nameserver, module="press").wait_for("demo.press")
    steps = json.loads((EXAMPLES / "workflow_files.json").read_text())["tasks"]["book"]
    config = started.directory / "book.json"
    config.write_text(json.dumps({"tasks": {"book": [steps[0], {"signal": "go"}, steps[1]]}}))
    store = f"sqlite:{started.directory / 'runs.sqlite'}"
    daemon = begin(started, nameserver, config, "--store", store)
    async with context(nameserver) as calls:
        w = workflow(NAME, context=calls)
        await w.start("book", None, "b")

        async def is_rendered() -> bool:
            return any(step["files"] for step in (await w.show("b"))["steps"])

        while not await is_rendered():
            pass
        # That is what the service has in memory. A signal is acknowledged after the commits before
        # it; and there may be one more, which waited for the first.
        for _ in range(2):
            await w.signal("b", "other")
        daemon.signal(signal.SIGKILL)
        await daemon.ended()
        begin(started, nameserver, config, "--store", store)
        await w.signal("b", "go")
        assert await w.result("b", PATIENCE) == ["text", 1_000_000]
        (file,) = await w.files("b", "render")
        assert file.read() == b"x" * 1_000_000
        file.close()


def test_store_without_a_place_for_files(started: Daemons) -> None:
    """A daemon whose tasks keep files, and whose store has no place for them, says so and ends."""
    config = ("--config", str(EXAMPLES / "workflow_files.json"), "--nameserver", "none")
    daemon = started.start("pycomnet-workflow", *config, "--store", "memory:")
    daemon.wait_for("there is no directory for them: set 'files'")
    assert daemon.wait() == 1
