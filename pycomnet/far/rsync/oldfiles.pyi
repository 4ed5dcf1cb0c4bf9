from collections.abc import Callable, Sequence
from typing import Any

class OldFiles:
    is_old: bool
    block: int
    size: int
    descriptors: list[Any]
    read: Callable[[int, int], bytes]
    def __init__(self, files: Sequence[tuple[int, Any]], is_old: bool = False) -> None: ...
    def copy(self, output: Any, offset: int, size: int) -> int: ...
    def close(self) -> None: ...
