"""A near side, to be ended in one of many ways: ``python -m ... ENDING FAR_CODE ...``.

It makes a gateway for each far code that is named, has it run, prints the ids of all processes that
are there now as one line of JSON, and waits to be ended, or, for a line, to end as it is told. With
``learn`` the ids come in a list for each gateway, and when all of these are gone a line of what
those who waited have learned.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any

BEGIN = """
import os, signal, subprocess, sys, threading, time
def here(*more):
    # Jython is not supervised by a process of its own.
    parent = [] if sys.platform.startswith("java") else [os.getppid()]
    channel.send([os.getpid()] + parent + list(more))
"""
#: setsid(1), which not every machine has: a command after it runs in a session of its own.
SETSID = [
    *(sys.executable, "-S", "-E", "-c"),
    "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])",
]
#: What the far side is doing. Each says first which processes there are.
FAR_CODE = {
    "idle": "here()",
    "receive": "here(); channel.receive()",
    "timed": "here(); channel.receive(300)",
    "sleep": "here(); time.sleep(300)",
    "send": "here()\nwhile True: channel.send(b'x' * 100000)",
    "print": "here()\nwhile True: print('x' * 1000)",
    "swallow": """
here()
while True:
    try:
        time.sleep(300)
    except BaseException:
        pass
""",
    "c_call": "import ctypes; here(); ctypes.PyDLL(None).sleep(300)",
    "c_loop": """
from itertools import chain
def first():
    here()
    yield 0
sum(chain(first(), range(10**12)))
""",
    "threads": """
for _ in range(3):
    threading.Thread(target=time.sleep, args=(300,)).start()
here()
""",
    "child": "here(subprocess.Popen(['sleep', '300']).pid); channel.receive()",
    "session": f"""
here(subprocess.Popen({SETSID} + ['sleep', '300']).pid)
channel.receive()
""",
    "stubborn": f"""
# It would say of its killed sleep that it was killed, if that dies first.
script = "exec 2>/dev/null; trap '' TERM INT HUP; echo $$; while :; do sleep 300; done"
child = subprocess.Popen({SETSID} + ["sh", "-c", script], stdout=subprocess.PIPE)
here(int(child.stdout.readline()))
time.sleep(300)
""",
    "daemon": f"""
script = '"$@" sleep 300 >/dev/null 2>&1 & echo $!'
here(int(subprocess.check_output(["sh", "-c", script, "sh"] + {SETSID})))
channel.receive()
""",
    "forked": """
pid = os.fork()
if not pid:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        time.sleep(300)
here(pid)
channel.receive()
""",
}
#: What the gateways are made from.
SPEC = os.environ.get("PYCOMNET_TEST_SPEC", "popen")
#: Seconds that a gateway has to start, on a busy machine and with Java.
START = 300.0
#: What the gateway ``master`` is made from, which they may be started through; or nothing.
MASTER = os.environ.get("PYCOMNET_TEST_MASTER")
#: The address of the factory service that makes them, if there is one.
FACTORY = os.environ.get("PYCOMNET_TEST_FACTORY")
ENDINGS = (
    *("wait", "learn", "fork_wait", "return", "stop", "exit", "os_exit", "raise", "collect"),
    *("blocking_wait", "blocking_end", "blocking_raise", "blocking_receive", "blocking_collect"),
)


def say(pids: list[Any], ending: str) -> None:
    """Print the process ids for the test that started this; wait for its word to end."""
    print(json.dumps(pids), flush=True)
    if not ending.endswith(("wait", "receive", "learn")):
        sys.stdin.readline()


async def start(group: Any, names: list[str]) -> tuple[list[list[int]], list[Any]]:
    """Make the gateways and run the far code; the ids, and what must be held."""
    pids: list[list[int]] = []
    held = []
    if MASTER is not None:
        master = await group.makegateway(MASTER, id="master")
        channel = master.remote_exec(BEGIN + FAR_CODE["receive"])
        pids.append(await channel.receive())
        held.append((master, channel))
    for name in names:
        gateway = await group.makegateway(SPEC, timeout=START)
        channel = gateway.remote_exec(BEGIN + FAR_CODE[name])
        pids.append(await channel.receive())
        held.append((gateway, channel))
    return pids, held


async def learn(channels: list[Any]) -> None:
    """Wait for something on each, and print why it does not come."""
    from twisted.internet.defer import DeferredList

    results: Any = await DeferredList([one.receive() for one in channels], consumeErrors=True)
    print(json.dumps([f"{type(f.value).__name__}: {f.value}" for _, f in results]), flush=True)


async def twisted_near(reactor: Any, ending: str, names: list[str]) -> None:
    """The near side on the Deferred API."""
    from twisted.internet.defer import Deferred

    import pycomnet

    # What is printed is never taken, so that far code which prints waits.
    group = pycomnet.Group(reactor, output=lambda output: Deferred())
    if FACTORY is not None:
        group.setlocalfactory(endpoint=FACTORY)
    pids, held = await start(group, names)
    channels = [gateway.newchannel() for gateway, _ in held] if ending == "learn" else []
    say(pids if ending == "learn" else [pid for family in pids for pid in family], ending)
    if ending == "fork_wait" and not os.fork():
        time.sleep(300)
    if ending == "learn":
        await learn(channels)
    elif ending == "stop":
        reactor.stop()
    elif ending == "exit":
        sys.exit(3)
    elif ending == "os_exit":
        os._exit(3)
    elif ending == "raise":
        raise RuntimeError("unhandled")
    elif ending == "collect":
        del group, held
        # Not now: the stack here has what the last Deferred fired with.
        reactor.callLater(0, gc.collect)
    if ending != "return":
        await Deferred()


def blocking_near(ending: str, names: list[str]) -> None:
    """The near side on the blocking API."""
    from pycomnet.blocking import Group

    group = Group()
    pids: list[int] = []
    held = []
    for name in names:
        gateway = group.makegateway(SPEC, timeout=START)
        channel = gateway.remote_exec(BEGIN + FAR_CODE[name])
        pids += channel.receive()
        held.append((gateway, channel))
    if ending == "blocking_receive":
        waiting = group[0].newchannel()
        say(pids, ending)
        waiting.receive()
    say(pids, ending)
    if ending == "blocking_raise":
        raise RuntimeError("unhandled")
    if ending == "blocking_collect":
        del gateway, channel, group, held
        gc.collect()
    if ending != "blocking_end":
        sys.stdin.read()


def main() -> None:
    """Run what the command line says."""
    ending, *names = sys.argv[1:]
    assert ending in ENDINGS, ending
    if ending.startswith("blocking"):
        blocking_near(ending, names)
    else:
        from twisted.internet.task import react

        react(twisted_near, (ending, names))


if __name__ == "__main__":
    main()
