"""How many descriptors a daemon may have open."""

from __future__ import annotations

import contextlib

try:
    import resource
except ImportError:  # not POSIX: there is no such limit
    resource = None  # type: ignore[assignment]


def allow_connections() -> None:
    """Let this process have as many connections as the system allows it.

    What it is allowed without asking is often 1,024, for the sake of programs that use select(2):
    so many idle clients, and nobody else gets in.
    """
    if resource is None:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems say more than they grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
