"""The errors of proxies, beside those of calls."""

from __future__ import annotations

from collections.abc import Sequence

from pycomnet.errors import ServiceError, UnknownMethod


class NoSuchMethod(UnknownMethod, AttributeError):
    """The service describes no method of this name, so the proxy has no such attribute."""


class InterfaceDiffers(ServiceError):
    """The service's interface differs from the client's; the message lists the differences.

    :ivar differences: one sentence for each.
    """

    def __init__(self, message: str, differences: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.differences = list(differences)
