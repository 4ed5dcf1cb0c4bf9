import mmap
import struct
from collections.abc import Callable, Mapping, Sequence

TAKEN: struct.Struct
HEAD: int
TAIL: int
WRITTEN: int
TAKEN_HEAD: int
TAKEN_TAIL: int
START: int
SIZE: int
PIECE: int
PORTION: int
TAKEN_ENTRIES: int
WHOLE: int
FROM: int
TO: int
ATOMIC: bool

class BrokenJournal(Exception): ...

class Journal:
    numbers: memoryview[int]
    def __init__(self, memory: mmap.mmap) -> None: ...
    def close(self) -> None: ...
    def put(
        self, direction: int, data: bytes, claim: Callable[[], object] | None = None
    ) -> bool: ...
    def put_taken(self, taken: Mapping[int, int], done: Sequence[int]) -> bool: ...
    def read(self) -> list[tuple[int, bytes]]: ...
    def taken_head(self) -> int: ...
    def read_taken(self, head: int) -> tuple[dict[int, int], list[int]]: ...
