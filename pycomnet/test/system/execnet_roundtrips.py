"""Programs that ask and wait for the answer, again and again: with these the drop-in is quick."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from pycomnet import execnet

#: Seconds for what comes soon.
SOON = 60
#: So many round trips are enough that the connection is lent to the thread, and used.
TRIPS = 500
ECHO = "for item in channel: channel.send(item)"


def trips(channel: execnet.Channel, count: int = TRIPS, first: int = 0) -> None:
    """Ask, and check the answers."""
    for number in range(first, first + count):
        channel.send(number)
        assert channel.receive(SOON) == number


def together(*functions: Callable[[], None]) -> None:
    """Call functions in threads; all of them have to return."""
    done: list[object] = []
    threads = [
        threading.Thread(target=lambda f=function: done.append(f()), daemon=True)
        for function in functions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(done) == len(functions)


def threads() -> None:
    """Several threads, each with a channel of its own, and one that waits for something else."""
    gw = execnet.makegateway("popen")
    channels = [gw.remote_exec(ECHO) for _ in range(3)]
    late = gw.remote_exec("channel.receive(); channel.send('late')")
    ended = gw.remote_exec("channel.receive()")

    def wait() -> None:
        late.send(None)
        assert late.receive(SOON) == "late"
        ended.send(None)
        ended.waitclose(SOON)

    together(wait, *(lambda channel=channel: trips(channel) for channel in channels))
    got: list[object] = []
    channels[0].setcallback(got.append)
    channels[0].send("called")
    trips(channels[1])
    end = time.monotonic() + SOON
    while got != ["called"]:
        assert time.monotonic() < end
        trips(channels[1], 1)
    print("each got its own")


def signals() -> None:
    """An error of a signal at any time ends what it ends; all later values come, in their order."""

    class Alarm(BaseException):
        """The signal's."""

    def ring(number: int, frame: object) -> None:
        raise Alarm

    gw = execnet.makegateway("popen")
    channel = gw.remote_exec(ECHO)
    trips(channel)
    before = signal.signal(signal.SIGALRM, ring)
    rung = 0
    last = -1
    end = time.monotonic() + 5
    number = 0
    while time.monotonic() < end or rung <= 20:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0003 + number % 700 * 1e-5)
            while True:
                number += 1
                channel.send(number)
                got = channel.receive(SOON)
                assert last < got <= number, (last, got, number)
                last = got
        except Alarm:
            rung += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    channel.send("done")
    while (got := channel.receive(SOON)) != "done":
        assert last < got <= number
        last = got
    trips(channel)
    print("nothing was mixed up")


def handlers() -> None:
    """A signal handler may use the gateway at any point of a conversation."""
    gw = execnet.makegateway("popen")
    channel, other = gw.remote_exec(ECHO), gw.remote_exec(ECHO)
    handled = 0

    def handle(number: int, frame: object) -> None:
        nonlocal handled
        trips(other, 1, handled)
        if handled % 10 == 0:
            assert gw.remote_status().numchannels == 2
        handled += 1

    trips(channel)
    before = signal.signal(signal.SIGALRM, handle)
    end = time.monotonic() + 3
    number = 0
    while time.monotonic() < end or handled <= 20:
        signal.setitimer(signal.ITIMER_REAL, 0.0003 + number % 700 * 1e-5)
        trips(channel, 40, number)
        number += 40
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    trips(channel)
    print("no handler waited for ever")


def timeouts() -> None:
    """What has not come in time comes later."""
    gw = execnet.makegateway("popen")
    channel = gw.remote_exec(
        "import time\nfor item in channel: time.sleep(item); channel.send(item)"
    )
    for _ in range(5):
        for _ in range(20):
            channel.send(0)
            assert channel.receive(SOON) == 0
        channel.send(0.3)
        for timeout in (0, 0.0005, 0.01):
            try:
                channel.receive(timeout)
            except channel.TimeoutError:
                continue
            raise AssertionError(timeout)
        assert channel.receive(SOON) == 0.3
    print("it came later")


def forks() -> None:
    """A child that is forked amid a conversation has no part in it."""
    gw = execnet.makegateway("popen")
    channel = gw.remote_exec(ECHO)
    trips(channel)
    channel.send("the parent's")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for use in (lambda: channel.send(1), lambda: channel.receive(1), channel.waitclose):
                try:
                    use()
                except OSError:
                    continue
                raise AssertionError(use)
            other = execnet.makegateway("popen").remote_exec(ECHO)
            trips(other)
            execnet.default_group.terminate(10)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert channel.receive(SOON) == "the parent's"
    trips(channel)
    print("both go on")


def killed() -> None:
    """The far side dies amid a conversation: who waits is told, and who sends."""
    gw = execnet.makegateway("popen")
    pid = gw.remote_exec("import os; channel.send(os.getpid())").receive(SOON)
    channel = gw.remote_exec(ECHO)
    trips(channel)
    killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
    killer.start()
    try:
        trips(channel, sys.maxsize)
    except (EOFError, OSError) as problem:
        assert not isinstance(problem, channel.TimeoutError)
    try:
        channel.send(1)
    except OSError:
        print("it is known")


def ends() -> None:
    """An end, an error and a Ctrl-C amid a conversation."""
    gw = execnet.makegateway("popen")
    channel = gw.remote_exec(f"{ECHO}\nraise ValueError('why')")
    trips(channel)
    channel.close()
    channel = gw.remote_exec(
        "for item in channel:\n if item == 1.5: break\n channel.send(item)\nraise ValueError('why')"
    )
    trips(channel)
    channel.send(1.5)
    try:
        channel.receive(SOON)
    except channel.RemoteError as problem:
        assert "why" in str(problem)
    channel = gw.remote_exec(ECHO)
    trips(channel)
    channel.send("first")
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        while True:
            channel.receive(SOON)
    except KeyboardInterrupt:
        trips(channel)
        print("it goes on")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
