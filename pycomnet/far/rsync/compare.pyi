from collections.abc import Iterable, Sequence
from os import stat_result
from typing import Any

SHORT: int
USEFUL: int
MODE: int

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
    def path_of(self, name: bytes) -> bytes: ...

class TreeEntry:
    directory: ListedDirectory
    number: int
    name: bytes
    native: Any
    mode: int
    time: int
    owner: Sequence[int] | None
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

class Comparison:
    def __init__(self, receiver: Any) -> None: ...
    def compare(self, message: Sequence[Any]) -> list[Any]: ...
    def set_attributes(self, entry: TreeEntry, status: stat_result) -> int: ...
