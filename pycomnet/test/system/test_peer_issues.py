"""What execnet's and pytest-xdist's users reported as broken: each situation, and that it is right.

Each test runs a near side as a program of its own, which says what it saw as a line of JSON. The
numbers are those of the issues: ``execnet#43`` and so on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pycomnet.test.processes import still_there
from pycomnet.test.system.nearby import PATIENCE, Near, near, processes_end

#: What each program begins with.
BEGIN = """
import asyncio, atexit, contextlib, json, os, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
import pycomnet
from pycomnet.blocking import Group
from pycomnet.test.processes import children
from pycomnet.test.system.near_side import BEGIN, FAR_CODE

def say(value):
    print(json.dumps(value), flush=True)

def told():
    sys.stdin.readline()

def start(group, *names):
    pids, held = [], []
    for name in names:
        channel = group.makegateway("popen").remote_exec(BEGIN + FAR_CODE[name])
        pids += channel.receive(timeout=60)
        held.append(channel)
    return pids, held

def settled(count, most, seconds=60):
    # What a function counts, when it is as little as it has to be, or so much later.
    end = time.monotonic() + seconds
    while any(n > m for n, m in zip(count(), most)) and time.monotonic() < end:
        time.sleep(0.01)
    return count()

def seen(wait):
    # How a wait ended, as words.
    try:
        value = wait()
    except Exception as error:
        words = {name: getattr(error, name, None) for name in ("exit_status", "signal", "stderr")}
        return {"type": type(error).__name__, "message": str(error), **words}
    return {"type": None, "message": repr(value)[:100]}
"""
#: What ignores all that asks it to end.
DEAF = """
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
"""
#: Far sides that don't end by themselves, each in its own way.
STUBBORN = ("swallow", "stubborn", "c_call", "forked", "threads")
#: Seconds that a busy machine takes to end far sides; those that nobody ends stay for minutes.
ENDS = 60.0


@contextlib.contextmanager
def program_runs(program: str) -> Iterator[Near]:
    """A near side that runs; from a file, as the source of its functions has to be found."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "program.py")
        path.write_text(BEGIN + program)
        with near(str(path)) as side:
            yield side


def run(program: str, *, timeout: float = PATIENCE, status: int = 0) -> list[Any]:
    """Run a near side to its end.

    :returns: what it said. Nothing may be on its standard error.
    """
    with program_runs(program) as side:
        ended, out, err = side.ended(timeout)
    assert ended == status, err
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


# -- terminate that hangs --------------------------------------------------------------------------


def ends_within(program: str, seconds: float = ENDS, *more: Any) -> None:
    """Run a program that says what its far sides are, and then how long they took to end.

    :param seconds: how long that may be.
    :param more: what it says after that.
    """
    with program_runs(program) as side, processes_end(side.line()):
        side.tell("go")
        assert side.line() < seconds
        assert [side.line() for _ in more] == list(more)
        status, _, err = side.ended()
    assert (status, err) == (0, "")


@pytest.mark.parametrize("far_code", [*STUBBORN, "send", "deaf"])
def test_terminate_ends_far_sides_that_ignore_it(far_code: str) -> None:
    """execnet#43: ``Group.terminate`` waits for ever for far sides that don't end."""
    ends_within(
        f"FAR_CODE['deaf'] = {DEAF!r} + FAR_CODE['swallow']\n"
        + f"group = Group(); pids, held = start(group, *[{far_code!r}] * 2)\n"
        + "say(pids); told()\n"
        + "begin = time.monotonic(); group.terminate(timeout=1)\n"
        + "say(time.monotonic() - begin)\n"
    )


def test_terminate_with_timeout_0_kills_at_once() -> None:
    """execnet#43: a timeout of 0 kills at once."""
    ends_within(
        "group = Group(); pids, held = start(group, 'swallow', 'c_call'); say(pids); told()\n"
        + "begin = time.monotonic(); group.terminate(timeout=0)\n"
        + "say(time.monotonic() - begin)\n"
    )


def test_terminate_ends_many_workers_side_by_side() -> None:
    """execnet#43, with as many workers as xdist has: they end side by side, not one by one."""
    ends_within(
        "group = Group(); pids, held = start(group, *['swallow'] * 16); say(pids); told()\n"
        + "begin = time.monotonic(); group.terminate(); say(time.monotonic() - begin)\n"
        + "say(len(group))\n",
        16 * 2,  # each takes two seconds to be killed: one after the other takes more
        0,
    )


