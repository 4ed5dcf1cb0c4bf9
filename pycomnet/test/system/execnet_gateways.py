"""Programs that use the drop-in: the kinds of gateways, their keys, and files over channels."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pycomnet import execnet

#: Seconds for what comes soon.
SOON = 60


def keys() -> None:
    """The keys of specs have their effect in the process that they are for."""
    group = execnet.Group(execmodel="main_thread_only")
    assert group.remote_execmodel.backend == "main_thread_only"
    group.set_execmodel("thread")
    wanted = {
        "popen//id=plain": ["", 0, ""],
        "popen//id=nice//nice=3": ["", 3, ""],
        "popen//id=named//env:NAMED=value//dont_write_bytecode": ["value", 0, "1"],
        f"popen//id=python//python={sys.executable} -E": ["", 0, ""],
        "popen//id=inner//via=plain//nice=2": ["", 2, ""],
        "socket//id=installed//installvia=plain": ["", 0, ""],
    }
    code = """
        import os
        variables = [os.environ.get(name, "") for name in ("NAMED", "PYTHONDONTWRITEBYTECODE")]
        channel.send([variables[0], os.nice(0) - channel.receive(), variables[1]])
        """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    for spec, values in wanted.items():
        gateway = group.makegateway(spec)
        channel = gateway.remote_exec(code)
        channel.send(os.nice(0))
        assert channel.receive(SOON) == values, spec
        assert gateway.spec.execmodel == "thread"
        assert gateway.hasreceiver()
        gateway.remote_init_threads(3)
        gateway.reconfigure(py2str_as_py3str=False)
    assert [gateway.id for gateway in group] == [execnet.XSpec(spec).id for spec in wanted]
    try:
        group.set_execmodel("thread")
    except ValueError as problem:
        assert "gateways already" in str(problem)
    group.terminate(10)
    assert len(group) == 0
    print("keys have their effect")


def files() -> None:
    """Files over channels, at both ends; and what else a channel has."""

    def code(channel):  # type: ignore[no-untyped-def]
        lines = channel.makefile("r")
        written = channel.makefile("w")
        first = lines.readline()
        print(first + lines.read(4), end="", file=written)
        written.flush()
        written.close()

    gw = execnet.makegateway()
    assert gw in execnet.default_group
    channel = gw.remote_exec(code)
    channel.reconfigure(py2str_as_py3str=True, py3str_as_py2str=False)
    written = channel.makefile("w", proxyclose=True)
    written.write("one\nt")
    written.writelines(["wo\n", "th"])
    assert channel.makefile("r").read(8) == "one\ntwo\n"
    channel.waitclose(SOON)
    written.close()
    assert channel.isclosed()
    try:
        channel.makefile("x")  # type: ignore[call-overload]
    except ValueError as problem:
        assert "not available" in str(problem)
    channel = gw.remote_exec("for n in range(3): channel.send(n)")
    assert next(channel) == 0
    assert list(channel) == [1, 2]
    try:
        gw.newchannel().receive(timeout=0.01)
    except channel.TimeoutError as problem:
        assert isinstance(problem, execnet.TimeoutError)
        print("files are read and written")


def dropped_modules() -> None:
    """What is imported later may be removed from ``sys.modules``: pytest's pytester does that."""
    at_first = dict(sys.modules)
    Path("source").mkdir()
    Path("source", "file").write_text("text")
    for number in range(3):
        group = execnet.Group(["popen//id=a", "popen//id=b", "popen//via=a//id=c"])
        sync = execnet.RSync("source", verbose=False)
        for gateway in group:
            assert gateway.remote_exec("channel.send(7)").receive(SOON) == 7
            sync.add_target(gateway, f"target{number}-{gateway.id}")
        sync.send()
        assert len(list(Path().glob(f"target{number}-*/file"))) == 3
        try:
            group["b"].remote_exec("1/0").waitclose(SOON)
        except execnet.RemoteError as problem:
            assert "ZeroDivisionError" in str(problem)
        group.terminate(10)
        assert len(sys.modules) > len(at_first)
        sys.modules.clear()
        sys.modules.update(at_first)
    print("they are imported again")


def machine(spec: str) -> None:
    """A gateway at another machine, or what stands for one."""
    gw = execnet.makegateway(spec)
    parsed = execnet.XSpec(spec)
    assert gw.remoteaddress == (parsed.ssh or parsed.socket)
    Path("source").mkdir()
    Path("source", "file").write_text("text")
    sync = execnet.RSync("source", verbose=False)
    sync.add_target(gw, os.path.abspath("target"))
    sync.send()
    channel = gw.remote_exec("channel.send(open(channel.receive()).read())")
    channel.send(os.path.abspath("target/file"))
    assert channel.receive(SOON) == "text"
    print("it is reached")


def nowhere(spec: str) -> None:
    """One that can't be reached."""
    try:
        execnet.makegateway(spec)
    except execnet.HostNotFound:
        print("it is not found")
    assert len(execnet.default_group) == 0


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
