from collections.abc import Callable
from typing import Any

from .compose import Basis
from .finish import Finish
from .oldfiles import OldFiles

class Receiver:
    flavour: Any
    filter: Any
    deletes: bool
    dry_run: bool
    checksum: bool
    owners: bool
    links: bool
    mask: int
    root_mode: int
    root_time: int
    root: Any
    tree: Any
    finish: Finish
    left: int | None
    check: Callable[[], object]
    pending: dict[int, Any]
    handlers: dict[str, Callable[[list[Any]], object]]
    bases: dict[int, Basis]
    def __init__(
        self,
        channel: Any,
        data: Any,
        options: dict[str, Any],
        flavour: Any = None,
        system: Any = ...,
    ) -> None: ...
    def run(self) -> None: ...
    def send(self, message: list[Any]) -> None: ...
    def fail(self, which: int | bytes, reason: str) -> None: ...
    def basis(self, entry: Any) -> OldFiles | None: ...

def receive(channel: Any, data: Any, options: dict[str, Any]) -> None: ...