def test_terminate_again_from_two_threads_is_harmless() -> None:
    """execnet#43: terminated again, from two threads at once, and with a gateway ended before."""
    with (
        program_runs(
            """
group = Group()
pids, held = start(group, "swallow", "idle", "c_call", "receive")
say(pids)
told()
gateway = group[1]
gateway.exit()
with ThreadPoolExecutor(2) as pool:
    ends = [pool.submit(group.terminate, timeout=1) for _ in range(2)]
    say([seen(end.result) for end in ends])
group.terminate()
gateway.exit()
say([len(group), [seen(channel.receive)["type"] for channel in held[2:]]])
""",
        ) as side,
        processes_end(side.line()),
    ):
        side.tell("go")
        assert [end["type"] for end in side.line()] == [None, None]
        assert side.line() == [0, ["ConnectionLost", "ConnectionLost"]]
        status, _, err = side.ended()
    assert (status, err) == (0, "")


def test_terminate_ends_a_gateway_that_is_being_made() -> None:
    """execnet#43: a gateway that is being made neither holds up terminate nor stays."""
    said = run("""
group, up = Group(output=lambda output: up.set()), threading.Event()
with ThreadPoolExecutor(1) as pool:
    stuck = ["sh", "-c", "echo up >&2; exec sleep 300", "--"]
    starting = pool.submit(seen, lambda: group.makegateway("popen", python=stuck))
    assert up.wait(60)
    group.terminate()
    say(starting.result())
say(settled(lambda: [len(group), len(children(os.getpid()))], [0, 0]))
""")
    assert said[0]["type"] == "GatewayNotStarted", said
    assert said[1] == [0, 0]


@pytest.mark.parametrize("when", ["before", "after"])
def test_terminate_works_in_an_exit_function(when: str) -> None:
    """execnet#271: terminate in an exit function: "can't create new thread at ... shutdown".

    Registered before or after the group is made, so on both sides of what ends the reactor.
    """
    register = "atexit.register(lambda: group.terminate(timeout=1))\n"
    with (
        program_runs(
            (register if when == "before" else "")
            + "group = Group()\n"
            + (register if when == "after" else "")
            + "pids, held = start(group, 'swallow', 'idle', 'c_call'); say(pids); told()\n",
        ) as side,
        processes_end(side.line()),
    ):
        side.tell("go")
        status, _, err = side.ended(ENDS)
    assert (status, err) == (0, "")


def test_script_without_terminate_ends_by_itself() -> None:
    """execnet#271: a script that never terminates its group ends by itself, and says nothing."""
    with (
        program_runs(
            "group = Group(); pids, held = start(group, 'swallow', 'idle'); say(pids); told()\n",
        ) as side,
        processes_end(side.line()),
    ):
        side.tell("go")
        status, _, err = side.ended(ENDS)
    assert (status, err) == (0, "")


# -- code off the main thread ----------------------------------------------------------------------

WHERE = """
WHERE = "import threading; channel.send(threading.current_thread() is threading.main_thread())"
def where():
    import threading
    return threading.current_thread() is threading.main_thread()
"""


def test_only_request_runs_in_the_main_thread() -> None:
    """execnet#96: now and then the only request ran in another thread than the main one."""
    said = run(
        WHERE
        + """
with Group() as group, ThreadPoolExecutor(10) as pool:
    gateways = list(pool.map(group.makegateway, ["popen"] * 10))
    say([gateway.remote_exec(WHERE).receive(timeout=60) for gateway in gateways])
"""
    )
    assert said == [[True] * 10]


@pytest.mark.parametrize("ending", ["waitclose", "call", "died", "status"])
def test_request_after_an_ended_one_runs_in_the_main_thread(ending: str) -> None:
    """execnet#96: a request that follows one which has just ended; xdist asks for the status first.

    It's a race that a busy far side loses, so it is run many times.
    """
    before = {
        "waitclose": "gateway.remote_exec('pass').waitclose()",
        "call": "assert gateway.call(where)",
        "died": "seen(gateway.remote_exec('1 / 0').waitclose)",
        "status": "gateway.remote_status()",
    }[ending]
    said = run(
        WHERE
        + f"""
with Group() as group:
    gateway = group.makegateway("popen")
    places = []
    for _ in range(200):
        {before}
        channel = gateway.remote_exec(WHERE)
        places.append(channel.receive(timeout=60))
        channel.waitclose(timeout=60)
    say(sum(places))
"""
    )
    assert said == [200]


