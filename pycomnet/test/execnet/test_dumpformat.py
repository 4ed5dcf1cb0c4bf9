"""execnet's dump format: what it writes is read, and what is no dump is refused."""

from __future__ import annotations

import contextlib
import struct
from io import BytesIO

from hypothesis import example
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.execnet import DumpError, LoadError, dump, dumps, load, loads
from pycomnet.far.execnet.dumpformat import DEEPEST, PIECE
from pycomnet.test.properties import examples, given, settings

#: Values and the bytes that execnet 2.1.2 wrote for them.
WRITTEN = [
    (None, b"\x02LQ"),
    (True, b"\x02RQ"),
    (False, b"\x02CQ"),
    (4, b"\x02F\x00\x00\x00\x04Q"),
    (-5, b"\x02F\xff\xff\xff\xfbQ"),
    (2147483648, b"\x02H\x00\x00\x00\n2147483648Q"),
    (3.25, b"\x02D@\n\x00\x00\x00\x00\x00\x00Q"),
    (1 + 2j, b"\x02T?\xf0\x00\x00\x00\x00\x00\x00@\x00\x00\x00\x00\x00\x00\x00Q"),
    (b"hi", b"\x02A\x00\x00\x00\x02hiQ"),
    ("\xfc", b"\x02N\x00\x00\x00\x02\xc3\xbcQ"),
    ([1, 2], b"\x02K\0\0\0\x02F\0\0\0\0F\0\0\0\x01PF\0\0\0\x01F\0\0\0\x02PQ"),
    ((1,), b"\x02F\x00\x00\x00\x01@\x00\x00\x00\x01Q"),
    ({1: 2}, b"\x02JF\x00\x00\x00\x01F\x00\x00\x00\x02PQ"),
    ({1}, b"\x02F\x00\x00\x00\x01O\x00\x00\x00\x01Q"),
    (frozenset([1]), b"\x02F\x00\x00\x00\x01E\x00\x00\x00\x01Q"),
]
#: What is no dump, and why.
REFUSED = {
    "no version": b"",
    "another version": b"\x03LQ",
    "an unknown opcode": b"\x02ZQ",
    "nothing": b"\x02Q",
    "two values": b"\x02LLQ",
    "a channel": b"\x02B\0\0\0\1Q",
    "text that is no UTF-8": b"\x02N\0\0\0\1\xffQ",
    "a negative size": b"\x02A\xff\xff\xff\xffQ",
    "a tuple of what is not there": b"\x02@\x7f\xff\xff\xffQ",
    "a list that is not complete": b"\x02K\0\0\0\1Q",
    "a list's items in another order": b"\x02K\0\0\0\2F\0\0\0\1LPQ",
    "an item of a number": b"\x02F\0\0\0\1F\0\0\0\1LPQ",
    "an item of nothing": b"\x02PQ",
    "a key that can't be one": b"\x02JK\0\0\0\0LPQ",
    "a set of lists": b"\x02K\0\0\0\0O\0\0\0\1Q",
    "digits that are none": b"\x02H\0\0\0\2xxQ",
}

plain = st.none() | st.booleans() | st.integers() | st.binary() | st.text()
hashable = st.recursive(
    plain,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=6,
)
values = st.recursive(
    plain | st.floats(allow_nan=False) | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.sets(hashable, max_size=4)
    ),
    max_leaves=12,
)


