"""The limits of the factory's far sides."""

from __future__ import annotations

import attrs

from pycomnet.far.lingering.relay import MAX_KEPT
from pycomnet.ranges import check_fields

#: Seconds after which a gateway without a program, running code and traffic is ended.
IDLE_TIMEOUT = 3600.0


@attrs.frozen
class Settings:
    """The limits of each far side.

    :ivar idle_timeout: seconds after which an unused far side is ended; 0: never.
    :ivar max_linger: the most seconds that a far side may stay without a program.
    :ivar max_kept: bytes of values longer than a window that are kept for another program.
    """

    idle_timeout: float = IDLE_TIMEOUT
    max_linger: float = 7 * 86400.0
    max_kept: int = MAX_KEPT

    def __attrs_post_init__(self) -> None:
        check_fields(self)
