"""The same API without Deferreds: for scripts, the REPL and threads.

Every class here is made from the one in :mod:`pycomnet`: names and arguments are the same, and a
call returns its result instead of a Deferred (:mod:`pycomnet.blocking.wrapper`). The reactor runs
in a thread of its own (:mod:`pycomnet.blocking.reactorthread`). That starts with the first object,
and lives until all non-daemon threads have ended and the atexit functions that were registered
after the import of this module have run. Every function that waits takes a keyword ``timeout`` in
seconds, unless it has one already; when the time is over, the operation is cancelled and
:class:`~pycomnet.errors.TimeoutExpired` raised. Ctrl-C in the main thread interrupts a wait and
cancels the operation. Callbacks run in threads of the reactor's pool, one value at a time for each
channel, so they may block and call this API themselves.

In a forked child the parent's objects raise :class:`~pycomnet.errors.UsedAfterFork` at once, and
their ``close``, ``exit`` and ``terminate`` do nothing; new objects can be made there.

A type checker and an editor see the stub beside this module, which ``python -m
pycomnet.blocking.stub`` writes: after a change to a public method here or in the Deferred API it
has to be run.
"""

from __future__ import annotations

from typing import Any

from pycomnet.blocking.gateways import (
    Channel,
    ChannelFile,
    ChannelGateway,
    Gateway,
    Group,
    MultiChannel,
)

#: The names that are loaded on first use, as not every program calls services.
_SERVICES = frozenset({"Context", "RemoteService", "RemoteStream", "ServiceServer"}) | {
    "configure",
    "connect",
    "locate",
    "nameserver",
}


def __getattr__(name: str) -> Any:
    if name == "GatewayExecutor":
        from pycomnet.blocking import executor

        return executor.GatewayExecutor
    if name in ("RSync", "fetch"):
        from pycomnet.blocking import rsync

        return getattr(rsync, name)
    if name not in _SERVICES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pycomnet.blocking import services

    return getattr(services, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Channel",
    "ChannelFile",
    "ChannelGateway",
    "Context",
    "Gateway",
    "GatewayExecutor",
    "Group",
    "MultiChannel",
    "RSync",
    "RemoteService",
    "RemoteStream",
    "ServiceServer",
    "configure",
    "connect",
    "fetch",
    "locate",
    "nameserver",
]
