from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

from .patterns import Filter

BATCH: int
ODD_TIME: str
FIRST_BATCH: int

class _ScanOptions(Protocol):
    @property
    def filter(self) -> Filter | None: ...
    @property
    def takes(self) -> Callable[[bytes], bool] | None: ...
    @property
    def links(self) -> str: ...
    @property
    def outside(self) -> str: ...
    @property
    def hard_links(self) -> bool: ...
    @property
    def owners(self) -> bool: ...

class _Part(Protocol):
    def names(self, path: bytes, /) -> Collection[bytes] | None: ...
    def enters(self, path: bytes, /) -> bool: ...

class Batch:
    first: int
    directories: list[list[Any]]
    names: list[bytes]
    kinds: bytearray
    modes: list[int]
    sizes: list[int]
    times: list[int]
    texts: list[bytes]
    firsts: list[int]
    owners: list[int]
    skipped: list[tuple[int, str]]
    failed: list[tuple[bytes, str]]
    noted: list[tuple[int, str]]
    def __init__(self, first: int) -> None: ...
    def __len__(self) -> int: ...
    @property
    def end(self) -> int: ...
    def message(self) -> list[object]: ...
    def paths(self) -> list[bytes]: ...

class Scan:
    root: bytes
    clean: bool
    def __init__(
        self,
        root: bytes,
        options: _ScanOptions,
        flavour: Any = None,
        part: _Part | None = None,
    ) -> None: ...
    def path(self, path: bytes) -> bytes: ...
    def batches(self) -> Iterator[Batch]: ...
