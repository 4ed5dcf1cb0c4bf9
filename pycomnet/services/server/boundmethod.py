"""A method of a service that was added to a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from pycomnet.errors import UnknownMethod
from pycomnet.services.interface import Method
from pycomnet.services.server.request import Request


@attrs.define
class BoundMethod:
    """A method of a service that was added.

    :ivar direct: whether it is called at once, and may return its result (no stream).
    :ivar checked: whether its arguments are checked against its declaration.
    """

    method: Method
    function: Callable[[Request], Any]
    direct: bool
    checked: bool


def wrong_way(interface: str, name: str, bound: BoundMethod) -> UnknownMethod:
    """The error for a call of a stream's method, or a stream of another one."""
    how = "stream" if bound.method.stream else "invoke"
    return UnknownMethod(f"{interface}: {name} is called with {how}()")