def test_signal_handlers_work_in_far_code() -> None:
    """xdist#620, execnet#96: ``signal only works in main thread``; asyncio's handlers need it."""
    said = run(
        """
def handlers():
    import asyncio, os, signal
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    async def main():
        came = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, came.set)
        os.kill(os.getpid(), signal.SIGUSR2)
        await asyncio.wait_for(came.wait(), 60)
        seen.append(int(signal.SIGUSR2))
    asyncio.run(main())
    return [int(number) for number in seen]
with Group() as group:
    gateway = group.makegateway("popen")
    for _ in range(3):
        say(gateway.call(handlers, timeout=60))
"""
    )
    assert said == [[int(signal.SIGUSR1), int(signal.SIGUSR2)]] * 3


def test_main_thread_only_queues_without_deadlock() -> None:
    """execnet#96: with ``main_thread_only`` several requests at once: a queue, not a deadlock."""
    said = run(
        WHERE
        + """
with Group() as group:
    gateway = group.makegateway("popen", execmodel="main_thread_only")
    first = gateway.remote_exec(WHERE + "; channel.receive()")
    say(first.receive(timeout=60))
    channels = [gateway.remote_exec(WHERE + f"; channel.send({n})") for n in range(10)]
    status = gateway.remote_status()
    say([status["running"], status["queued"], status["threads"]])
    first.send("go on")
    say([[channel.receive(timeout=60), channel.receive(timeout=60)] for channel in channels])
    say(seen(lambda: gateway.remote_exec("1 / 0").waitclose(timeout=60))["type"])
    say(gateway.call(where, timeout=60))
"""
    )
    assert said == [True, [1, 10, 0], [[True, n] for n in range(10)], "RemoteError", True]


# -- worker death with an unreadable message -------------------------------------------------------

#: How a worker dies, and what is to be read of it then.
DEATHS = {
    "os_exit": ("os._exit(3)", 3, None, "it exited with status 3"),
    "os_exit_0": ("os._exit(0)", 0, None, "it exited with status 0"),
    "segfault": (
        "import ctypes, resource\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); ctypes.string_at(0)",
        None,
        signal.SIGSEGV,
        "it was killed by SIGSEGV",
    ),
    "abort": (
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
        None,
        signal.SIGABRT,
        "it was killed by SIGABRT",
    ),
    "killed": (
        "os.kill(os.getpid(), 9)",
        None,
        signal.SIGKILL,
        "it was killed by SIGKILL (by somebody, or by the system because memory ran out)",
    ),
}


@pytest.mark.parametrize("how", DEATHS)
def test_death_is_told_with_status_and_last_words(how: str) -> None:
    """execnet#143: "couldnt load message header, expected 9 bytes, got 0" is all that is said.

    Whatever waits, or is begun after it, gets the status or signal and the last words.
    """
    code, status, number, words = DEATHS[how]
    said = run(f"""
with Group(output=lambda output: None) as group:
    gateway = group.makegateway("popen")
    far = "import os; os.write(2, b'last words\\\\n')\\n"
    other = gateway.remote_exec("channel.receive()")
    dying = gateway.remote_exec("channel.receive()\\n" + far + {code!r})
    with ThreadPoolExecutor(3) as pool:
        waits = [
            pool.submit(seen, lambda: dying.receive(timeout=60)),
            pool.submit(seen, lambda: other.waitclose(timeout=60)),
            pool.submit(seen, lambda: gateway.call("time:sleep", 300, timeout=60)),
        ]
        dying.send(None)
        say([wait.result() for wait in waits])
    say([seen(lambda: other.send(1)), seen(gateway.remote_status), seen(gateway.newchannel),
         seen(lambda: gateway.remote_exec("pass"))])
    say(gateway.isalive())
""")
    assert said[2] is False
    for error in said[0] + said[1]:
        assert error["type"] == "GatewayDied", error
        assert error["message"].startswith(f"gateway gw0: its process is gone: {words}"), error
        assert (error["exit_status"], error["signal"]) == (status, number), error
        assert "last words" in error["message"] and "last words" in error["stderr"], error


