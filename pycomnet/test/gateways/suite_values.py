"""Every value that can be sent arrives as what it was, from a real far side."""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
import uuid
from typing import Any

import pycomnet
from pycomnet.test.gateways.case import GatewayCase

VALUES: list[Any] = [
    *(None, True, False, 0, -1, 127, 128, -33, 2**31, 2**63, 2**64 - 1, 2**64, -(2**63) - 1),
    *(10**200, -(10**200), 0.0, -0.5, 1e300, math.inf, -math.inf, 1 + 2j, complex(0, -math.inf)),
    *("", "plain", "ünï\u20ac\U0001f600", "nul\0", "\ud800 alone", "x" * 70_000),
    *(b"", b"\x00\xff", b"y" * 70_000, [], (), {}, set(), frozenset()),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
    datetime.time(1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "X")),
    {datetime.date(2026, 1, 2): [datetime.timedelta(-1, 5), decimal.Decimal("1.50")]},
    (uuid.UUID(int=5), fractions.Fraction(1, 3), range(1, 9, 2)),
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

    async def test_each_type_comes_back_as_it_went(self) -> None:
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

    async def test_nan_arrives_as_nan(self) -> None:
        """NaN, which equals nothing, arrives as a NaN."""
        gw = await self.gateway()
        channel = gw.remote_exec(ECHO)
        await channel.send([math.nan])
        self.assertTrue(math.isnan((await channel.receive())[0]))

    async def test_bytearray_and_memoryview_arrive_as_bytes(self) -> None:
        """bytearray and memoryview arrive as bytes, at both ends."""
        gw = await self.gateway()
        source = (
            "channel.send([bytearray(b'a'), memoryview(b'b'), [type(v).__name__ for v in got]])"
        )
        channel = gw.remote_exec(source, got=[bytearray(b"c"), memoryview(b"d")])
        self.assertEqual(await channel.receive(), [b"a", b"b", ["bytes", "bytes"]])

    async def test_big_values_come_back(self) -> None:
        """20 MB of bytes go there and back, 5 MB of text, and many small things."""
        gw = await self.gateway()
        channel = gw.remote_exec(ECHO)
        records = [{"id": n, "name": f"record {n}", "tags": ["a", "b"]} for n in range(25_000)]
        for value in (bytes(bytearray(range(256))) * 80_000, "text " * 1_000_000, records):
            channel.send(value)
            self.assertTrue(await channel.receive() == value)

    async def test_unsendable_value_is_refused_with_its_place(self) -> None:
        """What can't be sent is refused at once, with its type and where in the value it is."""
        gw = await self.gateway()
        channel = gw.remote_exec(ECHO)
        value = {"jobs": [1, {"when": object()}]}
        error = await self.failure(channel.send(value), pycomnet.ValueNotSendable)
        self.assertIn('value["jobs"][1]["when"]', str(error))
        self.assertIn("object", str(error))
        await channel.send("goes on")
        self.assertEqual(await channel.receive(), "goes on")

    async def test_unsendable_value_is_a_type_error_in_far_code(self) -> None:
        """So it is at the far side, where it is a TypeError, and the channel goes on."""
        gw = await self.gateway()
        channel = gw.remote_exec(
            """
            try:
                channel.send({"jobs": [1, {"when": object()}]})
            except TypeError as error:
                channel.send(str(error))
            channel.send([object()])
            """
        )
        message = await channel.receive()
        self.assertIn('value["jobs"][1]["when"]', message)
        self.assertIn("object", message)
        error = await self.failure(channel.receive(), pycomnet.RemoteError)
        self.assertIn("value[0]: object", error.message)
        self.assertIn("ValueNotSendable", error.type)
        self.assertIn("channel.send([object()])", error.formatted)

    async def test_too_deep_value_is_refused_naming_the_argument(self) -> None:
        """What nests too deep or holds itself is refused at both ends, however deep that is, and
        the error says which argument it is."""
        gw = await self.gateway()
        holds_itself: list[Any] = []
        holds_itself.append(holds_itself)

        def deep(depth):
            value = []
            for _ in range(depth):
                value = [value]
            if not depth:
                value.append(value)
            return value

        for value in (holds_itself, deep(256), deep(900), deep(100_000)):
            channel = gw.remote_exec(ECHO)
            await self.failure(channel.send(value), pycomnet.ValueNotSendable)
            channel.close()
            error = await self.failure(gw.call(deep, 1, value), pycomnet.ValueNotSendable)
            self.assertTrue(str(error).startswith("args[1]: list can't"), str(error)[:99])
            error = await self.failure(gw.call(deep, depth=value), pycomnet.ValueNotSendable)
            self.assertTrue(str(error).startswith('kwargs["depth"]: list can'), str(error)[:99])
            with self.assertRaises(pycomnet.ValueNotSendable) as caught:
                gw.remote_exec(ECHO, x=1, y={"z": [object()]})
            self.assertEqual(caught.exception.path, 'kwargs["y"]["z"][0]')
        for depth in (0, 256, 900, 100_000):
            remote = await self.failure(gw.call(deep, depth), pycomnet.RemoteError)
            self.assertIn("ValueNotSendable", remote.type)
            self.assertTrue(remote.message.startswith("result: list can't"), remote.message[:99])

    async def test_unsendable_result_fails_its_call(self) -> None:
        """A call whose result can't be sent fails with that."""
        gw = await self.gateway()

        def result():
            return {"x": object()}

        error = await self.failure(gw.call(result), pycomnet.RemoteError)
        self.assertIn('result["x"]: object', error.message)
        self.assertEqual(await gw.call("operator:add", 1, 2), 3)
