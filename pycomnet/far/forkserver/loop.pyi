from collections.abc import Callable
from typing import Final

from .connection import ForkServerConnection

MAX_EVENTS: Final = 256

class Loop:
    peers: list[ForkServerConnection]
    now: Callable[[], float]
    bulk: bool
    def soon(self, call: Callable[[], object]) -> None: ...
    def when_idle(self, call: Callable[[], object], quiet: float = 0) -> None: ...
    def watch(self, fd: int, events: int, call: Callable[[int], object] | None) -> None: ...
    def turn(self, timeout: float | None) -> None: ...
