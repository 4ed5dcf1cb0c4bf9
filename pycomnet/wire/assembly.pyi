from typing import Final

LARGE: Final[int]
view = memoryview

class Assembly:
    size: int
    def __init__(self) -> None: ...
    def append(self, piece: bytes | memoryview) -> None: ...
    def finish(self) -> bytes | memoryview: ...
