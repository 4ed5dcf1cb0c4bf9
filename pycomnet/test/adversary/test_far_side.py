"""A far side that is hostile: it breaks each rule of the wire against the program that uses it."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

import pycomnet
from pycomnet.test.adversary.kit import MB, frame, start_all
from pycomnet.test.adversary.test_wire import CHANNEL, FIRST_FRAMES, fill
from pycomnet.test.processes import resident
from pycomnet.test.system.daemons import Daemons
from pycomnet.test.system.nearby import ROOT
from pycomnet.wire.frames import (
    CLOSE,
    CREDIT,
    DATA,
    END,
    ERROR,
    HEADER,
    MORE,
    OPEN,
    PING,
    RESULT,
    WINDOW,
)
from pycomnet.wire.hello import PLAIN

#: What stands in for an interpreter: it says that it is a far side, says hello, reads until the
#: first request is there, and then sends what it was told to.
HOSTILE = """\
#!{python}
import sys, os
sys.path.insert(0, {root!r})
from pycomnet.wire.mux import Mux
from pycomnet.far.preamble import MARKER
hello, data, times = bytes.fromhex({hello!r}), bytes.fromhex({data!r}), {times}
mux = Mux(False, info={{"pid": os.getpid(), "python": "3.11.0", "platform": "linux"}})
def write(data):
    while data:
        data = data[os.write(1, data):]
write(MARKER + (hello or mux.data_to_send()))
events = []
while not any(event[0] not in (5, 6, 7) for event in events) and not hello:
    came = os.read(0, 65536)
    if not came:
        sys.exit()
    events += [event for event in mux.receive_data(came) if event[0] != 4]
    if mux.streams:
        break
try:
    for _ in range(times):
        write(data)
    while os.read(0, 65536):
        pass
except OSError:
    pass
"""


def own(flags: int = 0, first: bytes = b"", number: int = 2) -> bytes:
    """OPEN of a channel of the far side's."""
    return frame(OPEN, number, bytes((flags,)) + CHANNEL + first)


def output(event: Any) -> bytes:
    """A channel for output, and what comes on it."""
    return frame(OPEN, 2, b"\x00\x06output") + frame(DATA, 2, PLAIN.encode(event))


