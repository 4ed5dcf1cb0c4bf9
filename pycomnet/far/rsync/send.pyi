from collections.abc import Callable
from typing import Any

from .patterns import Filter

LISTS: int
GROUP_FILES: int
GROUP_BYTES: int
TRIES: int
MOST: int
SPARSE_PIECE: int
CHANGED: str

class SendOptions:
    filter: Filter | None
    takes: Callable[[bytes], bool] | None
    links: str
    outside: str
    hard_links: bool
    owners: bool
    def __init__(self, options: dict[str, Any]) -> None: ...

class Sender:
    def __init__(
        self, channel: Any, data: Any, options: dict[str, Any], flavour: Any = None
    ) -> None: ...
    def run(self) -> None: ...

def send(channel: Any, data: Any, options: dict[str, Any]) -> None: ...
