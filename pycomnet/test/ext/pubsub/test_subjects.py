"""Subjects and patterns: what is one, and what matches."""

from __future__ import annotations

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.ext.pubsub.errors import InvalidSubject
from pycomnet.ext.pubsub.subjects import (
    Patterns,
    SubjectIndex,
    check_pattern,
    check_patterns,
    check_subject,
    covers,
    matches,
)
from pycomnet.test.properties import given

PARTS = st.sampled_from(["a", "b", "c"])
SUBJECTS = st.lists(PARTS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.builds(
    lambda parts, rest: ".".join(parts + rest) or ">",
    st.lists(st.sampled_from(["a", "b", "*"]), max_size=3),
    st.sampled_from([[], [">"]]),
)


class SubjectTests(SynchronousTestCase):
    """Subjects and patterns."""

    def test_what_is_no_subject_is_refused(self) -> None:
        """With wildcards, empty parts, blanks, what can't be printed, or too long."""
        for wrong in ("a..b", ".", "a.", "*", "a.>", "a b", "a\nb", "a\x1bb", "x" * 256, 1, None):
            with self.assertRaises(InvalidSubject, msg=repr(wrong)):
                check_subject(wrong)
        with self.assertRaises(InvalidSubject):
            check_subject(".".join("a" * 33))
        for right in ("", "a", "eu.created", "größe.1", "a-b_c.d"):
            self.assertEqual(check_subject(right), right)

    def test_what_is_no_pattern_is_refused(self) -> None:
        """``>`` not at the end, a part that is more than a wildcard, and none at all."""
        for wrong in ("", ">.a", "a.>.b", "a*", "a.b*", "a..b", "x" * 256, 1):
            with self.assertRaises(InvalidSubject, msg=repr(wrong)):
                check_pattern(wrong)
        for right in (">", "*", "*.a.*", "a.>", "a.b"):
            self.assertEqual(check_pattern(right), right)

    def test_patterns_are_limited(self) -> None:
        """64 of them, and none twice."""
        with self.assertRaises(InvalidSubject):
            check_patterns([f"a{n}" for n in range(65)])
        with self.assertRaises(InvalidSubject):
            check_patterns([".".join("abcdefgh") + f".{n}" for n in range(32)])
        self.assertEqual(check_patterns(["a", "b", "a"]), ("a", "b"))
        self.assertEqual(check_patterns(["a", ">"]), (">",))
        self.assertEqual(check_patterns(None), (">",))

    def test_what_patterns_cost_is_counted(self) -> None:
        """Those with wildcards, as each is looked at; and the parts of all, as they take memory."""
        self.assertEqual((Patterns([">"]).cost, Patterns([">"]).weight), (1, 1))
        found = Patterns([f"*.*.*.{n}" for n in range(64)])
        self.assertEqual((found.cost, found.weight), (65, 32))
        self.assertEqual(Patterns(["a.b", "c"]).cost, 1)

    def test_patterns_match_what_the_protocol_says(self) -> None:
        """One part for ``*``, one or more for ``>``, and the empty subject for ``>`` alone."""
        for pattern, subject, does in (
            (">", "", True),
            (">", "a.b", True),
            ("*", "", False),
            ("*", "a", True),
            ("*", "a.b", False),
            ("a.>", "a", False),
            ("a.>", "a.b.c", True),
            ("a.*.c", "a.b.c", True),
            ("a.*.c", "a.b.d", False),
            ("a.b", "a.b", True),
            ("a.b", "a.b.c", False),
        ):
            self.assertIs(matches(pattern, subject), does, f"{pattern} {subject}")

    @given(PATTERNS, PATTERNS, SUBJECTS)
    def test_what_covers_matches_all_that_the_other_does(
        self, allowed: str, wanted: str, subject: str
    ) -> None:
        """So nobody gets by a pattern what another one would not give."""
        if covers(allowed, wanted) and matches(wanted, subject):
            self.assertTrue(matches(allowed, subject))

    def test_a_part_is_not_covered_by_less(self) -> None:
        """Who may have ``a.*`` may not have ``a.>``, nor everything."""
        for allowed, wanted in (
            ("a.*", "a.>"),
            ("*", ">"),
            ("a.b", "a.*"),
            ("a.>", "a"),
            ("a", ">"),
        ):
            self.assertFalse(covers(allowed, wanted), f"{allowed} {wanted}")

    @given(st.lists(st.tuples(PATTERNS, st.integers(0, 3)), max_size=12), st.data())
    def test_the_index_finds_those_whose_patterns_match(
        self, added: list[tuple[str, int]], data: st.DataObject
    ) -> None:
        """Also after some were removed; nothing is left of them."""
        index: SubjectIndex[int] = SubjectIndex()
        wanted: dict[int, set[str]] = {}
        for pattern, recipient in added:
            wanted.setdefault(recipient, set()).add(pattern)
        for recipient, patterns in wanted.items():
            index.add(patterns, recipient)
        for recipient in list(wanted):
            if data.draw(st.booleans()):
                index.remove(wanted.pop(recipient), recipient)
        subject = data.draw(st.one_of(SUBJECTS, st.just("")))
        found = {
            recipient
            for recipient, patterns in wanted.items()
            if any(matches(pattern, subject) for pattern in patterns)
        }
        self.assertEqual(set(index.find(subject)), found)
        for recipient, patterns in wanted.items():
            index.remove(patterns, recipient)
        self.assertTrue(index.is_empty())

    @given(st.lists(PATTERNS, min_size=1, max_size=5), SUBJECTS)
    def test_patterns_together_match_what_any_of_them_does(
        self, patterns: list[str], subject: str
    ) -> None:
        """The index of exact ones changes nothing."""
        found = Patterns(patterns).match(subject)
        self.assertIs(found, any(matches(one, subject) for one in patterns))
