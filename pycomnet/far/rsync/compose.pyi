from collections.abc import Callable
from typing import Any

from .oldfiles import OldFiles

COPIED: int
SPARSE_COPIED: int
PAGE: int
YOUNG: float
YOUNG_COARSE: float
HAS_COPY: bool
UNPACKED: int
MOST: int
HOLE_PART: int

class ContentRefused(Exception): ...
class TooMuch(ValueError): ...

class Pieces:
    def __init__(self, channel: Any) -> None: ...
    def some(self, most: int) -> bytes: ...
    def exactly(self, size: int) -> bytes: ...

class Basis:
    read: Callable[[int, int], bytes]
    digests: bytearray
    def __init__(self, read: Callable[[int, int], bytes], old: OldFiles) -> None: ...
    def blocks(self, offset: int, size: int, block: int) -> bytes: ...
    def copy(self, output: Any, offset: int, size: int, place: int) -> int: ...
    is_in_place: bool
    def is_same_file(self, size: int) -> bool: ...
    def descriptor(self) -> Any: ...
    def is_as_before(self) -> bool: ...
    def close(self) -> None: ...

class Composer:
    output: Any
    size: int
    problem: Exception | None
    def __init__(
        self,
        pieces: Pieces,
        output: Any,
        basis: Basis | None,
        block: int,
        is_sparse: bool = False,
        most: int = ...,
        check: Callable[[], object] = ...,
    ) -> None: ...
    def run(self) -> None: ...
    @property
    def is_as_old(self) -> bool: ...

def unpack(data: bytes, size: int) -> bytes: ...
