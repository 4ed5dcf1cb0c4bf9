"""Programs that use the drop-in, as their writers wrote them for execnet, but for the import."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path

from pycomnet import execnet

#: Seconds for what comes soon.
SOON = 60


def values() -> None:
    """Values of all types, channels among them; wrappers stay the same objects."""
    gw = execnet.makegateway("popen//id=one")
    gw.note = "mine"  # type: ignore[attr-defined]
    assert execnet.default_group["one"].note == "mine"  # type: ignore[attr-defined]
    channel = gw.remote_exec("for item in channel: channel.send(item)")
    assert channel.gateway is gw
    for value in (None, 1, 2**70, "x", b"y" * 200000, (1, [2], {3: {4}}), frozenset([1]), 1j):
        channel.send(value)
        assert channel.receive(SOON) == value
    other = gw.newchannel()
    channel.send([other])
    assert channel.receive(SOON)[0] is other
    for wrong in (object(), ValueError(1), [{"a": object()}]):
        try:
            channel.send(wrong)
        except execnet.DumpError as problem:
            assert "can't serialize" in str(problem)
        else:
            raise AssertionError(wrong)
    channel.close()
    try:
        channel.send(1)
    except OSError as problem:
        assert "cannot send" in str(problem)

    def code(channel, value):  # type: ignore[no-untyped-def]
        channel.send(value)

    try:
        gw.remote_exec(code, value=[object()])
    except execnet.DumpError as problem:
        assert "can't serialize" in str(problem)
        print("values are carried")


def far() -> None:
    """Far code finds execnet there, without Twisted, and its locks and queues."""
    gw = execnet.makegateway("popen")

    def imported(channel):  # type: ignore[no-untyped-def]
        import sys

        slow = {"hashlib", "queue", "threading", "twisted"}
        channel.send(sorted(set() if "coverage" in sys.modules else slow & set(sys.modules)))

    # What takes long to import is imported when it is used.
    assert gw.remote_exec(imported).receive(SOON) == []

    def code(channel):  # type: ignore[no-untyped-def]
        import sys

        import execnet

        execmodel = channel.gateway.execmodel
        queue = execmodel.queue.Queue()
        execmodel.start(queue.put, (execnet.loads(execnet.dumps((1, "a"))),))
        channel.send([queue.get(timeout=60), "twisted" in sys.modules, execmodel.backend])
        try:
            channel.send(object())
        except execnet.DumpError:
            channel.send("refused")
        channel.send(issubclass(execnet.RemoteError, Exception))
        channel.send(isinstance(channel, execnet.Channel) and channel.gateway.id)
        channel.close()

    channel = gw.remote_exec(code)
    assert [channel.receive(SOON) for _ in range(4)] == [
        [(1, "a"), False, "thread"],
        "refused",
        True,
        "gw0-worker",
    ]
    try:
        channel.waitclose(SOON)
    except execnet.RemoteError as problem:
        assert "cannot explicitly close" in problem.formatted, problem
        print("far code finds execnet")


def nested() -> None:
    """Code at a gateway makes gateways, and catches what goes wrong there by the names it has."""

    def code(channel):  # type: ignore[no-untyped-def]
        import sys

        import execnet

        gw = execnet.makegateway()
        channel.send("twisted" in sys.modules)
        try:
            gw.remote_exec("1/0").waitclose(60)
        except execnet.RemoteError as problem:
            channel.send("ZeroDivisionError" in str(problem))
        inner = gw.remote_exec("channel.receive()")
        try:
            inner.receive(0.01)
        except execnet.TimeoutError:
            channel.send("too late")
        try:
            inner.send(object())
        except execnet.DumpError:
            channel.send("refused")
        try:
            execnet.loads(b"x")
        except execnet.LoadError:
            channel.send("unknown")
        channel.send([isinstance(each, execnet.Channel) for each in (inner, channel, gw)])
        execnet.default_group.terminate(10)

    channel = execnet.makegateway("popen").remote_exec(code)
    assert [channel.receive(SOON) for _ in range(6)] == [
        True,
        True,
        "too late",
        "refused",
        "unknown",
        [True, True, False],
    ]
    channel.waitclose(SOON)
    print("the same everywhere")


def older(python: str) -> None:
    """An older Python there has the names of execnet, too."""
    gw = execnet.makegateway(f"popen//python={python}")
    channel = gw.remote_exec("""
        from execnet import Channel, DumpError, RemoteError, TimeoutError, dumps, loads
        assert isinstance(channel, Channel) and loads(dumps(3)) == 3
        try:
            channel.receive(0.01)
        except TimeoutError:
            channel.send(issubclass(RemoteError, Exception))
    """)
    assert channel.receive(SOON) is True
    channel.waitclose(SOON)
    print("it has them")


def dropped() -> None:
    """Code whose channel nobody holds runs; what it raises is shown."""
    gw = execnet.makegateway("popen")
    other = gw.newchannel()
    busy = gw.remote_exec("channel.receive()")

    def code(channel, other):  # type: ignore[no-untyped-def]
        other.send("ran")

    gw.remote_exec(code, other=other).close()
    assert other.receive(SOON) == "ran"
    busy.send(1)
    busy.waitclose(SOON)

    class Shown:
        def __init__(self) -> None:
            self.written: queue.Queue[str] = queue.Queue()
            self.write = self.written.put

    shown = Shown()
    sys.stderr = shown  # type: ignore[assignment]
    gw.remote_exec("raise ValueError('lost')")
    line = shown.written.get(timeout=SOON)
    sys.stderr = sys.__stderr__
    assert "Warning: unhandled RemoteError" in line, line
    assert "ValueError: lost" in line, line
    print("it ran")


def busy() -> None:
    """What would wait for a main thread for ever is an error."""
    gw = execnet.makegateway("popen//execmodel=main_thread_only")
    assert gw.remote_status().numchannels == 0
    channel = gw.remote_exec("channel.receive()")
    try:
        gw._rinfo(update=True)
    except execnet.RemoteError as problem:
        assert "would cause deadlock" in str(problem)
    Path("source").mkdir()
    sync = execnet.RSync("source", verbose=False)
    sync.add_target(gw, "target")
    try:
        sync.send()
    except OSError as problem:
        assert "would cause deadlock" in str(problem)
    channel.send(1)
    channel.waitclose(SOON)
    assert gw._rinfo(update=True).version_info == sys.version_info[:5]
    print("not for ever")


def callbacks() -> None:
    """waitclose waits for callbacks, which may block and send."""
    gw = execnet.makegateway("popen")
    seen: list[object] = []

    def callback(item: object) -> None:
        if item == 1:
            # Another channel of this gateway, whose callback is called after this one.
            other.waitclose(SOON)
        seen.append(item)

    other = gw.remote_exec("channel.send(3)")
    other.setcallback(lambda _: None)

    channel = gw.remote_exec("channel.send(1); channel.send(2); raise ValueError(3)")
    channel.setcallback(callback, endmarker="end")
    try:
        channel.waitclose(SOON)
    except execnet.RemoteError as problem:
        assert "ValueError: 3" in str(problem)
    assert seen == [1, 2, "end"]
    channel = gw.remote_exec("for item in range(2000): channel.send(item)")
    channel.waitclose(SOON)
    seen.clear()
    channel.setcallback(seen.append)
    assert seen == list(range(2000))
    channel = gw.remote_exec("channel.receive()")
    channel.setcallback(seen.append, endmarker="end")
    channel.close()
    assert seen.pop() == "end"
    queue = execnet.MultiChannel([gw.remote_exec("channel.send(7)")]).make_receive_queue(None)
    assert [queue.get(timeout=SOON)[1] for _ in range(2)] == [7, None]
    print("callbacks have been called")


def many() -> None:
    """Neither end waits for the other: both send much before they receive."""
    gw = execnet.makegateway("popen")
    code = "got = []\nfor i in range(40): channel.send(b'x' * 100000)\n"
    channel = gw.remote_exec(code + "channel.send(sum(len(channel.receive()) for i in range(40)))")
    for _ in range(40):
        channel.send(b"y" * 100000)
    channel.waitclose(SOON)
    found = list(channel)
    assert [len(item) for item in found[:-1]] == [100000] * 40
    assert found[-1] == 4000000
    print("nobody waited")


def directory() -> None:
    """chdir is made where it isn't there; what can't be made is an error."""
    gw = execnet.makegateway("popen//chdir=made/here")
    assert gw._rinfo().cwd == os.path.realpath("made/here")
    assert gw._rinfo().version_info == sys.version_info[:5]
    try:
        execnet.makegateway("popen//chdir=/dev/null/x")
    except execnet.RemoteError:
        assert len(execnet.default_group) == 1
        print("directories are made")


def output() -> None:
    """What far code prints is dropped; its errors are passed on unchanged."""
    gw = execnet.makegateway("popen")
    code = "import os, sys; print('lost'); os.write(1, b'lost'); sys.stderr.write('raw')"
    gw.remote_exec(code).waitclose(SOON)
    gw.remote_exec("import os; os.write(2, b' \\xff bytes\\n')").waitclose(SOON)
    execnet.default_group.terminate(10)
    print("printed here")


def grace() -> None:
    """Far code has its time to complete when its gateway exits; then it is killed."""
    group = execnet.Group()
    place = Path("completed")
    for ending in ("channel.receive()", "time.sleep(600)"):
        code = f"""
        import time
        channel.send(1)
        try:
            {ending}
        except EOFError:
            open({str(place.absolute())!r}, "w").close()
        """
        channel = group.makegateway("popen").remote_exec(code)
        assert channel.receive(SOON) == 1
    begin = time.monotonic()
    group.terminate(timeout=3)
    assert place.exists()
    assert time.monotonic() - begin < 60
    assert not group
    print("it had its time")


def raising() -> None:
    """A callback of far code that raises: the near side gets that, the callback its endmarker."""

    def code(channel, name):  # type: ignore[no-untyped-def]
        import builtins

        execmodel = channel.gateway.execmodel
        queue = execmodel.queue.Queue()

        def callback(item):  # type: ignore[no-untyped-def]
            if item is None:
                queue.put(item)
            else:
                raise getattr(builtins, name)("mine")

        channel.setcallback(callback, endmarker=None)
        queue.get(timeout=60)

    gw = execnet.makegateway("popen")
    for name in ("ValueError", "EOFError", "SystemExit"):
        channel = gw.remote_exec(code, name=name)
        channel.send(1)
        try:
            channel.waitclose(SOON)
        except execnet.RemoteError as problem:
            assert f"{name}: mine" in str(problem), problem
        else:
            raise AssertionError(name)
    print("the endmarker came")


def loops() -> None:
    """Code that receives until nothing more comes ends normally, whoever holds its channel."""
    group = execnet.Group(["popen", "popen"])
    code = "channel.send(1)\nwhile 1: channel.receive()"
    held = group[0].remote_exec(code)
    assert held.receive(SOON) == 1
    other = group[0].newchannel()
    # This one's channel is dropped. What is raised as the gateway exits is nobody's concern.
    group[1].remote_exec("while 1: channel.receive()")
    group[1].remote_exec("""
        try:
            channel.receive()
        except EOFError:
            raise ValueError("too late")
    """)
    del other
    group.terminate(timeout=30)
    try:
        held.waitclose(SOON)
    except EOFError as problem:  # execnet's: the gateway is gone
        assert not isinstance(problem, execnet.RemoteError)
    print("they end")


def patience() -> None:
    """What is interrupted may still send; exit functions have their time."""
    group = execnet.Group(["popen", "popen"])
    group[0]._grace = 0.1
    channel = group[0].remote_exec("""
        import time
        channel.send("begun")
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            channel.send("cleaned up")
    """)
    place = Path("exited")
    ended = group[1].remote_exec(f"""
        import atexit, time
        def leave():
            time.sleep(2.7)  # longer than without patience
            open({str(place.absolute())!r}, "w").close()
        atexit.register(leave)
    """)
    ended.waitclose(SOON)
    assert channel.receive(SOON) == "begun"
    group.terminate(timeout=SOON)
    assert channel.receive(SOON) == "cleaned up"
    assert place.exists()
    print("they had their time")


def forked() -> None:
    """A forked child leaves its parent's gateways alone."""
    gw = execnet.makegateway("popen")
    channel = gw.remote_exec("channel.send(channel.receive())")
    pid = os.fork()
    if pid == 0:
        try:
            in_the_child(gw, channel)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    channel.send(5)
    assert channel.receive(SOON) == 5
    print("the parent's goes on")


