"""Scripts on the blocking API: ``python -m pycomnet.test.system.blocking_scripts NAME`` runs one.

The reactor of :mod:`pycomnet.blocking` runs in a thread for as long as the process lives, so each
of these has a process of its own. What goes wrong is an exception.
"""

from __future__ import annotations

import os
import queue
import sys
import tempfile
import threading
import time
from typing import Any

import pycomnet
from pycomnet import blocking
from pycomnet.blocking import Group
from pycomnet.errors import TimeoutExpired
from pycomnet.wire.values import ValueNotSendable

ECHO = "for value in channel: channel.send(value)"


def raises(kind: type[BaseException], function: Any, *args: Any, **kwargs: Any) -> Any:
    """The exception that a call must raise."""
    try:
        result = function(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, got {result!r}")


def values() -> None:
    """Values come back; what comes out is never a Deferred."""
    gateway = Group().makegateway("popen")
    channel = gateway.remote_exec(ECHO)
    for value in (None, 1, "x", b"y", [1, (2, {"a": {3}})], b"z" * 3_000_000):
        assert channel.send(value) is None
        assert channel.receive() == value
    assert gateway.call("operator:add", 1, 2) == 3
    assert gateway.ping() > 0
    assert gateway.remote_status()["running"] == 1
    assert channel.isclosed() is False
    assert channel.close() is None
    assert channel.isclosed() is True
    raises(pycomnet.ChannelClosed, channel.receive)
    raises(TypeError, channel.attach, None)


def errors() -> None:
    """Far errors are raised where the result is waited for, with this thread's frames."""
    gateway = Group().makegateway("popen")
    error = raises(pycomnet.RemoteError, gateway.remote_exec("1/0").waitclose)
    assert error.type == "ZeroDivisionError"
    error = raises(pycomnet.RemoteError, gateway.call, "os:no_such_name")
    traceback = error.__traceback__
    names = []
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert "raises" in names, names
    raises(pycomnet.SpecError, Group().makegateway, "popne")
    raises(pycomnet.GatewayNotStarted, Group().makegateway, "popen//python=/no/such/python")
    raises(pycomnet.ValueNotSendable, gateway.newchannel().send, object())
    here = object()
    raises(pycomnet.CodeNotSendable, gateway.remote_exec, lambda channel: here)
    channel = gateway.remote_exec("import os; os._exit(3)")
    assert raises(pycomnet.GatewayDied, channel.receive).exit_status == 3


def timeouts() -> None:
    """What takes too long raises TimeoutExpired, and is taken back."""
    gateway = Group().makegateway("popen")
    channel = gateway.remote_exec(ECHO)
    begin = time.monotonic()
    error = raises(TimeoutExpired, channel.receive, timeout=0.2)
    assert isinstance(error, TimeoutError)
    assert "receive" in str(error) and "0.2 seconds" in str(error)
    assert 0.2 <= time.monotonic() - begin < 60
    channel.send("late")
    assert channel.receive(timeout=60) == "late"
    raises(TimeoutExpired, gateway.call, "time:sleep", 1000, timeout=0.1)
    raises(TimeoutExpired, channel.waitclose, timeout=0.1)
    full = gateway.remote_exec("channel.gateway.newchannel().receive()")
    for _ in range(17):  # what the window takes
        full.send(b"x" * 60_000, timeout=60)
    raises(TimeoutExpired, full.send, b"x" * 60_000, timeout=0.2)
    hangs = "popen//python=sh -c 'sleep 1000'"
    error = raises(pycomnet.GatewayNotStarted, Group().makegateway, hangs, timeout=0.2)
    assert "no hello in 0.2 seconds" in str(error)


def threads() -> None:
    """Threads share a group, a gateway and a channel."""
    group = Group()
    shared = group.makegateway("popen")
    failures = []

    def work(number: int) -> None:
        try:
            own = group.makegateway("popen")
            mine, ours = own.remote_exec(ECHO), shared.remote_exec(ECHO)
            for n in range(100):
                for channel in (mine, ours):
                    channel.send((number, n))
                    assert channel.receive() == (number, n)
            own.exit()
        except BaseException as error:
            failures.append(error)
            raise

    workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    assert list(group) == [shared]


def callbacks() -> None:
    """Callbacks run in threads, one at a time and in order, and may block on this API."""
    gateway = Group().makegateway("popen")
    echo = gateway.remote_exec(ECHO)
    got: list[Any] = []
    done = threading.Event()
    busy = threading.Lock()

    def callback(value: Any) -> None:
        assert busy.acquire(blocking=False), "two at a time"
        try:
            assert threading.current_thread() is not threading.main_thread()
            if value == "end":
                done.set()
                return
            echo.send(value)
            got.append(echo.receive())
        finally:
            busy.release()

    gateway.remote_exec("for n in range(50): channel.send(n)").setcallback(callback, None, "end")
    assert done.wait(60)
    assert got == list(range(50))

    failures: list[Any] = []
    failed = threading.Event()

    def errback(failure: Any) -> None:
        failures.append(failure.value)
        failed.set()

    gateway.remote_exec("1/0").setcallback(print, errback)
    assert failed.wait(60)
    assert failures[0].type == "ZeroDivisionError"
    failed.clear()

    def broken(value: Any) -> None:
        raise LookupError(value)

    channel = gateway.remote_exec("channel.send(1); channel.receive()")
    channel.setcallback(broken, errback)
    assert failed.wait(60)
    assert isinstance(failures[1], LookupError)


def callbacks_end() -> None:
    """The errback has done before the endmarker comes, and both before ``waitclose`` returns."""
    gateway = Group().makegateway("popen")
    busy = threading.Lock()
    for _ in range(10):
        told: list[Any] = []

        def slow(value: Any, told: list[Any] = told) -> None:
            assert busy.acquire(blocking=False), "side by side"
            time.sleep(0.02)
            told.append(getattr(getattr(value, "value", None), "type", value))
            busy.release()

        channel = gateway.remote_exec("channel.send(1)\n1/0")
        channel.setcallback(slow, slow, endmarker="END")
        raises(pycomnet.RemoteError, channel.waitclose, timeout=60)
        assert told == [1, "ZeroDivisionError", "END"], told
        told.clear()
        channel = gateway.remote_exec("channel.send(1)")
        channel.setcallback(slow)
        channel.waitclose(timeout=60)
        assert told == [1]
    asked: list[Any] = []
    channel = gateway.remote_exec("channel.send(1)")
    channel.setcallback(lambda value: asked.append(channel.waitclose(timeout=60)), None, "END")
    channel.waitclose(timeout=60)
    assert asked[:1] == [None], asked


def dropped() -> None:
    """Channels that are dropped end at the far side, whatever waits there."""
    import gc

    gateway = Group().makegateway("popen")
    report = gateway.newchannel()
    # The report is closed when nobody there holds it any more.
    holder = gateway.remote_exec("channel.send('held'); channel.receive()", report=report)
    assert holder.receive(timeout=60) == "held"
    for _ in range(5):
        source = "try:\n    channel.receive()\nexcept EOFError:\n    report.send(1)"
        gateway.remote_exec(source, report=report)
    gc.collect()
    assert [report.receive(timeout=60) for _ in range(5)] == [1] * 5
    holder.close()
    raises(EOFError, report.receive, timeout=60)


def output() -> None:
    """The output callback runs in a thread, too, and holds up who prints."""
    printed: list[str] = []
    done = threading.Event()

    def callback(event: pycomnet.Output) -> None:
        assert threading.current_thread() is not threading.main_thread()
        printed.append(event.text)
        if "999\n" in event.text:
            done.set()

    group = Group(output=callback)
    gateway = group.makegateway("popen")
    gateway.remote_exec("for n in range(1000): print(n)").waitclose()
    assert done.wait(60)
    assert "".join(printed).split() == [str(n) for n in range(1000)]
    again: list[str] = []
    gateway.setoutput(lambda event: (again.append(event.text), done.set()))
    done.clear()
    gateway.remote_exec("print('again')").waitclose()
    assert done.wait(60)
    assert again == ["again\n"]


def multichannel() -> None:
    """MultiChannel: all at once, and a queue of what comes from any."""
    group = Group()
    for _ in range(3):
        group.makegateway("popen")
    channels = group.remote_exec("for value in channel: channel.send((channel.gateway.id, value))")
    channels.send_each("hello")
    ids = [gateway.id for gateway in group]
    assert channels.receive_each() == [(id, "hello") for id in ids]
    channels.send_each("again")
    pairs = channels.receive_each(withchannel=True)
    assert [channel for channel, _ in pairs] == list(channels)
    assert [channel.gateway.id for channel, _ in pairs] == ids
    assert len(channels) == 3
    assert channels[0] in channels
    assert type(channels[0]) is blocking.Channel
    queue = channels.make_receive_queue(endmarker=None)
    channels.send_each(5)
    first = [queue.get(timeout=60) for _ in range(3)]
    assert {value for _, value in first} == {(id, 5) for id in ids}
    for channel, value in first:
        assert channel.gateway.id == value[0]
        channel.send_end()
    assert sorted(str(queue.get(timeout=60)[1]) for _ in range(3)) == ["None"] * 3
    channels.waitclose()


def deep_values() -> None:
    """Values that nest deep or hold themselves are refused, or pass, without a RecursionError."""
    with Group() as group:
        gateway = group.makegateway("popen")
        holds_itself: list[Any] = []
        holds_itself.append(holds_itself)
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        channel = gateway.remote_exec("for value in channel: channel.send(value)")
        for value in (holds_itself, deep, {"channel": channel, "x": holds_itself}, (channel, deep)):
            for send in (channel.send, lambda value: gateway.call("operator:add", value)):
                try:
                    send(value)
                except ValueNotSendable as problem:
                    assert "nests more than 255 deep" in str(problem)
                else:
                    raise AssertionError("it was sent")
        # Thirty tuples, each in a list as deep as may be, there and back.
        fits: Any = channel
        for _ in range(30):
            for _ in range(250):
                fits = [fits]
            fits = (fits,)
        channel.send(fits)
        back = channel.receive()
        for _ in range(30):
            (back,) = back
            for _ in range(250):
                (back,) = back
        assert back == channel


def objects() -> None:
    """Channels, gateways and files come as this API's own, equal when they are the same."""
    with Group() as group:
        gateway = group.makegateway("popen", id="named")
        assert group["named"] == gateway == group[0]
        assert gateway.group == group
        assert gateway in group and len(group) == 1
        assert len({gateway, group["named"]}) == 1
        assert gateway.id == "named" and gateway.spec.transport == "popen"
        assert gateway.info["pid"] == gateway.call("os:getpid")
        assert "named" in repr(gateway)
        channel = gateway.remote_exec("channel.send({'c': [channel.gateway.newchannel()]})")
        new = channel.receive()["c"][0]
        assert type(new) is blocking.Channel
        channel = gateway.remote_exec(ECHO)
        side = gateway.newchannel()
        channel.send((side,))
        assert channel.receive()[0].id == side.id
        channel = gateway.remote_exec("for n in range(3): print(n, file=channel.makefile('w'))")
        with channel.makefile("r") as file:
            assert list(file) == ["0\n", "1\n", "2\n"]
        assert list(gateway.remote_exec("for n in range(3): channel.send(n)")) == [0, 1, 2]
        raw = gateway.newchannel(raw=True)
        gateway.remote_exec("raw.send(raw.receive() * 2); raw.close()", raw=raw)
        raw.send(b"ab")
        assert raw.receive() == b"abab"
    assert not gateway.isalive()
    assert list(group) == []
    raises(pycomnet.ConnectionLost, gateway.ping)


def announced(wait: Any, *args: Any, **kwargs: Any) -> None:
    """Print a line, and wait."""
    print("waiting", flush=True)
    wait(*args, **kwargs)


def interrupted() -> None:
    """Prints a line when it waits; Ctrl-C ends that wait, and all else goes on."""
    gateway = Group().makegateway("popen")
    channel = gateway.remote_exec(ECHO)
    raises(KeyboardInterrupt, announced, channel.receive)
    raises(KeyboardInterrupt, announced, channel.receive, timeout=1000)
    raises(KeyboardInterrupt, announced, channel.waitclose)
    channel.send("unharmed")
    assert channel.receive() == "unharmed"
    raises(KeyboardInterrupt, announced, gateway.call, "time:sleep", 1000)
    assert gateway.isalive()
    hangs = "popen//python=sh -c 'sleep 1000'"
    raises(KeyboardInterrupt, announced, Group().makegateway, hangs)
    print("done", flush=True)


@pycomnet.interface("org.example.blocking", stateful=True)
class Example(pycomnet.Service):
    """What :func:`services` calls."""

    @pycomnet.method(idempotent=True)
    def add(self, request: Any) -> Any:
        return request.args["a"] + request.args["b"]

    @pycomnet.method(thread=True)
    def sleep(self, request: Any) -> str:
        time.sleep(request.args)
        return threading.current_thread().name

    @pycomnet.method()
    def count(self, request: Any) -> int:
        request.session["n"] = request.session.get("n", 0) + 1
        return int(request.session["n"])

    @pycomnet.method()
    def blocks(self, request: Any) -> Any:
        read = b"".join(file.read() for file in request.files)
        return (len(read), pycomnet.Binary(read, "all"))

    @pycomnet.method(stream=True)
    async def numbers(self, request: Any) -> Any:
        for number in range(request.args):
            yield number

    def __init__(self) -> None:
        self.closed: queue.Queue[str] = queue.Queue()

    @pycomnet.method(stream=True)
    def plain(self, request: Any) -> Any:
        return self.endless("plain")

    @pycomnet.method(stream=True, thread=True)
    def thread(self, request: Any) -> Any:
        return self.endless("thread")

    @pycomnet.method(stream=True)
    async def coroutine(self, request: Any) -> Any:
        for value in self.endless("coroutine"):
            yield value

    def endless(self, name: str) -> Any:
        try:
            while True:
                yield threading.current_thread().name
        finally:
            self.closed.put(name)


@pycomnet.interface("org.pycom.nameserver")
class OneName(pycomnet.Service):
    """Knows where :class:`Example` is."""

    address = ""

    @pycomnet.method(idempotent=True)
    def list_services(self, request: Any) -> Any:
        return [{"service": "one", "interfaces": ["org.example.blocking"], "address": self.address}]

    @pycomnet.method(idempotent=True)
    def locate(self, request: Any) -> Any:
        raise pycomnet.ServiceNotFound(f"no {request.args['service']}")


def services() -> None:
    """Services are offered and called from threads, with the same names."""
    with blocking.ServiceServer() as server, blocking.Context(timeout=60) as context:
        example_service = Example()
        server.add(example_service)
        names = OneName()
        server.add(names)
        names.address = server.listen("tcp:0:interface=127.0.0.1")
        example = context.connect(names.address, "org.example.blocking")
        assert example.invoke("add", {"a": 1, "b": 2}) == 3
        assert example.invoke("add", {"a": 1, "b": 2}, timeout=60) == 3
        assert example.interface == "org.example.blocking"
        assert "add" in example.introspect()["org.example.blocking"]["methods"]
        assert [example.invoke("count") for _ in range(3)] == [1, 2, 3]
        assert example.invoke("sleep", 0.01) != threading.main_thread().name
        # Not for long: a thread can't be cancelled, and the process waits for it at its end.
        raises(pycomnet.DeadlineExceeded, example.invoke, "sleep", 2, timeout=0.2)
        raises(pycomnet.UnknownMethod, example.invoke, "nothing")
        raises(pycomnet.ServiceUnreachable, context.connect, "tcp:127.0.0.1:1")
        blocks = [pycomnet.Binary(b"x" * 1_000_000), pycomnet.Binary(b"y")]
        size, files = example.invoke("blocks", None, attachments=blocks, with_binary=True)
        assert size == 1_000_001
        assert files[0].filename == "all"
        assert files[0].read() == b"x" * 1_000_000 + b"y"
        assert list(example.stream("numbers", 1000)) == list(range(1000))
        with example.stream("numbers", 10**9) as endless:
            assert [next(endless) for _ in range(3)] == [0, 1, 2]
        # However a stream is left, the generator at the server is closed at once.
        closed = example_service.closed
        for name in ("plain", "coroutine", "thread"):
            stream = example.stream(name)
            next(stream)
            stream.close()
            assert closed.get(timeout=60) == name
            for _ in example.stream(name):
                break
            assert closed.get(timeout=60) == name
            dropped = example.stream(name)
            next(dropped)
            del dropped
            assert closed.get(timeout=60) == name
        blocking.configure(nameserver=names.address)
        located = blocking.locate("org.example.blocking")
        assert located.invoke("add", {"a": 2, "b": 2}) == 4
        raises(pycomnet.ServiceNotFound, blocking.locate, "org.example.other", "by name")
        raises(RuntimeError, blocking.configure, nameserver="tcp:127.0.0.1:1")
        found = blocking.nameserver().invoke("list_services", {"interface": "x"})
        assert found[0]["service"] == "one"
        results: list[Any] = []
        threads = [
            threading.Thread(target=lambda: results.append(example.invoke("sleep", 0.05)))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 5
    raises(pycomnet.PycomnetError, example.invoke, "count")


def until_there(path):
    """Far code: wait until there is such a file or directory."""
    import os
    import time

    while not os.path.exists(path):
        time.sleep(0.01)


def executor() -> None:
    """The futures of an executor over gateways are those of the standard library."""
    from concurrent import futures

    with Group() as group:
        group.makegateways(["popen"] * 2)
        with blocking.GatewayExecutor(group) as executor:
            assert isinstance(executor, futures.Executor)
            assert list(executor.map("operator:add", range(2000), range(2000))) == [
                2 * n for n in range(2000)
            ]
            made = [executor.submit("builtins:abs", -n) for n in range(50)]
            assert sum(f.result() for f in futures.as_completed(made, 60)) == sum(range(50))
            assert futures.wait(made, 60).not_done == set()
            error = raises(pycomnet.RemoteError, executor.submit("builtins:int", "x").result, 60)
            assert error.type == "ValueError", error
            raises(TypeError, executor.submit, "builtins:abs", object())
            threads: list[str] = []
            told = threading.Event()

            def callback(future: Any) -> None:
                # It is not the reactor's thread: it may wait for something itself.
                threads.append(threading.current_thread().name)
                assert next(iter(group)).ping() > 0
                told.set()

            executor.submit("time:sleep", 0.1).add_done_callback(callback)
            assert told.wait(60), threads
            endless = executor.map("builtins:abs", iter(int, 1), buffersize=10)
            assert [next(endless) for _ in range(30)] == [0] * 30
            go = os.path.join(tempfile.mkdtemp(), "go")
            slow = executor.map(until_there, [go], timeout=0.05)
            raises(TimeoutError, next, slow)
            os.mkdir(go)
        raises(RuntimeError, executor.submit, "builtins:abs", 1)

        single = blocking.GatewayExecutor(group, idempotent=False)
        os.rmdir(go)
        running = [single.submit(until_there, go) for _ in range(2)]
        while not all(future.running() for future in running):
            time.sleep(0.01)
        waiting = [single.submit("time:sleep", 30) for _ in range(3)]
        assert waiting[0].cancel()
        # What ends before the reactor sees the shutdown makes no room for the others.
        busy = threading.Event()
        from twisted.internet import reactor

        reactor.callFromThread(busy.wait)  # type: ignore[attr-defined]
        os.mkdir(go)
        time.sleep(0.3)  # their results arrive
        single.shutdown(wait=False, cancel_futures=True)
        busy.set()
        single.shutdown()
        os.rmdir(go)
        os.rmdir(os.path.dirname(go))
        assert [future.result(60) for future in running] == [None, None]
        assert all(future.cancelled() for future in waiting)
        assert futures.wait(waiting, 60).not_done == set()


def executor_dropped() -> None:
    """What was submitted is done when nobody holds the executor any more."""
    with Group() as group:
        group.makegateway("popen")
        futures = [blocking.GatewayExecutor(group).submit("builtins:abs", -3) for _ in range(3)]
        assert [future.result(60) for future in futures] == [3] * 3


def main() -> None:
    """Run the script that the command line names."""
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
