from socket import socket
from typing import Any, Final

from ...wire.stream import Stream
from .connection import ForkServerConnection
from .forking import Before
from .forwarding import Waiting
from .preforked import PreforkedWorker
from .server import ForkServer

QUIET: Final = 0.02

def passed_socket(number: int | None) -> socket | None: ...

class InChild(BaseException):
    job: dict[str, Any]
    def __init__(self, job: dict[str, Any]) -> None: ...

class Wanted:
    peer: ForkServerConnection
    start: Waiting
    stream: Stream
    io: Stream | None
    request: dict[str, Any]
    first: bytes
    fds: tuple[int, ...] | None
    ours: tuple[int, ...] | None
    pid: int | None
    error: Exception | None
    def __init__(
        self,
        peer: ForkServerConnection,
        stream: Stream,
        io: Stream | None,
        request: dict[str, Any],
    ) -> None: ...

class Forker:
    before: Before
    preforked: PreforkedWorker | None
    _wanted: list[Wanted]
    def __init__(
        self, fork_server: ForkServer, most: int | None, descriptor_socket: socket | None
    ) -> None: ...
    def is_full(self) -> bool: ...
    def want(
        self,
        peer: ForkServerConnection,
        stream: Stream,
        io: Stream | None,
        request: dict[str, Any],
    ) -> None: ...
    def _preforked_ended(self) -> None: ...
    def check_time(self) -> float | None: ...
