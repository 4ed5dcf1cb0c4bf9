"""What has to be so of two codecs, whatever the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pycomnet.test.properties import given


def same_bytes(
    one: Any, other: Any, values: st.SearchStrategy[Any], shape: Callable[[Any], Any]
) -> Callable[[SynchronousTestCase], None]:
    """A test method: they make the same bytes of a value, and read each other's.

    :param shape: what is equal for two values only when their types are, too.
    """

    @given(values)
    def test_both_codecs_make_the_same_bytes(self: SynchronousTestCase, value: Any) -> None:
        """They make the same bytes of a value, and read each other's."""
        payload = one.encode(value)
        self.assertEqual(other.encode(value), payload)
        self.assertEqual(shape(other.decode(payload)), shape(value))

    return test_both_codecs_make_the_same_bytes
