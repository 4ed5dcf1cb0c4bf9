"""What a far side may send: how much a value may hold, and how much of it there may be."""

from __future__ import annotations

from pycomnet.gateways.spec import Spec
from pycomnet.wire.frames import CHANNELS, WIDE_WINDOW, WINDOW
from pycomnet.wire.mux import Limits

#: Bytes of one value from a far side that is trusted: more than a program that sends files as
#: values needs, and a fraction of most machines' memory.
MAX_VALUE = 1 << 30
#: Elements, keys and values of one: 420 MB where each is an empty dict, for which a byte may stand.
MAX_ITEMS = 1 << 22
#: The same from one that isn't, ...
STRICT_VALUE = 16 << 20
#: ... elements, keys and values of one (26 MB where each is an empty dict), ...
STRICT_ITEMS = 1 << 18
#: ... and channels that it may open. Each holds up to a window, a megabyte, of what nobody takes.
STRICT_CHANNELS = 64
#: Bytes of a value from a fork server: all that it sends is short.
FORK_SERVER_VALUE = 4 << 20
#: Elements, keys and values of one.
FORK_SERVER_ITEMS = 1 << 16


def far_limits(spec: Spec, wide: bool = False, kept: bool = False) -> Limits:
    """What the far side of a spec is allowed.

    :param wide: for the window of what is further away.
    :param kept: a factory keeps it, and has said in its place how many channels there may be.
    """
    strict = spec.trusted is False
    return Limits(
        WIDE_WINDOW if wide and not strict else WINDOW,
        channels=STRICT_CHANNELS if strict and not kept else CHANNELS,
        value=spec.max_value or (STRICT_VALUE if strict else MAX_VALUE),
        items=spec.max_items or (STRICT_ITEMS if strict else MAX_ITEMS),
    )


def fork_server_limits(window: int, frame: int | None = None) -> Limits:
    """What a fork server or a factory is allowed."""
    limits = Limits(window, value=FORK_SERVER_VALUE, items=FORK_SERVER_ITEMS)
    if frame is not None:
        limits.frame = frame
    return limits


__all__ = ["far_limits", "fork_server_limits"]
