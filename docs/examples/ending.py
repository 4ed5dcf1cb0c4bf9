"""Nothing is left."""

from pathlib import Path

from twisted.internet.task import react

import pycomnet


def stubborn(channel):
    import os
    import subprocess

    child = subprocess.Popen(["sleep", "600"])
    channel.send([os.getpid(), child.pid])
    while True:
        try:
            channel.receive()
        except BaseException:  # KeyboardInterrupt and EOFError too
            continue


def runs(pid):
    """Whether there is such a process, on Linux; one that only waits to be reaped has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def main(reactor):
    group = pycomnet.Group(reactor)
    gateway = await group.makegateway("popen")
    pids = await gateway.remote_exec(stubborn).receive()
    assert all(runs(pid) for pid in pids)

    # One gateway. Its Deferred fires when the process is gone, and what it started.
    await gateway.exit(timeout=1)
    assert not any(runs(pid) for pid in pids)
    assert gateway not in group

    # All of a group; it can make others afterwards. Leaving `async with` closes it for good.
    await group.makegateway("popen")
    await group.terminate(timeout=5)
    assert len(group) == 0

    # Whoever forgets all that loses nothing: a group whose gateways nobody holds any more, and a
    # reactor that stops, end them; and a near side that is killed takes its far sides with it.


react(main)