class DumpTests(SynchronousTestCase):
    """``dumps`` and ``loads``."""

    def test_it_writes_what_execnet_wrote_and_reads_it(self) -> None:
        """Files that people have stay readable, by both."""
        for value, data in WRITTEN:
            self.assertEqual(dumps(value), data)
            found = loads(data)
            self.assertEqual(found, value)
            self.assertIs(type(found), type(value))

    @settings(max_examples=examples(400))
    @given(values)
    @example([[[]], ((),)])
    def test_any_value_comes_back(self, value: object) -> None:
        """Of the types that it takes, nested in any way."""
        self.assertEqual(loads(dumps(value)), value)

    def test_tuples_and_sets_nest_as_deep_as_they_can_be_hashed(self) -> None:
        """Deeper ones crashed the process; what is written can be read."""
        deep: object = ()
        for _ in range(DEEPEST - 1):
            deep = (deep,)
        self.assertEqual(loads(dumps({deep: [deep]})), {deep: [deep]})
        with self.assertRaisesRegex(DumpError, "nest deeper"):
            dumps((deep,))
        for end in (b"Q", b"O\0\0\0\1Q", b"E\0\0\0\1Q"):
            with self.assertRaisesRegex(LoadError, "nests deeper"):
                loads(b"\x02@\0\0\0\0" + b"@\0\0\0\1" * 200000 + end)
        key = b"@\0\0\0\0" + b"E\0\0\0\1" * 3000
        with self.assertRaisesRegex(LoadError, "nests deeper"):
            loads(b"\x02J" + key + b"LP" + key + b"LPQ")
        # A list can't be hashed: it is no part of that.
        mixed: object = ()
        for _ in range(DEEPEST - 1):
            mixed = ([mixed],)
            if len(repr(mixed)) > 400:
                break
        self.assertEqual(loads(dumps(mixed)), mixed)

    def test_a_length_reserves_no_memory(self) -> None:
        """What is asked of a file is what may be there."""
        asked = []

        class File(BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                asked.append(size or 0)
                return super().read(size)

        with self.assertRaises(EOFError):
            load(File(b"\x02A\x7f\xff\xff\xffabc"))
        self.assertLessEqual(max(asked), PIECE)
        long = b"x" * (2 * PIECE + 5)
        self.assertEqual(load(File(dumps(long))), long)

    def test_files_are_written_and_read(self) -> None:
        """A file that goes on after the value is read up to there."""
        file = BytesIO()
        dump(file, [1, "a"])
        dump(file, 2)
        file.seek(0)
        self.assertEqual([load(file), load(file)], [[1, "a"], 2])

    def test_strings_of_python_2_are_read_as_asked(self) -> None:
        """As bytes, or as text."""
        self.assertEqual(loads(b"\x02M\0\0\0\1aQ"), b"a")
        self.assertEqual(loads(b"\x02M\0\0\0\1aQ", py2str_as_py3str=True), "a")
        self.assertEqual(loads(b"\x02N\0\0\0\1aQ", py3str_as_py2str=True), b"a")
        self.assertEqual(loads(b"\x02S\0\0\0\1aQ"), "a")

    def test_what_is_no_dump_is_refused(self) -> None:
        """With one error, whatever is wrong with it."""
        for why, data in REFUSED.items():
            with self.assertRaises(LoadError, msg=why):
                loads(data)

    def test_a_dump_that_is_cut_is_an_end(self) -> None:
        """EOFError, as more may come; a size alone reserves no memory."""
        whole = dumps([1, {"a": b"b"}, 2.5])
        for size in range(1, len(whole)):
            with self.assertRaises(EOFError):
                loads(whole[:size])
        with self.assertRaises(EOFError):
            loads(b"\x02A" + struct.pack("!i", 2**31 - 1))

    @settings(max_examples=examples(400))
    @given(st.binary(max_size=40))
    def test_any_bytes_are_a_value_or_one_of_two_errors(self, data: bytes) -> None:
        """So it can read what comes from anywhere."""
        with contextlib.suppress(LoadError, EOFError):
            loads(b"\x02" + data)

    def test_other_types_can_not_be_dumped(self) -> None:
        """Not even subclasses of those that can; nor what holds itself."""
        loop: list[object] = []
        loop.append(loop)
        for value in (object(), [ValueError(2)], type("I", (int,), {})(3), bytearray(), loop):
            with self.assertRaisesRegex(DumpError, "can't serialize"):
                dumps(value)
