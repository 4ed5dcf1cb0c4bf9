"""Far sides under other Pythons: without site-packages, PyPy, and Jython, which is Python 2.7."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import gc
import os
import pathlib
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer

import pycomnet
from pycomnet.test.gateways.suite_values import VALUES, same
from pycomnet.test.needs import needs
from pycomnet.test.processes import resident, still_there
from pycomnet.test.system.near_side import FAR_CODE, START
from pycomnet.test.system.nearby import near, processes_end
from pycomnet.test.system.suites import run_suite

#: name -> (the interpreter and its arguments, what it says it is)
PYTHONS = {
    "bare": (f"{sys.executable} -S -E", "cpython"),
    "pypy3": ("pypy3", "pypy"),
    "jython": ("jython", "jython"),
}
NEAR_SIDE = os.path.join(os.path.dirname(__file__), "near_side.py")


def under(name: str, *values: object) -> Any:
    """A parameter of a test: the name of a Python, which has to be there, and more."""
    command, _ = PYTHONS[name]
    return pytest.param(name, *values, marks=needs(command.split()[0]))


#: Each of the Pythons, as a parameter.
EACH = [under(name) for name in PYTHONS]


def spec_of(name: str) -> str:
    """The spec of a far side under this Python."""
    command, _ = PYTHONS[name]
    # One of them forked also where it is the first, which none of the others is.
    return f"popen//python={command}" + "//fork=yes" * (name == "bare")


class Far:
    """A gateway of one of the Pythons, and what its code printed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.spec = spec_of(name)
        self.printed: dict[int, str] = {1: "", 2: ""}
        self.gateway: Any = None

    def output(self, output: pycomnet.Output) -> None:
        """Keep what is printed."""
        self.printed[output.stream] += output.text


@pytest_twisted.async_yield_fixture(scope="module", params=EACH)
async def far(request: Any) -> AsyncIterator[Far]:
    """A far side under each of the Pythons; the tests share it."""
    from twisted.internet import reactor

    made = Far(request.param)
    group = pycomnet.Group(reactor, output=made.output)
    made.gateway = await group.makegateway(made.spec, timeout=START)
    yield made
    await group.close()


def arrives_as(value: Any, name: str) -> Any:
    """What a value is after it has been at the far side.

    In Python 2, ASCII bytes are text; Jython has no lone surrogates.
    """
    if name != "jython":
        return value
    if type(value) is str:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if type(value) is bytes:
        return value.decode() if value.isascii() else value
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(arrives_as(item, name) for item in value)
    if type(value) is dict:
        return {arrives_as(k, name): arrives_as(v, name) for k, v in value.items()}
    return value


def add(channel, offset=1):
    for value in channel:
        channel.send(value + offset)


def fails():
    return {}["missing"]  # the line to blame


def send_pieces(channel, count, size):
    import sys

    sys.sent = 0
    data = bytearray(b"p") * size
    for _ in range(count):
        channel.send(data)
        sys.sent += 1


def sent():
    import sys

    return getattr(sys, "sent", 0)


@pytest_twisted.ensureDeferred
async def test_bare_python_is_the_one_asked_for(far: Far) -> None:
    """It is the Python that was asked for, and has nothing of ours or of site-packages."""
    assert far.gateway.info["implementation"] == PYTHONS[far.name][1]
    source = """
    import sys
    found = [name for name in sys.modules if name.split(".")[0] in ("pycomnet", "ormsgpack")]
    try:
        import ormsgpack
        found.append("it can be imported")
    except ImportError:
        pass
    channel.send([str(name) for name in found])
    """
    assert await far.gateway.remote_exec(source).receive() == []


@pytest_twisted.ensureDeferred
async def test_code_of_a_dropped_channel_ends(far: Far) -> None:
    """Code whose channel nobody holds any more sees its end, and does not wait for ever."""
    source = """
    report.send("begun")
    try:
        channel.receive()
    except EOFError:
        report.send("ended")
    """
    reports = [far.gateway.newchannel() for _ in range(3)]
    channels = [far.gateway.remote_exec(source, report=report) for report in reports]
    for report in reports:
        assert await report.receive() == "begun"
    channels.clear()
    gc.collect()
    for report in reports:
        assert await report.receive() == "ended"


@pytest_twisted.ensureDeferred
async def test_source_functions_and_calls_run(far: Far) -> None:
    """Source text, functions and calls run."""
    channel = far.gateway.remote_exec("channel.send(channel.receive() * n)", n=6)
    await channel.send(7)
    assert await channel.receive() == 42
    channel = far.gateway.remote_exec(add, offset=2)
    await channel.send(3)
    assert await channel.receive() == 5
    channel.close()
    assert await far.gateway.call("os.path:join", "a", "b") == "a/b"
    assert await far.gateway.call("operator:add", 1, 2) == 3


