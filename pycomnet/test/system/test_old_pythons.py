"""The far side's sources in every real Python 2.7 that is here."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import pytest_twisted

import pycomnet
from pycomnet.test import test_old_python as checks
from pycomnet.test.needs import REQUIRE_ALL, missing
from pycomnet.test.wire import fuzzkit, muxkit
from pycomnet.wire.frames import bin32

#: Seconds for each run: Jython takes half a minute of the processor, which it shares.
TIMEOUT = 600

SCRIPT = """
import binascii, json, struct, sys, types

package = types.ModuleType("pycomnet")
package.__path__ = [sys.argv[1]]
sys.modules["pycomnet"] = package

from pycomnet.wire.mux import EV_DATA, EV_OPENED, EV_RUN, Limits, Mux

def shown(item):
    if hasattr(item, "purpose"):
        return item.id
    if hasattr(item, "code"):
        return item.code
    if isinstance(item, list):
        return [shown(each) for each in item]
    if isinstance(item, memoryview):
        item = b"\\xc6" + Limits.pack(len(item)) + item.tobytes()
    if isinstance(item, bytes):
        return binascii.hexlify(item).decode("ascii")
    return item if not isinstance(item, dict) else sorted(item)

Limits.pack = staticmethod(struct.Struct(">I").pack)
for line in json.load(sys.stdin):
    mux = Mux(line["initiator"], Limits(**dict((str(k), v) for k, v in line["limits"].items())))
    found = []
    for piece in line["pieces"]:
        for event in mux.receive_data(binascii.unhexlify(piece.encode("ascii"))):
            found.append([shown(item) for item in event])
            if event[0] in (EV_DATA, EV_RUN):
                mux.consumed(event[1], event[3])
            elif event[0] == EV_OPENED and event[1].sending:
                mux.demand_read(event[1])
                mux.send(event[1], b"answer" * 3000)
                mux.close(event[1], event[1].id % 3, b"\\xc0" * (event[1].id % 3 > 0))
    data = mux.data_to_send()
    while data:
        length, ftype, channel = struct.unpack(">IBI", data[:9])
        payload = data[9 : 9 + length]
        # Python 2's dicts have an order of their own, and messages have repr() in them.
        found.append([ftype, channel, None if ftype in (0, 9) else shown(payload)])
        data = data[9 + length :]
    print(json.dumps(found))
"""


@functools.cache
def old_pythons() -> tuple[str, ...]:
    """Every Python 2.7 that runs here; they do not all refuse the same."""
    found = []
    for name in ("python2.7", "pypy", "jython"):
        path = shutil.which(name)
        command = [path or name, "-c", "import sys; sys.exit(27 if sys.version_info < (3,) else 0)"]
        if path and subprocess.run(command, capture_output=True, timeout=TIMEOUT).returncode == 27:
            found.append(path)
    return tuple(found)


def compile_with(python: str, sources: Mapping[str, str]) -> dict[str, str]:
    """Compile each source there; what each that fails raises."""
    script = (
        "import json, sys\n"
        "found = {}\n"
        "for name, source in json.load(sys.stdin).items():\n"
        "    try:\n"
        "        compile(source.encode('utf-8'), name.encode('utf-8'), 'exec', 0, True)\n"
        "    except:\n"  # Jython also raises Java's own, for a function too long for a JVM
        "        found[name] = repr(sys.exc_info()[1])\n"
        "print(json.dumps(found))\n"
    )
    ran = subprocess.run(
        [python, "-c", script],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if ran.returncode:
        raise AssertionError(ran.stderr)
    found: dict[str, str] = json.loads(ran.stdout)
    return found


def pythons() -> tuple[str, ...]:
    """Those that are here; Jython at least, where nothing may be missing."""
    found = old_pythons()
    if os.environ.get(REQUIRE_ALL):
        assert "jython" in {os.path.basename(path) for path in found}
    if not found:
        missing("no Python 2.7 here: neither CPython, PyPy nor Jython")
    return found


def test_far_side_compiles_on_every_old_python() -> None:
    """Every one compiles all of them."""
    for python in pythons():
        assert compile_with(python, checks.far_side()) == {}, python


@pytest_twisted.ensureDeferred
async def test_python_2_forks_gateways() -> None:
    """Python 2 forks gateways; it can't be given descriptors, so its fork server forwards bytes."""
    forking = [python for python in pythons() if "jython" not in python]
    if not forking:
        pytest.skip("no Python 2.7 here that can fork: no Debian has one any more")
    source = "import os, sys; channel.send([sys.version_info[0], os.environ['PYCOMNET_OWN']])"
    from twisted.internet import reactor

    for python in forking:
        async with pycomnet.Group(reactor) as group:
            gateways = [
                await group.makegateway(
                    f"popen//python={python}//fork=yes//env:PYCOMNET_OWN={number}"
                )
                for number in range(3)
            ]
            received = [await gateway.remote_exec(source).receive() for gateway in gateways]
        assert received == [[2, "0"], [2, "1"], [2, "2"]]


def test_real_python_2_refuses_just_the_newer_examples() -> None:
    """The unit test's examples are what they are said to be: a real 2.7 refuses just these."""
    examples = checks.OldPythonTests
    sources = {s: s for s in [*examples.NEWER, *examples.DIFFERENT, examples.COMMON]}
    for python in pythons():
        assert sorted(compile_with(python, sources)) == sorted(examples.NEWER), python


def test_recorded_streams_give_the_same_events_everywhere() -> None:
    """Recorded streams, some of them mutated, become the same events and the same answers."""
    found_pythons = pythons()
    rng = random.Random(27)
    streams = []
    for case in range(60):
        by_initiator = case % 2 == 0
        data = fuzzkit.mutated_stream(rng, fuzzkit.recorded(27, case // 30), by_initiator)
        pieces = [piece.hex() for piece in fuzzkit.pieces(rng, data[:100000])]
        streams.append({"initiator": not by_initiator, "limits": fuzzkit.LIMITS, "pieces": pieces})
    streams.append(
        {
            "initiator": True,
            "limits": {},
            "pieces": [b"Welcome to this host!\n".hex(), muxkit.hello().hex()],
        }
    )
    near, _ = muxkit.pair()
    data = muxkit.hello()
    near.send(near.open("long"), bytes(200000), None, bin32(200000))
    data += near.data_to_send(1 << 20)
    streams.append({"initiator": False, "limits": {}, "pieces": [data.hex()]})
    expected = run_script(sys.executable, streams)
    kinds = {event[0] for events in expected for event in events}
    assert kinds >= {0, 1, 3, 4, 6, 7}
    for python in found_pythons:
        for number, found in enumerate(run_script(python, streams)):
            assert found == expected[number], f"stream {number} in {python}"


def run_script(python: str, streams: list[dict[str, object]]) -> list[list[list[object]]]:
    ran = subprocess.run(
        [python, "-c", SCRIPT, str(Path(pycomnet.__file__).parent)],
        input=json.dumps(streams),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert ran.stderr == ""
    return [json.loads(line) for line in ran.stdout.splitlines()]
