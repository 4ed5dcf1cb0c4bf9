from collections.abc import Callable, Iterable
from typing import Any, Final

from .directory import VenvDirectory

MOST_HERE: Final = 60
PROGRAM: Final[str]

def code_key() -> str: ...
def read_wheels(
    directory: VenvDirectory,
    digests: Iterable[str],
    compiled: bool,
    progress: Callable[[int], object],
) -> list[dict[str, Any]]: ...
def modules(about: dict[str, Any]) -> list[str]: ...
def code_name(name: str) -> str: ...
