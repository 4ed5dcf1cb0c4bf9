"""Scripts that fork, or end, while the blocking API is in use; run as those of blocking_scripts."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import gc
import multiprocessing
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pycomnet
from pycomnet import blocking
from pycomnet.blocking import Group
from pycomnet.errors import UsedAfterFork
from pycomnet.test.system.blocking_scripts import ECHO, Example, raises

warnings.filterwarnings("ignore", "This process.*is multi-threaded", DeprecationWarning)
#: Seconds that a child has: it hangs where this does not work.
BOUND = 60


def in_child(function: Callable[[], Any], leave: Callable[[int], Any] = os._exit) -> int:
    """Run a function in a forked child; its status."""
    pid = os.fork()
    if pid == 0:
        import signal

        signal.alarm(BOUND)
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            leave(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def round_trip(gateway: Any = None) -> None:
    """A value there and back, by a new gateway if there is none."""
    gateway = gateway or Group().makegateway("popen")
    channel = gateway.remote_exec(ECHO)
    channel.send("there")
    assert channel.receive(timeout=BOUND) == "there"


def forked_old() -> None:
    """In a child the parent's objects raise at once; the parent's go on."""
    group = Group()
    gateway = group.makegateway("popen")
    channel = gateway.remote_exec(ECHO)
    channel.send("waits")
    server = blocking.ServiceServer()
    server.add(Example())
    context = blocking.Context(timeout=1000)
    service = context.connect(server.listen("tcp:0:interface=127.0.0.1"), "org.example.blocking")
    waiting: list[Any] = []
    receiver = gateway.remote_exec("channel.send(channel.receive())")
    thread = threading.Thread(target=lambda: waiting.append(receiver.receive()))
    thread.start()
    many = group.remote_exec(ECHO)
    file = channel.makefile("w")

    def child() -> None:
        for function in (
            channel.receive,
            channel.waitclose,
            channel.isclosed,
            receiver.receive,
            gateway.ping,
            gateway.newchannel,
            gateway.remote_status,
            group.makegateway,
            many.waitclose,
            many.make_receive_queue,
            file.flush,
            lambda: channel.send(1),
            lambda: channel.setcallback(print),
            lambda: gateway.call("os:getpid"),
            lambda: gateway.remote_exec("1"),
            lambda: list(group),
            lambda: list(channel),
            lambda: service.invoke("add", {"a": 1, "b": 2}),
            lambda: list(service.stream("numbers", 1)),
            lambda: context.connect("tcp:127.0.0.1:1"),
            lambda: server.listen("tcp:0:interface=127.0.0.1"),
            lambda: round_trip(Group().makegateway("popen").remote_exec("1", c=channel)),
        ):
            error = raises(UsedAfterFork, function)
            assert "new Group" in str(error), error
        gateway.exit()
        group.terminate(1)
        group.close()
        context.close()

    assert in_child(child) == 0
    assert channel.receive(timeout=BOUND) == "waits"
    receiver.send("still")
    thread.join(BOUND)
    assert waiting == ["still"]
    assert service.invoke("add", {"a": 1, "b": 2}) == 3
    round_trip(group.makegateway("popen"))
    group.close()
    context.close()
    server.close()


def forked_new() -> None:
    """A child, and its own child, make groups of their own; the parent's reactor is undisturbed."""
    group = Group()
    gateway = group.makegateway("popen")

    def child() -> None:
        round_trip()
        assert in_child(round_trip) == 0
        with Group() as own:
            round_trip(own.makegateway("popen"))

    for _ in range(3):
        assert in_child(child) == 0
        round_trip(gateway)
        round_trip(group.makegateway("popen"))


def forked_from_callback() -> None:
    """The same in a child that a callback's thread forks."""
    gateway = Group().makegateway("popen")
    statuses: list[int] = []
    done = threading.Event()

    def callback(value: Any) -> None:
        statuses.append(in_child(round_trip))
        done.set()

    gateway.remote_exec("channel.send(1)").setcallback(callback)
    assert done.wait(BOUND)
    assert statuses == [0]
    round_trip(gateway)


