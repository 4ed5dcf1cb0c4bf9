"""Numbers from outside: what is one, and what is not."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import attrs
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.ranges import NumberRefused, check_fields, optional_real, real, whole
from pycomnet.test.properties import given

NOT_NUMBERS: list[Any] = [
    *(float("nan"), float("inf"), float("-inf"), 1e308, 10**400, -(10**400), -1, -0.5),
    *(True, False, None, [], {}, b"", "", "nan", "inf", "Infinity", "1e400", "1_0", "0x10"),
    *("\u0661", "1 2", "1" * 5000, "--1", "1e", ".", 1j, Decimal("nan"), Decimal(1)),
]


@attrs.frozen
class Settings:
    """Settings with numbers in them."""

    count: int = 1
    seconds: float = 1.0
    maybe: float | None = None
    name: str = "nan"

    def __attrs_post_init__(self) -> None:
        check_fields(self, seconds=0.5)


class NumberTests(SynchronousTestCase):
    """Both kinds of numbers."""

    def test_what_is_no_number_is_refused_by_name(self) -> None:
        """What is none, or can't be a time or a count, is refused by its name."""
        for value in NOT_NUMBERS:
            for read in (real, whole):
                problem = self.assertRaises(NumberRefused, read, "linger", value, text=True)
                self.assertTrue(str(problem).startswith("linger: expected a "), str(problem))
                self.assertTrue(len(str(problem)) < 300)
                self.assertIsInstance(problem, ValueError)

    def test_numbers_and_their_texts_are_taken(self) -> None:
        """Numbers, and where that may be their text."""
        for value, found in ((0, 0.0), (2.5, 2.5), (Fraction(1, 2), 0.5), (1e9, 1e9)):
            self.assertEqual(real("x", value), found)
        for text in ("2.5", b"2.5", " 2.5 ", "25e-1", "+2.5"):
            self.assertEqual(real("x", text, text=True), 2.5)
        self.assertEqual((whole("x", 3.0), whole("x", "12", text=True)), (3, 12))
        self.assertRaises(NumberRefused, real, "x", "2.5")
        self.assertRaises(NumberRefused, whole, "x", 1.5)
        self.assertRaises(NumberRefused, real, "x", 0, above=True)
        self.assertIsNone(optional_real("x", None))

    @given(st.floats() | st.integers() | st.text())
    def test_result_is_always_within_the_range(self, value: Any) -> None:
        """Whatever comes, what is returned is within the range."""
        try:
            found = real("x", value, 1, 5, text=True)
        except NumberRefused:
            return
        self.assertTrue(1 <= found <= 5)

    def test_settings_refuse_wrong_numbers(self) -> None:
        """The numbers of settings that a program makes."""
        Settings(5, 0.5, 2.0)
        for wrong in ({"count": 1.5}, {"count": -1}, {"seconds": 0.4}, {"maybe": float("nan")}):
            self.assertRaises(NumberRefused, Settings, **wrong)
        self.assertRaises(NumberRefused, Settings, seconds=None)