@pytest.mark.parametrize("how", ["sitecustomize", "no_encodings", "exits", "not_python", "missing"])
def test_failed_start_is_told_with_status_and_output(how: str, tmp_path: Path) -> None:
    """execnet#143: an interpreter that ends while it starts: its status and what it said."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nos.write(2, b'no licence for this host\\n')\nos._exit(7)\n"
    )
    options, status, words = {
        "sitecustomize": ({"env": {"PYTHONPATH": str(tmp_path)}}, 7, "no licence for this host"),
        "no_encodings": ({"env": {"PYTHONHOME": "/nonexistent"}}, 1, "encodings"),
        "exits": ({"python": ["sh", "-c", "echo cannot start >&2; exit 9"]}, 9, "cannot start"),
        "not_python": ({"python": ["echo", "hello"]}, 0, "before its hello it had printed:\n"),
        "missing": ({"python": "/nonexistent/python"}, None, "No such file or directory"),
    }[how]
    # Before the timeout of the start, and the same for each of several.
    said = run(f"""
with Group(output=lambda output: None) as group:
    for _ in range(3):
        say(seen(lambda: group.makegateway("popen", **{options!r})))
    say(settled(lambda: [len(group), len(children(os.getpid()))], [0, 0]))
""")
    *errors, left = said
    assert left == [0, 0]
    for error in errors:
        assert error["type"] == "GatewayNotStarted", error
        assert words in error["message"], error
        assert error["exit_status"] == status, error


# -- threads at interpreter exit -------------------------------------------------------------------


@pytest.mark.parametrize("daemon", [False, True])
def test_busy_far_threads_do_not_disturb_the_end(daemon: bool) -> None:
    """execnet#271: far threads, busy with all that a channel can do, when the far side ends."""
    far = f"""
def work(n):
    if n == 0:
        channel.receive()
    while n == 1:
        print("x" * 100)
    while n == 2:
        channel.send(b"x" * 1000)
    while n == 3:
        threading.Thread(target=int).start()
    time.sleep(300)
here()
for n in range(5):
    threading.Thread(target=work, args=(n,), daemon={daemon}).start()
channel.receive()
"""
    program = f"""
FAR_CODE["busy"] = {far!r}
# What it prints is known; it may be cut off in the midst of a line.
group = Group(output=lambda output: output.text.strip("x\\n") and say(output.text))
pids, held = start(group, "busy", "busy")
say(pids)
told()
group.terminate()
"""
    with program_runs(program) as side, processes_end(side.line()):
        side.tell("go")
        status, out, err = side.ended(2 * ENDS)
    assert (status, out, err) == (0, "", "")


def test_busy_daemon_threads_do_not_disturb_the_end() -> None:
    """execnet#271: daemon threads that use the API while the near interpreter ends."""
    with (
        program_runs(
            """
group = Group(output=lambda output: None)
pids, (channel, *_) = start(group, "receive", "idle", "idle")
gateway = group[1]
began = threading.Barrier(5)
def use(function):
    began.wait()
    with contextlib.suppress(Exception):  # as the reactor has stopped
        while True:
            function()
def stream():
    for value in group[2].remote_exec("while True: channel.send(1)"):
        pass
for function in (channel.receive, lambda: gateway.call("os:getpid"), stream,
                 lambda: group.makegateway("popen").exit()):
    threading.Thread(target=use, args=(function,), daemon=True).start()
say(pids)
began.wait()
told()
""",
        ) as side,
        processes_end(side.line()),
    ):
        side.tell("go")
        status, _, err = side.ended(ENDS)
    assert (status, err) == (0, "")


@pytest.mark.parametrize("waits", ["receive", "call", "makegateway"])
def test_other_thread_uses_the_api_after_the_main_thread(waits: str) -> None:
    """execnet#271: a thread that is not a daemon goes on when the main thread has ended.

    It uses the API to its own end, and then the program ends.
    """
    wait, result = {
        "receive": ("gateway.remote_exec('channel.send(channel.gateway.id)').receive", "gw0"),
        "call": ("lambda: gateway.call('operator:add', 1, 2)", 3),
        "makegateway": ("lambda: group.makegateway('popen').id", "gw1"),
    }[waits]
    with (
        program_runs(
            f"""
group = Group(output=lambda output: None)
pids, held = start(group, "idle")
gateway = group[0]
wait = {wait}
def use():
    threading.main_thread().join()
    say(wait())
    say(gateway.call("operator:add", 2, 2))
    say(group.terminate())
say(pids)
told()
threading.Thread(target=use).start()
""",
        ) as side,
        processes_end(side.line()),
    ):
        side.tell("go")
        ends = [side.line() for _ in range(3)]
        status, _, err = side.ended(ENDS)
    assert ends == [result, 4, None]
    assert (status, err) == (0, "")


