"""Blocks of an old file are found in a new one."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from unittest import mock

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.far.rsync import blocks
from pycomnet.far.rsync.blocks import TreeDigest, block_size, choose_marker, sums
from pycomnet.rsync import matching
from pycomnet.rsync.matching import Copy, Literal, Matcher, Sums
from pycomnet.test.properties import given

MEGABYTE = 1048576


def reader(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, size: data[offset : offset + size]


def sums_of(old: bytes, block: int | None = None) -> Sums:
    """All sums of a content."""
    block = block or block_size(len(old))
    marker = choose_marker(reader(old), len(old), block)
    found = Sums(len(old), block, marker)
    for part in sums(reader(old), len(old), block, marker):
        found.add(part)
    found.complete = True
    return found


def match(old: bytes, new: bytes, block: int | None = None) -> tuple[int, int]:
    """Check that the new content comes out; return the bytes of literals, and of sums."""
    found = sums_of(old, block)
    matcher = Matcher(reader(new), len(new), found)
    made = []
    literal = 0
    tree = TreeDigest(found.block)
    for step in matcher.steps():
        if isinstance(step, Literal):
            made.append(step.data)
            literal += len(step.data)
        else:
            assert isinstance(step, Copy), step
            made.append(old[step.offset : step.offset + step.size])
            assert len(made[-1]) == step.size
        tree.update(made[-1])
        tree.cut()
    assert b"".join(made) == new
    assert tree.digest() == matcher.digest
    return literal, blocks.SUM.size * len(found.strong)


def match_meanwhile(old: bytes, new: bytes, block: int, part: int) -> list[int]:
    """Check that the new content comes out while the sums come, some at a time, when more are
    needed; return how many had come at each step."""
    marker = choose_marker(reader(old), len(old), block)
    with mock.patch.multiple(blocks, PART=part, READ=block, PART_BYTES=part * block):
        parts = [each for each in sums(reader(old), len(old), block, marker) if each]
    found = Sums(len(old), block, marker)
    matcher = Matcher(reader(new), len(new), found)
    made = []
    known = []
    tree = TreeDigest(block)
    for step in matcher.steps():
        if isinstance(step, Literal | Copy):
            if isinstance(step, Literal):
                made.append(step.data)
            else:
                made.append(old[step.offset : step.offset + step.size])
            known.append(len(found.strong))
            tree.update(made[-1])
            tree.cut()
        elif parts:
            found.add(parts.pop(0))
        else:
            assert not found.complete
            found.complete = True
    assert b"".join(made) == new
    assert tree.digest() == matcher.digest
    return known


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


class MatcherTests(SynchronousTestCase):
    def test_equal(self) -> None:
        """Of an equal file nothing is sent, and one piece is copied."""
        old = content(3 * MEGABYTE + 777)
        steps = list(Matcher(reader(old), len(old), sums_of(old)).steps())
        self.assertEqual(steps, [Copy(0, len(old))])

    def test_changed_in_place(self) -> None:
        """Of two changed bytes one block is sent, and the sums are under one percent."""
        old = content(8 * MEGABYTE)
        new = old[: 3 * MEGABYTE] + b"xy" + old[3 * MEGABYTE + 2 :]
        literal, size = match(old, new)
        self.assertEqual(literal, block_size(len(old)))
        self.assertLess(size, len(old) // 100)

    def test_copies_come_while_the_rest_is_compared(self) -> None:
        """The other end copies meanwhile, so not all is one piece."""
        old = content(MEGABYTE)
        with mock.patch.multiple(matching, COPIED=100_000, READ=65536):
            for new in (old, b"x" + old):
                steps = list(Matcher(reader(new), len(new), sums_of(old, 4096)).steps())
                copies = [step for step in steps if isinstance(step, Copy)]
                self.assertEqual(sum(one.size for one in copies), len(old))
                self.assertGreater(len(copies), 1)
                self.assertTrue(all(one.size >= 100_000 for one in copies[:-1]))
                match(old, new, 4096)

    def test_byte_in_front(self) -> None:
        """A byte put in front costs a byte."""
        old = content(8 * MEGABYTE)
        self.assertEqual(match(old, b"x" + old)[0], 1)

    def test_blocks_that_have_moved_are_found_meanwhile(self) -> None:
        """Those behind a byte put in front are found before the sums of all have come."""
        old = content(MEGABYTE)
        with mock.patch.multiple(matching, COPIED=65536, READ=65536):
            known = match_meanwhile(old, b"x" + old, 4096, 16)
        self.assertLess(known[0], 64)
        self.assertEqual(known, sorted(known))
        self.assertLess(known[len(known) // 2], 192)

    def test_blocks_from_further_behind_are_found(self) -> None:
        """What has moved to the front is found when its sum has come."""
        old = content(MEGABYTE)
        new = old[MEGABYTE // 2 :] + old[: MEGABYTE // 2]
        known = match_meanwhile(old, new, 4096, 16)
        self.assertEqual((len(known), known[0]), (2, 256))

    def test_inserted_and_removed(self) -> None:
        """What was inserted is sent, with less than two blocks for each place."""
        old = content(4 * MEGABYTE)
        block = block_size(len(old))
        places = sorted(random.Random(2).sample(range(len(old)), 20))
        new = b""
        last = 0
        for place in places:
            new += old[last:place] + b"inserted"
            last = place + 5
        self.assertLess(match(old, new + old[last:])[0], 20 * (2 * block + 8))

    def test_moved(self) -> None:
        """Parts in another order are found."""
        old = content(4 * MEGABYTE)
        parts = [old[at : at + MEGABYTE] for at in range(0, len(old), MEGABYTE)]
        block = block_size(len(old))
        self.assertLess(match(old, b"".join(parts[::-1]))[0], 8 * 4 * block)

    def test_text(self) -> None:
        """In text, a marker is found as well."""
        numbers = random.Random(3)
        lines = [
            b"%d: the quick brown fox %d\n" % (n, numbers.randrange(10**6)) for n in range(50000)
        ]
        new = [b"a new first line\n", *lines[:20000], b"another\n", *lines[20100:]]
        old = b"".join(lines)
        self.assertLess(match(old, b"".join(new))[0], 4 * block_size(len(old)))

    def test_repeated_content(self) -> None:
        """Content without any structure takes no more time than other content."""
        looked = []

        class Counting(bytes):
            def find(self, *args: object) -> int:
                looked.append(args)
                return super().find(*args)  # type: ignore[arg-type]

        old = bytes(MEGABYTE)
        new = b"a" + old + b"b" * MEGABYTE
        with mock.patch.object(matching, "OFTEN", 64):
            match(old, new)
            matcher = Matcher(lambda o, s: Counting(new[o : o + s]), len(new), sums_of(old))
            list(matcher.steps())
        self.assertLess(len(looked), len(new) // 32)

    def test_all_new(self) -> None:
        """Of another content all is sent."""
        new = content(MEGABYTE, 5)
        self.assertEqual(match(content(MEGABYTE, 4), new)[0], len(new))

    def test_grown_and_truncated(self) -> None:
        """Of a file that has grown only the new end is sent, of a shorter one at most a block."""
        old = content(MEGABYTE + 100)
        self.assertEqual(match(old, old + b"more")[0], 4)
        self.assertLess(match(old, old[:-50000])[0], block_size(len(old)))

    def test_file_that_becomes_shorter(self) -> None:
        """If the new file ends early, that is an error."""
        old = content(MEGABYTE)
        matcher = Matcher(reader(old[:1000]), len(old), sums_of(old))
        self.assertRaises(OSError, list, matcher.steps())

    @given(st.data())
    def test_any_edits(self, data: st.DataObject) -> None:
        """Whatever was edited, the new content comes out."""
        letters = data.draw(st.sampled_from([b"a", b"ab", bytes(range(256))]))
        numbers = random.Random(data.draw(st.integers(0, 10**9)))
        old = bytes(numbers.choices(letters, k=data.draw(st.integers(1, 200))))
        new = old
        for _ in range(data.draw(st.integers(0, 4))):
            at, length = numbers.randrange(len(new) + 1), numbers.randrange(30)
            put = bytes(numbers.choices(letters, k=numbers.randrange(30)))
            moved = new[at : at + length] if numbers.random() < 0.5 else b""
            new = moved + new[:at] + put + new[at + length :]
        block = data.draw(st.sampled_from([4, 8, 16]))
        with mock.patch.multiple(matching, READ=512, PIECE=16, AHEAD_BYTES=16):
            match(old, new, block)
            match_meanwhile(old, new, block, data.draw(st.integers(1, 9)))


class TreeDigestTests(SynchronousTestCase):
    @given(st.binary(max_size=100), st.lists(st.integers(0, 30)), st.sampled_from([4, 16]))
    def test_any_pieces(self, data: bytes, cuts: list[int], block: int) -> None:
        """The digest does not depend on the pieces in which the content comes."""
        whole = TreeDigest(block)
        whole.update(data)
        parts = TreeDigest(block)
        at = 0
        for cut in cuts:
            parts.update(data[at : at + cut])
            at += cut
        parts.update(data[at:])
        self.assertEqual(parts.digest(), whole.digest())

    @given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 20))
    def test_holes(self, before: int, hole: int, after: int) -> None:
        """A hole is a piece of as many zeros."""
        one, other = TreeDigest(16), TreeDigest(16)
        for piece in (b"x" * before, bytes(hole), b"y" * after):
            one.update(piece)
            one.cut()
        other.update(b"x" * before)
        with mock.patch.object(blocks, "HOLE_BLOCKS", 2):
            other.hole(hole)
        other.update(b"y" * after)
        self.assertEqual(one.digest(), other.digest())

    @given(st.lists(st.integers(0, 100)))
    def test_own_digests(self, sizes: list[int]) -> None:
        """Pieces whose leaves are hashed elsewhere are worth as much as their content."""
        one, other = TreeDigest(16), TreeDigest(16)
        for number, size in enumerate(sizes):
            piece = bytes([number % 256]) * size
            one.update(piece)
            one.cut()
            leaves = [piece[at : at + 16] for at in range(0, size, 16)]
            other.add(b"".join(hashlib.sha256(leaf).digest() for leaf in leaves), size)
        self.assertEqual(one.digest(), other.digest())

    def test_size_counts(self) -> None:
        """Content that ends with zeros is not the same as without them."""
        one, other = TreeDigest(16), TreeDigest(16)
        one.update(bytes(16))
        other.update(bytes(32))
        self.assertNotEqual(one.digest(), other.digest())