#: Bytes after the first request, how often, and what the error names.
BREAKS: dict[str, tuple[bytes, int, str]] = {
    "an unknown type": (frame(99, 1), 1, "frame"),
    "a frame of 4 GB": (HEADER.pack(0xFFFFFFFF, DATA, 1), 1, "frame"),
    "a channel of ours": (frame(OPEN, 3, b"\x00" + CHANNEL), 1, "channel"),
    "a channel twice": (own() * 2, 1, "channel"),
    "data for no channel": (frame(DATA, 999, b"\x00"), 1, "channel"),
    "data after the end": (frame(END, 1) + frame(DATA, 1, b"\x00"), 1, "channel"),
    # On a channel that nobody has taken: what is received gives its credit back.
    "more than the window": (
        own() + frame(DATA, 2, bytes(60_000)) * (2 * WINDOW // 60_000),
        1,
        "window",
    ),
    "credit over the maximum": (frame(CREDIT, 1, b"\x7f\xff\xff\xff") * 3, 1, "window"),
    "no value": (frame(DATA, 1, b"\xc1"), 1, "value"),
    "an array of 4 billion": (frame(DATA, 1, b"\xdd\xff\xff\xff\xff"), 1, "value"),
    "a value that is too deep": (frame(DATA, 1, b"\x91" * 60_000), 1, "value"),
    "a channel that was never opened": (frame(DATA, 1, b"\xd6\x06\x00\x00\x03\xe8"), 1, "value"),
    "an error that is no map": (frame(CLOSE, 1, bytes((ERROR,)) + PLAIN.encode(7)), 1, ""),
    "an error of wrong types": (
        frame(CLOSE, 1, bytes((ERROR,)) + PLAIN.encode({"code": [1], "message": {}})),
        1,
        "",
    ),
    "a result that is no value": (frame(CLOSE, 1, bytes((RESULT,)) + b"\xc1"), 1, "value"),
    "fragments of nothing": (frame(MORE, 1, b"x"), 1, "frame"),
    "a second hello": (HEADER.pack(11, 0, 0) + b"PYCOMNET\x00\x01\x80", 1, "hello"),
    "output that is text": (output("text"), 1, "(output)"),
    "output of a third stream": (output([3, b"x"]), 1, "(output)"),
    "channels without end": (
        b"".join(own(0, number=2 * number) for number in range(1, 20_000)),
        1,
        "channels",
    ),
}


def interpreter(directory: Path, data: bytes, times: int = 1, hello: bytes = b"") -> str:
    """A program that is taken for an interpreter."""
    path = directory / f"python{len(os.listdir(directory))}"
    text = HOSTILE.format(
        python=sys.executable, root=str(ROOT), hello=hello.hex(), data=data.hex(), times=times
    )
    path.write_text(textwrap.dedent(text))
    path.chmod(0o700)
    return str(path)


async def outcome(group: Any, python: str) -> Exception:
    """How a gateway of such an interpreter ends, with the first thing that is asked of it."""
    from twisted.internet import reactor

    try:
        gateway = await group.makegateway(f"popen//fork=no//python={python}").addTimeout(
            120, reactor
        )
        channel = gateway.remote_exec("channel.send(1)")
        while True:
            await channel.receive().addTimeout(120, reactor)
    except Exception as problem:
        return problem


@pytest_twisted.ensureDeferred
async def test_broken_rule_ends_its_gateway_by_name(tmp_path: Path) -> None:
    """Each broken rule is an error of that gateway by its name; the gateway beside it goes on, and
    this program does not grow."""
    from twisted.internet import reactor

    async with pycomnet.Group(reactor) as group:
        good = await group.makegateway("popen//fork=no")
        before = resident(os.getpid())
        for what, (data, times, code) in BREAKS.items():
            problem = await outcome(group, interpreter(tmp_path, data, times))
            assert isinstance(problem, (pycomnet.PycomnetError, EOFError)), (what, repr(problem))
            assert code in str(problem), (what, problem)
            assert await good.remote_exec("channel.send(2)").receive() == 2, what
        assert resident(os.getpid()) - before < 64 * MB


@pytest_twisted.ensureDeferred
async def test_wrong_hello_is_said_to_be_none(tmp_path: Path) -> None:
    """What is no hello is said to be none."""
    from twisted.internet import reactor

    async with pycomnet.Group(reactor) as group:
        for what in ("nothing but zeros", "another version", "no map", "nested too deep"):
            python = interpreter(tmp_path, b"", hello=FIRST_FRAMES[what][0])
            problem = await outcome(group, python)
            assert isinstance(problem, pycomnet.PycomnetError), (what, repr(problem))
            assert FIRST_FRAMES[what][1] in str(problem), (what, problem)


@pytest_twisted.ensureDeferred
async def test_ping_flood_ends_its_gateway_alone(tmp_path: Path) -> None:
    """A flood of pings whose answers nobody reads ends that gateway: nothing grows, others go on.

    It is longer than what pipes, the transport and the responses that may wait hold together.
    """
    from twisted.internet import reactor

    before = resident(os.getpid())
    async with pycomnet.Group(reactor) as group:
        good = await group.makegateway("popen//fork=no")
        python = interpreter(tmp_path, frame(PING, 0, bytes(8)) * 4096, 400)
        flooded = await group.makegateway(f"popen//fork=no//python={python}")
        channel = flooded.remote_exec("channel.send(1)")
        for _ in range(200):
            assert await good.remote_exec("channel.send(2)").receive() == 2
        with pytest.raises(pycomnet.ProtocolViolation, match="responses wait to be read"):
            await channel.receive().addTimeout(120, reactor)
        assert resident(os.getpid()) - before < 32 * MB
        assert await good.remote_exec("channel.send(2)").receive() == 2


@pytest.mark.parametrize("size", [60_000])
@pytest_twisted.ensureDeferred
async def test_endless_value_is_bounded_by_the_window(tmp_path: Path, size: int) -> None:
    """A value whose fragments never end, for a channel that nobody reads: the window bounds it."""
    from twisted.internet import reactor

    data = fill(MORE, size, WINDOW // (size + 64))
    before = resident(os.getpid())
    async with pycomnet.Group(reactor) as group:
        python = interpreter(tmp_path, data, 1)
        gateway = await group.makegateway(f"popen//fork=no//python={python}")
        channel = gateway.remote_exec("channel.send(1)")
        good = await group.makegateway("popen//fork=no")
        for _ in range(20):
            assert await good.remote_exec("channel.send(2)").receive() == 2
        assert resident(os.getpid()) - before < 16 * MB
        assert channel is not None


def ask(channel):
    """At the far side: put questions about modules to the near side as they come."""
    for question in channel:
        asked = channel.link.open("module", channel.link.encode(question))
        try:
            channel.send(asked.receive(timeout=60))
        except asked.RemoteError as error:
            channel.send(error.message)


#: Questions about modules that get no answer, and what the far side is told.
QUESTIONS: list[tuple[Any, str]] = [
    ({"source": ["os"]}, "was not offered"),
    ({"source": ["pycomnet.gateways.modules"]}, "was not offered"),
    ({"list": "pycomnet"}, "was not offered"),
    ({"source": ["offered.../../../../etc/passwd"]}, "is no module's name"),
    ({"source": ["offered.link"]}, "there is no"),
    ({"data": ["offered", "../../../../../etc/passwd"]}, "is no path within"),
    ({"data": ["offered", "/etc/passwd"]}, "is no path within"),
    ({"source": "x" * 60_000}, ""),
    ({"source": [["offered"]] * 1000}, ""),
    ({"source": ["a." * 30_000]}, ""),
    (5, "not a valid request"),
]


@pytest.mark.parametrize("kind", ["gateway", "factory"])
@pytest_twisted.ensureDeferred
async def test_far_side_behind_a_daemon_gets_only_what_was_offered(
    running: Daemons, tmp_path: Path, kind: str
) -> None:
    """Behind a daemon, too, a far side gets what was offered to it and nothing else."""
    from twisted.internet import reactor

    package = tmp_path / "offered"
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 1\n")
    victim = start_all(running, kind)[kind]
    async with pycomnet.Group(reactor, modules=[tmp_path]) as group:
        gateway = await victim.gateway(group)
        channel = gateway.remote_exec(ask)
        for question, words in QUESTIONS:
            channel.send(question)
            said = await channel.receive().addTimeout(120, reactor)
            assert isinstance(said, str) and words in said, (question, said)
        channel.send({"source": ["offered"]})
        assert await channel.receive() == {"offered": b"VALUE = 1\n"}
