from collections.abc import Callable
from typing import Any

BUSY: float

def poll_of(fd: int) -> Callable[[int], Any] | None: ...

class Spinner:
    _now: Callable[[], float]
    _yield: Callable[[], None] | None
    def __init__(self, poll: Callable[[int], Any] | None, spins: int) -> None: ...
    def spin(self) -> Any: ...
