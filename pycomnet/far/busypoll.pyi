from collections.abc import Callable
from typing import Any

WINDOW: float
LONG_WINDOW: float
QUICK: float
LEAST_QUICK: int
MOST_QUICK: int

_now: Callable[[], float]
_yield: Callable[[], object] | None

def poll_of(fd: int) -> Callable[[int], Any] | None: ...

class BusyWait:
    def __init__(
        self,
        look: Callable[[int], Any] | None,
        window: float = ...,
        busy: Callable[[], bool] | None = ...,
    ) -> None: ...
    def poll(self) -> Any: ...
    def came(self) -> None: ...