@pytest_twisted.ensureDeferred
async def test_every_type_comes_back_as_it_went(far: Far) -> None:
    """Every type of value comes back as it went."""
    channel = far.gateway.remote_exec("for value in channel: channel.send(value)")
    for _ in range(3):
        for value in VALUES:
            await channel.send(value)
            back = await channel.receive()
            assert same(back, arrives_as(value, far.name)), (value, back)
    channel.close()


@pytest_twisted.ensureDeferred
async def test_values_are_right_at_the_far_side(far: Far) -> None:
    """The values are what they should be there, too."""
    source = """
    value = channel.receive()
    text = type(u"")
    assert type(value["text"]) is text and value["text"] == u"\\u20ac", repr(value["text"])
    assert bytearray(value["bytes"]) == bytearray([0, 255]), repr(value["bytes"])
    assert value["big"] == 2 ** 100 and value["tuple"] == (1, (2,)), repr(value)
    assert value["set"] == set([1, 2]) and type(value["frozenset"]) is frozenset, repr(value)
    assert value["complex"] == 1 + 2j and value["none"] is None and value["true"] is True
    """
    channel = far.gateway.remote_exec(source)
    await channel.send(
        {
            "text": "\u20ac",
            "bytes": b"\0\xff",
            "big": 2**100,
            "tuple": (1, (2,)),
            "set": {1, 2},
            "frozenset": frozenset(),
            "complex": 1 + 2j,
            "none": None,
            "true": True,
        }
    )
    await channel.waitclose()


def deep(depth):
    """Far code: a list in so many others; or in itself."""
    value = []
    if not depth:
        value.append(value)
    for _ in range(depth):
        value = [value]
    return value


@pytest_twisted.ensureDeferred
async def test_too_deep_result_is_no_recursion_error(far: Far) -> None:
    """What nests too deep or holds itself is no RecursionError there, however deep it is."""
    for depth in (0, 256, 900, 20_000):
        with pytest.raises(pycomnet.RemoteError) as caught:
            await far.gateway.call(deep, depth)
        assert caught.value.message.startswith("result: list can't"), caught.value.message[:200]


