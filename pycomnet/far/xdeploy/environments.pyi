from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from .directory import VenvDirectory

FORMAT: Final = 2

def identity_of(sources: Iterable[str]) -> str: ...
def make(
    directory: VenvDirectory,
    identity: str,
    digests: Sequence[str],
    about: dict[str, Any],
    progress: Callable[[str, int, int], object],
    compiled: bool = True,
) -> None: ...

class Layout:
    place: str
    target: str
    python: str
    paths: dict[str, str]
    headers: str
    made: set[str]
    own: set[str]
    def __init__(self, place: str, target: str) -> None: ...
    def directory(self, path: str) -> None: ...

def create(place: str, target: str) -> Layout: ...
def install(source: str, wheel: dict[str, Any], layout: Layout) -> None: ...
def link(source: str, target: str, layout: Layout) -> None: ...
