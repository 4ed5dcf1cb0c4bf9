from collections.abc import Iterable, Sequence
from typing import Any

DIRECTORY: int
FILE: int
LINK: int
LINK_INTO_TREE: int
HARD_LINK: int
LEADER: int
SKIPPED: int
LAST: int
INCOMPLETE: int
WHOLE: int
UNLESS_EQUAL: int
DELTA: int
MADE: int
CHANGED: int
LITERAL: bytes
PACKED: bytes
COPY: bytes
HOLE: bytes
END: bytes
ABORT: bytes
PIECE: int
NO_NAMES: frozenset[bytes]
DIGEST: int

class BadBatch(ValueError): ...

def pack(
    first: int,
    directories: list[list[Any]],
    names: Sequence[bytes],
    kinds: bytearray,
    modes: Sequence[int],
    sizes: Sequence[int],
    times: Sequence[int],
    texts: Iterable[bytes],
    firsts: Sequence[int],
    owners: Sequence[int],
) -> list[object]: ...

class ReceivedBatch:
    first: int
    kinds: bytearray
    names: list[bytes]
    modes: tuple[int, ...]
    sizes: tuple[int, ...]
    times: tuple[int, ...]
    texts: list[bytes]
    firsts: tuple[int, ...]
    owners: tuple[int, ...]
    directories: list[tuple[bytes, int, int]]
    def __init__(self, message: Sequence[Any]) -> None: ...

def numbers_of(code: str, values: Sequence[int]) -> bytes: ...
def numbers_from(code: str, data: bytes) -> tuple[int, ...]: ...
def binary(data: bytes) -> Any: ...
def check_name(name: bytes) -> None: ...
