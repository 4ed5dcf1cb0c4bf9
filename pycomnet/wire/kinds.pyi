from collections.abc import Callable
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

DATETIME: Final = 8
DATE: Final = 9
TIME: Final = 10
TIMEDELTA: Final = 11
DECIMAL: Final = 12
UUID: Final = 13
FRACTION: Final = 14
RANGE: Final = 15
PATH: Final = 16
ORDERED: Final = 17
REGISTERED: Final = 18

MAX_FRACTION: Final = 1024
MAX_DECIMAL: Final = 65536
MAX_NAME: Final = 255

def register_type(
    cls: type[_T],
    name: str,
    to_value: Callable[[_T], Any],
    from_value: Callable[[Any], _T],
) -> None: ...
def dumper_of(kind: type) -> Callable[[Any], tuple[int, bytes | list[Any]]] | None: ...
def load(code: int, data: bytes) -> object: ...
def make(code: int, items: list[Any]) -> object: ...
def ascii_of(name: str) -> str: ...