def forked_service() -> None:
    """A child calls services by a connection of its own, and offers some; so does the parent."""
    server = blocking.ServiceServer()
    server.add(Example())
    address = server.listen("tcp:0:interface=127.0.0.1")

    def call() -> None:
        with blocking.Context(timeout=BOUND) as context:
            service = context.connect(address, "org.example.blocking")
            assert service.invoke("add", {"a": 1, "b": 2}) == 3
            assert list(service.stream("numbers", 3)) == [0, 1, 2]

    blocking.configure(nameserver="tcp:127.0.0.1:1")
    raises(pycomnet.PycomnetError, blocking.connect, "tcp:127.0.0.1:1")

    def child() -> None:
        call()
        service = blocking.connect(address, "org.example.blocking")
        assert service.invoke("add", {"a": 1, "b": 2}) == 3

    call()
    assert in_child(child) == 0
    call()


def forked_subscriber() -> None:
    """A child can't use the parent's subscriber; closing it there does nothing to the parent's."""
    from pycomnet.blocking.ext.pubsub import publisher, subscriber

    @publisher("org.example.forked", lazy=True)
    def counting() -> Any:
        yield from range(10)

    server = blocking.ServiceServer()
    server.add(counting())
    address = server.listen("tcp:0:interface=127.0.0.1")
    values = subscriber("org.example.forked", address=address)
    assert values.get(BOUND) == 0

    def child() -> None:
        for function in (values.when_subscribed, lambda: values.change(["a"])):
            raises(UsedAfterFork, function)
        values.close()

    assert in_child(child) == 0
    assert [values.get(BOUND) for _ in range(9)] == list(range(1, 10))
    values.close()


def forked_deferred() -> None:
    """The Deferred API: the same errors in a child, which can use the blocking one."""
    from twisted.internet import task

    from pycomnet.deferred import deferred

    @deferred
    async def program(reactor: Any) -> None:
        group = pycomnet.Group(reactor)
        gateway = await group.makegateway("popen")
        channel = gateway.remote_exec(ECHO)
        waiting = channel.receive()
        server = pycomnet.ServiceServer(reactor)
        server.add(Example())
        address = await server.listen("tcp:0:interface=127.0.0.1")
        context = pycomnet.Context(reactor)
        service = await context.connect(address, "org.example.blocking")

        def child() -> None:
            for function in (
                lambda: channel.send(1),
                channel.waitclose,
                gateway.ping,
                lambda: gateway.call("os:getpid"),
                lambda: group.makegateway("popen"),
                lambda: service.invoke("add", {"a": 1, "b": 2}),
                lambda: context.connect(address, "org.example.blocking"),
            ):
                failed: list[Any] = []
                function().addErrback(failed.append)
                assert failed and failed[0].check(UsedAfterFork), failed
            raises(UsedAfterFork, gateway.remote_exec, "1")
            assert not waiting.called
            round_trip()

        assert in_child(child) == 0
        await channel.send("still")
        assert await waiting == "still"
        assert await service.invoke("add", {"a": 1, "b": 2}) == 3
        await (await group.makegateway("popen")).ping()
        await context.close()
        await server.close()
        await group.close()

    assert not raises(SystemExit, task.react, program).code
    print("all", flush=True)


def in_pool(number: int) -> int:
    """A new group, and a far call by it."""
    with Group() as group:
        return int(group.makegateway("popen").call("operator:add", number, 1))


def forked_pool() -> None:
    """Children of multiprocessing and concurrent.futures."""
    gateway = Group().makegateway("popen")
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        assert pool.map(in_pool, range(4)) == [1, 2, 3, 4]
    with concurrent.futures.ProcessPoolExecutor(2, context) as executor:
        assert list(executor.map(in_pool, range(4))) == [1, 2, 3, 4]
    process = context.Process(target=round_trip)
    process.start()
    process.join()
    assert process.exitcode == 0
    round_trip(gateway)


