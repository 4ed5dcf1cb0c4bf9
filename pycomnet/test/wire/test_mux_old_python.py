"""The mux does the same on the oldest Python that a far side may have."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import pycomnet
from pycomnet.test.test_old_python import old_pythons
from pycomnet.test.wire import fuzzkit, muxkit
from pycomnet.wire.frames import bin32

#: Reads streams as hex and prints what a mux makes of each; in the common subset. What the package
#: itself imports is for new Pythons, so it is passed by.
SCRIPT = """
import binascii, json, struct, sys, types

package = types.ModuleType("pycomnet")
package.__path__ = [sys.argv[1]]
sys.modules["pycomnet"] = package

from pycomnet.wire.mux import EV_DATA, EV_OPENED, Limits, Mux

def shown(item):
    if hasattr(item, "purpose"):
        return item.id
    if hasattr(item, "code"):
        return item.code
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
            if event[0] == EV_DATA:
                mux.consumed(event[1], event[3])
            elif event[0] == EV_OPENED and event[1].sending:
                mux.want(event[1])
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


class OldPythonTests(SynchronousTestCase):
    """A real Python 2.7, where there is one, and this one."""

    def test_same_events(self) -> None:
        """Recorded streams, some of them mutated, become the same events and the same answers."""
        pythons = old_pythons()
        if not pythons:
            raise SkipTest("there is no Python 2.7 here")
        rng = random.Random(27)
        streams = []
        for case in range(60):
            by_initiator = case % 2 == 0
            data = fuzzkit.mutated_stream(rng, fuzzkit.recorded(27, case // 30), by_initiator)
            pieces = [piece.hex() for piece in fuzzkit.pieces(rng, data[:100000])]
            streams.append(
                {"initiator": not by_initiator, "limits": fuzzkit.LIMITS, "pieces": pieces}
            )
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
        expected = self.run_script(sys.executable, streams)
        kinds = {event[0] for events in expected for event in events}
        self.assertGreaterEqual(kinds, {0, 1, 3, 4, 6, 7})
        for python in pythons:
            for number, found in enumerate(self.run_script(python, streams)):
                self.assertEqual(found, expected[number], f"stream {number} in {python}")

    def run_script(self, python: str, streams: list[dict[str, object]]) -> list[list[list[object]]]:
        ran = subprocess.run(
            [python, "-c", SCRIPT, str(Path(pycomnet.__file__).parent)],
            input=json.dumps(streams),
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual(ran.stderr, "")
        return [json.loads(line) for line in ran.stdout.splitlines()]
