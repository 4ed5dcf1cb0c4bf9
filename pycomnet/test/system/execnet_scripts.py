"""Programs that use the drop-in, as their writers wrote them for execnet, but for the import."""

from __future__ import annotations

import os
import sys
import threading
import time
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
    except OSError:
        print("values are carried")


def far() -> None:
    """Far code finds execnet there, without Twisted, and its locks and queues."""
    gw = execnet.makegateway("popen")

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
        assert execnet.Group is not None  # pycomnet is installed here, too
        channel.send("twisted" in sys.modules)
        channel.close()

    channel = gw.remote_exec(code)
    assert [channel.receive(SOON) for _ in range(4)] == [
        [(1, "a"), False, "thread"],
        "refused",
        True,
        True,
    ]
    try:
        channel.waitclose(SOON)
    except execnet.RemoteError as problem:
        assert "cannot explicitly close" in problem.formatted, problem
        print("far code finds execnet")


def callbacks() -> None:
    """waitclose waits for callbacks, which may block and send."""
    gw = execnet.makegateway("popen")
    seen = []

    def callback(item: object) -> None:
        time.sleep(0.05)
        seen.append(item)

    channel = gw.remote_exec("channel.send(1); channel.send(2); raise ValueError(3)")
    channel.setcallback(callback, endmarker="end")
    try:
        channel.waitclose(SOON)
    except execnet.RemoteError as problem:
        assert "ValueError: 3" in str(problem)
    assert seen == [1, 2, "end"]
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
    gw.remote_exec("import os; os.write(2, b' bytes\\n')").waitclose(SOON)
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


def forked() -> None:
    """A forked child leaves its parent's gateways alone."""
    gw = execnet.makegateway("popen")
    channel = gw.remote_exec("channel.send(channel.receive())")
    pid = os.fork()
    if pid == 0:
        errors = 0
        for use in (lambda: channel.send(1), lambda: channel.receive(1), gw.newchannel):
            try:
                use()
            except Exception:
                errors += 1
        execnet.default_group.terminate(1)
        os._exit(errors)
    assert os.waitpid(pid, 0)[1] >> 8 == 3
    channel.send(5)
    assert channel.receive(SOON) == 5
    print("the parent's goes on")


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
    sync = Sync(source, verbose=False)
    finished: list[str] = []
    for gateway in group:
        done = lambda id=gateway.id: finished.append(id)  # noqa: E731
        sync.add_target(gateway, "app", finishedcallback=done, delete=True)
    sync.send()
    assert sorted(finished) == ["a", "b"]
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
    globals()[sys.argv[1]]()
