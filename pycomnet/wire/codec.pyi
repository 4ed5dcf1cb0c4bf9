from collections.abc import Callable
from typing import Any, Final

from pycomnet.wire.values import Codec

MAX_ITEMS: Final[int]

def make_codec(
    channel_type: type | tuple[type, ...] | None = None,
    dump_channel: Callable[[Any], int] | None = None,
    load_channel: Callable[[int], object] | None = None,
    pure: bool = False,
    max_items: int = ...,
) -> Codec: ...