# -- an out-of-memory kill that hangs the client ---------------------------------------------------

#: Far code that is killed in the midst of it, and what the near side waits for meanwhile.
HALVES = {
    "receive": ("channel.receive()", "channel.receive"),
    "half_received": ("time.sleep(300)", "lambda: channel.send(b'x' * (200 << 20))"),
    "call": ("channel.receive()", "lambda: gateway.call('time:sleep', 300)"),
    "waitclose": ("channel.receive()", "channel.waitclose"),
    "iterate": ("channel.send(1); channel.receive()", "lambda: list(channel)"),
}


@pytest.mark.parametrize("what", HALVES)
def test_worker_killed_from_outside_fails_whoever_waits(what: str) -> None:
    """xdist#658: the kernel kills a worker, the client waits for ever, and the others idle."""
    far, wait = HALVES[what]
    with program_runs(
        f"""
group = Group()
pids, (channel, other) = start(group, "receive", "idle")
gateway = group[0]
channel = gateway.remote_exec(BEGIN + "here()\\n" + {far!r})
channel.receive()
wait = {wait}
say(pids)
say(seen(wait))
say(group[1].call("os:getpid", timeout=60))
say(seen(group.terminate)["type"])
""",
    ) as side:
        pids = side.line()
        with processes_end(pids):
            # It waits, or is just about to: both have to end.
            os.kill(pids[0], signal.SIGKILL)
            error = side.line()
            assert side.line() == pids[2]
            assert side.line() is None
            status, _, err = side.ended()
    assert error["type"] == "GatewayDied", error
    assert error["signal"] == signal.SIGKILL
    assert "because memory ran out" in error["message"]
    assert (status, err) == (0, "")


def test_half_sent_value_of_a_killed_worker_is_an_error() -> None:
    """xdist#658: killed while a value is half sent: the half is not taken for the end."""
    with program_runs(
        """
group = Group()
channel = group.makegateway("popen").remote_exec(
    "import os; held = b'x' * (200 << 20); channel.send(os.getpid()); channel.send(held)")
pid = channel.receive()
# A round trip, in which the far side sends what it may of that value: nobody receives it.
group[0].call("os:getpid")
say([pid])
told()
say([seen(channel.receive), seen(channel.waitclose), seen(channel.receive)])
""",
    ) as side:
        pids = side.line()
        with processes_end(pids):
            os.kill(pids[0], signal.SIGKILL)
            assert still_there(pids) == []
            side.tell("go")
            errors = side.line()
            status, _, err = side.ended()
            pids.clear()
    for error in errors:
        assert error["type"] == "GatewayDied" and error["signal"] == signal.SIGKILL, error
    assert (status, err) == (0, "")


