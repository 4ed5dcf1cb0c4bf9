from collections.abc import Iterable, Sequence
from os import stat_result
from typing import Any

class ListedDirectory:
    path: bytes
    tree: Any
    there: frozenset[bytes]
    listed: set[bytes]
    lowered: set[bytes]
    folded: dict[bytes | str, bytes] | None
    def __init__(self, path: bytes, tree: Any, there: Iterable[bytes] = ()) -> None: ...
    @property
    def open(self) -> Any: ...
    def list(self, listed: Sequence[bytes]) -> None: ...
    def has_left(self, name: bytes) -> bool: ...
    def path_of(self, name: bytes) -> bytes: ...

class TreeEntry:
    directory: ListedDirectory
    number: int
    name: bytes
    native: Any
    mode: int
    time: int
    owner: Sequence[int] | None
    compared: stat_result | None
    def __init__(
        self,
        directory: ListedDirectory,
        number: int,
        name: bytes,
        native: Any,
        mode: int,
        time: int,
        owner: Sequence[int] | None,
    ) -> None: ...
