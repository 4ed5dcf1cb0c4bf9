from collections.abc import Callable, Iterator
from typing import Final

from .directory import VenvDirectory

SCHEMES: Final[tuple[str, ...]]
PIECE: Final = 1048576

def receive(
    directory: VenvDirectory,
    digest: str,
    size: int,
    pieces: Iterator[bytes],
    progress: Callable[[int], object],
) -> None: ...
def add(directory: VenvDirectory, path: str) -> str: ...
def unpack(path: str, place: str) -> None: ...
def record_hash(data: bytes) -> str: ...
