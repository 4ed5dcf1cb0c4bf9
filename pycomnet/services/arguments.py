"""Methods that check their arguments further than their declaration does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pycomnet.errors import InvalidArguments
from pycomnet.ranges import NumberRefused


@contextmanager
def refusing_numbers() -> Iterator[None]:
    """A number that is refused in the block is an argument of the call: the caller is told so.

    Elsewhere such an error is the method's own, as of a number in its configuration or in a call
    that it makes itself; its caller gets a RemoteError.

    :raises InvalidArguments: in place of NumberRefused.
    """
    try:
        yield
    except NumberRefused as problem:
        raise InvalidArguments(str(problem)) from None
