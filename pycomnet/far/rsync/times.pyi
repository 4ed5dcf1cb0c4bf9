from os import stat_result
from typing import Any

PRECISIONS: tuple[int, ...]
PROBE: int
FLOATS: int

class Times:
    def __init__(self, receiver: Any) -> None: ...
    def same(self, opened: Any, status: stat_result, time: int) -> bool: ...
