"""Raises the limit on how many descriptors a daemon may have open."""

from __future__ import annotations

import contextlib

try:
    import resource
except ImportError:  # not POSIX: there is no such limit
    resource = None  # type: ignore[assignment]


def allow_connections() -> None:
    """Raise the soft limit on descriptors to the hard limit.

    The soft limit is often 1,024, for programs that use select(2). With that many idle clients, no
    other client could connect.
    """
    if resource is None:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems report more than they grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
