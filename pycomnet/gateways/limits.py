"""Limits on what a far side may send."""

from __future__ import annotations

from pycomnet.gateways.spec import Spec
from pycomnet.wire.frames import CHANNELS, WINDOW
from pycomnet.wire.mux import Limits

#: The most bytes of a value from a trusted far side: more than a program that sends files as values
#: needs, and a fraction of most machines' memory.
MAX_VALUE = 1 << 30
#: The most elements, keys and values of one: 420 MB if each is an empty dict, which takes one byte
#: on the wire.
MAX_ITEMS = 1 << 22
#: The most bytes of a value from an untrusted far side.
STRICT_VALUE = 16 << 20
#: The most elements, keys and values of one (26 MB if each is an empty dict).
STRICT_ITEMS = 1 << 18
#: The most channels that an untrusted far side may open. Each holds up to a window, a megabyte, of
#: values that are not received.
STRICT_CHANNELS = 64
#: The most bytes of a value from a fork server, whose values are short.
FORK_SERVER_VALUE = 4 << 20
#: The most elements, keys and values of one.
FORK_SERVER_ITEMS = 1 << 16


def far_limits(spec: Spec, window: int = WINDOW, kept: bool = False) -> Limits:
    """The limits of a spec's far side.

    :param window: its channels' window, if it is trusted.
    :param kept: whether a factory keeps it, which has already announced the number of channels.
    """
    strict = spec.trusted is False
    return Limits(
        WINDOW if strict else window,
        channels=STRICT_CHANNELS if strict and not kept else CHANNELS,
        value=spec.max_value or (STRICT_VALUE if strict else MAX_VALUE),
        items=spec.max_items or (STRICT_ITEMS if strict else MAX_ITEMS),
    )


def fork_server_limits(window: int, frame: int | None = None) -> Limits:
    """The limits of a fork server or a factory."""
    limits = Limits(window, value=FORK_SERVER_VALUE, items=FORK_SERVER_ITEMS)
    if frame is not None:
        limits.frame = frame
    return limits