def in_the_child(gw: execnet.Gateway, channel: execnet.Channel) -> None:
    """The parent's gateway is refused; a new one can be made, and ended."""
    for use in (
        lambda: channel.send(1),
        lambda: channel.receive(1),
        channel.waitclose,
        lambda: channel.setcallback(print),
        gw.newchannel,
        gw.remote_status,
        gw.join,
        lambda: gw.remote_exec("pass"),
        lambda: gw._rinfo(update=True),
    ):
        try:
            use()
        except OSError:
            continue
        raise AssertionError(use)
    assert len(execnet.default_group) == 0
    mine = execnet.makegateway("popen")
    assert mine.id != gw.id
    pid = mine.remote_exec("import os; channel.send(os.getpid())").receive(SOON)
    execnet.default_group.terminate(10)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    raise AssertionError("it is still there")


def ending() -> None:
    """A program that ends leaves nothing behind."""
    gw = execnet.makegateway("popen")
    gw.remote_exec("import os, time; channel.send(os.getpid()); time.sleep(600)").receive(SOON)
    threading.Thread(target=time.sleep, args=(0.1,)).start()
    print("it ends")


def deployment() -> None:
    """A script in the style of a deployment: files to several places, then commands there."""
    source = Path("source")
    (source / "bin").mkdir(parents=True)
    (source / "bin" / "run.py").write_text("print('deployed')\n")
    (source / "old.pyc").write_text("")

    class Sync(execnet.RSync):
        def filter(self, path: str) -> bool:
            return not path.endswith(".pyc")

    group = execnet.Group(["popen//id=a//chdir=there/a", "popen//id=b//chdir=there/b"])
    told: list[tuple[str, int, str]] = []
    sync = Sync(
        source, lambda what, size, place: told.append((what, size, place.gateway.id)), verbose=False
    )
    finished: list[tuple[str, threading.Thread]] = []
    for gateway in group:
        done = lambda id=gateway.id: finished.append((id, threading.current_thread()))  # noqa: E731
        sync.add_target(gateway, "app", finishedcallback=done, delete=True)
    # Another group's gateway with the same id, and the same directory there.
    others = execnet.Group(["popen//id=a//chdir=there/other"])
    sync.add_target(others["a"], "app")
    sync.send()
    assert sorted(id for id, _ in finished) == ["a", "b"]
    assert {thread for _, thread in finished} == {threading.current_thread()}
    assert sorted(told) == [(what, 18, id) for what in ("ack", "list") for id in ("a", "a", "b")]
    assert Path("there/other/app/bin/run.py").exists()
    channels = group.remote_exec("""
        import subprocess, sys
        channel.send(subprocess.check_output([sys.executable, "app/bin/run.py"]))
    """)
    found = channels.receive_each(withchannel=True)
    assert [(channel.gateway.id, text) for channel, text in found] == [
        ("a", b"deployed\n"),
        ("b", b"deployed\n"),
    ]
    assert not Path("there/a/app/old.pyc").exists()
    group.terminate(timeout=10)
    print("deployed")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
