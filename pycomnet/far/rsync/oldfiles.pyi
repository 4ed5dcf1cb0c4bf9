from collections.abc import Callable, Sequence
from typing import Any

class OldFiles:
    block: int
    size: int
    descriptors: list[Any]
    read: Callable[[int, int], bytes]
    def __init__(self, files: Sequence[tuple[int, Any]]) -> None: ...
    def copy(self, output: Any, offset: int, size: int) -> int: ...
    def close(self) -> None: ...