def forked_exit() -> None:
    """A child that ends by sys.exit in a with block, with garbage, ends nothing of the parent's."""
    with Group() as group:
        gateway = group.makegateway("popen")
        channel = gateway.remote_exec(ECHO)
        side = gateway.newchannel()
        pid = os.fork()
        if pid == 0:
            del channel, side
            gc.collect()
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        channel.send(1)
        assert channel.receive(timeout=BOUND) == 1
        assert not side.isclosed()
        round_trip(group.makegateway("popen"))


def pipes() -> int:
    """How many of this process's descriptors are pipes."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("pipe:")
    return found


def forked_leaves() -> None:
    """A child has no copies of what leads to far sides: they see when the parent ends."""
    read, write = os.pipe()
    group = Group()
    gateways = [group.makegateway("popen") for _ in range(3)]

    def child() -> None:
        os.write(write, b"%d" % pipes())

    before = pipes()
    assert in_child(child) == 0
    left = int(os.read(read, 10))
    assert before - left >= 2 * len(gateways), (before, left)
    for gateway in gateways:
        round_trip(gateway)


def ends_late() -> None:
    """The main thread ends; others, a callback and atexit functions use a gateway to their end."""
    told = threading.Event()
    seen: list[str] = []

    def last() -> None:
        round_trip(gateway)
        round_trip()
        assert seen == ["thread", "later"], seen
        print("all", flush=True)

    def later() -> None:
        assert seen == ["thread"]
        round_trip(gateway)
        seen.append("later")

    atexit.register(last)
    gateway = Group().makegateway("popen")
    atexit.register(later)
    main = threading.current_thread()

    def work() -> None:
        main.join()
        round_trip(gateway)
        round_trip(Group().makegateway("popen"))
        channel = gateway.remote_exec("channel.send(1)")
        channel.setcallback(lambda value: told.set())
        assert told.wait(BOUND)
        seen.append("thread")

    threading.Thread(target=work).start()


def exits_at_end() -> None:
    """Threads that an atexit function starts one after the other end gateways."""
    group = Group()
    gateways = [group.makegateway("popen") for _ in range(5)]

    def end() -> None:
        for gateway in gateways:
            failed: list[BaseException] = []

            def leave(gateway: Any = gateway, failed: Any = failed) -> None:
                try:
                    assert gateway.exit() is None
                except BaseException as error:
                    failed.append(error)

            thread = threading.Thread(target=leave)
            thread.start()
            thread.join()
            assert not failed, failed
        print("all", flush=True)

    if sys.version_info[:2] == (3, 12):  # it starts no thread at that time
        end()
    else:
        atexit.register(end)


def exits_after_end() -> None:
    """What is ended already when an atexit function comes too late stays ended; None each time."""
    group = Group()
    gateway = group.makegateway("popen")
    from pycomnet.blocking.reactorthread import thread

    thread.stop()
    for _ in range(5):
        failed: list[BaseException] = []

        def leave(failed: Any = failed) -> None:
            try:
                assert gateway.exit() is None
                raises(pycomnet.ConnectionLost, gateway.ping)
            except BaseException as error:
                failed.append(error)

        leaving = threading.Thread(target=leave)
        leaving.start()
        leaving.join()
        assert not failed, failed
    print("all", flush=True)


def submitted_after_end() -> None:
    """What an executor gets after the reactor's end fails at once, also if it was on its way."""
    from pycomnet.blocking.executor import GatewayExecutor
    from pycomnet.blocking.reactorthread import thread

    executor = GatewayExecutor([Group().makegateway("popen")])
    assert isinstance(executor.submit("os:getpid").result(BOUND), int)
    submitted: list[Any] = []
    thread.when_stopped.insert(0, lambda: submitted.append(executor.submit("os:getpid")))
    thread.stop()
    submitted.append(executor.submit("os:getpid"))
    for future in submitted:
        raises(pycomnet.ConnectionLost, lambda future=future: future.result(BOUND))
    executor.shutdown()
    print("all", flush=True)


def main() -> None:
    """Run the script that the command line names."""
    globals()[sys.argv[1]]()


if __name__ == "__main__":
    main()
