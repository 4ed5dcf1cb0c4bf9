"""Full collections by the garbage collector, for tests of what becomes of objects."""

from __future__ import annotations

import gc
from typing import TypeVar
from unittest import TestCase

Case = TypeVar("Case", bound=type[TestCase])


def collects(case: Case) -> Case:
    """Let full collections in a case's tests look at nothing but what the test has made.

    They would also look at all that thousands of tests have imported, for up to a second. So what
    exists when a test begins is never looked at again.
    """
    set_up = case.setUp

    def freeze_first(self: TestCase) -> None:
        gc.freeze()
        set_up(self)

    case.setUp = freeze_first  # type: ignore[method-assign]
    return case
