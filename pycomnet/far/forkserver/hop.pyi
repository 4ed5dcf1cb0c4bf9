from collections.abc import Callable
from typing import Any

from .connection import ForkServerConnection
from .server import ForkServer

class InnerForkServer:
    peer: ForkServerConnection | None
    ended_with: int | None
    pid: int
    def __init__(
        self,
        fork_server: ForkServer,
        key: tuple[str, ...],
        argv: list[str],
        config: dict[str, Any],
    ) -> None: ...
    def when_ready(self, call: Callable[[str | None], object]) -> None: ...
    def take_preamble(self) -> bytes: ...
    def reaped(self, number: int) -> None: ...
