"""Properties are tried with the same examples, whatever ran before."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.properties import CONSTANTS, LONG, examples, given, settings


def tried() -> list[object]:
    """What a property is called with."""
    found: list[object] = []

    @settings(max_examples=examples(200))
    @given(st.lists(st.integers() | st.text() | st.binary()))
    def check(values: list[object]) -> None:
        found.append(values)

    check()
    return found


class ExampleTests(SynchronousTestCase):
    """What Hypothesis tries by default."""

    if LONG:
        skip = "others are tried each time"
    elif not CONSTANTS:
        skip = "this Hypothesis has changed"

    def test_examples_do_not_depend_on_what_is_loaded(self) -> None:
        """A module that is loaded in between has no constants that are tried."""
        before = tried()
        name = "pycomnet_constants_that_are_not_tried"
        source = Path(self.mktemp(), f"{name}.py")
        source.parent.mkdir()
        source.write_text(f"A = {list(range(10**6, 10**6 + 200))}\n")
        sys.path.insert(0, str(source.parent))
        self.addCleanup(sys.path.remove, str(source.parent))
        self.addCleanup(sys.modules.pop, name, None)
        import_module(name)
        self.assertEqual(tried(), before)