@contextlib.contextmanager
def little_memory(size: int) -> Iterator[Path]:
    """A control group with this much memory, of either version, or a skip; its ``cgroup.procs``."""
    name = f"pycomnet-test-{os.getpid()}"
    for root, limit in (
        ("/sys/fs/cgroup", "memory.max"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
    ):
        group = Path(root, name)
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            # Opening a file that the controller doesn't have must not make one.
            with open(group / limit, "r+") as file:
                file.write(str(size))
            if (group / "memory.swap.max").exists():
                (group / "memory.swap.max").write_text("0")
        except OSError:
            group.rmdir()
            continue
        try:
            yield group / "cgroup.procs"
        finally:
            with contextlib.suppress(ValueError):
                still_there([int(pid) for pid in (group / "cgroup.procs").read_text().split()])
            group.rmdir()
        return
    pytest.skip("no control group with a memory limit can be made here")


@pytest.mark.parametrize("when", ["computes", "sends"])
def test_worker_killed_by_the_kernel_is_told_as_that(when: str) -> None:
    """xdist#658: the kernel itself kills the worker in a control group that is full."""
    with little_memory(64 << 20) as procs:
        if not os.access(procs, os.W_OK):
            pytest.skip("no process can be put into a control group here")
        eat = {
            "computes": "held = [bytearray(b'x') * (1 << 20) for _ in range(1000)]",
            "sends": "held = bytearray(b'x') * (30 << 20)\nwhile True:\n"
            "    channel.send(bytes(held)); held *= 2",
        }[when]
        far = (
            f"import os\nwith open({str(procs)!r}, 'w') as file: file.write(str(os.getpid()))\n"
            "channel.send(os.getpid())\n" + eat
        )
        said = run(f"""
with Group() as group:
    worker, other = group.makegateway("popen"), group.makegateway("popen")
    channel = worker.remote_exec({far!r})
    pid = channel.receive(timeout=60)
    try:
        for value in channel:
            del value
    except Exception as error:
        problem = error
    def again():
        raise problem
    say(seen(again))
    say(other.call("builtins:len", "abc", timeout=60))
    replacement = group.makegateway("popen")
    say(replacement.call("builtins:len", "abcd", timeout=60))
""")
    error, *rest = said
    assert rest == [3, 4]
    assert error["type"] == "GatewayDied" and error["signal"] == signal.SIGKILL, error
    assert "because memory ran out" in error["message"]


# -- starting gateways one after another -----------------------------------------------------------


def test_20_gateways_at_once_start_faster_than_in_a_row() -> None:
    """xdist#346: the time to start workers grows with their number, as each waits its turn.

    Here, 20 at once take less time than 20 in a row, and nothing is left of either.
    """
    said = run(
        """
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater, react

def count():
    return [len(os.listdir("/proc/self/fd")), len(children(os.getpid())),
            threading.active_count()]

async def left(reactor, most):
    # The reactor closes what has ended when it gets to know that.
    end = time.monotonic() + 60
    while any(n > m for n, m in zip(count(), most)) and time.monotonic() < end:
        await deferLater(reactor, 0.01)
    return count()

async def main(reactor):
    group = pycomnet.Group(reactor)
    await group.makegateway("popen")
    await group.terminate()
    before = await left(reactor, [10**9, 0, 10**9])
    say(before)
    for _ in range(3):
        begin = time.monotonic()
        row = [await group.makegateway("popen") for _ in range(20)]
        in_row = time.monotonic() - begin
        pids = [gateway.info["pid"] for gateway in row]
        del row
        await group.terminate()
        begin = time.monotonic()
        once = await gatherResults([group.makegateway("popen") for _ in range(20)])
        at_once = time.monotonic() - begin
        pids += [gateway.info["pid"] for gateway in once]
        del once
        await group.terminate()
        say([pids, await left(reactor, before), in_row, at_once])

react(main)
"""
    )
    before, *rounds = said
    assert before[1] == 0
    for pids, left, _, _ in rounds:
        assert all(now <= then for now, then in zip(left, before, strict=True)), (left, before)
        assert len(set(pids)) == 40
        assert still_there(pids) == []
    if len(os.sched_getaffinity(0)) > 1:
        assert min(at_once for *_, at_once in rounds) < min(in_row for _, _, in_row, _ in rounds)


def test_20_threads_start_gateways_though_one_fails() -> None:
    """xdist#346: the same from threads, on the blocking API, while one of them can't start."""
    said = run(
        """
def make(python):
    return seen(lambda: group.makegateway("popen", python=python).call("builtins:len", "ab"))
with Group(output=lambda output: None) as group:
    group.makegateway("popen").exit()
    settled(lambda: [len(children(os.getpid()))], [0])
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(21) as pool:
        made = list(pool.map(make, [None] * 20 + ["false"]))
    say([made, len(group), len({gateway.id for gateway in group})])
    group.terminate()
    say(settled(
        lambda: [max(0, len(os.listdir("/proc/self/fd")) - before), len(children(os.getpid()))],
        [0, 0]))
"""
    )
    made, count, ids = said[0]
    assert [end["type"] for end in made] == [None] * 20 + ["GatewayNotStarted"], made
    assert {end["message"] for end in made[:20]} == {"2"}
    assert (count, ids) == (20, 20)
    assert said[1] == [0, 0]


def test_gateways_started_at_once_keep_their_order() -> None:
    """xdist#346: workers that start at once are still named in the order they were asked in."""
    said = run(
        """
from twisted.internet.defer import gatherResults
from twisted.internet.task import react

async def main(reactor):
    async with pycomnet.Group(reactor) as group:
        made = await gatherResults([group.makegateway("popen") for _ in range(8)])
        say([gateway.id for gateway in made])

react(main)
"""
    )
    assert said == [[f"gw{n}" for n in range(8)]]
