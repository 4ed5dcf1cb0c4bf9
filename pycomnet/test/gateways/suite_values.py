"""Every value that can be sent arrives as what it was, from a real far side."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pycomnet
from pycomnet.test.gateways.case import GatewayCase

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 127, 128, -33, 2**31, 2**63, 2**64 - 1, 2**64, -(2**63) - 1),
    *(10**200, -(10**200), 0.0, -0.5, 1e300, math.inf, -math.inf, 1 + 2j, complex(0, -math.inf)),
    *("", "plain", "ünï\u20ac\U0001f600", "nul\0", "\ud800 alone", "x" * 70_000),
    *(b"", b"\x00\xff", b"y" * 70_000, [], (), {}, set(), frozenset()),
    [1, [2, [3, (4, [5])]]],
    (1, (2, {"a": (3,)}), [frozenset({1, (2, 3)})]),
    {"str": 1, b"bytes": 2, 3: 3, 4.5: 4, None: 5, True: 6, (1, (2,)): 7, frozenset({8}): 8},
    {1, "two", b"three", (4, 5), frozenset({6})},
    {"nested": {"deeper": [{"list": ({"of": {1, 2}},)}]}},
]
ECHO = "for value in channel: channel.send(value)"


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal and all in them is of the same type."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return same(sorted(a.items(), key=repr), sorted(b.items(), key=repr))
    if isinstance(a, set | frozenset):
        return same(sorted(a, key=repr), sorted(b, key=repr))
    return bool(a == b)


class Values(GatewayCase):
    """Values there and back."""

    async def test_echo(self) -> None:
        """Each type comes back as it went, from the bare far side's codec and the fast one."""
        gw = await self.gateway()
        channel = gw.remote_exec(ECHO)
        # A far side may turn to another codec when it has seen a lot of values.
        for _ in range(60):
            for value in VALUES:
                channel.send(value)
            for value in VALUES:
                back = await channel.receive()
                self.assertTrue(same(back, value), f"{value!r:.200} came back as {back!r:.200}")

    async def test_nan(self) -> None:
        """NaN, which equals nothing, arrives as a NaN."""
        gw = await self.gateway()
        channel = gw.remote_exec(ECHO)
        await channel.send([math.nan])
        self.assertTrue(math.isnan((await channel.receive())[0]))

    async def test_buffers(self) -> None:
        """bytearray and memoryview arrive as bytes, at both ends."""
        gw = await self.gateway()
        source = (
            "channel.send([bytearray(b'a'), memoryview(b'b'), [type(v).__name__ for v in got]])"
        )
        channel = gw.remote_exec(source, got=[bytearray(b"c"), memoryview(b"d")])
        self.assertEqual(await channel.receive(), [b"a", b"b", ["bytes", "bytes"]])

    async def test_big(self) -> None:
        """20 MB go there and back, as bytes, as text and as many small things."""
        gw = await self.gateway()
        channel = gw.remote_exec(ECHO)
        records = [{"id": n, "name": f"record {n}", "tags": ["a", "b"]} for n in range(100_000)]
        for value in (bytes(bytearray(range(256))) * 80_000, "text " * 4_000_000, records):
            channel.send(value)
            self.assertTrue(await channel.receive() == value)

    async def test_refused_here(self) -> None:
        """What can't be sent is refused at once, with its type and where in the value it is."""
        gw = await self.gateway()
        channel = gw.remote_exec(ECHO)
        value = {"jobs": [1, {"when": datetime.datetime(2020, 1, 1)}]}
        error = await self.failure(channel.send(value), pycomnet.ValueNotSendable)
        self.assertIn('value["jobs"][1]["when"]', str(error))
        self.assertIn("datetime.datetime", str(error))
        await channel.send("goes on")
        self.assertEqual(await channel.receive(), "goes on")

    async def test_refused_there(self) -> None:
        """So it is at the far side, where it is a TypeError, and the channel goes on."""
        gw = await self.gateway()
        channel = gw.remote_exec(
            """
            import datetime
            try:
                channel.send({"jobs": [1, {"when": datetime.date(2020, 1, 1)}]})
            except TypeError as error:
                channel.send(str(error))
            channel.send([object()])
            """
        )
        message = await channel.receive()
        self.assertIn('value["jobs"][1]["when"]', message)
        self.assertIn("datetime.date", message)
        error = await self.failure(channel.receive(), pycomnet.RemoteError)
        self.assertIn("value[0]: object", error.message)
        self.assertIn("ValueNotSendable", error.type)
        self.assertIn("channel.send([object()])", error.formatted)

    async def test_refused_result(self) -> None:
        """A call whose result can't be sent fails with that."""
        gw = await self.gateway()

        def result():
            return {"x": object()}

        error = await self.failure(gw.call(result), pycomnet.RemoteError)
        self.assertIn('value["x"]: object', error.message)
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)