@pytest_twisted.ensureDeferred
async def test_library_types_are_right_at_the_far_side(far: Far) -> None:
    """The standard library's types are what they should be there; what it lacks is an error."""
    source = """
    import datetime, decimal, fractions, uuid, collections
    value = channel.receive()
    assert value["when"] - value["since"] == datetime.timedelta(days=1), value
    assert value["when"].utcoffset() == datetime.timedelta(hours=2), value
    assert value["price"] == decimal.Decimal("1.50") and type(value["price"]) is decimal.Decimal
    assert value["id"] == uuid.UUID(int=7) and value["part"] == fractions.Fraction(1, 3)
    assert list(value["range"]) == [1, 3, 5] and type(value["range"]) is KIND
    assert type(value["ordered"]) is collections.OrderedDict
    assert list(value["ordered"]) == ["b", "a"], value
    try:
        path = channel.receive()
    except ValueError as error:
        channel.send(str(error))
    else:
        channel.send(path)
    """.replace("KIND", "type(range(1) if bytes is not str else xrange(1))")
    channel = far.gateway.remote_exec(source)
    zone = datetime.timezone(datetime.timedelta(hours=2))
    await channel.send(
        {
            "when": datetime.datetime(2026, 1, 2, tzinfo=zone),
            "since": datetime.datetime(2026, 1, 1, tzinfo=zone),
            "price": decimal.Decimal("1.50"),
            "id": uuid.UUID(int=7),
            "part": fractions.Fraction(1, 3),
            "range": range(1, 6, 2),
            "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        }
    )
    path = pathlib.Path("a/b")
    await channel.send(path)
    answer = await channel.receive()
    if far.gateway.info["python"].startswith("2."):
        assert "this Python has no pathlib" in answer
    else:
        assert answer == path
    await channel.waitclose()


@pytest_twisted.ensureDeferred
async def test_unsendable_value_is_refused_with_its_place(far: Far) -> None:
    """What can't be sent is refused there with its type and place."""
    channel = far.gateway.remote_exec("channel.send({'a': [1, object()]})")
    with pytest.raises(pycomnet.RemoteError) as caught:
        await channel.receive()
    assert 'value["a"][1]: object' in caught.value.message


@pytest_twisted.ensureDeferred
async def test_errors_arrive_with_type_message_and_source(far: Far) -> None:
    """Errors arrive with their type, message, lines and source."""
    with pytest.raises(pycomnet.RemoteError) as caught:
        await far.gateway.call(fails)
    assert (caught.value.type, caught.value.message) == ("KeyError", "'missing'")
    line = fails.__code__.co_firstlineno + 1
    assert f'File "{fails.__code__.co_filename}", line {line}, in fails' in caught.value.formatted
    assert 'return {}["missing"]  # the line to blame' in caught.value.formatted
    for source, kind in (
        ("import sys; sys.exit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("x = = 1", "SyntaxError"),
        ("raise ValueError(u'\u20ac')", "ValueError"),
        ("class Own(Exception): pass\nraise Own('x' * 1000000)", "__channelexec__.Own"),
    ):
        with pytest.raises(pycomnet.RemoteError) as caught:
            await far.gateway.remote_exec(source).waitclose()
        assert caught.value.type == kind
        assert source.splitlines()[-1] in caught.value.formatted
    assert await far.gateway.call("operator:add", 1, 2) == 3


@pytest.mark.parametrize("far", [under("jython")], indirect=True)
@pytest_twisted.ensureDeferred
async def test_java_exception_is_an_error(far: Far) -> None:
    """What Java code raises is an error as any other."""
    channel = far.gateway.remote_exec("import java\njava.util.ArrayList().get(0)")
    with pytest.raises(pycomnet.RemoteError) as caught:
        await channel.waitclose()
    assert caught.value.type == "java.lang.IndexOutOfBoundsException"
    assert "java.util.ArrayList().get(0)" in caught.value.formatted


@pytest_twisted.ensureDeferred
async def test_near_sides_error_is_raised_at_the_far_side(far: Far) -> None:
    """An error of the near side is raised there."""
    source = """
    channel.send(1)
    try:
        channel.receive()
    except channel.RemoteError as error:
        report.send(error.message)
    """
    report = far.gateway.newchannel()
    channel = far.gateway.remote_exec(source, report=report)
    await channel.receive()
    channel.close("not wanted")
    assert await report.receive() == "not wanted"


@pytest_twisted.ensureDeferred
async def test_printed_output_comes_back(far: Far) -> None:
    """What is printed comes back, and touches nothing else."""
    source = """
    import os, subprocess, sys
    sys.stdout.write(u"text \\u20ac\\n")
    sys.stdout.write("no end")
    sys.stderr.write("error\\n")
    sys.__stdout__.write("dunder\\n")
    sys.__stdout__.flush()
    subprocess.check_call(["echo", "child"])
    if sys.platform.startswith("java"):
        from java.lang import System
        System.out.println("java")
        System.out.flush()
    else:
        os.write(1, b"descriptor\\n")
    """
    far.printed.update({1: "", 2: ""})
    await far.gateway.remote_exec(source).waitclose()
    assert far.printed[1] == "text \u20ac\nno end"
    other = "java" if far.name == "jython" else "descriptor"
    while not all(f"{word}\n" in far.printed[2] for word in ("error", "dunder", "child", other)):
        await far.gateway.ping()


@pytest_twisted.ensureDeferred
async def test_channels_callbacks_half_close_and_files_work(far: Far) -> None:
    """Channels over channels, callbacks, half-close and files there."""
    side, report = far.gateway.newchannel(), far.gateway.newchannel()
    source = """
    side.setcallback(report.send, endmarker="end")
    new = channel.gateway.newchannel()
    channel.send([new])
    new.send(sum(channel))
    file = new.makefile("w")
    file.write("a line\\n")
    """
    channel = far.gateway.remote_exec(source, side=side, report=report)
    [new] = await channel.receive()
    for n in range(10):
        await channel.send(n)
        await side.send(n)
    channel.send_end()
    side.close()
    assert await new.receive() == 45
    assert await new.receive() == "a line\n"
    assert [await report.receive() for _ in range(11)] == [*range(10), "end"]
    await channel.waitclose()


@pytest_twisted.ensureDeferred
async def test_receive_times_out_and_loses_nothing(far: Far) -> None:
    """A receive ends with its timeout; what comes later is there."""
    source = """
    for timeout in (0, 0.01, 0.05):
        try:
            channel.receive(timeout)
        except channel.TimeoutError as error:
            channel.send(str(error))
    channel.send(channel.receive(60))
    """
    channel = far.gateway.remote_exec(source)
    for _ in range(3):
        assert "seconds" in await channel.receive()
    await channel.send("late")
    assert await channel.receive() == "late"


@pytest_twisted.ensureDeferred
async def test_near_send_waits_while_nothing_is_received(far: Far) -> None:
    """The near side's send waits while nothing is received there."""
    go = far.gateway.newchannel()
    source = "go.receive(); channel.send(sum(len(piece) for piece in channel))"
    channel = far.gateway.remote_exec(source, go=go)
    sends = [channel.send(b"\xff" * 65536) for _ in range(320)]
    for _ in range(10):
        await far.gateway.ping()
        assert sum(send.called for send in sends) == 15
    await go.send(1)
    await defer.gatherResults(sends)
    channel.send_end()
    assert await channel.receive() == 320 * 65536


@pytest_twisted.ensureDeferred
async def test_far_send_waits_while_nothing_is_received(far: Far) -> None:
    """Far code waits in send while nothing is received here."""
    before = resident(os.getpid())
    channel = far.gateway.remote_exec(send_pieces, count=640, size=65536)
    while await far.gateway.call(sent) < 15:
        pass
    for _ in range(10):
        assert await far.gateway.call(sent) == 15
    assert resident(os.getpid()) - before < 8_000_000
    assert sum([len(piece) async for piece in channel]) == 640 * 65536


@pytest_twisted.ensureDeferred
async def test_values_of_20_megabytes_come_back(far: Far) -> None:
    """Values of 20 MB go there and back."""
    source = """
    blob = channel.receive()
    channel.send(len(blob))
    channel.send(bytearray(blob))
    records = channel.receive()
    channel.send(records)
    """
    channel = far.gateway.remote_exec(source)
    blob = bytes(range(256)) * 80_000
    channel.send(blob)
    assert await channel.receive() == len(blob)
    assert await channel.receive() == blob
    records = [{"id": n, "name": f"record {n}", "tags": ["a", "b"]} for n in range(20_000)]
    channel.send(records)
    assert await channel.receive() == records


@pytest_twisted.ensureDeferred
async def test_ten_threads_ping_pong_beside_a_busy_main_thread(far: Far) -> None:
    """Ten threads play ping-pong while the main thread computes."""
    source = """
    stop = []
    channel.setcallback(stop.append)
    while not stop:
        sum(range(100))
    """
    main = far.gateway.remote_exec(source)

    async def play(number: int) -> None:
        channel = far.gateway.remote_exec(add)
        for n in range(100):
            await channel.send(n)
            assert await channel.receive() == n + 1
        channel.close()

    await defer.gatherResults([defer.Deferred.fromCoroutine(play(n)) for n in range(10)])
    await main.send(1)
    await main.waitclose()


@pytest_twisted.ensureDeferred
async def test_ping_and_status_are_answered(far: Far) -> None:
    """It answers pings and says how it is."""
    assert await far.gateway.ping() > 0
    status = await far.gateway.remote_status()
    assert (status["queued"], status["execmodel"]) == (0, "thread")


@pytest.mark.parametrize("name", EACH)
@pytest_twisted.ensureDeferred
async def test_exit_and_kill_are_told_as_what_they_were(name: str) -> None:
    """os._exit and kill -9 there are told as what they were."""
    from twisted.internet import reactor

    spec = spec_of(name)
    async with pycomnet.Group(reactor) as group:
        one, two = await defer.gatherResults(
            [group.makegateway(spec, timeout=START) for _ in range(2)]
        )
        channel = one.remote_exec("import os; os._exit(3)")
        with pytest.raises(pycomnet.GatewayDied, match="exited with status 3"):
            await channel.receive()
        waiting = two.remote_exec("channel.receive()").waitclose()
        os.kill(two.info["pid"], signal.SIGKILL)
        with pytest.raises(pycomnet.GatewayDied, match="SIGKILL"):
            await waiting


@pytest.mark.parametrize("name", EACH)
@pytest_twisted.ensureDeferred
async def test_exit_ends_it_and_its_children(name: str) -> None:
    """exit() ends it and what it started."""
    from twisted.internet import reactor

    spec = spec_of(name)
    async with pycomnet.Group(reactor) as group:
        gateway = await group.makegateway(spec, timeout=START)
        source = """
        import os, subprocess
        channel.send([os.getpid(), subprocess.Popen(["sleep", "300"]).pid])
        channel.receive()
        """
        pids = await gateway.remote_exec(source).receive()
        await gateway.exit()
    assert still_there(pids) == []


#: Jython has no fork and no interpreter lock, and takes seconds to start.
ON_JYTHON = ("idle", "receive", "timed", "sleep", "swallow", "child", "session")


@pytest.mark.parametrize(
    ("name", "far_code"),
    [under("pypy3", code) for code in FAR_CODE] + [under("jython", code) for code in ON_JYTHON],
)
def test_killed_near_side_takes_all_along(name: str, far_code: str) -> None:
    """The near side is killed with -9: all is gone."""
    os.environ["PYCOMNET_TEST_SPEC"] = spec_of(name)
    try:
        with near(NEAR_SIDE, "wait", far_code) as program, processes_end(program.line(START)):
            program.signal(signal.SIGKILL)
    finally:
        del os.environ["PYCOMNET_TEST_SPEC"]


@pytest.mark.parametrize("name", [under("bare"), under("pypy3")])
def test_passes_the_suite(name: str, tmp_path: Any) -> None:
    """The whole gateway suite, under this Python."""
    run_suite(spec_of(name), tmp_path, least=101)
