"""A payload is refused for its items before anything is made of it, by both codecs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.gateways.limits import far_limits
from pycomnet.gateways.spec import Spec
from pycomnet.test.properties import examples, given, settings
from pycomnet.test.wire.test_values import values
from pycomnet.test.wire.vectors import CHANNELS, nested
from pycomnet.wire.codec import make_codec
from pycomnet.wire.rust import RustCodec
from pycomnet.wire.values import (
    InvalidValue,
    PureCodec,
    TooManyItems,
    check_items,
    read_texts,
)

bounded = settings(max_examples=examples(80), derandomize=True, deadline=None, database=None)
PURE = PureCodec(*CHANNELS)


def items(value: Any, in_key: bool = False) -> int:
    """Elements, keys and values, with those of what they hold."""
    if type(value) is dict:
        pairs = value.items()
        return 2 * len(value) + sum(items(key) + items(one) for key, one in pairs)
    if type(value) in (list, tuple, set, frozenset):
        return len(value) + sum(items(one) for one in value)
    return 0


#: Each makes a payload of so many items, of about a byte each.
SHAPES = {
    "empty maps": lambda n: b"\xdd" + n.to_bytes(4, "big") + b"\x80" * n,
    "a map": lambda n: b"\xdf" + (n // 2).to_bytes(4, "big") + b"\x01" * n,
    "arrays in each other": lambda n: b"\x91" * n + b"\xc0",
    "sets": lambda n: b"\xdd" + n.to_bytes(4, "big") + b"\xd4\x02\x90" * n,
    "in an extension": lambda n: (
        b"\xc9" + (5 + n).to_bytes(4, "big") + b"\x01\xdd" + n.to_bytes(4, "big") + b"\x80" * n
    ),
    "behind a long bin": lambda n: (
        b"\xdd" + (n + 1).to_bytes(4, "big") + b"\xc5\x03\xe8" + b"\x80" * 1000 + b"\x80" * n
    ),
    "behind what an extension hides": lambda n: (
        b"\xdd"
        + (n + 1).to_bytes(4, "big")
        + b"\xc7\x08\x01\x90\xc6\xff\xff\xff\xff\xc1\xc1"
        + b"\x80" * n
    ),
}

#: Decodes a payload in a process, and says what it took.
MEASURED = """
import resource, sys
from pycomnet.wire.codec import make_codec
from pycomnet.wire.values import InvalidValue
count = int(sys.argv[2])
codec = make_codec(pure=sys.argv[1] == "pure", max_items=int(sys.argv[3]))
payload = b"\\xdd" + count.to_bytes(4, "big") + b"\\x80" * count
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    codec.decode(payload)
except InvalidValue as problem:
    print(codec.name, problem, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


class BudgetTests(SynchronousTestCase):
    """Both codecs."""

    def test_one_item_too_many_is_refused_in_every_shape(self) -> None:
        """However many items are put together: one more than allowed is too many."""
        for pure in (True, False):
            for name, make in SHAPES.items():
                most = 50_000 if name != "arrays in each other" else 1000
                codec = make_codec(pure=pure, max_items=most - 1)
                problem = self.assertRaises(TooManyItems, codec.decode, make(most + 1))
                self.assertIn(str(most - 1), str(problem), name)
                wide = make_codec(pure=pure, max_items=most + 20)
                if name == "arrays in each other":
                    wide.decode(make(most))
                else:
                    self.assertIsNotNone(wide.decode(make(most)), name)

    @bounded
    @given(values)
    def test_count_is_exact_for_any_value(self, value: Any) -> None:
        """It counts what there is, neither more nor less."""
        payload = PURE.encode(value)
        count = items(value)
        check_items(payload, count)
        if count:
            self.assertRaises(TooManyItems, check_items, payload, count - 1)

    @bounded
    @given(st.binary(max_size=200), st.integers(0, 50))
    def test_noise_is_refused_for_its_items_or_accepted(self, payload: bytes, most: int) -> None:
        """Of bytes that are no value it says nothing else, and comes to an end."""
        with contextlib.suppress(TooManyItems):
            check_items(payload, most)

    def test_limit_itself_is_allowed_by_both_codecs(self) -> None:
        """A limit is what may be there."""
        for value in ([1, 2, 3], {"a": [1]}, (1, (2,)), nested(3, [], lambda one: [one])):
            payload = PURE.encode(value)
            for codec in (PureCodec(max_items=3), RustCodec(max_items=3)):
                self.assertEqual(codec.decode(payload), value)
            for codec in (PureCodec(max_items=2), RustCodec(max_items=2)):
                self.assertRaises(TooManyItems, codec.decode, payload)

    def test_refusing_millions_of_maps_takes_no_memory(self) -> None:
        """24 MB of empty maps, which would be 2.4 GB, take nothing; nor do six million, with what
        gateways have by default.
        """
        default = far_limits(Spec()).items
        for name, count, most in (
            ("pure", 24 << 20, 1 << 18),
            ("rust", 24 << 20, 1 << 18),
            ("pure", 6_000_000, default),
            ("rust", 6_000_000, default),
        ):
            ran = subprocess.run(
                [sys.executable, "-c", MEASURED, name, str(count), str(most)],
                capture_output=True,
                text=True,
                timeout=300,
                check=True,
            )
            self.assertTrue(ran.stdout.startswith(f"{name} it holds more than"), ran.stdout)
            self.assertLess(int(ran.stdout.split()[-1]), 64 << 10)

    def test_texts_a_request_begins_with_are_read_alone(self) -> None:
        """What a request begins with is read alone, in every form, and nothing behind it."""
        for head in (b"\x94", b"\xdc\0\x04", b"\xdd\0\0\0\x04"):
            for text in (b"\xa1a", b"\xd9\x01a", b"\xda\0\x01a", b"\xdb\0\0\0\x01a"):
                self.assertEqual(read_texts(head + text + b"\xa1b\xc1", 2), ["a", "b"])
        for wrong in (
            b"",
            b"\xc0",
            b"\x80",
            b"\x94\x01",
            b"\x94\xa1a\xc4\x01b",
            b"\x92\xa1\xff\xa0",
        ):
            self.assertRaises(InvalidValue, read_texts, wrong, 2)
